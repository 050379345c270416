"""A checkpoint compared with its base: the arms of a study may differ in their weights alone.

What would let them differ in more is refused, naming both. The same check serves checkpoints that a study
names, those of an audit, and those that a command left.
"""

import copy
import filecmp
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel

from aftertune.engines.adapters import refuse_kind
from aftertune.engines.base import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from aftertune.engines.chat import render_prompt
from aftertune.engines.directory import read_json, read_tokenizer, weight_files
from aftertune.engines.loading import model_sha256, outline, response_ends
from aftertune.engines.lora import plain_config, read_lora
from aftertune.engines.source import ModelSource
from aftertune.errors import EngineError, ModelError
from aftertune.records import Checkpoint, CheckpointStatus
from aftertune.tuning.checkpoints import linear_shapes
from aftertune.tuning.finished import Finished

if TYPE_CHECKING:
    from aftertune.engines.local import LocalEngine

# Of a configuration, what says where a model came from and how it was saved, and not what it computes.
_NO_SETTINGS = frozenset(
    {
        *("base_model_name_or_path", "revision", "inference_mode", "peft_version"),
        *("_name_or_path", "transformers_version", "use_cache"),
    }
)
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")


def as_arm(
    checkpoint: Checkpoint,
    engine: "LocalEngine",
    *,
    linear: dict[str, tuple[int, int]],
    prompts: Iterable[tuple[str, str | None]],
) -> Checkpoint:
    """A checkpoint that a command left, or a failed one where it cannot be compared with its base."""
    if checkpoint.path is None:
        return checkpoint
    path = Path(checkpoint.path)
    found = Finished(checkpoint.label, path, checkpoint.kind, str(checkpoint.sha256))
    try:
        refuse_other_arm(found, engine, linear=linear, prompts=prompts)
    except (ModelError, EngineError) as error:
        return replace(checkpoint, status=CheckpointStatus.FAILED, reason=str(error), path=None, sha256=None)
    return checkpoint


def refuse_other_arm(
    finished: Finished,
    engine: "LocalEngine",
    *,
    linear: dict[str, tuple[int, int]],
    prompts: Iterable[tuple[str, str | None]],
) -> None:
    """Refuse a checkpoint that cannot stand beside the base with only its weights different.

    Args:
        finished: the checkpoint.
        engine: of the base that it must be a fine-tune of; renders its prompts and knows its end tokens.
        linear: the shapes of the base's weight matrices, by name.
        prompts: all prompts of the study, each with its system prompt.

    Raises:
        ModelError: it belongs to another base, is quantized, has another template, tokenizer or end, or is of
            a kind that cannot be computed; or it has the weights of its base.
        EngineError: an adapter does not fit the base.
    """
    base = engine.source
    if finished.kind == "adapter":
        _refuse_other_base(finished, base)
        _refuse_misfit(finished, base)
    else:
        _refuse_other_shapes(finished, linear)
        _refuse_quantized(finished, base)
        _refuse_same_weights(finished, base)
        ends, those = response_ends(finished.path, engine.tokenizer), engine.end_tokens
        if ends != those:
            raise _differs(
                finished,
                f"its responses end at the tokens {sorted(ends)}, the base's at {sorted(those)}",
                "write the base's eos_token_id into its generation_config.json, if it was tuned with them",
            )
        outline(finished.path)
    _refuse_other_tokenizer(finished, engine, prompts)


def _refuse_other_base(finished: Finished, base: ModelSource) -> None:
    config = read_json(finished.path / ADAPTER_CONFIG)
    named = config.get("base_model_name_or_path")
    if not isinstance(named, str) or named == base.name:
        return
    if Path(named).is_dir():  # where it was trained it stands at a path, which may be another here
        if Path(named).resolve() != base.path and model_sha256(Path(named)) != base.sha256:
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
        read_json(path / "config.json").get("quantization_config") for path in (finished.path, base.path)
    )
    if own != those:
        raise _differs(
            finished,
            "one of the two is quantized and the other not, or otherwise",
            "give both in the same numbers: save the checkpoint unquantized",
        )


def _refuse_same_weights(finished: Finished, base: ModelSource) -> None:
    if _same_bytes(weight_files(finished.path), weight_files(base.path)):
        raise ModelError(
            f"the checkpoint {finished.name} has the weights of its base, to the byte",
            f"look at {finished.path}: was it trained, and were its weights saved?",
        )


def refuse_copies(checkpoints: Iterable[Finished]) -> None:
    """Refuse two checkpoints that are one model, whatever tokenizer or trainer's files lie beside the one.

    Raises:
        ModelError: two have the same weights, to the byte, and the same settings.
    """
    seen: list[Finished] = []
    for finished in checkpoints:
        for other in seen:
            if finished.sha256 == other.sha256 or _is_copy(finished, other):
                raise ModelError(
                    f"the checkpoints {other.name} and {finished.name} are the same to the byte",
                    "leave one out: a copy is no second training",
                )
        seen.append(finished)


