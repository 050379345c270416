"""Run a command in a process of its own: what it printed, what it took, and what others took meanwhile."""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def measured(command: list[str], *, prints: bool = False, **environment: str) -> dict[str, Any]:
    """What came of a command: seconds, CPU seconds, peak memory, and the JSON object that it printed, if any.

    `others_share` is the part of the machine's processor time that other processes used meanwhile, 0 to 1.
    A command that fails has `failed` with its last words, and so has one that should print JSON and does not.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        start, busy_before = time.monotonic(), _busy_s()
        process = subprocess.Popen(command, stdout=out, stderr=err, env={**os.environ, **environment})
        _, status, usage = os.wait4(process.pid, 0)  # of this process and those it waited for, no others
        wall_s, busy_s = time.monotonic() - start, _busy_s() - busy_before
        process.returncode = os.waitstatus_to_exitcode(status)
        said, complaints = (_all_of(stream) for stream in (out, err))
    cpu_s = usage.ru_utime + usage.ru_stime
    result: dict[str, Any] = {
        "wall_s": round(wall_s, 2),
        "cpu_s": round(cpu_s, 2),
        "peak_rss_bytes": usage.ru_maxrss * 1024,
        "others_share": round(max(0.0, busy_s - cpu_s) / (wall_s * (os.cpu_count() or 1)), 3),
    }
    if process.returncode != 0:
        last = complaints.splitlines()[-1:] or ["no message"]
        return result | {"failed": f"exit status {process.returncode}: {last[0]}"}
    printed = _printed(said)
    if prints and not printed:
        return result | {"failed": "it printed no JSON object"}
    return result | printed


def _busy_s() -> float:
    """Seconds that all processors together have worked since the machine started, stolen ones included."""
    user, nice, system, _, _, irq, softirq, stolen, *_ = Path("/proc/stat").read_text().split()[1:11]
    return sum(map(int, (user, nice, system, irq, softirq, stolen))) / os.sysconf("SC_CLK_TCK")


def _all_of(stream: IO[str]) -> str:
    stream.seek(0)
    return stream.read().strip()


def _printed(said: str) -> dict[str, Any]:
    """The JSON object that is all of the output, or the last of its lines that is one: libraries chat too."""
    for text in (said, *reversed(said.splitlines())):
        with suppress(ValueError):
            found = json.loads(text)
            if isinstance(found, dict):
                return found
    return {}


def machine() -> dict[str, Any]:
    """The machine and the versions, for the page."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    said = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = said.get("flags", "").split()
    shown = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    gpus = subprocess.check_output(shown, text=True).split("\n") if shutil.which("nvidia-smi") else []
    names = ("torch", "transformers", "peft")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "processor": f"{said.get('model name')} (family {said.get('cpu family')}, model {said.get('model')})",
        "cores": len(os.sched_getaffinity(0)),
        "gpus": [name for name in gpus if name],
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "features": [flag for flag in FLAGS if flag in flags],
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in names},
        },
    }


def _commit() -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "src", "scripts")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" with changes" if changed else "")
