"""A run that is killed again and again ends with the bytes of one that was not."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml

from aftertune.store import RunDirectory
from stage_runs import recipe, run, study_of, texts

DRIVER = Path(__file__).parent / "stage_runs.py"


def study(model, **changes):
    own = recipe(answers="self", self_max_tokens=12)
    return study_of(model, recipes={"chat": recipe(), "own": own}, **changes)


@pytest.fixture(scope="module")
def undisturbed(tiny_model, tmp_path_factory):
    return run(study(tiny_model), tmp_path_factory.mktemp("undisturbed") / "run")


def observations(out: Path) -> bytes:
    return (out / "observations.parquet").read_bytes()


def start(folder: Path, content: dict) -> subprocess.Popen:
    file = folder / "driven.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return subprocess.Popen(
        [sys.executable, str(DRIVER), str(file), str(folder / "run")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def files_of(out: Path) -> int:
    # Not rglob: it fails where the run renames a folder while it looks, as a finished training does.
    return sum(len(files) for _, _, files in os.walk(out))


def killed_after(process: subprocess.Popen, out: Path, n_files: int, pause_s: float) -> bool:
    """Kill the process once it has written so many more files, and a moment; False where it ended before."""
    before = files_of(out)
    while process.poll() is None:
        if files_of(out) >= before + n_files:
            time.sleep(pause_s)
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.002)
    process.communicate()
    return process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_killed_at_random_moments(undisturbed, tiny_model, tmp_path):
    rng = random.Random(12)
    n_killed = 0
    for _ in range(4):
        process = start(tmp_path, study(tiny_model))
        n_killed += killed_after(process, tmp_path / "run", rng.randint(1, 12), rng.uniform(0, 0.15))
    assert n_killed >= 2
    process = start(tmp_path, study(tiny_model))
    _, complaint = process.communicate()
    assert process.returncode == 0, complaint
    assert observations(tmp_path / "run") == observations(undisturbed)
    assert texts(tmp_path / "run") == texts(undisturbed)
    assert not list((tmp_path / "run").rglob(".training-*"))
    hashes = [
        RunDirectory(out).read_json(out / "checkpoints.json") for out in (tmp_path / "run", undisturbed)
    ]
    assert [entry["sha256"] for entry in hashes[0]] == [entry["sha256"] for entry in hashes[1]]


@pytest.mark.slow
def test_stopped_in_every_stage(undisturbed, tiny_model, tmp_path):
    """As the kill above, without a process of its own: an exception at moments of each stage."""
    moments = {"answers": (3,), "tune": (1, 3), "generate": (2, 17, 40), "judge": (5,)}
    for stage, done_at in ((stage, n) for stage, numbers in moments.items() for n in numbers):

        def stop(told, done, total, stage=stage, done_at=done_at):
            if told == stage and done >= done_at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(study(tiny_model), tmp_path / "run", progress=stop)
    run(study(tiny_model), tmp_path / "run")
    assert observations(tmp_path / "run") == observations(undisturbed)


@pytest.mark.slow
def test_batch_rows_and_global_seeds_change_no_byte(undisturbed, tiny_model, tmp_path):
    random.seed(8)
    np.random.seed(8)  # noqa: NPY002
    torch.manual_seed(8)
    other = study(tiny_model, engine={"threads": 1, "batch_rows": 3})
    out = run(other, tmp_path / "run")
    assert observations(out) == observations(undisturbed)


@pytest.mark.slow
def test_the_order_of_tasks_and_recipes_changes_the_order_of_rows_alone(undisturbed, tiny_model, tmp_path):
    other = study(tiny_model)
    other |= {"tasks": other["tasks"][::-1], "recipes": dict(reversed(other["recipes"].items()))}
    out = run(other, tmp_path / "run")
    tables = [pl.read_parquet(folder / "observations.parquet") for folder in (out, undisturbed)]
    columns = tables[0].columns
    assert not tables[0].equals(tables[1])
    assert tables[0].sort(columns).equals(tables[1].sort(columns))


@pytest.mark.slow
def test_a_run_that_was_moved_goes_on(undisturbed, tiny_model, tmp_path):
    run(study(tiny_model), tmp_path / "here", stages=("tune",))
    (tmp_path / "here").rename(tmp_path / "there")
    out = run(study(tiny_model), tmp_path / "there")
    assert observations(out) == observations(undisturbed)
