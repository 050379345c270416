"""The structured log beside a run: one JSON object a line, for people and tools that watch it.

It tells what happened and how long it took, never what was asked or answered. A run never fails because of
it: where it cannot be written, lines are lost.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aftertune.foreign_text import without_secrets

_BEGAN = time.monotonic()


def append_event(path: Path, event: str, **fields: Any) -> None:
    """Add one line: UTC time, seconds since this process began by a clock that never jumps, process, event.

    Args:
        path: the log, whose folder is there.
        event: what happened.
        fields: what is to be known of it; what is no JSON is written as text.
    """
    entry = {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "process_s": round(time.monotonic() - _BEGAN, 3),
        "pid": os.getpid(),
        "event": event,
        **fields,
    }
    line = without_secrets(json.dumps(entry, default=str)) + "\n"
    with suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode())  # one write: lines of two processes do not mix
        finally:
            os.close(descriptor)


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a log, the oldest first; a line that a kill or a full disk tore is left out."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and isinstance(entry.get("event"), str):
                yield entry


def shard_sums(path: Path) -> dict[str, dict[str, float]]:
    """Of each stage's shards, over all runs of a directory: how many, their rows, and their seconds."""
    sums: dict[str, dict[str, float]] = {}
    for entry in read_events(path):
        stage, rows, seconds = entry.get("stage"), entry.get("rows"), entry.get("seconds")
        if entry["event"] == "shard" and isinstance(rows, int) and isinstance(seconds, float):
            found = sums.setdefault(str(stage), {"n": 0, "rows": 0, "total_s": 0.0, "longest_s": 0.0})
            found["n"] += 1
            found["rows"] += rows
            found["total_s"] = round(found["total_s"] + seconds, 3)
            found["longest_s"] = max(found["longest_s"], seconds)
    return sums
