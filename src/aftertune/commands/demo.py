"""The demo: the whole path on a small real model."""

from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from aftertune.pipeline import Told, no_progress, run_study, told_nobody
from aftertune.records import Progress

DemoSize = Literal["quick", "standard", "full"]
STUDIES: dict[DemoSize, str] = {"quick": "demo-quick", "standard": "demo", "full": "demo-full"}


def demo(
    out: Path,
    *,
    size: DemoSize = "standard",
    numerics: str | None = None,
    threads: int | None = None,
    progress: Progress = no_progress,
    told: Told = told_nobody,
) -> Path:
    """Run the packaged demo study; returns the path of its report.

    Args:
        out: the run directory.
        size: `quick` shows in a minute or two that all works; `full` has all items and three repeats.
        numerics: `exact` or `fast`; by default exact where a way passes the check.
        threads: how many threads compute; by default what torch finds.
        progress: told (stage, done, total).
        told: the study and its cost, before anything is done.

    Raises:
        StudyError: a value is not one of these.
        EngineError: exact numerics were asked for where they cannot be promised.
    """
    text = (files("aftertune.commands") / "studies" / f"{STUDIES[size]}.yaml").read_text(encoding="utf-8")
    if numerics is not None:
        text += f"numerics: {numerics}\n"
    if threads is not None:
        text += f"engine: {{threads: {threads}}}\n"
    with TemporaryDirectory() as folder:
        study = Path(folder) / f"{STUDIES[size]}.yaml"
        study.write_text(text, encoding="utf-8")
        return run_study(study, out, progress=progress, told=told)
