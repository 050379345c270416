"""Files of a run that are damaged, a disk that is full or read-only, a newer manifest, a clock that jumps."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import yaml

from aftertune.errors import AftertuneError, StoreError
from aftertune.pipeline import STAGES as ALL_STAGES
from aftertune.pipeline import run_stages
from executor_runs import compared, small_study
from stage_runs import STAGES, rows, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(tiny_model, tmp_path_factory):
    return run(small_study(tiny_model), tmp_path_factory.mktemp("undisturbed") / "run")


@pytest.fixture
def out(undisturbed, tmp_path):
    """A copy of the finished run, to be spoilt."""
    return shutil.copytree(undisturbed, tmp_path / "run")


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edited(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def swapped(path: Path) -> None:
    """With the nearest file of its kind that holds something else."""
    found = (other for folder in path.parents for other in sorted(folder.rglob(f"*{path.suffix}")))
    other = next(o for o in found if o.read_bytes() != path.read_bytes())
    mine = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(mine)


DAMAGE = (emptied, cut, edited, swapped)
SHARDS = ("responses", "judgments", "prompts", "answers")


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda d: d.__name__)
@pytest.mark.parametrize("kind", SHARDS)
def test_a_damaged_shard_is_set_aside_and_made_again(kind, damage, out, undisturbed, tiny_model, caplog):
    path = next(iter(sorted((out / kind).rglob("*.parquet"))))
    damage(path)
    if kind == "answers":  # they are read only where one trains on them
        shutil.rmtree(out / "checkpoints" / "own")
    run(small_study(tiny_model), out)
    assert "set aside" in caplog.text and path.name in caplog.text
    assert list((out / "aside").rglob(f"{path.name}*"))
    compared(out, undisturbed)


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_damaged_checkpoint_is_never_drawn_from(name, damage, out, undisturbed, tiny_model):
    """Its hash says so: a draw from it would be filed under the hash of another."""
    shutil.rmtree(out / "responses")
    damage(sorted(out.rglob(name))[0])
    try:
        run(small_study(tiny_model), out)
    except AftertuneError as error:
        assert "checkpoint" in str(error)
    else:
        compared(out, undisturbed)


LISTS = ("items.parquet", "requests.parquet", "observations.parquet", "checkpoints.json", "study.json")


@pytest.mark.parametrize("damage", (emptied, cut, edited), ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", [*LISTS, "manifest.json"])
def test_a_damaged_list_is_made_again_or_named(name, damage, out, undisturbed, tiny_model):
    damage(out / name)
    try:
        run(small_study(tiny_model), out)
    except AftertuneError as error:
        assert name in str(error)
        (out / name).unlink()  # as the message says
        run(small_study(tiny_model), out)
    compared(out, undisturbed)


@pytest.mark.parametrize("damage", (cut, edited), ids=lambda d: d.__name__)
def test_observations_that_were_changed_are_not_analysed(damage, out):
    damage(out / "observations.parquet")
    with pytest.raises(StoreError, match=r"observations\.parquet"):
        run_stages(None, out, ("analyze",))
    assert not (out / "analysis.json").exists()


def test_observations_that_somebody_improved_are_not_analysed(out):
    better = pl.read_parquet(out / "observations.parquet").with_columns(value=pl.lit(0.0))
    better.write_parquet(out / "observations.parquet")
    with pytest.raises(StoreError, match=r"observations\.parquet is not what .*observe.* wrote"):
        run_stages(None, out, ("analyze",))


COMMANDS = {
    "run": ("run", "{out}"),
    "tune": ("tune", "{out}"),
    "generate": ("generate", "{out}"),
    "judge": ("judge", "{out}"),
    "observe": ("observe", "{out}"),
    "analyze": ("analyze", "{out}"),
    "report": ("report", "{out}"),
    "gate": ("gate", "{out}"),
    "plan": ("plan", "{out}", "--half-width", "0.1"),
    "compare": ("compare", "{out}", "{out}"),
    "reproduce": ("reproduce", "{out}"),
    "label": ("label", "{out}"),
    "export": ("export", "{out}", "--to", "csv", "--out", "x.csv"),
    "status": ("status", "{out}"),
}


@pytest.fixture(scope="module")
def analysed(undisturbed, tmp_path_factory):
    folder = shutil.copytree(undisturbed, tmp_path_factory.mktemp("analysed") / "run")
    run_stages(None, folder, ("analyze", "report"))
    return folder


def everything(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock"
    }


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_manifest_of_a_newer_version(words, analysed, tmp_path, monkeypatch, capsys):
    from aftertune.cli import main

    out = shutil.copytree(analysed, tmp_path / "run")
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps(manifest | {"manifest_version": 10_000}))
    before = everything(out)
    monkeypatch.setattr(sys, "argv", ["aftertune", *(word.format(out=out) for word in words)])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 2, said
    assert "version 10000" in said and "upgrade aftertune" in said
    assert everything(out) == before
    assert not (tmp_path / "x.csv").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a megabyte and a half."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", disk], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("left_kb", [0, 60, 150, 300, 600, 1000])
def test_a_full_disk_ends_in_our_words_and_the_run_goes_on(
    left_kb, small_disk, undisturbed, tiny_model, monkeypatch
):
    """So much is left at the beginning, so that it is full in one stage or another."""
    monkeypatch.setattr("aftertune.engines.draw._SHARD_ROWS", 5)
    ballast = small_disk / "ballast"
    file = small_disk.parent / "study.yaml"
    file.write_text(yaml.safe_dump(small_study(tiny_model), sort_keys=False))
    ballast.write_bytes(b"x" * (1_500 - left_kb) * 1024)
    out = small_disk / "run"
    try:
        run_stages(file, out, STAGES)
    except StoreError as error:
        assert "No space left" in str(error) or "disk is full" in str(error)
        assert "is kept" in str(error) or "free" in str(error).lower()
    else:
        assert left_kb >= 600
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    run_stages(file, out, STAGES)
    compared(out, undisturbed)


def test_a_disk_that_cannot_be_written(small_disk, undisturbed, tiny_model):
    out = small_disk / "run"
    file = small_disk.parent / "study.yaml"
    file.write_text(yaml.safe_dump(small_study(tiny_model), sort_keys=False))
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    run_stages(file, out, ("tune",))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    before = everything(out)
    for stages in (("tune",), ("generate",), STAGES):
        with pytest.raises(StoreError, match=r"cannot write.*Read-only file system"):
            run_stages(file, out, stages)
    assert everything(out) == before
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    run_stages(file, out, STAGES)
    compared(out, undisturbed)


def test_the_clock_jumps(undisturbed, tiny_model, tmp_path, monkeypatch):
    """A year back, and forward, at every look at it: no byte changes, and nothing took less than no time."""
    import random
    import time

    rng, real = random.Random(7), time.time
    jumping = lambda: real() + rng.choice([-1, 1]) * 31_536_000  # noqa: E731
    monkeypatch.setattr(time, "time", jumping)
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(small_study(tiny_model), sort_keys=False))
    for stages in (("tune",), ("generate",), STAGES):
        run_stages(file, tmp_path / "run", stages)
    compared(tmp_path / "run", undisturbed)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert all(seconds >= 0 for seconds in manifest["stages_s"].values()), manifest["stages_s"]


def test_files_of_another_age(undisturbed, tiny_model, out):
    """Nothing is decided by when a file was written."""
    for path in out.rglob("*"):
        os.utime(path, (0, 0) if len(path.name) % 2 else (4e9, 4e9))
    before = rows(out, "responses").height
    run_stages(None, out, ALL_STAGES)
    assert rows(out, "responses").height == before
    compared(out, undisturbed)
