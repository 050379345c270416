"""The transformers engine: its own decoding loop over a transformers model, for the base and its adapters.

The tokens of a step, of whatever rows and checkpoints, go through the model side by side as one long row;
only attention and the adapters' matrices know whose they are. Each row draws from its own named stream.
Under `exact` numerics a response has the same bytes whatever stands beside it: no step has few tokens, the
lengths in attention grow in steps, attention is plain matrix products, adapters are never merged, and
products are computed in a way in which a row does not depend on its neighbours (exact.py).
"""

import logging
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from aftertune.engines.attention import MATMUL_ATTENTION
from aftertune.engines.base import Completion, Prompt, Request
from aftertune.engines.batch import Batch, Row, Step
from aftertune.engines.chat import render_prompt, response_text
from aftertune.engines.exact import MOST_ASKED, Found, adapter_differs, exact_way, fewest_tokens
from aftertune.engines.local import LocalEngine, named, refuse_same, require_weights
from aftertune.engines.lora import Lora, Share, Shares, plain_config, read_lora
from aftertune.engines.products import PLAIN, Way
from aftertune.engines.source import ModelSource
from aftertune.errors import EngineError, out_of_memory
from aftertune.records import Checkpoint, Finish
from aftertune.study import TransformersSpec

log = logging.getLogger(__name__)

LOOP_REVISION = 5  # raise it when a change of this loop, its attention or its sampling changes bytes
_TWO_WORDS = ("Yes", "no")  # prompts with nothing in common, which show what the template adds
_FEWEST_SHARED = 8  # tokens; reading fewer again costs less than looking after them
_ADAPTERS_HELD = 8  # that no row of a step uses
_NOT_EXACT = "leave `numerics` out, or write `numerics: fast`"
_NO_MASK = torch.ones(1, 1, 1, 1, dtype=torch.bool)