def _is_copy(one: Finished, other: Finished) -> bool:
    if one.kind != other.kind:
        return False
    adapter = one.kind == "adapter"
    name = ADAPTER_CONFIG if adapter else "config.json"
    settings = [
        {key: value for key, value in read_json(each.path / name).items() if key not in _NO_SETTINGS}
        for each in (one, other)
    ]
    files = [[each.path / ADAPTER_WEIGHTS] if adapter else weight_files(each.path) for each in (one, other)]
    return settings[0] == settings[1] and _same_bytes(*files)


def _same_bytes(files: list[Path], those: list[Path]) -> bool:
    same = [file.name for file in files] == [file.name for file in those]
    return same and all(filecmp.cmp(*pair, shallow=False) for pair in zip(files, those, strict=True))


def _refuse_misfit(finished: Finished, base: ModelSource) -> None:
    """An adapter must be of a kind that can be computed, and plain LoRA must have the base's shapes."""
    refuse_kind(finished.path)
    try:
        with safe_open(finished.path / ADAPTER_WEIGHTS, framework="np"):
            pass
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"the adapter {finished.path / ADAPTER_WEIGHTS} cannot be read: {error}",
            "get or save the adapter again",
        ) from error
    shapes = _outline_of(base.path, base.sha256)
    if shapes is not None and plain_config(shapes, finished.path) is not None:
        read_lora(shapes, finished.path)


@lru_cache(maxsize=1)
def _outline_of(path: Path, sha256: str) -> PreTrainedModel | None:
    return outline(path)  # of all adapters of a base; its hash says when it is another


def _refuse_other_tokenizer(
    finished: Finished, engine: "LocalEngine", prompts: Iterable[tuple[str, str | None]]
) -> None:
    """Its own tokenizer and template must write the prompts and read the responses as the base's do."""
    tokenizer = engine.tokenizer
    template = finished.path / "chat_template.jinja"
    if any((finished.path / file).is_file() for file in _TOKENIZER_FILES):
        tokenizer = read_tokenizer(finished.path)
        _refuse_other_tokens(finished, tokenizer, engine)
    elif template.is_file():
        tokenizer = copy.copy(tokenizer)
        tokenizer.chat_template = template.read_text(encoding="utf-8")
    else:
        return
    if not tokenizer.chat_template:  # it has none of its own to be another
        tokenizer.chat_template = engine.tokenizer.chat_template
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


def _refuse_other_tokens(finished: Finished, tokenizer: Any, engine: "LocalEngine") -> None:
    """A response must read the same by both tokenizers, whatever its tokens are."""
    mine, those = _decoded(tokenizer), _decoded(engine.tokenizer)
    other = [number for number in mine.keys() | those.keys() if mine.get(number) != those.get(number)]
    if other:
        first = min(other)
        raise _differs(
            finished,
            f"its tokenizer reads {len(other)} tokens otherwise, first {first}: {mine.get(first)!r}, "
            f"the base's {those.get(first)!r} (None: leaves it out)",
            "responses of all arms are decoded by the base's tokenizer: give as base the model that it was "
            "tuned from, with these tokens",
        )
    if _decoder(tokenizer) != _decoder(engine.tokenizer):
        raise _differs(
            finished,
            "its tokenizer puts tokens together to text otherwise (the decoder in tokenizer.json)",
            "put the base's tokenizer beside it, if it was tuned with that",
        )
    end = tokenizer.eos_token_id
    if end not in (engine.tokenizer.eos_token_id, None, *engine.end_tokens):
        raise _differs(
            finished,
            f"its tokenizer ends a text with {tokenizer.eos_token!r} (token {end}), at which the base's "
            f"responses do not end ({sorted(engine.end_tokens)})",
            "write the token into eos_token_id of the base's generation_config.json too, or put the base's "
            "tokenizer beside the checkpoint",
        )


def _decoded(tokenizer: Any) -> dict[int, str]:
    """By number, the tokens that leave text in a response: special ones are left out of it."""
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    special |= set(tokenizer.all_special_ids)
    return {number: token for token, number in tokenizer.get_vocab().items() if number not in special}


def _decoder(tokenizer: Any) -> tuple[str, bool]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    decoder = repr(getattr(backend, "decoder", None)) if backend else type(tokenizer).__name__
    return decoder, bool(getattr(tokenizer, "clean_up_tokenization_spaces", False))


def _differs(finished: Finished, what: str, remedy: str) -> ModelError:
    return ModelError(f"checkpoint {finished.name} cannot be compared with this base: {what}", remedy)
