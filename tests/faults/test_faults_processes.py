"""A run that is asked to end, has a rival, or runs out of memory: our words, nothing half, and it goes on."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from executor_runs import compared, small_study
from stage_runs import run

pytestmark = pytest.mark.slow
COMMAND = (sys.executable, "-m", "aftertune")


def study(model: Path) -> dict[str, Any]:
    """Long enough in each stage that a signal finds it there."""
    small = small_study(model)
    small["decodings"]["sampled"]["repeats"] = 6
    return small | {"tasks": [{"name": "mini-harm", "n": 40}, {"name": "mini-lookalikes", "n": 10}]}


@pytest.fixture(scope="module")
def undisturbed(tiny_model, tmp_path_factory):
    return run(study(tiny_model), tmp_path_factory.mktemp("undisturbed") / "run")


@pytest.fixture(scope="module")
def file(tiny_model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("study") / "study.yaml"
    path.write_text(yaml.safe_dump(study(tiny_model), sort_keys=False))
    return path


def started(*words: str | Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*COMMAND, *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # also where the tests run by nohup
    )


def waited(process: "subprocess.Popen[str]", out: Path, stage: str) -> None:
    """Until the run's log says that the stage has begun, and a shard or training of it more."""
    for _ in range(6000):
        text = (out / "log.jsonl").read_text() if (out / "log.jsonl").is_file() else ""
        events = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
        at = [n for n, event in enumerate(events) if event.get("stage") == stage]
        if (at and events[at[-1]]["event"] in ("shard", "training")) or (at and stage not in _SHARDS):
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError(f"no {stage} in a minute")


_SHARDS = ("tune", "generate", "judge")


@pytest.mark.parametrize(
    "signum",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.faults),
        pytest.param(signal.SIGHUP, marks=pytest.mark.faults),
    ],
    ids=lambda s: s.name,
)
def test_a_signal_in_each_stage(signum, file, undisturbed, tmp_path):
    out = tmp_path / "run"
    for stage in ("tune", "generate", "judge"):
        process = started("run", file, "--out", out)
        waited(process, out, stage)
        process.send_signal(signum)
        _, said = process.communicate(timeout=60)
        if process.returncode == 0:  # the stage was over before the signal came
            assert stage == "judge"
            continue
        assert process.returncode == 128 + signum, said
        assert f"interrupted ({signum.name})" in said and "what was finished is kept" in said
        assert "Traceback" not in said
        assert not list(out.rglob(".writing-*"))
        last = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
        assert last["event"] == "run fails"
    process = started("run", file, "--out", out)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    compared(out, undisturbed)


def test_two_drivers(file, undisturbed, tmp_path):
    out = tmp_path / "run"
    first = started("run", file, "--out", out)
    waited(first, out, "tune")
    first.send_signal(signal.SIGSTOP)  # it holds the run for as long as the others are tried
    for words in (("run", file, "--out", out), ("generate", out), ("judge", out)):
        second = started(*words)
        _, said = second.communicate(timeout=60)
        assert second.returncode == 2
        assert f"another run (process {first.pid}) is at work in {out}" in said and "wait for it" in said
    reader = started("status", out, "--json")  # who only looks is welcome
    reader.communicate(timeout=60)
    assert reader.returncode == 0
    first.send_signal(signal.SIGCONT)
    _, said = first.communicate(timeout=300)
    assert first.returncode == 0, said
    compared(out, undisturbed)


@pytest.mark.faults  # which library runs out of memory first, and in which words, is the machine's
@pytest.mark.parametrize("stage", ["tune", "generate"])
def test_out_of_memory(stage, file, undisturbed, tmp_path):
    """The address space is cut to what the process has when the stage begins, and a little more."""
    out = tmp_path / "run"
    if stage == "generate":
        done = started("tune", file, "--out", out)
        _, said = done.communicate(timeout=120)
        assert done.returncode == 0, said
    process = started(stage, *((file, "--out", out) if stage == "tune" else (out,)))
    began = f'"stage begins", "stage": "{stage}"'
    while not ((out / "log.jsonl").is_file() and began in (out / "log.jsonl").read_text()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    size = psutil.Process(process.pid).memory_info().vms
    resource.prlimit(process.pid, resource.RLIMIT_AS, (size + 1_000_000, size + 1_000_000))
    _, said = process.communicate(timeout=120)
    if process.returncode == 0:
        pytest.skip("this machine's allocator had enough in hand")
    # The libraries' own ways to end are theirs; ours are words.
    assert process.returncode in (1, 2, -signal.SIGABRT, -signal.SIGSEGV, -signal.SIGKILL), said
    if process.returncode in (1, 2):
        assert "memory" in said.lower() and "→" in said, said
        assert "Traceback" not in said
    process = started("run", file, "--out", out)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    compared(out, undisturbed)
