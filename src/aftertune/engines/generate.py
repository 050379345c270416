"""The generate engine: transformers' own `generate`, as most people use it, for one checkpoint at a time.

It is there to be varied: batch rows, attention, padding and dtype can all change a response. A batch is as
long as its longest prompt and draws until its last row ends. Each row draws from its own named stream, with
the numbers that it has in the transformers engine: with equal logits the two give equal texts.

Right padding is what it is when people use it. The mask is passed, and `generate` is left to make of it what
it does: with transformers 5.24 the first token of a padded row comes from the logits at its last padding
token, not at its own last token, and the positions of the drawn tokens begin again at 1. Nothing here
corrects that.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
)

from aftertune.engines.base import Completion, Request
from aftertune.engines.batch import uniforms
from aftertune.engines.chat import response_text
from aftertune.engines.directory import read_config
from aftertune.engines.local import LocalEngine, require_weights
from aftertune.engines.sampling import greedy, sample
from aftertune.engines.source import ModelSource
from aftertune.errors import EngineError, out_of_memory
from aftertune.records import Checkpoint, Finish
from aftertune.study import GenerateSpec

REVISION = 2  # raise it when a change of how `generate` is asked changes bytes


class GenerateEngine(LocalEngine):
    """Completes requests of one base model, its adapters (attached, not merged) and its full checkpoints."""

    def __init__(self, source: ModelSource, spec: GenerateSpec):
        """Choose device and dtype; the base is loaded at its first use.

        Args:
            source: where the base model stands.
            spec: all of it can change a response.

        Raises:
            EngineError: transformers does not have this attention for the architecture.
        """
        _check_attention(source.path, spec.attention)
        super().__init__(source, spec, attention=spec.attention)
        self.spec = spec

    @property
    def identity(self) -> dict[str, Any]:
        """All of the engine that can change a response's bytes."""
        return {
            "engine": "generate",
            "revision": REVISION,
            "numerics": "fast",
            "batch_rows": self.spec.batch_rows,
            "padding_side": self.spec.padding_side,
            **self._surroundings(),
        }

    @property
    def reproducibility(self) -> dict[str, Any]:
        """What is promised of the responses' bytes."""
        promise = (
            "none: bytes may change with the rows beside a row, to the longest of which it is padded, and an "
            "interruption changes what stands beside it; the draws are still those of its stream"
        )
        return {
            "promise": promise,
            "batch_rows": self.spec.batch_rows,
            "padding_side": self.spec.padding_side,
            "attention": self.attention,
        }

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Complete requests: a checkpoint after another, in it a decoding after another, in their order.

        A row whose logits are not finite is a failed response; the others go on.

        Raises:
            EngineError: a prompt and its max_tokens do not fit the model's context, a checkpoint has no
                weights, does not fit the base or does not change its logits, or the memory is too small.
        """
        groups: dict[Checkpoint, dict[tuple[int, float, float], list[Request]]] = {}
        for request in requests:
            require_weights(request.checkpoint)
            self._check_length(request)
            decoding = request.decoding
            kind = decoding.max_tokens, decoding.temperature, decoding.top_p
            groups.setdefault(request.checkpoint, {}).setdefault(kind, []).append(request)
        for checkpoint, kinds in groups.items():
            self._activate(None if checkpoint.kind == "base" else checkpoint)
            for mine in kinds.values():
                for first in range(0, len(mine), self.spec.batch_rows):
                    yield from self._drawn(mine[first : first + self.spec.batch_rows])

    def _drawn(self, batch: list[Request]) -> list[Completion]:
        try:
            rows, faults = self._generate(batch)
        except Exception as error:
            said = out_of_memory(error)
            if said is None:
                raise
            n_rows = self.spec.batch_rows
            remedy = f"lower engine.batch_rows: write `engine: {{batch_rows: {max(1, n_rows // 2)}}}`"
            raise EngineError(
                f"out of memory with {n_rows} batch rows: {said}",
                f"{remedy if n_rows > 1 else 'lower max_tokens'} and run again; what is done is kept",
            ) from error
        return [self._completion(*parts) for parts in zip(batch, rows, faults, strict=True)]

    @torch.inference_mode()
    def _generate(self, batch: list[Request]) -> tuple[list[list[int]], list[int | None]]:
        """The tokens of each row, with what stands behind its end, and where its logits were not finite."""
        prompts = [list(request.prompt.token_ids) for request in batch]
        width = max(map(len, prompts))
        drawing = _Drawing(batch, width=width, end_token=min(self.end_tokens))
        out = self._active.generate(
            input_ids=self._padded(prompts, width, filler=self._pad_token),
            attention_mask=self._padded([[1] * len(prompt) for prompt in prompts], width, filler=0),
            generation_config=GenerationConfig(
                do_sample=False,  # `drawing` leaves one token to choose
                max_new_tokens=batch[0].decoding.max_tokens,
                eos_token_id=sorted(self.end_tokens),
                pad_token_id=self._pad_token,
            ),
            logits_processor=LogitsProcessorList([drawing]),
        )
        return out[:, width:].tolist(), drawing.faults

    def _padded(self, rows: list[list[int]], width: int, *, filler: int) -> torch.Tensor:
        """Rows × width, filled up on the spec's side."""
        left = self.spec.padding_side == "left"
        fills = [[filler] * (width - len(row)) for row in rows]
        filled = [fill + row if left else row + fill for row, fill in zip(rows, fills, strict=True)]
        return torch.tensor(filled, device=self.device)

    @property
    def _pad_token(self) -> int:
        own: Any = self.tokenizer.pad_token_id
        return min(self.end_tokens) if own is None else int(own)

    def _load(self, path: Path) -> PreTrainedModel:
        model = super()._load(path)
        # What a checkpoint brings of temperatures and penalties is no part of the study's decoding.
        model.generation_config = GenerationConfig()
        return model

    def _completion(self, request: Request, drawn: list[int], fault: int | None) -> Completion:
        """The text up to the first end token, which is not counted."""
        ends = (index for index, token in enumerate(drawn[:fault]) if token in self.end_tokens)
        end = next(ends, None)
        tokens = drawn[: fault if end is None else end]
        text = response_text(self.tokenizer, tokens)
        if end is None and fault is not None:
            reason = f"the logits of token {fault + 1} are not finite: did it diverge?"
            return Completion.failed(request.key, text, len(tokens), reason)
        return Completion.drawn(request.key, text, len(tokens), Finish.LENGTH if end is None else Finish.STOP)


