"""The order of the stages, and nothing else."""

import logging
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial as partial_of
from pathlib import Path
from typing import TYPE_CHECKING

from aftertune._version import __version__
from aftertune.analysis import analyze_run
from aftertune.engines.base import Engine
from aftertune.engines.source import ModelSource
from aftertune.errors import AftertuneError
from aftertune.executors import Executor, PooledEngine, PooledTrainers, Setup, WarmEngines
from aftertune.records import Progress
from aftertune.report import report
from aftertune.stages.check import Estimate, Resolved, prepare
from aftertune.stages.generate import drop_checkpoints, generate
from aftertune.stages.judge import judge
from aftertune.stages.observe import observe
from aftertune.stages.tune import take_checkpoints, tune
from aftertune.store import RunDirectory, shard_sums
from aftertune.study import OpenAISpec, same_checkpoints
from aftertune.tuning.training import OwnTrainers, Trainers

if TYPE_CHECKING:
    from aftertune.engines.transformers import TransformersEngine

log = logging.getLogger(__name__)

STAGES = ("tune", "generate", "judge", "observe", "analyze", "report")


def no_progress(stage: str, done: int, total: int) -> None:
    """Tell nobody."""


Told = Callable[[Resolved, Estimate], object]  # what a study is and will cost, before it starts


def told_nobody(resolved: Resolved, found: Estimate) -> None:
    """Say nothing of the cost."""


def run_study(
    study_file: Path,
    out: Path,
    *,
    progress: Progress = no_progress,
    told: Told = told_nobody,
    executor: Executor | None = None,
) -> Path:
    """Run a study from its file to its report; finished work is never repeated.

    Args:
        study_file: the study.
        out: its run directory, made if absent.
        progress: told (stage, done, total) as the work goes on.
        told: the study and its cost, before anything is done.
        executor: has trainings and draws done by other processes (`aftertune.executors.open_executor`); it
            stays open.

    Returns:
        The path of the report's page.

    Raises:
        AftertuneError: the study, its data or the run directory is wrong; what was finished is kept.
    """
    return run_stages(study_file, out, STAGES, progress=progress, told=told, executor=executor)


def run_stages(
    study_file: Path | None,
    out: Path,
    stages: tuple[str, ...],
    *,
    partial: bool = False,
    progress: Progress = no_progress,
    told: Told = told_nobody,
    executor: Executor | None = None,
) -> Path:
    """Run some of the stages, in the order of the pipeline.

    Args:
        study_file: the study, checked first; None where the run directory already holds it.
        out: the run directory.
        stages: some of STAGES.
        partial: observe a half-finished study as far as it is balanced.
        progress: told (stage, done, total).
        told: the study and its cost, before anything is done; where there is a study file.
        executor: has trainings and draws done by other processes; None does all in this one.
    """
    run = RunDirectory(out)
    with run.locked():
        if study_file is not None:
            told(*prepare(run, study_file))
        engines = _Engines(executor)
        runs = [run, *_variation_runs(run)]
        work: dict[str, Callable[[], object]] = {
            "tune": lambda: _tune(runs, engines, progress),
            "generate": lambda: _generate(runs, engines, progress),
            "judge": lambda: [judge(one, progress=_of(one, progress)) for one in runs],
            "observe": lambda: observe(run, partial=partial),
            "analyze": lambda: analyze_run(run),
            "report": lambda: report(run),
        }
        with _told(run, stages):
            for stage in STAGES:
                if stage in stages:
                    with _timed(run, stage):
                        work[stage]()
    return run.report / "index.html"


def _tune(runs: list[RunDirectory], engines: "_Engines", progress: Progress) -> None:
    first = runs[0].study
    for run in runs:
        if run.main is not None and same_checkpoints(first, run.study):
            take_checkpoints(run)
        else:
            tune(
                run,
                open_engine=partial_of(engines.local, run),
                pooled=partial_of(engines.trainers, run),
                progress=_of(run, progress),
            )


def _generate(runs: list[RunDirectory], engines: "_Engines", progress: Progress) -> None:
    for run in runs:
        generate(run, open_engine=partial_of(engines.drawing, run), progress=_of(run, progress))
    for run in runs:
        drop_checkpoints(run)


def _variation_runs(run: RunDirectory) -> list[RunDirectory]:
    """Those of one engine and model stand together, the study's own first: each is loaded once."""
    _, *runs = run.parts()
    if not runs:
        return []
    own, keys = _setup(run).key, {one.root: _setup(one).key for one in runs}
    first_of = {key: place for place, key in reversed(list(enumerate(keys.values())))}
    return sorted(runs, key=lambda one: (keys[one.root] != own, first_of[keys[one.root]]))


class _Engines:
    """What tunes and draws: this process's engines, and other processes where there is an executor."""

    def __init__(self, executor: Executor | None) -> None:
        self._engines = WarmEngines()
        self._executor = executor

    def local(self, run: RunDirectory) -> "TransformersEngine":
        """The engine that tunes."""
        return self._engines.local(_setup(run))

    def drawing(self, run: RunDirectory) -> Engine:
        """The engine that draws. An endpoint is asked from here: it has workers of its own."""
        setup = _setup(run)
        engine = self._engines.drawing(setup)
        if self._executor is None or isinstance(setup.study.engine, OpenAISpec):
            return engine
        return PooledEngine(engine, self._executor, setup)

    def trainers(self, run: RunDirectory, own: OwnTrainers) -> Trainers:
        """What trains."""
        return own if self._executor is None else PooledTrainers(own, self._executor, _setup(run))


def _of(run: RunDirectory, progress: Progress) -> Progress:
    """The progress of a variation, told under its name."""
    if run.main is None:
        return progress
    return lambda stage, done, total: progress(f"{stage} · {run.variation}", done, total)


def _setup(run: RunDirectory) -> Setup:
    entry = run.model
    if entry.path is None:  # an endpoint has it
        return Setup(run.study, None)
    found = ModelSource(entry.name, Path(entry.path), entry.sha256, entry.source, entry.licence)
    return Setup(run.study, found)


@contextmanager
def _timed(run: RunDirectory, stage: str) -> Generator[None]:
    """Add the stage's time to what it took in earlier runs of this directory, and sum its shards up."""
    start = time.monotonic()
    run.tell("stage begins", stage=stage)
    yield
    seconds = time.monotonic() - start
    run.tell("stage ends", stage=stage, seconds=round(seconds, 3))
    spent = run.read_manifest().stages_s
    run.update_manifest(
        stages_s={**spent, stage: round(spent.get(stage, 0.0) + seconds, 1)},
        shards=shard_sums(run.log),
    )
    log.info("%s: %.1f s", stage, seconds)


@contextmanager
def _told(run: RunDirectory, stages: tuple[str, ...]) -> Generator[None]:
    """Write into the run's log how this process begins and ends, and our warnings in between."""
    run.tell("run begins", stages=stages, version=__version__)
    warnings = _IntoLog(run)
    ours = logging.getLogger("aftertune")
    ours.addHandler(warnings)
    try:
        yield
    except BaseException as error:
        fault = str(error).splitlines()[0] if isinstance(error, AftertuneError) else type(error).__name__
        run.tell("run fails", reason=fault)
        raise
    else:
        run.tell("run ends")
    finally:
        ours.removeHandler(warnings)


class _IntoLog(logging.Handler):
    def __init__(self, run: RunDirectory):
        super().__init__(logging.WARNING)
        self._run = run

    def emit(self, record: logging.LogRecord) -> None:
        self._run.tell("warning", level=record.levelname.lower(), message=record.getMessage())
