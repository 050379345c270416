"""The order of the stages, and nothing else."""

import logging
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial as partial_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aftertune.engines import open_engine, open_local_engine
from aftertune.engines.base import Engine
from aftertune.engines.loading import ModelSource
from aftertune.records import Progress
from aftertune.report import report
from aftertune.stages.analyze import analyze_run
from aftertune.stages.check import Estimate, Resolved, prepare
from aftertune.stages.generate import drop_checkpoints, generate
from aftertune.stages.judge import judge
from aftertune.stages.observe import observe
from aftertune.stages.tune import take_checkpoints, tune
from aftertune.store import RunDirectory, content_key
from aftertune.study import Study, TransformersSpec, same_checkpoints

if TYPE_CHECKING:
    from aftertune.engines.transformers import TransformersEngine

log = logging.getLogger(__name__)

STAGES = ("tune", "generate", "judge", "observe", "analyze", "report")


def no_progress(stage: str, done: int, total: int) -> None:
    """Tell nobody."""


Told = Callable[[Resolved, Estimate], object]  # what a study is and will cost, before it starts


def told_nobody(resolved: Resolved, found: Estimate) -> None:
    """Say nothing of the cost."""


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
    study_file: Path | None,
    out: Path,
    stages: tuple[str, ...],
    *,
    partial: bool = False,
    progress: Progress = no_progress,
    told: Told = told_nobody,
) -> Path:
    """Run some of the stages, in the order of the pipeline.

    Args:
        study_file: the study, checked first; None where the run directory already holds it.
        out: the run directory.
        stages: some of STAGES.
        partial: observe a half-finished study as far as it is balanced.
        progress: told (stage, done, total).
        told: the study and its cost, before anything is done; where there is a study file.
    """
    run = RunDirectory(out)
    with run.locked():
        if study_file is not None:
            told(*prepare(run, study_file))
        engines = _Engines()
        runs = [run, *_variation_runs(run)]
        work: dict[str, Callable[[], object]] = {
            "tune": lambda: _tune(runs, engines, progress),
            "generate": lambda: _generate(runs, engines, progress),
            "judge": lambda: [judge(one, progress=_of(one, progress)) for one in runs],
            "observe": lambda: observe(run, partial=partial),
            "analyze": lambda: analyze_run(run),
            "report": lambda: report(run),
        }
        for stage in STAGES:
            if stage in stages:
                with _timed(run, stage):
                    work[stage]()
    return run.report / "index.html"


def _tune(runs: list[RunDirectory], engines: "_Engines", progress: Progress) -> None:
    first = _study(runs[0])
    for run in runs:
        if run.main is not None and same_checkpoints(first, _study(run)):
            take_checkpoints(run)
        else:
            tune(run, open_engine=partial_of(engines.local, run), progress=_of(run, progress))


def _generate(runs: list[RunDirectory], engines: "_Engines", progress: Progress) -> None:
    for run in runs:
        generate(run, open_engine=partial_of(engines.drawing, run), progress=_of(run, progress))
    for run in runs:
        drop_checkpoints(run)


def _variation_runs(run: RunDirectory) -> list[RunDirectory]:
    """Those of one engine and model stand together, the study's own first: each is loaded once."""
    runs = [run.of_variation(v.name, draws_anew=v.draws_anew) for v in _study(run).variations]
    if not runs:
        return []
    own, keys = _engine_key(run), {one.root: _engine_key(one) for one in runs}
    first_of = {key: place for place, key in reversed(list(enumerate(keys.values())))}
    return sorted(runs, key=lambda one: (keys[one.root] != own, first_of[keys[one.root]]))


def _engine_key(run: RunDirectory) -> str:
    study = _study(run)
    model = run.read_manifest()["model"]
    return content_key([study.engine.model_dump(mode="json"), study.numerics, model["sha256"]])


class _Engines:
    """The engines of the last run that asked; one with the same engine and model gets the same."""

    def __init__(self) -> None:
        self._key = ""
        self._local: TransformersEngine | None = None
        self._drawing: Engine | None = None

    def local(self, run: RunDirectory) -> "TransformersEngine":
        """The engine that tunes."""
        self._turn_to(run)
        if self._local is None:
            self._local = open_local_engine(_study(run), _source(run))
        return self._local

    def drawing(self, run: RunDirectory) -> Engine:
        """The engine that draws, the same one where the study draws locally: its model is loaded once."""
        self._turn_to(run)
        if self._drawing is None:
            study = _study(run)
            self._drawing = open_engine(study, lambda: _source(run), local=lambda: self.local(run))
            if not isinstance(study.engine, TransformersSpec):
                self._local = None  # it lets go of the memory that the other one needs
        return self._drawing

    def _turn_to(self, run: RunDirectory) -> None:
        key = _engine_key(run)
        if key != self._key:
            self._key, self._local, self._drawing = key, None, None


def _of(run: RunDirectory, progress: Progress) -> Progress:
    """The progress of a variation, told under its name."""
    if run.main is None:
        return progress
    return lambda stage, done, total: progress(f"{stage} · {run.variation}", done, total)


def _study(run: RunDirectory) -> Study:
    return Study.model_validate_json(run.study_json.read_text(encoding="utf-8"))


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
