"""An engine and trainers whose work is done by an executor's workers."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil
from typing import Any

from aftertune.engines.base import Completion, Engine, Prompt, Request
from aftertune.engines.directory import weight_files
from aftertune.executors.base import Executor
from aftertune.executors.work import DrawJob, Needs, Setup, TrainJob
from aftertune.records import Checkpoint
from aftertune.study import GenerateSpec, Study, TransformersSpec
from aftertune.tuning.training import Group, OwnTrainers, Training, in_groups

_JOBS_A_WORKER = 4  # the last to finish leaves the others idle for a quarter of its share at most
_MEMORY = 1_000_000_000  # bytes of a worker beside the weights, which may be held in twice their size
_BATCHES_A_JOB = 4  # the rows of a job's last batch are not filled up: few of them, so that it costs little


@dataclass(frozen=True, slots=True)
class PooledEngine:
    """Renders here and completes elsewhere. `engine` is of this process; its model is never loaded."""

    engine: Engine
    executor: Executor
    setup: Setup

    @property
    def identity(self) -> dict[str, Any]:
        """Of the engine here, which every worker's must equal."""
        return self.engine.identity

    @property
    def reproducibility(self) -> dict[str, Any]:
        """As the engine here promises."""
        return self.engine.reproducibility

    def render(self, prompt: str, system_prompt: str | None) -> Prompt:
        """The prompt as the model sees it."""
        return self.engine.render(prompt, system_prompt)

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Complete requests, in the order in which the workers finish them.

        Raises:
            EngineError: as the workers' engines; what they finished before comes first.
        """
        pending = list(requests)
        setup, needs = for_workers(self.setup, self.engine)
        jobs = [DrawJob(setup, self.identity, needs, part) for part in self._parts(pending)]
        for _, outcome in self.executor.run(jobs):
            for made in outcome.made:
                assert isinstance(made, Completion)
                yield made
            if outcome.error is not None:
                raise outcome.error

    def _parts(self, requests: Sequence[Request]) -> list[tuple[Request, ...]]:
        """Neighbours stay together: they share an adapter and the reading of a prompt."""
        rows = getattr(self.setup.study.engine, "batch_rows", 64)
        share = ceil(len(requests) / (self.executor.n_workers * _JOBS_A_WORKER))
        size = max(1, min(max(share, rows), _BATCHES_A_JOB * rows))
        # With few requests a batch is left unfilled rather than a worker idle.
        size = min(size, max(1, ceil(len(requests) / self.executor.n_workers)))
        return [tuple(requests[start : start + size]) for start in range(0, len(requests), size)]


@dataclass(frozen=True, slots=True)
class PooledTrainers:
    """Has trainings done by an executor's workers, seeds of a recipe spread over them."""

    own: OwnTrainers
    executor: Executor
    setup: Setup

    def grouped(self, trainings: Sequence[Training]) -> list[tuple[Training, ...]]:
        """So many seeds of a recipe to a worker that none is idle; it trains as many at once as fit."""
        groups: list[tuple[Training, ...]] = []
        for _, same in groupby(trainings, key=lambda training: training.name):
            seeds = list(same)
            groups += in_groups(seeds, ceil(len(seeds) / self.executor.n_workers))
        return groups

    def train(
        self, groups: Sequence[Group], on_step: Callable[[], None]
    ) -> Iterator[tuple[int, list[Checkpoint]]]:
        """Train the groups; a step is told of when its training is finished."""
        if not groups:
            return
        engine = self.own.open_engine()
        setup, needs = for_workers(self.setup, engine)
        jobs = [
            TrainJob(setup, engine.identity, needs, group, self.own.base, self.own.root_seed, self.own.cwd)
            for group in groups
        ]
        for place, outcome in self.executor.run(jobs):
            if outcome.error is not None:
                raise outcome.error
            made = [checkpoint for checkpoint in outcome.made if isinstance(checkpoint, Checkpoint)]
            for _ in range(sum(training.n_steps for training in groups[place].trainings)):
                on_step()
            yield place, made


def for_workers(setup: Setup, engine: Engine) -> tuple[Setup, Needs]:
    """The setup with the driver's number of threads written out, which decides bytes; what a worker needs."""
    spec, threads = setup.study.engine, engine.identity.get("threads")
    if threads is not None and isinstance(spec, TransformersSpec | GenerateSpec):
        spec = spec.model_copy(update={"threads": threads})
    study: Study = setup.study.model_copy(update={"engine": spec})
    files = weight_files(setup.source.path) if setup.source else ()
    weights = sum(file.stat().st_size for file in files)
    on_gpu = not str(getattr(engine, "device", "cuda")).startswith("cpu")
    needs = Needs(cpus=threads or 1, gpus=int(on_gpu), memory=_MEMORY + 2 * weights)
    return Setup(study, setup.source), needs
