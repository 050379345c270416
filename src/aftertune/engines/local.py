"""A base model on this machine, and the checkpoints that take its place, one at a time.

The engines of this machine share it: how a checkpoint is taken on and left, and what is refused.
"""

import importlib.metadata
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from aftertune.engines.adapters import AttachedAdapter, attach
from aftertune.engines.base import Prompt, Request
from aftertune.engines.chat import render_prompt
from aftertune.engines.directory import read_config
from aftertune.engines.loading import (
    ModelSource,
    context_length,
    end_tokens,
    load_model,
    load_tokenizer,
    pick_device,
    pick_dtype,
    response_ends,
)
from aftertune.errors import EngineError, ModelError
from aftertune.processor import kernel_settings, processor
from aftertune.records import Checkpoint
from aftertune.study import GenerateSpec, TransformersSpec

_THREADS = torch.get_num_threads()  # what torch finds
_PROBE = "Say in one sentence what you do."


class LocalEngine:
    """What engines of this machine share; the base is loaded at its first use."""

    def __init__(self, source: ModelSource, spec: TransformersSpec | GenerateSpec, *, attention: str):
        """Choose device and dtype.

        Args:
            source: where the base model stands.
            spec: threads, dtype and device.
            attention: the name of the implementation.
        """
        self.source = source
        self.attention = attention
        self.device = pick_device(spec.device)
        self.dtype = pick_dtype(spec.dtype, self.device)
        torch.set_num_threads(spec.threads or _THREADS)  # another engine may have set it before
        self.tokenizer = load_tokenizer(source.path)
        self._alone: Checkpoint | None = None  # a checkpoint that stands in the place of the base
        self._active: Any = None
        self._attached: AttachedAdapter | None = None

    @cached_property
    def base(self) -> PreTrainedModel:
        """The base model, loaded at its first use, with or without an adapter beside its weights."""
        return self._load(self.source.path)

    @cached_property
    def end_tokens(self) -> frozenset[int]:
        """The tokens that end a response."""
        return response_ends(self.source.path, self.tokenizer)

    @property
    def configured_end_tokens(self) -> frozenset[int]:
        """Those of them that the model's configuration names."""
        return end_tokens(self.source.path)

    def render(self, prompt: str, system_prompt: str | None) -> Prompt:
        """Apply the chat template once; the tokenizer adds no second BOS."""
        rendered = render_prompt(self.tokenizer, prompt, system_prompt)
        self.refuse_unknown_tokens(rendered.token_ids, "a prompt")
        return rendered

    def refuse_unknown_tokens(self, token_ids: Sequence[int], where: str) -> None:
        """Refuse tokens of the tokenizer that the model has no embedding for.

        Raises:
            ModelError: there are some.
        """
        known = getattr(self._text_config, "vocab_size", None)
        if known is not None and (unknown := [i for i in token_ids if i >= known]):
            raise ModelError(
                f"{where} holds the token {self.tokenizer.convert_ids_to_tokens(unknown[0])!r} "
                f"({unknown[0]}), and the model in {self.source.path} knows {known} tokens",
                "put the tokenizer of this model beside it, or resize its embeddings and train them",
            )

    @cached_property
    def _text_config(self) -> Any:
        return read_config(self.source.path).get_text_config()

    def _surroundings(self) -> dict[str, Any]:
        """The part of an identity that any engine of this machine has."""
        return {
            "base": self.source.sha256,  # an adapter's own hash does not name the base that it is used on
            "dtype": str(self.dtype).removeprefix("torch."),
            "end_tokens": sorted(self.end_tokens),
            "attention": self.attention,
            "threads": torch.get_num_threads(),
            "processor": processor(self.device),
            **kernel_settings(),
            **{
                name: importlib.metadata.version(name)
                for name in ("torch", "transformers", "peft", "tokenizers")
            },
        }

    def _check_length(self, request: Request) -> None:
        n_prompt, max_tokens = len(request.prompt.token_ids), request.decoding.max_tokens
        longest = context_length(self.base.config)
        if n_prompt + max_tokens > longest:
            raise EngineError(
                f"a prompt of {n_prompt} tokens and max_tokens {max_tokens} need {n_prompt + max_tokens} "
                f"positions; the model has {longest}",
                "shorten the prompt or lower max_tokens",
            )

    def _activate(self, alone: Checkpoint | None) -> None:
        """Let the model compute with a checkpoint that stands alone, or with the base for None."""
        if alone is None:
            self._leave_alone()
            self._active = self.base
        elif alone != self._alone:
            self._leave_alone()
            path, before = Path(str(alone.path)), self._base_probe
            with named(alone):
                model = self._load(path) if alone.kind == "full" else self._attach(path)
            refuse_same(before, self._probe(model), alone)
            self._active, self._alone = model, alone

    def _leave_alone(self) -> None:
        self._active = self._alone = None
        if self._attached is not None:
            unspoilt = self._attached.detach()
            self._attached = None
            if not unspoilt:
                del self.base

    def _attach(self, path: Path) -> Any:
        base = self.base
        del self.base  # spoilt where the adapter does not fit
        self._attached = attach(base, path)
        self.base = base
        return self._attached.model.eval()

    def _load(self, path: Path) -> PreTrainedModel:
        return load_model(path, dtype=self.dtype, device=self.device, attention=self.attention).eval()

    @cached_property
    def _base_probe(self) -> torch.Tensor:
        return self._probe(self.base)

    @torch.inference_mode()
    def _probe(self, model: Any) -> torch.Tensor:
        """The logits at every token of a prompt: a weak change may not show at the last one."""
        ids = torch.tensor([self.render(_PROBE, None).token_ids], device=self.device)
        return model(input_ids=ids, use_cache=False).logits


def require_weights(checkpoint: Checkpoint) -> str:
    """The path of a checkpoint's weights.

    Raises:
        EngineError: there are none.
    """
    if checkpoint.path is None:
        raise EngineError(
            f"checkpoint {checkpoint.label} is {checkpoint.status.value}", "train it again first"
        )
    return checkpoint.path


@contextmanager
def named(checkpoint: Checkpoint) -> Generator[None]:
    """Let an error say which checkpoint it is about."""
    try:
        yield
    except (EngineError, ModelError) as error:
        raise EngineError(f"checkpoint {checkpoint.label}: {error.what}", error.remedy) from error


def refuse_same(before: torch.Tensor, after: torch.Tensor, checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint whose logits are those of its base.

    Raises:
        EngineError: they are equal to the byte.
    """
    if torch.equal(before, after):
        raise EngineError(
            f"the {checkpoint.kind} checkpoint {checkpoint.label} does not change the logits of its base",
            f"look at {checkpoint.path}: was it trained, and on this base?",
        )
