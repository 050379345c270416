"""Runs in an object store: written, then published; nothing that is not published counts, and one drives.

Against two servers: rclone's `serve s3`, which is real and knows no conditional writes, and moto, which
stands in for a store that does (as S3 itself, since 2024).
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from aftertune.errors import StoreError
from aftertune.store import RemoteRun, no_weights
from aftertune.store.remote import Taken
from executor_runs import compared, small_study
from stage_runs import run

fsspec = pytest.importorskip("fsspec")
s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed (the dev extra)")
KEYS = {"AWS_ACCESS_KEY_ID": "testkey", "AWS_SECRET_ACCESS_KEY": "testsecret-0123456789"}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def started(command: list[str], port: int, log: Path) -> "subprocess.Popen[bytes]":
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    for _ in range(300):
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return process
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module", params=["rclone", "moto"])
def server(request: pytest.FixtureRequest, tmp_path_factory) -> Iterator[dict[str, str]]:
    """The environment with which a server is found."""
    folder, port = tmp_path_factory.mktemp(request.param), free_port()
    beside = Path(sys.executable).parent
    if request.param == "rclone":
        program = shutil.which("rclone", path=str(beside)) or pytest.skip("no rclone (the dev extra)")
        (folder / "store" / "bucket").mkdir(parents=True)
        keys = ",".join(KEYS.values())
        command = [program, "serve", "s3", "--auth-key", keys, "--addr", f"127.0.0.1:{port}"]
        command.append(str(folder / "store"))
    else:
        program = shutil.which("moto_server", path=str(beside)) or pytest.skip("no moto (the dev extra)")
        command = [program, "-H", "127.0.0.1", "-p", str(port)]
    process = started(command, port, folder / "log")
    url = f"http://127.0.0.1:{port}"
    env = {**KEYS, "AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "us-east-1", "KIND": request.param}
    if request.param == "moto":
        import boto3

        client = boto3.client(
            "s3",
            endpoint_url=url,
            aws_access_key_id="k",
            aws_secret_access_key="s",
            region_name="us-east-1",
        )
        client.create_bucket(Bucket="bucket")
    yield env
    process.terminate()
    process.wait()


@pytest.fixture
def url(server, request, monkeypatch) -> Iterator[str]:
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)[:60]
    yield f"s3://bucket/{name}"
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def memory() -> Iterator[str]:
    """fsspec's store in memory, for what does not need a server."""
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    yield "memory://bucket/run"
    fs.store.clear()


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def write(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def never() -> None:
    raise AssertionError("nobody takes it over")


def test_what_is_published_is_fetched_elsewhere(url, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    write(here, a="1", sub__b="2", sub__w="3")
    (here / "sub" / "w").rename(here / "sub" / "w.safetensors")
    write(here, lock="4", sub__x="5")
    (here / "sub" / "x").rename(here / "sub" / ".writing-x")
    with RemoteRun.at(url, here).driven(never):
        write(here, a="changed", c="new")
        (here / "sub" / "b").unlink()
    other = RemoteRun.at(url, there)
    other.fetch(no_weights)
    assert files(there) == {"a": b"changed", "c": b"new"}
    other.fetch()
    assert files(there).keys() == {"a", "c", "sub/w.safetensors"}


def test_an_object_without_an_entry_does_not_exist(memory, tmp_path):
    """A machine that vanishes between the two steps."""
    here = tmp_path / "here"
    write(here, a="1")
    with RemoteRun.at(memory, here).driven(never):
        pass
    remote = RemoteRun.at(memory, here)
    write(here, a="2", b="3")
    found = dict(remote._found())
    remote._send(found)  # and no entry
    elsewhere = RemoteRun.at(memory, tmp_path / "there")
    elsewhere.fetch()
    assert files(tmp_path / "there") == {"a": b"1"}


@pytest.mark.parametrize("damage", [b"", b"other", None])
def test_a_damaged_object_is_made_again(damage, memory, tmp_path, caplog):
    here = tmp_path / "here"
    write(here, a="1", b="2")
    with RemoteRun.at(memory, here).driven(never):
        pass
    remote = RemoteRun.at(memory, tmp_path / "there")
    spoilt = f"{remote.root}/objects/{remote.files['a']['sha256']}"
    if damage is None:
        remote.fs.rm_file(spoilt)
    else:
        remote.fs.pipe_file(spoilt, damage)
    remote.fetch()
    assert "a of memory://bucket/run is missing or damaged: it is made again" in caplog.text
    assert files(tmp_path / "there") == {"b": b"2"}
    with remote.driven(never):
        write(tmp_path / "there", a="1")  # as a stage would
    whole = RemoteRun.at(memory, tmp_path / "third")
    whole.fetch()
    assert files(tmp_path / "third") == {"a": b"1", "b": b"2"}


def test_of_two_drivers_one_is_refused_and_a_silent_one_is_followed(memory, tmp_path, monkeypatch):
    write(tmp_path / "one", a="1")
    write(tmp_path / "two", b="2")
    first, second = (RemoteRun.at(memory, tmp_path / name) for name in ("one", "two"))
    first.claim()
    first.publish()
    second.refresh()
    with pytest.raises(StoreError, match=r"another run \(.*\) is at work in memory://.* heard of \d+ s ago"):
        second.claim()
    # It says nothing for a quarter of an hour: another may follow, and the first is told when it comes back.
    late = datetime.now(UTC) + timedelta(minutes=16)

    class Late(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return late

    monkeypatch.setattr("aftertune.store.remote.datetime", Late)
    second.claim()
    second.publish()
    write(tmp_path / "one", a="late")
    with pytest.raises(Taken, match=r"another driver has published .*\n.*stands in .*one"):
        first.publish()
    third = RemoteRun.at(memory, tmp_path / "three")
    third.fetch()
    assert files(tmp_path / "three") == {"a": b"1", "b": b"2"}


def test_a_driver_that_was_taken_over_is_stopped(memory, tmp_path, monkeypatch):
    monkeypatch.setattr("aftertune.store.remote.PUBLISH_S", 0.05)
    stopped: list[bool] = []
    first = RemoteRun.at(memory, tmp_path / "one")
    with pytest.raises(Taken), first.driven(lambda: stopped.append(True)):
        other = RemoteRun.at(memory, tmp_path / "two")
        other._publish({}, [], closed=False)
        write(tmp_path / "one", a="1")
        for _ in range(200):
            if stopped:
                break
            time.sleep(0.02)
    assert stopped


def test_a_driver_of_this_machine_that_is_gone_is_followed_at_once(memory, tmp_path):
    first = RemoteRun.at(memory, tmp_path / "one")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    first.claim()
    name = next(iter(first.fs.find(f"{first.root}/entries")))
    first.fs.pipe_file(
        name, first.fs.cat_file(name).replace(b'"process": %d' % os.getpid(), b'"process": %d' % ended.pid)
    )
    RemoteRun.at(memory, tmp_path / "two").claim()


@pytest.mark.parametrize("name", ["../outside", "/etc/x", "a/../../b", ""])
def test_entries_of_others_name_no_path_outside(name, memory, tmp_path):
    remote = RemoteRun.at(memory, tmp_path / "one")
    entry = {"entry_version": 1, "files": {name: {"sha256": "0" * 64, "bytes": 1}}, "removed": []}
    remote.fs.pipe_file(f"{remote.root}/entries/00000001.json", json.dumps(entry).encode())
    with pytest.raises(StoreError, match="outside of the run"):
        RemoteRun.at(memory, tmp_path / "two")


@pytest.mark.slow
def test_what_cannot_be_used_is_said(tmp_path, monkeypatch):
    with pytest.raises(StoreError, match=r"the address s3://… holds a user.*\n.*from the environment"):
        RemoteRun.at("s3://user:secret@bucket/x", tmp_path)
    with pytest.raises(StoreError, match="cannot open nowhere://x"):
        RemoteRun.at("nowhere://x", tmp_path)
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(StoreError, match=r"s3://bucket/x cannot be used.*\n.*credentials"):
        RemoteRun.at("s3://bucket/x", tmp_path)
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_newer_aftertune(memory, tmp_path):
    remote = RemoteRun.at(memory, tmp_path)
    entry = {"entry_version": 99, "files": {}, "removed": []}
    remote.fs.pipe_file(f"{remote.root}/entries/00000001.json", json.dumps(entry).encode())
    with pytest.raises(StoreError, match=r"version 99.*\n.*upgrade"):
        RemoteRun.at(memory, tmp_path)


@pytest.fixture(scope="module")
def undisturbed(tiny_model, tmp_path_factory):
    return run(small_study(tiny_model), tmp_path_factory.mktemp("undisturbed") / "run")


def command(*words: object, cache: Path, env: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "aftertune", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **env, "AFTERTUNE_CACHE": str(cache), "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_study_begun_on_one_machine_and_finished_on_another(url, server, undisturbed, tiny_model, tmp_path):
    """Two caches stand for two machines; the first is killed with -9 when its trainings are published."""
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(small_study(tiny_model), sort_keys=False))
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    tuned = command("tune", file, "--out", url, cache=one, env=server)
    _, said = tuned.communicate(timeout=120)
    assert tuned.returncode == 0, said
    assert f"published: {url}" in said
    assert ("writes over what is there" in said) == (server["KIND"] == "rclone")
    killed = command("run", file, "--out", url, cache=one, env=server)
    while not list(one.rglob("responses/*.parquet")):
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    shutil.rmtree(one)  # the machine is gone, and what it had not published with it
    done = command("run", file, "--out", url, cache=two, env=server)
    _, said = done.communicate(timeout=200)
    assert done.returncode == 0, said
    (local,) = (two / "runs").iterdir()
    compared(local, undisturbed)
    trained = [json.loads(line) for line in (local / "log.jsonl").read_text().splitlines()]
    assert sum(event["event"] == "training" for event in trained) == 4  # all by the first machine
    nothing = command("gate", f"{url}-nowhere", cache=three, env=server)
    _, said = nothing.communicate(timeout=60)
    assert nothing.returncode == 2
    assert f"there is no run at {url}-nowhere" in said
    # A third only reads: no weights come, and nothing is published.
    fs = fsspec.url_to_fs(url)[0]
    before = {name: fs.cat_file(name) for name in fs.find(url)}
    gated = command("gate", url, cache=three, env=server)
    _, said = gated.communicate(timeout=120)
    assert gated.returncode in (0, 1, 3), said
    (copy,) = (three / "runs").iterdir()
    assert not list(copy.rglob("*.safetensors"))
    assert pl.read_parquet(copy / "observations.parquet").height
    fs.invalidate_cache()
    assert {name: fs.cat_file(name) for name in fs.find(url)} == before
    # No key of the store is in what was written.
    assert not any(KEYS["AWS_SECRET_ACCESS_KEY"].encode() in content for content in before.values())
