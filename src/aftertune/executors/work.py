"""What a worker does: it draws responses or trains, with engines that it keeps open from job to job."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aftertune.engines import open_engine, open_local_engine
from aftertune.engines.base import Completion, Engine, Request
from aftertune.engines.source import ModelSource
from aftertune.errors import AftertuneError, EngineError
from aftertune.records import Checkpoint
from aftertune.store import content_key
from aftertune.study import Study, TransformersSpec
from aftertune.tuning.training import Group, OwnTrainers

if TYPE_CHECKING:
    from aftertune.engines.transformers import TransformersEngine


@dataclass(frozen=True, slots=True)
class Setup:
    """A study and its base model: what engines are opened from. No source where an endpoint has the model."""

    study: Study
    source: ModelSource | None

    @property
    def key(self) -> str:
        """The same for two that can share engines."""
        study, source = self.study, self.source
        return content_key(
            [study.engine.model_dump(mode="json"), study.numerics, study.model, source and source.sha256]
        )

    @property
    def model(self) -> ModelSource:
        """The base model's place."""
        assert self.source is not None  # the grammar lets nothing of this machine stand beside an endpoint
        return self.source


class WarmEngines:
    """The engines of the last setup that asked; the next with the same engine and model gets the same."""

    def __init__(self) -> None:
        self._key = ""
        self._local: TransformersEngine | None = None
        self._drawing: Engine | None = None

    def local(self, setup: Setup) -> "TransformersEngine":
        """The engine that tunes."""
        self._turn_to(setup)
        if self._local is None:
            self._local = open_local_engine(setup.study, setup.model)
        return self._local

    def drawing(self, setup: Setup) -> Engine:
        """The engine that draws, the same one where the study draws locally: its model is loaded once."""
        self._turn_to(setup)
        if self._drawing is None:
            self._drawing = open_engine(setup.study, lambda: setup.model, local=lambda: self.local(setup))
            if not isinstance(setup.study.engine, TransformersSpec):
                self._local = None  # it lets go of the memory that the other one needs
        return self._drawing

    def _turn_to(self, setup: Setup) -> None:
        if setup.key != self._key:
            self._key, self._local, self._drawing = setup.key, None, None


@dataclass(frozen=True, slots=True)
class Needs:
    """What of a machine a worker takes for itself; memory in bytes."""

    cpus: int
    gpus: int
    memory: int


@dataclass(frozen=True, slots=True)
class DrawJob:
    """Requests to complete, by an engine that must have the driver's identity."""

    setup: Setup
    identity: dict[str, Any]
    needs: Needs
    requests: tuple[Request, ...]

    @property
    def weight(self) -> float:
        """The most tokens that it can take."""
        return sum(len(r.prompt.token_ids) / 8 + r.decoding.max_tokens for r in self.requests)

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """Those that it needs."""
        return tuple(dict.fromkeys(request.checkpoint for request in self.requests))


@dataclass(frozen=True, slots=True)
class TrainJob:
    """Seeds of one recipe to train, by an engine that must have the driver's identity."""

    setup: Setup
    identity: dict[str, Any]
    needs: Needs
    group: Group
    base: Checkpoint
    root_seed: int
    cwd: Path

    @property
    def weight(self) -> float:
        """Its optimizer steps times the conversations of each."""
        return sum(t.n_steps * getattr(t.recipe, "batch_size", 1) for t in self.group.trainings)


Job = DrawJob | TrainJob


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a job; with an error, what was finished before it."""

    made: Sequence[Completion | Checkpoint]
    error: AftertuneError | None = None


class Worker:
    """Does one job at a time, in a process of its own."""

    def __init__(self) -> None:
        # A worker's words go to the driver's terminal, and this library gives advice on kernels there.
        logging.getLogger("bitsandbytes").setLevel(logging.CRITICAL)
        self._engines = WarmEngines()

    def do(self, job: Job) -> Outcome:
        """Do a job. A fault that a user can mend is part of the outcome, any other is raised."""
        made: list[Completion | Checkpoint] = []
        try:
            if isinstance(job, DrawJob):
                engine = self._engines.drawing(job.setup)
                refuse_other(engine, job.identity)
                for completion in engine.complete(job.requests):
                    made.append(completion)
            else:
                made += self._train(job)
        except AftertuneError as error:
            return Outcome(made, error)
        return Outcome(made)

    def _train(self, job: TrainJob) -> list[Checkpoint]:
        engine = self._engines.local(job.setup)
        refuse_other(engine, job.identity)
        trainers = OwnTrainers(job.base, job.root_seed, job.cwd, lambda: engine)
        made: list[Checkpoint] = []
        places = dict(zip((t.key for t in job.group.trainings), job.group.folders, strict=True))
        for same in trainers.grouped(job.group.trainings):  # as many at once as this worker has memory for
            group = Group(same, tuple(places[training.key] for training in same))
            made += trainers.train_group(group, lambda: None)
        return made


def refuse_other(engine: Engine, identity: dict[str, Any]) -> None:
    """Refuse to work with an engine whose bytes may differ from the driver's.

    Raises:
        EngineError: its identity is another; says what differs.
    """
    here = engine.identity
    if here != identity:
        differing = sorted(k for k in here.keys() | identity.keys() if here.get(k) != identity.get(k))
        said = "; ".join(f"{k}: {here.get(k)!r} here, {identity.get(k)!r} at the driver" for k in differing)
        raise EngineError(
            f"a worker's engine is not the driver's: {said}",
            "use machines of one kind with the same versions; write `engine: {threads: N}` for the threads",
        )
