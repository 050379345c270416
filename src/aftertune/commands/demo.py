"""The demo: the whole path on a small real model."""

from importlib.resources import as_file, files
from pathlib import Path

from aftertune.pipeline import no_progress, run_study
from aftertune.records import Progress


def demo(out: Path, *, full: bool = False, progress: Progress = no_progress) -> Path:
    """Run the packaged demo study; returns the path of its report.

    Args:
        out: the run directory.
        full: all items and three repeats in place of the ten-minute selection.
        progress: told (stage, done, total).
    """
    study = files("aftertune.commands") / "studies" / ("demo-full.yaml" if full else "demo.yaml")
    with as_file(study) as path:
        return run_study(path, out, progress=progress)
