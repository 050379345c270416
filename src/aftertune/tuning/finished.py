"""Finished checkpoints of a user's: found, and held against their base.

An audit's arms differ in their weights alone: what would let them differ in more is refused, naming both.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aftertune.engines.source import ModelSource
from aftertune.errors import ModelError, need_models
from aftertune.records import Checkpoint, CheckpointStatus
from aftertune.study import FinishedRecipe, Study
from aftertune.tuning.checkpoints import (
    ADAPTER_CONFIG,
    checkpoint_sha256,
    find_checkpoint,
    kind_of,
    linear_shapes,
)

if TYPE_CHECKING:
    from aftertune.engines.local import LocalEngine

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")


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


def refuse_other_arm(
    finished: Finished,
    base: ModelSource,
    engine: "LocalEngine",
    *,
    linear: dict[str, tuple[int, int]],
    prompts: Iterable[tuple[str, str | None]],
) -> None:
    """Refuse a checkpoint that cannot stand beside the base with only its weights different.

    Args:
        finished: the checkpoint.
        base: what it must be a fine-tune of.
        engine: renders the base's prompts and knows its end tokens.
        linear: the shapes of the base's weight matrices, by name.
        prompts: all prompts of the study, each with its system prompt.

    Raises:
        ModelError: it belongs to another base, is quantized, or has another template, tokenizer or end.
    """
    if finished.kind == "adapter":
        _refuse_other_base(finished, base)
    else:
        _refuse_other_shapes(finished, linear)
        _refuse_quantized(finished, base)
        from aftertune.engines.loading import end_tokens

        ends, those = end_tokens(finished.path), engine.end_tokens
        if ends != those:
            raise _differs(
                finished,
                f"its responses end at the tokens {sorted(ends)}, the base's at {sorted(those)}",
                "write the base's eos_token_id into its generation_config.json, if it was tuned with them",
            )
    if any((finished.path / file).is_file() for file in _TOKENIZER_FILES):
        _refuse_other_prompts(finished, engine, prompts)


def _refuse_other_base(finished: Finished, base: ModelSource) -> None:
    config = _json(finished.path / ADAPTER_CONFIG)
    named = config.get("base_model_name_or_path")
    if not isinstance(named, str) or named == base.name:
        return
    if Path(named).is_dir():  # where it was trained it stands at a path, which may be another here
        from aftertune.engines.loading import model_sha256

        if model_sha256(Path(named)) != base.sha256:
            raise _differs(
                finished, f"it is an adapter of the model in {named}", "give that model as the base"
            )
    elif _is_hub_id(named) and _is_hub_id(base.name):
        raise _differs(finished, f"it is an adapter of {named}", f"give {named} as the base")


def _is_hub_id(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith(("/", ".", "~")) and not Path(name).exists()


def _refuse_other_shapes(finished: Finished, linear: dict[str, tuple[int, int]]) -> None:
    shapes = linear_shapes(finished.path)
    if other := sorted(name for name in shapes.keys() | linear if shapes.get(name) != linear.get(name)):
        raise _differs(
            finished,
            f"{len(other)} of its weight matrices have other names or shapes, first {other[0]} "
            f"({shapes.get(other[0], 'none')}, the base's {linear.get(other[0], 'none')})",
            "give the model that it was tuned from as the base",
        )


def _refuse_quantized(finished: Finished, base: ModelSource) -> None:
    own, those = (
        _json(path / "config.json").get("quantization_config") for path in (finished.path, base.path)
    )
    if own != those:
        raise _differs(
            finished,
            "one of the two is quantized and the other not, or otherwise",
            "give both in the same numbers: save the checkpoint unquantized",
        )


def _refuse_other_prompts(
    finished: Finished, engine: "LocalEngine", prompts: Iterable[tuple[str, str | None]]
) -> None:
    """Its own tokenizer and template must write the study's prompts as the base's do."""
    from aftertune.engines.loading import load_tokenizer, render_prompt

    tokenizer = load_tokenizer(finished.path)
    for prompt, system_prompt in prompts:
        own, asked = render_prompt(tokenizer, prompt, system_prompt), engine.render(prompt, system_prompt)
        if own.text != asked.text:
            at = next(
                (i for i, (a, b) in enumerate(zip(own.text, asked.text, strict=False)) if a != b),
                min(len(own.text), len(asked.text)),
            )
            raise _differs(
                finished,
                f"its chat template writes {own.text[at : at + 40]!r} where the base's writes "
                f"{asked.text[at : at + 40]!r} (character {at} of a prompt)",
                "all arms are asked alike: put the base's chat template beside it if it was tuned with that, "
                "or give as base the model with the template that it was tuned with",
            )
        if own.token_ids != asked.token_ids:
            raise _differs(
                finished,
                f"its tokenizer cuts a prompt into {len(own.token_ids)} tokens, and the base's into "
                f"{len(asked.token_ids)}, or into others",
                "give the model that it was tuned from as the base",
            )


def _differs(finished: Finished, what: str, remedy: str) -> ModelError:
    return ModelError(f"checkpoint {finished.name} cannot be held against this base: {what}", remedy)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}", "save the checkpoint again") from error
    return content if isinstance(content, dict) else {}
