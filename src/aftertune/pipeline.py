"""The order of the stages, and nothing else."""

import logging
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from aftertune.engines import open_engine, open_local_engine
from aftertune.engines.base import Engine
from aftertune.engines.loading import ModelSource
from aftertune.records import Progress
from aftertune.report import report
from aftertune.stages.analyze import analyze_run
from aftertune.stages.check import prepare
from aftertune.stages.generate import generate
from aftertune.stages.judge import judge
from aftertune.stages.observe import observe
from aftertune.stages.tune import tune
from aftertune.store import RunDirectory
from aftertune.study import Study, TransformersSpec

log = logging.getLogger(__name__)

STAGES = ("tune", "generate", "judge", "observe", "analyze", "report")


def no_progress(stage: str, done: int, total: int) -> None:
    """Tell nobody."""


def run_study(study_file: Path, out: Path, *, progress: Progress = no_progress) -> Path:
    """Run a study from its file to its report; finished work is never repeated.

    Args:
        study_file: the study.
        out: its run directory, made if absent.
        progress: told (stage, done, total) as the work goes on.

    Returns:
        The path of the report's page.

    Raises:
        AftertuneError: the study, its data or the run directory is wrong; what was finished is kept.
    """
    return run_stages(study_file, out, STAGES, progress=progress)


def run_stages(
    study_file: Path | None, out: Path, stages: tuple[str, ...], *, progress: Progress = no_progress
) -> Path:
    """Run some of the stages, in the order of the pipeline.

    Args:
        study_file: the study, checked first; None where the run directory already holds it.
        out: the run directory.
        stages: some of STAGES.
        progress: told (stage, done, total).
    """
    run = RunDirectory(out)
    with run.locked():
        if study_file is not None:
            prepare(run, study_file)
        local = cache(lambda: open_local_engine(_study(run), _source(run)))
        # One engine for both where the study draws locally: its model is loaded once.
        drawing = cache(lambda: _drawing_engine(run, local))
        work: dict[str, Callable[[], object]] = {
            "tune": lambda: tune(run, open_engine=local, progress=progress),
            "generate": lambda: generate(run, open_engine=drawing, progress=progress),
            "judge": lambda: judge(run, progress=progress),
            "observe": lambda: observe(run),
            "analyze": lambda: analyze_run(run),
            "report": lambda: report(run),
        }
        for stage in STAGES:
            if stage in stages:
                with _timed(run, stage):
                    work[stage]()
    return run.report / "index.html"


def _study(run: RunDirectory) -> Study:
    return Study.model_validate_json(run.study_json.read_text(encoding="utf-8"))


def _drawing_engine(run: RunDirectory, local: Any) -> Engine:
    study = _study(run)
    engine = open_engine(study, lambda: _source(run), local=local)
    if not isinstance(study.engine, TransformersSpec):
        local.cache_clear()  # the engine that tuned lets go of the memory that the other one needs
    return engine


def _source(run: RunDirectory) -> ModelSource:
    entry: dict[str, Any] = run.read_manifest()["model"]
    path: Any = Path(entry["path"])
    return ModelSource(**(entry | {"path": path}))


@contextmanager
def _timed(run: RunDirectory, stage: str) -> Generator[None]:
    """Add the stage's time to what it took in earlier runs of this directory."""
    start = time.monotonic()
    yield
    seconds = time.monotonic() - start
    spent = run.read_manifest().get("stages_s", {})
    run.update_manifest(stages_s={**spent, stage: round(spent.get(stage, 0.0) + seconds, 1)})
    log.info("%s: %.1f s", stage, seconds)
