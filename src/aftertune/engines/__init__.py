"""Engines draw responses. torch is imported only when one is opened: it takes seconds."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from aftertune.errors import need_models
from aftertune.study import GenerateSpec, OpenAISpec, ReplaySpec, TransformersSpec, VllmSpec

if TYPE_CHECKING:
    from aftertune.engines.base import Engine
    from aftertune.engines.source import ModelSource
    from aftertune.engines.transformers import TransformersEngine
    from aftertune.study import Study

__all__ = ["open_engine", "open_local_engine"]


def open_engine(
    study: "Study", source: "Callable[[], ModelSource]", *, local: "Callable[[], TransformersEngine]"
) -> "Engine":
    """The engine that draws a study's responses; its model is loaded at the first use.

    Args:
        study: whose `engine` says which.
        source: gives the place of its base model, which models behind an endpoint do not have.
        local: gives the engine that tunes, which is the one that draws where the study names transformers.

    Raises:
        AftertuneError: the engine cannot be had here, or its endpoint is no address.
    """
    if isinstance(study.engine, OpenAISpec):
        from aftertune.engines.openai import OpenAIEngine

        return OpenAIEngine(study.engine)
    if isinstance(study.engine, ReplaySpec):
        from aftertune.engines.replay import ReplayEngine

        return ReplayEngine(study, study.engine)
    need_models()
    if isinstance(study.engine, VllmSpec):
        from aftertune.engines.vllm import VllmEngine

        return VllmEngine(source(), study.engine, numerics=study.numerics)
    if isinstance(study.engine, GenerateSpec):
        from aftertune.engines.generate import GenerateEngine

        return GenerateEngine(source(), study.engine)
    return local()


def open_local_engine(study: "Study", source: "ModelSource") -> "TransformersEngine":
    """The engine on whose model a study tunes, and that gives the base's answers to tune on."""
    need_models()
    from aftertune.engines.transformers import TransformersEngine

    if isinstance(study.engine, TransformersSpec):
        return TransformersEngine(source, study.engine, numerics=study.numerics)
    # `numerics` speaks of the engine that draws; tuning gets the best that its device can do.
    if isinstance(study.engine, GenerateSpec):
        spec = study.engine.model_dump(include={"dtype", "device", "threads"})
    else:
        assert isinstance(study.engine, VllmSpec)  # the grammar lets nothing be tuned beside an endpoint
        spec = study.engine.model_dump(include={"dtype"})
    numerics = "fast" if study.engine.dtype == "float16" else None  # which is never exact
    return TransformersEngine(source, TransformersSpec(**spec), numerics=numerics)
