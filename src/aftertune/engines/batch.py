"""The rows at work: they leave as they finish, and waiting requests take their places."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Protocol

import numpy as np
import torch
from transformers.cache_utils import DynamicCache

from aftertune import seeds
from aftertune.engines.base import Prompt, Request
from aftertune.engines.rows import RowCache, round_up
from aftertune.engines.sampling import greedy, sample
from aftertune.records import Finish


class Steps(Protocol):
    """What a batch asks of its engine."""

    def prefill(self, prompt: Prompt) -> tuple[torch.Tensor, DynamicCache]:
        """The logits after a prompt (1 × vocabulary), and its keys and values."""
        ...

    def step(self, tokens: list[int], positions: list[int], cache: RowCache) -> torch.Tensor:
        """Read one token a row; logits of rows × vocabulary."""
        ...


@dataclass(slots=True)
class Row:
    """A response in the making, and how it ended: by its finish, or by a fault, with the tokens before it."""

    request: Request
    uniforms: np.ndarray | None  # one a token; None where greedy
    tokens: list[int] = field(default_factory=list)
    finish: Finish | None = None
    fault: str = ""

    @property
    def ended(self) -> bool:
        """Whether no token is to come."""
        return self.finish is not None or self.fault != ""

    @property
    def position(self) -> int:
        """Where the next token that the model reads goes in the cache."""
        return len(self.request.prompt.token_ids) + len(self.tokens) - 1


class Batch:
    """At most `size` rows, always the first of the `n_cached` rows of the cache."""

    def __init__(self, steps: Steps, *, size: int, n_cached: int, end_tokens: frozenset[int]):
        self.steps = steps
        self.size = size
        self.n_cached = n_cached
        self.end_tokens = end_tokens
        self.rows: list[Row] = []
        self.cache: RowCache | None = None

    def run(self, requests: list[Request]) -> Iterator[Row]:
        """Complete all requests, in the order in which they end.

        Args:
            requests: those with one prompt that stand together share its prefill.
        """
        capacity = round_up(max(len(r.prompt.token_ids) + r.decoding.max_tokens for r in requests))
        arrivals = self._arrivals(requests, capacity)
        waiting = True
        while self.rows or waiting:
            while waiting and len(self.rows) < self.size:
                arrival = next(arrivals, None)
                waiting = arrival is not None
                if arrival is not None and arrival.ended:
                    yield arrival
            if self.rows:
                yield from self._advance()

    def _arrivals(self, requests: list[Request], capacity: int) -> Iterator[Row]:
        """Draw each request's first token, and give it a row unless it ends there."""
        for _, together in groupby(requests, key=lambda request: request.prompt.token_ids):
            group = list(together)
            logits, prompt_cache = self.steps.prefill(group[0].prompt)
            for request in group:
                row = Row(request, _uniforms(request))
                self._append_tokens([row], logits)
                if not row.ended:
                    if self.cache is None:
                        self.cache = RowCache(prompt_cache, n_rows=self.n_cached, capacity=capacity)
                    self.cache.put(len(self.rows), prompt_cache)
                    self.rows.append(row)
                yield row

    def _advance(self) -> Iterator[Row]:
        assert self.cache is not None
        positions = [row.position for row in self.rows]
        logits = self.steps.step([row.tokens[-1] for row in self.rows], positions, self.cache)
        self._append_tokens(self.rows, logits)
        for index in reversed(range(len(self.rows))):
            row = self.rows[index]
            if row.ended:
                self._remove(index)
                yield row

    def _append_tokens(self, rows: list[Row], logits: torch.Tensor) -> None:
        finite = torch.isfinite(logits).all(dim=-1).tolist()
        tokens = torch.empty(len(rows), dtype=torch.long)
        kinds: dict[tuple[float, float], list[int]] = {}
        for index, row in enumerate(rows):
            decoding = row.request.decoding
            kinds.setdefault((decoding.temperature, decoding.top_p), []).append(index)
        for (temperature, top_p), members in kinds.items():
            part = logits if len(members) == len(rows) else logits[members]
            if temperature == 0:
                tokens[members] = greedy(part).cpu()
            else:
                uniforms = torch.tensor([rows[i].uniforms[len(rows[i].tokens)] for i in members])  # pyright: ignore[reportOptionalSubscript]
                drawn = sample(part, temperature=temperature, top_p=top_p, uniforms=uniforms.to(part.device))
                tokens[members] = drawn.cpu()
        for row, token, is_finite in zip(rows, tokens.tolist(), finite, strict=True):
            if not is_finite:
                row.fault = f"the logits of token {len(row.tokens) + 1} are not finite: did it diverge?"
                continue
            row.tokens.append(token)
            if token in self.end_tokens:
                row.finish = Finish.STOP
            elif len(row.tokens) == row.request.decoding.max_tokens:
                row.finish = Finish.LENGTH

    def _remove(self, index: int) -> None:
        # The last row takes the free place, so the rows stay dense and a step computes no empty one.
        assert self.cache is not None
        last = len(self.rows) - 1
        if index != last:
            self.cache.move(last, index, self.rows[last].position)
            self.rows[index] = self.rows[last]
        self.rows.pop()


def _uniforms(request: Request) -> np.ndarray | None:
    if request.decoding.temperature == 0:
        return None
    return seeds.stream(request.root_seed, *request.stream).random(request.decoding.max_tokens)
