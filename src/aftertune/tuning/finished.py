"""Checkpoints of a user's own making, found by the names that a study gives them."""

from dataclasses import dataclass
from pathlib import Path

from aftertune.engines.directory import missing_directory
from aftertune.errors import ModelError, need_models
from aftertune.records import Checkpoint, CheckpointStatus
from aftertune.study import FinishedRecipe, Study
from aftertune.tuning.checkpoints import checkpoint_sha256, find_checkpoint, kind_of


@dataclass(frozen=True, slots=True)
class Finished:
    """A checkpoint that was made elsewhere: what it was asked for as, where it stands, its content's hash."""

    name: str
    path: Path
    kind: str  # adapter | full
    sha256: str

    def as_checkpoint(self, model: str, seed: int | None) -> Checkpoint:
        """As the checkpoint of one recipe and seed, or as its only one."""
        return Checkpoint(model, seed, self.kind, CheckpointStatus.OK, "", str(self.path), self.sha256)


def find_finished(name: str) -> Finished:
    """Find a directory, the only checkpoint in it, or a hub id with its commit.

    Raises:
        ModelError: there is none, its weights are pickles, or the hub id has no commit.
    """
    folder = Path(name)
    if not folder.is_dir():
        if why := missing_directory(name):
            raise ModelError(f"the checkpoint {name!r} {why}", "give the directory that a trainer left")
        hub, _, revision = name.partition("@")
        if name.startswith(("/", ".", "~")) or hub.count("/") != 1:
            raise ModelError(
                f"no checkpoint at {name!r}",
                "give a directory with safetensors, or a hub id with its commit: owner/name@commit",
            )
        need_models()
        from aftertune.engines.loading import fetch_from_hub

        folder = fetch_from_hub(hub, revision or None)
    path = find_checkpoint(folder).resolve()
    return Finished(name, path, str(kind_of(path)), checkpoint_sha256(path))


def finished_of(study: Study) -> dict[str, tuple[Finished, ...]]:
    """By recipe, the checkpoints of a study that were made elsewhere.

    Raises:
        ModelError: one is not found.
    """
    return {
        name: tuple(find_finished(checkpoint) for checkpoint in recipe.checkpoints)
        for name, recipe in study.recipes.items()
        if isinstance(recipe, FinishedRecipe)
    }
