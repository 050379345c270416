"""A study from its file, or as an object, to a finished run."""

import os
from pathlib import Path

from aftertune.commands.audit import study_file
from aftertune.executors import Executor
from aftertune.pipeline import no_progress, run_study
from aftertune.records import Progress
from aftertune.results.sources import Run
from aftertune.store import replace
from aftertune.study import Study, read_study


def run(
    study: Study | str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    progress: Progress = no_progress,
    executor: Executor | None = None,
) -> Run:
    """Run a study from its checkpoints to its report; finished work is never repeated.

    Args:
        study: a study file, or a `Study`, which is written into the run directory as study.yaml.
        out: the run directory, made where it is missing; runs/<name of the study> by default.
        progress: called with (stage, done, total) as the work goes on.
        executor: does trainings and generation in other processes (`aftertune.executors.open_executor`).

    Raises:
        AftertuneError: the study, its data or the run directory is wrong; what was finished is kept.
    """
    if isinstance(study, Study):
        directory = Path(out) if out is not None else Path("runs") / study.name
        file = directory / "study.yaml"
        directory.mkdir(parents=True, exist_ok=True)
        replace(file, study_file(study))
    else:
        file = Path(study)
        directory = Path(out) if out is not None else Path("runs") / read_study(file).name
    run_study(file, directory, progress=progress, executor=executor)
    return Run(directory)
