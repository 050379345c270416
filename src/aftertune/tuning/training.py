"""A training: one recipe with one seed; and what trains it on the engine of the process that it is in."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from aftertune.data import TuningData
from aftertune.errors import ModelError
from aftertune.records import Checkpoint, CheckpointStatus
from aftertune.study import CommandRecipe, TuneRecipe
from aftertune.tuning.checkpoints import checkpoint_sha256
from aftertune.tuning.command import run_command

if TYPE_CHECKING:
    from aftertune.engines.transformers import TransformersEngine
    from aftertune.tuning.trainer import Trainer


@dataclass(frozen=True, slots=True)
class Training:
    """One recipe with one seed; `data` is None for the user's own trainer."""

    name: str
    recipe: TuneRecipe | CommandRecipe
    seed: int
    data: TuningData | None
    key: str
    n_steps: int


@dataclass(frozen=True, slots=True)
class Group:
    """Seeds of one recipe that are trained in one go, each into its own folder, which is there and empty."""

    trainings: tuple[Training, ...]
    folders: tuple[Path, ...]


class Trainers(Protocol):
    """What makes checkpoints of trainings; the paths in them are relative to their training's folder."""

    def grouped(self, trainings: Sequence[Training]) -> list[tuple[Training, ...]]:
        """Which of them are best trained in one go; those of a recipe stand together."""
        ...

    def train(
        self, groups: Sequence[Group], on_step: Callable[[], None]
    ) -> Iterator[tuple[int, list[Checkpoint]]]:
        """Train the groups; gives the place of each and its checkpoints as they are finished."""
        ...


@dataclass(frozen=True, eq=False)
class OwnTrainers:
    """Trains one group after another on the engine of this process.

    `cwd` is the folder in which the user's own trainer runs.
    """

    base: Checkpoint
    root_seed: int
    cwd: Path
    open_engine: Callable[[], "TransformersEngine"]

    @cached_property
    def _ours(self) -> "Trainer":
        from aftertune.tuning.trainer import Trainer

        return Trainer(self.open_engine(), self.root_seed)

    def grouped(self, trainings: Sequence[Training]) -> list[tuple[Training, ...]]:
        """As many seeds of a recipe at a time as are best trained in one pass."""
        groups: list[tuple[Training, ...]] = []
        for _, same in groupby(trainings, key=lambda training: training.name):
            seeds = list(same)
            size = self._seeds_at_once(seeds[0])
            groups += in_groups(seeds, size)
        return groups

    def train(
        self, groups: Sequence[Group], on_step: Callable[[], None]
    ) -> Iterator[tuple[int, list[Checkpoint]]]:
        """Train the groups in their order."""
        for place, group in enumerate(groups):
            yield place, self.train_group(group, on_step)

    def train_group(self, group: Group, on_step: Callable[[], None]) -> list[Checkpoint]:
        """Train seeds of one recipe."""
        first, folders = group.trainings[0], group.folders
        if isinstance(first.recipe, CommandRecipe):
            return [
                self._run(first.recipe, training, folder)
                for training, folder in zip(group.trainings, folders, strict=True)
            ]
        assert first.data is not None
        if len(folders) == 1:
            return [
                self._ours.train(
                    first.recipe,
                    first.data,
                    name=first.name,
                    seed=first.seed,
                    folder=folders[0],
                    on_step=on_step,
                )
            ]
        seeds = [training.seed for training in group.trainings]
        return self._ours.train_together(
            first.recipe, first.data, name=first.name, seeds=seeds, folders=folders, on_step=on_step
        )

    def _seeds_at_once(self, training: Training) -> int:
        if isinstance(training.recipe, CommandRecipe):
            return 1
        assert training.data is not None
        return self._ours.seeds_at_once(training.recipe, training.data, name=training.name)

    def _run(self, recipe: CommandRecipe, training: Training, folder: Path) -> Checkpoint:
        outcome = run_command(
            recipe,
            seed=training.seed,
            output=folder / "output",
            cwd=self.cwd,
            log=folder / "command.log",
            base=Path(str(self.base.path)),
        )
        name, seed = training.name, training.seed
        if outcome.checkpoint is None:
            return Checkpoint(name, seed, "adapter", outcome.status, outcome.reason, None, None)
        path = outcome.checkpoint.relative_to(folder).as_posix()
        try:
            sha256 = checkpoint_sha256(outcome.checkpoint)
        except ModelError as error:
            return Checkpoint(name, seed, "adapter", CheckpointStatus.FAILED, str(error), None, None)
        return Checkpoint(name, seed, str(outcome.kind), outcome.status, "", path, sha256)


def in_groups(trainings: Sequence[Training], size: int) -> list[tuple[Training, ...]]:
    """Cut into groups of at most so many."""
    return [tuple(trainings[start : start + size]) for start in range(0, len(trainings), size)]
