"""Models whose weights are out of sight: those that an endpoint serves, and those that a table remembers.

A checkpoint is known by the endpoint's address, or by the table's hash, and by its name there.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aftertune.engines.openai import UNVERIFIED, address_of
from aftertune.records import Checkpoint, CheckpointStatus
from aftertune.store import content_key, file_sha256
from aftertune.study import OpenAISpec, ReplaySpec, ServedRecipe, Study


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A base model out of sight; `sha256` is that of place and name, not of weights."""

    name: str
    sha256: str
    source: str
    licence: str


def served_model(study: Study, spec: OpenAISpec | ReplaySpec) -> ServedModel:
    """The base of a study that draws from such an engine.

    Raises:
        StudyError: the endpoint is no address.
    """
    if isinstance(spec, ReplaySpec):
        source = f"recorded in {Path(spec.table).name}, sha256 {file_sha256(Path(spec.table))}"
    else:
        source = f"{address_of(spec).url}, {UNVERIFIED}"
    return ServedModel(study.model, _sha256(_place(spec), study.model), source, "unknown")


def served_checkpoints(study: Study, spec: OpenAISpec | ReplaySpec) -> list[Checkpoint]:
    """The base and what the recipes name, each by its name at that place."""
    place = _place(spec)
    named: list[tuple[str, int | None, str]] = [("base", None, study.model)]
    for recipe_name, recipe in study.recipes.items():
        assert isinstance(recipe, ServedRecipe)  # the grammar lets no other stand beside these engines
        seeds = study.seeds_of(recipe_name)
        named += [(recipe_name, seed, name) for seed, name in zip(seeds, recipe.served, strict=True)]
    return [
        Checkpoint(model, seed, "served", CheckpointStatus.OK, "", None, _sha256(place, name), served=name)
        for model, seed, name in named
    ]


def _place(spec: OpenAISpec | ReplaySpec) -> dict[str, Any]:
    if isinstance(spec, ReplaySpec):
        return {"replay": file_sha256(Path(spec.table))}
    return {"endpoint": address_of(spec).url}


def _sha256(place: dict[str, Any], name: str) -> str:
    """What stands for the hash of weights that nobody here can read."""
    return content_key({**place, "served": name})
