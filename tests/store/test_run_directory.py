"""One writer at a time, and a manifest that is understood or refused."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aftertune.errors import StoreError
from aftertune.store import RunDirectory, canonical_json, content_key

HOLD = """
import sys, time
from pathlib import Path
from aftertune.store import RunDirectory
with RunDirectory(Path(sys.argv[1])).locked():
    print("held", flush=True)
    time.sleep(120)
"""


def holder(root: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_second_run_is_refused_with_the_first_ones_number_until_it_is_killed(tmp_path: Path):
    run = RunDirectory(tmp_path / "run")
    with holder(run.root) as first:
        for _ in range(2):
            with (
                pytest.raises(
                    StoreError, match=rf"another run \(process {first.pid}\) is at work in"
                ) as caught,
                run.locked(),
            ):
                pass
            assert "--out" in caught.value.remedy
        first.send_signal(signal.SIGKILL)
        first.wait()
        with run.locked():
            assert (run.root / "lock").read_text() == str(os.getpid())
        with run.locked():
            pass


def test_one_process_cannot_hold_it_twice_and_lets_go_after_a_fault(tmp_path: Path):
    run = RunDirectory(tmp_path)
    with pytest.raises(ZeroDivisionError), run.locked():
        with pytest.raises(StoreError, match=f"process {os.getpid()}"), run.locked():
            pass
        raise ZeroDivisionError
    with run.locked():
        pass


def test_what_a_killed_writer_left_is_removed(tmp_path: Path):
    (tmp_path / "responses").mkdir()
    left = tmp_path / "responses" / ".writing-abc"
    left.write_bytes(b"half")
    (tmp_path / "responses" / "kept.parquet").write_bytes(b"whole")
    with RunDirectory(tmp_path).locked():
        assert left.exists()  # it may not be ours: this is no run directory
    RunDirectory(tmp_path).update_manifest(study="s")
    with RunDirectory(tmp_path).locked():
        assert [path.name for path in (tmp_path / "responses").iterdir()] == ["kept.parquet"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    for root in (tmp_path / "file", tmp_path / "file" / "run", Path("/proc/run")):
        with (
            pytest.raises(StoreError, match=f"cannot write to {root}: .*\n.*--out"),
            RunDirectory(root).locked(),
        ):
            pass


def test_a_full_disk_does_not_stop_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    run = RunDirectory(tmp_path)
    with run.locked(), pytest.raises(StoreError, match="process unknown"), run.locked():
        pass


def test_entries_of_the_manifest_are_added_and_changed(tmp_path: Path):
    run = RunDirectory(tmp_path)
    run.update_manifest(study="a", root_seed=2)
    run.update_manifest(root_seed=3)
    assert run.read_manifest().recorded() == {"manifest_version": 1, "study": "a", "root_seed": 3}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"manifest_version": 2}', r"has version 2, this aftertune knows 1\n.*upgrade aftertune"),
        (b'{"manifest_version": 1', r"manifest\.json is not JSON: .*\n.*run the study again"),
        (b"\xff\xfe", r"manifest\.json is not JSON: "),
        (b"[1]", r"manifest\.json is no manifest: got list"),
    ],
)
def test_a_manifest_that_is_not_understood_is_refused(tmp_path: Path, content: bytes, message: str):
    run = RunDirectory(tmp_path)
    run.manifest.write_bytes(content)
    with pytest.raises(StoreError, match=message):
        run.read_manifest()
    with pytest.raises(StoreError, match=message):
        run.update_manifest(a=1)
    assert run.manifest.read_bytes() == content


def test_a_missing_file_says_which_command_makes_it(tmp_path: Path):
    with pytest.raises(StoreError, match=r"checkpoints\.json is missing\n.*aftertune run"):
        RunDirectory(tmp_path).read_json(RunDirectory(tmp_path).checkpoint_list)


def test_a_missing_or_broken_table_is_named(tmp_path: Path):
    run = RunDirectory(tmp_path)
    with pytest.raises(StoreError, match=r"requests\.parquet is missing\n.*aftertune run"):
        run.read_table(run.requests)
    run.requests.write_bytes(b"no table")
    with pytest.raises(
        StoreError, match=r"requests\.parquet is no Parquet table: .*(.|\n)*run the study again"
    ):
        run.read_table(run.requests)


def test_json_has_no_nan_and_keeps_its_letters(tmp_path: Path):
    run = RunDirectory(tmp_path)
    run.write_json(tmp_path / "x.json", {"b": "é", "a": 1})
    assert (tmp_path / "x.json").read_text() == '{\n  "b": "é",\n  "a": 1\n}\n'
    with pytest.raises(ValueError, match="Out of range float"):
        run.write_json(tmp_path / "x.json", {"a": float("nan")})
    assert json.loads((tmp_path / "x.json").read_text()) == {"b": "é", "a": 1}


def test_one_content_has_one_key():
    assert canonical_json({"b": [1, 2.5, None], "a": "é"}) == '{"a":"é","b":[1,2.5,null]}'.encode()
    assert content_key({"a": 1, "b": 2}) == content_key({"b": 2, "a": 1})
    assert len({content_key(value) for value in (1, "1", [1], None, 1.5, {"a": 1})}) == 6
    with pytest.raises(ValueError, match="Out of range float"):
        content_key(float("inf"))
