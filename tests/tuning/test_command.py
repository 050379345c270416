import os
import shlex
import signal
import sys
import time
from pathlib import Path
from textwrap import dedent
from threading import Timer

import pytest

from aftertune.errors import TuningError
from aftertune.records import CheckpointStatus
from aftertune.study import CommandRecipe
from aftertune.tuning import command
from aftertune.tuning.command import CommandOutcome, run_command

SAVE = """
import argparse, pathlib, os, sys
parser = argparse.ArgumentParser()
for name in ("--seed", "--output", "--base"):
    parser.add_argument(name)
args = parser.parse_args()
out = pathlib.Path(args.output)
"""


def run(
    folder: Path, script: str, *, words: str = "", timeout_s: float | None = None, base=None
) -> CommandOutcome:
    trainer = folder / "my trainer.py"
    trainer.write_text(SAVE + dedent(script))
    text = f"{shlex.quote(sys.executable)} '{trainer}' --seed {{seed}} --output {{output}} {words}"
    recipe = CommandRecipe(command=text, timeout_s=timeout_s)
    output = folder / "with space" / "output"
    return run_command(
        recipe, seed=42, output=output, cwd=folder, log=folder / "logs" / "train.log", base=base
    )


def test_the_command_gets_seed_output_and_base_and_its_checkpoint_is_found(tmp_path):
    outcome = run(
        tmp_path,
        """
        print("seed", args.seed, "base", args.base, "cwd", os.getcwd())
        print("to stderr", file=sys.stderr)
        (out / "adapter_config.json").write_text("{}")
        (out / "adapter_model.safetensors").write_bytes(b"weights")
        """,
        words="--base={base}",
        base=tmp_path / "the base",
    )
    assert (outcome.status, outcome.reason, outcome.exit_code) == (CheckpointStatus.OK, "", 0)
    assert (outcome.checkpoint, outcome.kind) == (tmp_path / "with space" / "output", "adapter")
    assert outcome.command[-1] == f"--base={tmp_path / 'the base'}"
    assert outcome.elapsed_s > 0
    log = (tmp_path / "logs" / "train.log").read_text()
    assert f"seed 42 base {tmp_path / 'the base'} cwd {tmp_path}" in log
    assert "to stderr" in log


def test_the_last_numbered_checkpoint_is_taken(tmp_path):
    outcome = run(
        tmp_path,
        """
        for n in (90, 100):
            (out / f"checkpoint-{n}").mkdir()
            (out / f"checkpoint-{n}" / "config.json").write_text("{}")
            (out / f"checkpoint-{n}" / "model.safetensors").write_bytes(b"weights")
        """,
    )
    assert outcome.checkpoint is not None
    assert (outcome.checkpoint.name, outcome.kind) == ("checkpoint-100", "full")


def test_a_failed_command_is_a_status_with_its_last_lines(tmp_path):
    outcome = run(tmp_path, "print(*range(100), sep='\\n')\nsys.exit('CUDA out of memory')")
    assert (outcome.status, outcome.exit_code, outcome.checkpoint) == (CheckpointStatus.FAILED, 1, None)
    lines = outcome.reason.splitlines()
    assert lines[0] == "the command ended with exit code 1; its last lines:"
    assert len(lines) == 1 + command.LAST_LINES
    assert "CUDA out of memory" in lines[1:]
    assert "99" in lines[1:]


def test_a_command_that_leaves_no_checkpoint_failed(tmp_path):
    outcome = run(tmp_path, "(out / 'pytorch_model.bin').write_bytes(b'x')")
    assert (outcome.status, outcome.exit_code) == (CheckpointStatus.FAILED, 0)
    assert "holds no safetensors, but pickles (pytorch_model.bin)" in outcome.reason
    assert "safe_serialization=True" in outcome.reason


def test_a_program_that_is_not_there(tmp_path):
    recipe = CommandRecipe(command="no-such-trainer {seed} {output}")
    outcome = run_command(recipe, seed=1, output=tmp_path / "o", cwd=tmp_path, log=tmp_path / "log")
    assert (outcome.status, outcome.exit_code) == (CheckpointStatus.FAILED, None)
    assert outcome.reason == "the command did not start: no-such-trainer: No such file or directory"


def test_there_is_no_shell(tmp_path):
    recipe = CommandRecipe(command="echo {seed} {output} $HOME; touch pwned")
    run_command(recipe, seed=1, output=tmp_path / "o", cwd=tmp_path, log=tmp_path / "log")
    assert "$HOME; touch pwned" in (tmp_path / "log").read_text()
    assert not (tmp_path / "pwned").exists()


# A trainer that ignores SIGTERM and has a child of its own, as data loaders and launchers do.
STUBBORN = """
import signal, subprocess, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", code])
print("epoch 1", flush=True)
(out.parent / "pids").write_text(f"{os.getpid()} {child.pid}")
time.sleep(60)
"""


def wait_until_gone(pids: list[int]) -> bool:
    """Whether all of them have ended; a killed orphan may stay a moment until its new parent reaps it."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if not any(is_running(pid) for pid in pids):
            return True
        time.sleep(0.02)
    return False


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")
def test_a_timeout_kills_the_trainer_and_its_children(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "GRACE_S", 0.2)
    outcome = run(tmp_path, STUBBORN, timeout_s=4)
    assert (outcome.status, outcome.exit_code) == (CheckpointStatus.FAILED, None)
    assert outcome.reason == "stopped after timeout_s 4; its last lines:\nepoch 1"
    assert wait_until_gone([int(pid) for pid in (tmp_path / "with space" / "pids").read_text().split()])


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")
def test_ctrl_c_kills_the_trainer_and_its_children(tmp_path, monkeypatch, request):
    monkeypatch.setattr(command, "GRACE_S", 0.2)
    # A process that a shell put into the background ignores the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    pids = tmp_path / "with space" / "pids"

    def interrupt() -> None:
        deadline = time.monotonic() + 30
        while not (pids.exists() and pids.read_text()) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    timer = Timer(0, interrupt)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, STUBBORN)
    timer.join()
    assert wait_until_gone([int(pid) for pid in pids.read_text().split()])


def test_what_cannot_be_run_is_refused(tmp_path):
    (tmp_path / "o").mkdir()
    settings = {"seed": 1, "output": tmp_path / "o", "cwd": tmp_path, "log": tmp_path / "log"}
    with pytest.raises(TuningError, match=r"asks for \{base\}, which is not known here"):
        run_command(CommandRecipe(command="x {seed} {output} {base}"), **settings)
    (tmp_path / "o" / "old.safetensors").touch()
    with pytest.raises(TuningError, match="is not empty: what is there could pass for the result"):
        run_command(CommandRecipe(command="x {seed} {output}"), **settings)
