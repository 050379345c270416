"""Progress bars with rate and time left, one a stage, on standard error."""

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from aftertune.records import Progress

_UNITS = {
    "tune": "steps",
    "answers": "answers",
    "held out": "losses",
    "generate": "responses",
    "judge": "judgments",
}


def _unit(stage: str) -> str:
    """What a stage counts; a variation's stage is "generate · its name"."""
    return _UNITS.get(stage.partition(" · ")[0], "")


class _Rate(ProgressColumn):
    """Units a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        unit = _unit(task.description)
        return Text("" if speed is None else f"{speed:.1f} {unit}/s", style="progress.data.speed")


@contextmanager
def progress_bars() -> Generator[Progress]:
    """Give a function to be told (stage, done, total); where no bar can move, it prints lines."""
    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield _lines()
        return
    bars = Bars(
        TextColumn("{task.description:>9}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=console,
    )
    ids: dict[str, TaskID] = {}

    def tell(stage: str, done: int, total: int) -> None:
        if stage not in ids:
            ids[stage] = bars.add_task(stage, total=total, completed=done)
        bars.update(ids[stage], completed=done, total=total)

    with bars:
        yield tell


def _lines() -> Progress:
    told: dict[str, int] = {}
    started: dict[str, tuple[float, int]] = {}

    def tell(stage: str, done: int, total: int) -> None:
        first, done_before = started.setdefault(stage, (time.monotonic(), done))
        tenth = 10 if total == 0 else done * 10 // total
        if tenth <= told.get(stage, -1):
            return
        told[stage] = tenth
        seconds = time.monotonic() - first
        rate = (done - done_before) / seconds if seconds > 0.05 else 0.0
        left = f", {(total - done) / rate:.0f} s left" if rate and done < total else ""
        speed = f", {rate:.1f} {_unit(stage)}/s" if rate else ""
        print(f"{stage}: {done}/{total}{speed}{left}", file=sys.stderr, flush=True)

    return tell