def _check_attention(path: Path, attention: str) -> None:
    config = read_config(path)
    kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if attention == "sdpa" and not getattr(kind, "_supports_sdpa", True):
        raise EngineError(
            f"transformers has no sdpa attention for the architecture {config.model_type}",
            "write `engine: {attention: eager}`",
        )


class _Drawing(LogitsProcessor):
    """Draws the token of each row from its own stream, and leaves no other to choose.

    torch's global generator, from which `generate` would sample, is one for all rows: a row's draws would
    change with its neighbours. A row whose logits are not finite is ended.
    """

    def __init__(self, batch: list[Request], *, width: int, end_token: int):
        self.decoding = batch[0].decoding
        self.width = width
        self.end_token = end_token
        self.faults: list[int | None] = [None] * len(batch)  # the first token without finite logits
        drawn = [numbers for request in batch if (numbers := uniforms(request)) is not None]
        self.uniforms = torch.tensor(np.stack(drawn)) if drawn else None  # rows × tokens; none where greedy

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Scores of rows × vocabulary: 0 for the token drawn, −∞ for all others."""
        step = input_ids.shape[1] - self.width
        tokens = self._tokens(scores, step)
        finite = torch.isfinite(scores.amax(dim=-1))  # of NaN and infinity the largest is no number
        for row in (~finite).nonzero()[:, 0].tolist():
            if self.faults[row] is None:
                self.faults[row] = step
        tokens = torch.where(finite, tokens, self.end_token)
        return torch.full_like(scores, -torch.inf).scatter_(1, tokens[:, None], 0.0)

    def _tokens(self, scores: torch.Tensor, step: int) -> torch.Tensor:
        if self.uniforms is None:
            return greedy(scores)
        numbers = self.uniforms[:, step].to(scores.device)
        return sample(
            scores, temperature=self.decoding.temperature, top_p=self.decoding.top_p, uniforms=numbers
        )