class TransformersEngine(LocalEngine):
    """Completes requests of one base model, its adapters and its full checkpoints."""

    def __init__(self, source: ModelSource, spec: TransformersSpec, *, numerics: str | None = None):
        """Choose device, dtype and numerics; the base is loaded at its first use.

        Args:
            source: where the base model stands.
            spec: rows, threads, dtype and device.
            numerics: `exact` or `fast`; by default exact where a way passes the check, which is on a CPU.

        Raises:
            EngineError: exact numerics were asked for where they cannot be promised.
        """
        super().__init__(source, spec, attention=MATMUL_ATTENTION)
        self.spec = spec
        self._asked = numerics
        self._batch_rows = spec.batch_rows
        self._shares = Shares()
        self._is_plain: dict[Checkpoint, bool] = {}
        self._adapters: dict[Checkpoint, Lora] = {}  # held beside the base
        if numerics == "exact" and (why := self._never_exact()):
            raise EngineError(f"numerics: exact was asked for {why}", _NOT_EXACT)

    def _never_exact(self) -> str:
        """Why exact numerics cannot be promised whatever the products do; "" where they may be."""
        if self.device != "cpu":
            return f"on {self.device}, where it is not promised"
        if self.dtype not in (torch.bfloat16, torch.float32):
            return f"in {self.dtype}, and needs bfloat16 or float32"
        return ""

    @cached_property
    def _found(self) -> Found:
        """The way in which responses are exact here, or why there is none."""
        if self._asked == "fast" or self._never_exact():
            return Found(None)
        found = exact_way(self.clean_base, self._surroundings())
        if found.way is None and self._asked == "exact":
            raise EngineError(f"numerics: exact cannot be promised here: {found.difference}", _NOT_EXACT)
        return found

    @property
    def numerics(self) -> str:
        """`exact` where it was asked for or left to the engine, and passes the check; else `fast`.

        Raises:
            EngineError: exact was asked for, and no way passes.
        """
        return "fast" if self._found.way is None else "exact"

    @property
    def _way(self) -> Way:
        return self._found.way or PLAIN

    @property
    def _rows_at_work(self) -> int:
        """How many rows are at work together; exact numerics are checked for so many."""
        return self._batch_rows if self.numerics == "fast" else min(self._batch_rows, MOST_ASKED)

    def clean_base(self) -> PreTrainedModel:
        """The base model without any adapter: tuning trains on this very object."""
        self._leave_alone()
        return self.base

    @property
    def identity(self) -> dict[str, Any]:
        """All of the engine that can change a response's bytes."""
        identity: dict[str, Any] = {
            "engine": "transformers",
            "loop_revision": LOOP_REVISION,
            "numerics": self.numerics,
            **self._surroundings(),
        }
        if self.numerics == "fast":
            identity["batch_rows"] = self.spec.batch_rows
        else:
            identity["way"] = str(self._way)
        return identity

    @property
    def reproducibility(self) -> dict[str, Any]:
        """What is promised of the responses' bytes, and what happened that bears on it."""
        if self.numerics == "exact":
            promise = (
                "the same bytes for any batch, order, workers, neighbours and interruption, "
                "with these versions, threads and kind of processor"
            )
            checked = "products and attention of the model's shapes, on this processor"
            return {"promise": promise, "way": str(self._way), "checked": checked}
        promise = (
            "none: bytes may change with what stands beside a row; the draws are still those of its stream"
        )
        # Only where exact was left to the engine and tried: not on a GPU, and not where fast was asked for.
        refused = {"exact_refused": self._found.difference} if self._found.difference else {}
        return {"promise": promise, **refused, "batch_rows_used": self._batch_rows}

    def render(self, prompt: str, system_prompt: str | None) -> Prompt:
        """Apply the chat template once; the tokenizer adds no second BOS."""
        rendered = super().render(prompt, system_prompt)
        n_shared = 0
        for own, *others in zip(rendered.token_ids[:-1], *self._template_tokens(system_prompt), strict=False):
            if any(other != own for other in others):
                break
            n_shared += 1
        return replace(rendered, n_shared=n_shared if n_shared >= _FEWEST_SHARED else 0)

    @cache  # noqa: B019 (an engine lives as long as its run)
    def _template_tokens(self, system_prompt: str | None) -> list[tuple[int, ...]]:
        return [render_prompt(self.tokenizer, word, system_prompt).token_ids for word in _TWO_WORDS]

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Complete requests; neighbours with one checkpoint and prompt share its reading.

        The base and its LoRA adapters go through the model together, other checkpoints one after another. A
        row whose logits are not finite is a failed response; the others go on.

        Raises:
            EngineError: a prompt and its max_tokens do not fit the model's context, a checkpoint has no
                weights, does not fit the base or does not change its logits, or the memory is too small.
        """
        pending = list(requests)
        for request in pending:
            self._check_length(request)
        asked = dict.fromkeys(request.checkpoint for request in pending)
        alone_with = {checkpoint: self._alone_with(checkpoint) for checkpoint in asked}
        while pending:
            done: set[str] = set()
            try:
                for alone, mine in groupby(pending, key=lambda request: alone_with[request.checkpoint]):
                    for row in self._rows(alone, list(mine)):
                        done.add(row.request.key)
                        yield self._completion(row)
            except Exception as error:
                self._use_less_memory(error)
            pending = [request for request in pending if request.key not in done]

    def _rows(self, alone: Checkpoint | None, requests: list[Request]) -> Iterator[Row]:
        self._activate(alone)
        batch = Batch(self, size=self._rows_at_work, fewest=self._fewest, end_tokens=self.end_tokens)
        with self._beside():
            yield from batch.run(requests)

    def _use_less_memory(self, error: Exception) -> None:
        """Halve the rows once, where that may change bytes only as `fast` allows; else stop."""
        said = out_of_memory(error)
        if said is None:
            raise error
        rows = self._batch_rows
        if self.numerics == "exact" or rows < self.spec.batch_rows or rows < 4:
            raise EngineError(
                f"out of memory with {rows} batch rows: {said}",
                f"write `engine: {{batch_rows: {max(2, rows // 2)}}}` and run again; what is done is kept",
            ) from error
        self._batch_rows = rows // 2
        log.warning("out of memory with %d batch rows; going on with %d", rows, self._batch_rows)

    # Checkpoints: beside the base, or alone.

    def _activate(self, alone: Checkpoint | None) -> None:
        _ = self._found  # tried on the clean base, so before anything is attached to it
        super()._activate(alone)

    def _alone_with(self, checkpoint: Checkpoint) -> Checkpoint | None:
        """The checkpoint where no other can be served with it, None where it stands beside the base."""
        path = require_weights(checkpoint)
        if checkpoint.kind == "base":
            return None
        if checkpoint.kind == "full":
            return checkpoint
        if checkpoint not in self._is_plain:
            self._leave_alone()  # an adapter that is attached to the base hides its layers
            with named(checkpoint):
                self._is_plain[checkpoint] = plain_config(self.base, Path(path)) is not None
        return None if self._is_plain[checkpoint] else checkpoint

    @contextmanager
    def _beside(self) -> Generator[None]:
        """Let the layers of the base heed the adapters beside it, unless a checkpoint stands alone."""
        if self._alone is not None:
            yield
            return
        with self._shares.on(self.base):
            yield

    def _adapter(self, checkpoint: Checkpoint) -> Lora:
        if checkpoint not in self._adapters:
            path, before = Path(str(checkpoint.path)), self._shares.now
            with named(checkpoint):
                lora = read_lora(self.base, path)
                self._check_adapter(lora)
            try:
                self._shares.now = []
                plain = self._base_probe
                self._shares.now = [Share(lora)]
                refuse_same(plain, self._probe(self.base), checkpoint)
            finally:
                self._shares.now = before
            self._adapters[checkpoint] = lora
        return self._adapters[checkpoint]

    def _shares_of(self, checkpoints: Sequence[Checkpoint]) -> list[Share]:
        """Which of the tokens, given with their checkpoints, go through which adapter."""
        tokens: dict[Checkpoint, list[int]] = {}
        for index, checkpoint in enumerate(checkpoints):
            if checkpoint.kind != "base":
                tokens.setdefault(checkpoint, []).append(index)
        for idle in [held for held in self._adapters if held not in tokens][_ADAPTERS_HELD:]:
            del self._adapters[idle]
        return [self._share(self._adapter(c), mine, of=len(checkpoints)) for c, mine in tokens.items()]

    def _share(self, lora: Lora, tokens: list[int], *, of: int) -> Share:
        if len(tokens) == of:
            return Share(lora)
        padding = [tokens[-1]] * max(0, self._fewest - len(tokens))
        return Share(lora, torch.tensor(tokens + padding, device=self.device), len(tokens))

    # Exactness.

    def _check_adapter(self, lora: Lora) -> None:
        """Refuse an adapter of a rank at which the way that was found for the model is not exact."""
        if self.numerics == "exact":
            with self._way.active():
                difference = adapter_differs(lora, self._fewest)
            if difference:
                raise EngineError(
                    f"numerics: exact cannot be promised here: {difference}", "write `numerics: fast`"
                )

    @cached_property
    def _fewest(self) -> int:
        """The least number of tokens in a step."""
        return fewest_tokens(self.base) if self.numerics == "exact" else 1

    # The model.

    def logits(self, checkpoint: Checkpoint, token_ids: Sequence[int]) -> torch.Tensor:
        """The logits after each token of one text, computed alone; tokens × vocabulary."""
        self._activate(self._alone_with(checkpoint))
        ids = torch.tensor([list(token_ids)], device=self.device)
        with torch.inference_mode(), self._beside():
            if self._alone is None:
                self._shares.now = self._shares_of([checkpoint])
            with self._way.active(len(token_ids)):
                return self._active(input_ids=ids, use_cache=False).logits[0]

    @torch.inference_mode()
    def read(self, step: Step) -> torch.Tensor:
        """Read the tokens of a step side by side; logits of asked × vocabulary."""
        if self._alone is None:
            self._shares.now = self._shares_of(step.checkpoints)
        n_asked = len(step.asked)
        filler = step.asked[-1:] * max(0, self._fewest - n_asked)
        # Indices, not a count: a slice would make torch copy the whole output matrix each time.
        asked = torch.tensor(step.asked + filler, device=self.device)
        with self._way.active(len(step.token_ids)):
            logits = self._active(
                input_ids=torch.tensor([step.token_ids], device=self.device),
                position_ids=step.reading.positions[None],
                attention_mask=_NO_MASK.to(self.device),  # each row sees its own, see attention.py
                reading=step.reading,
                rows_at_once=self._way.attention_rows,
                use_cache=False,
                logits_to_keep=asked,
            ).logits[0, :n_asked]
        if len(step.reading.cache.layers) != self.base.config.get_text_config().num_hidden_layers:
            raise EngineError(
                f"the architecture {self.base.config.model_type} does not attend through transformers' "
                "attention interface",
                "use the vllm engine",
            )
        return logits

    def _completion(self, row: Row) -> Completion:
        """The text of a row that ended; its end token is not counted."""
        tokens = row.tokens[:-1] if row.finish is Finish.STOP else row.tokens
        text = response_text(self.tokenizer, tokens)
        if row.fault:
            return Completion.failed(row.request.key, text, len(tokens), row.fault)
        return Completion.drawn(row.request.key, text, len(tokens), row.finish)
