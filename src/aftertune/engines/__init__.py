"""Engines draw responses. torch is imported only when one is opened: it takes seconds."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from aftertune.study import OpenAISpec, TransformersSpec

if TYPE_CHECKING:
    from aftertune.engines.base import Engine
    from aftertune.engines.loading import ModelSource
    from aftertune.engines.openai import OpenAIEngine
    from aftertune.engines.transformers import TransformersEngine
    from aftertune.study import Study

__all__ = ["open_engine", "open_local_engine", "open_served_engine"]


def open_engine(
    study: "Study", source: "ModelSource", *, local: Callable[[], "TransformersEngine"]
) -> "Engine":
    """The engine that draws a study's responses; its model is loaded at the first use.

    Args:
        study: whose `engine` says which.
        source: where its base model stands.
        local: gives the engine that tunes, which is the one that draws where the study names transformers.
    """
    return local()


def open_local_engine(study: "Study", source: "ModelSource") -> "TransformersEngine":
    """The engine on whose model a study tunes, and that gives the base's answers to tune on."""
    from aftertune.engines.transformers import TransformersEngine

    assert isinstance(study.engine, TransformersSpec)  # the grammar lets nothing be tuned beside an endpoint
    return TransformersEngine(source, study.engine, numerics=study.numerics)


def open_served_engine(study: "Study") -> "OpenAIEngine | None":
    """The engine of a study that draws from an endpoint; None where it draws from weights.

    Raises:
        StudyError: the endpoint is no address.
    """
    from aftertune.engines.openai import OpenAIEngine

    return OpenAIEngine(study.engine) if isinstance(study.engine, OpenAISpec) else None
