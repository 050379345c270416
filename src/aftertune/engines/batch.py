"""The rows at work: they leave as they finish, and waiting requests take their places.

A step reads one token of each row and, where places are free, the prompts of new rows with them. What all
prompts of a template have before the user's words is read once a checkpoint; a prompt, once for all its
requests that stand together.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Protocol

import numpy as np
import torch

from aftertune import seeds
from aftertune.engines.base import Prompt, Request
from aftertune.engines.rows import Filled, Reading, RowCache, Span
from aftertune.engines.sampling import greedy, sample
from aftertune.records import Checkpoint, Finish

_PROMPT_TOKENS = 512  # of new rows in one step, beside at least one prompt: bounds what a step needs at once
_PREFIXES_KEPT = 16


@dataclass(frozen=True, slots=True)
class Step:
    """Tokens that a model reads at once, the checkpoint of each, and after which logits are asked for."""

    token_ids: list[int]
    checkpoints: list[Checkpoint]
    reading: Reading
    asked: list[int]


class Model(Protocol):
    """What a batch asks of its engine."""

    @property
    def device(self) -> str:
        """Where the cache stands."""
        ...

    def read(self, step: Step) -> torch.Tensor:
        """Logits of asked × vocabulary."""
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


@dataclass(frozen=True, slots=True)
class _Question:
    """One checkpoint's prompt, and all the requests that share its reading."""

    checkpoint: Checkpoint
    prompt: Prompt
    requests: tuple[Request, ...]

    @property
    def prefix(self) -> tuple[Checkpoint, tuple[int, ...]]:
        return self.checkpoint, self.prompt.token_ids[: self.prompt.n_shared]

    @property
    def own_tokens(self) -> tuple[int, ...]:
        return self.prompt.token_ids[self.prompt.n_shared :]


class Batch:
    """At most `size` rows, always the first of the cache; no step has fewer than `fewest` tokens."""

    def __init__(self, model: Model, *, size: int, fewest: int, end_tokens: frozenset[int]):
        self.model = model
        self.size = size
        self.fewest = fewest
        self.end_tokens = end_tokens
        self.rows: list[Row] = []
        self.cache = RowCache(max(size, fewest) + 2)
        self.spare = max(size, fewest)  # the row of the cache in which prefixes are read
        self.nobody = self.spare + 1  # and the one of tokens that only fill a step up
        self._ready: deque[tuple[Row, Filled]] = deque()  # begun, and waiting for a place
        self._prefixes: dict[tuple[Checkpoint, tuple[int, ...]], Filled] = {}

    def run(self, requests: Sequence[Request]) -> Iterator[Row]:
        """Complete all requests, in the order in which they end.

        Args:
            requests: those of a checkpoint with one prompt that stand together share its reading.
        """
        questions = deque(
            _Question(*shared, tuple(together))
            for shared, together in groupby(requests, key=lambda r: (r.checkpoint, r.prompt))
        )
        while self.rows or self._ready or questions:
            self._seat_ready()
            new = self._next(questions)
            yield from self._advance(new)

    def _seat_ready(self) -> None:
        while self._ready and len(self.rows) < self.size:
            row, filled = self._ready.popleft()
            self._make_room(row.position + 1)
            self.cache.put([len(self.rows)], filled)
            self.rows.append(row)

    def _next(self, questions: deque[_Question]) -> list[_Question]:
        """The questions that the next step begins, those of like length together."""
        new: list[_Question] = []
        n_tokens = 0
        while questions and len(self.rows) + len(new) < self.size:
            n_tokens += len(questions[0].own_tokens)
            if new and n_tokens > _PROMPT_TOKENS:
                break
            new.append(questions.popleft())
        return sorted(new, key=lambda question: len(question.own_tokens))

    def _advance(self, new: Sequence[_Question]) -> Iterator[Row]:
        # Few rows may not read alone; beside prompts they wait for the next step.
        reading = self.rows if not new or len(self.rows) >= self.fewest else []
        self._make_room(*(len(question.prompt.token_ids) for question in new))
        self._begin(new)
        logits = self.model.read(self._step(reading, new))
        begun = [[Row(request, uniforms(request)) for request in question.requests] for question in new]
        places = [*range(len(reading)), *(len(reading) + i for i, rows in enumerate(begun) for _ in rows)]
        drawing = [*reading, *(row for rows in begun for row in rows)]
        self._append_tokens(drawing, logits if places == list(range(len(logits))) else logits[places])
        failed = [index for index, row in enumerate(self.rows) if row.fault]
        failed += [len(self.rows) + i for i, rows in enumerate(begun) if any(row.fault for row in rows)]
        self.cache.clear(failed)
        occupants: list[Row | None] = [*self.rows]
        for question, rows in zip(new, begun, strict=True):
            going = [row for row in rows if not row.ended]
            occupants.append(going[0] if going else None)
            if len(going) > 1:
                filled = self.cache.copy_of(len(occupants) - 1, len(question.prompt.token_ids))
                self._ready.extend((row, filled) for row in going[1:])
        self._close_ranks(occupants)
        yield from (row for row in drawing if row.ended)

    def _make_room(self, *more: int) -> None:
        """For the rows at work, and more of these lengths."""
        self.cache.make_room(max([1, *more, *(row.position + 1 for row in self.rows)]))

    def _begin(self, new: Sequence[_Question]) -> None:
        """Give the new rows, which stand after the others, what they share with rows before them."""
        sharing: dict[tuple[Checkpoint, tuple[int, ...]], list[int]] = {}
        for row, question in enumerate(new, start=len(self.rows)):
            if question.prompt.n_shared:
                sharing.setdefault(question.prefix, []).append(row)
        for prefix, rows in sharing.items():
            if prefix not in self._prefixes:
                if len(self._prefixes) >= _PREFIXES_KEPT:
                    self._prefixes.pop(next(iter(self._prefixes)))
                self._prefixes[prefix] = self._read_prefix(*prefix)
            self.cache.put(rows, self._prefixes[prefix])

    def _read_prefix(self, checkpoint: Checkpoint, token_ids: tuple[int, ...]) -> Filled:
        layout = _Layout()
        layout.add(checkpoint, self.spare, token_ids, start=0)
        self.model.read(self._step_of(layout))
        filled = self.cache.copy_of(self.spare, len(token_ids))
        self.cache.clear([self.spare])
        return filled

    def _step(self, reading: Sequence[Row], new: Sequence[_Question]) -> Step:
        layout = _Layout()
        for index, row in enumerate(reading):
            layout.add(row.request.checkpoint, index, row.tokens[-1:], start=row.position)
        if reading:
            for index in range(len(reading), self.fewest):
                layout.add(reading[0].request.checkpoint, index, [0], start=0, asked=False)
        for index, question in enumerate(new, start=len(self.rows)):
            layout.add(question.checkpoint, index, question.own_tokens, start=question.prompt.n_shared)
        return self._step_of(layout)

    def _step_of(self, layout: "_Layout") -> Step:
        return layout.step(self.cache, nobody=self.nobody, fewest=self.fewest, device=self.model.device)

    def _append_tokens(self, rows: list[Row], logits: torch.Tensor) -> None:
        finite = torch.isfinite(logits.amax(dim=-1)).tolist()  # of NaN and infinity the largest is no number
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

    def _close_ranks(self, occupants: Sequence[Row | None]) -> None:
        """The last rows take the places of those that ended, so a step computes no empty one."""
        live = [index for index, row in enumerate(occupants) if row is not None and not row.ended]
        n = len(live)
        free = sorted(set(range(n)).difference(live))
        last = [index for index in live if index >= n]
        self.cache.move(last, free)
        into = dict(zip(free, last, strict=True))
        kept = (occupants[into.get(index, index)] for index in range(n))
        self.rows = [row for row in kept if row is not None]


class _Layout:
    """A step's tokens, as they are put side by side."""

    def __init__(self) -> None:
        self.token_ids: list[int] = []
        self.checkpoints: list[Checkpoint] = []
        self.rows: list[int] = []
        self.positions: list[int] = []
        self.spans: list[Span] = []
        self.asked: list[int] = []

    def add(
        self, checkpoint: Checkpoint, row: int, token_ids: Sequence[int], *, start: int, asked: bool = True
    ) -> None:
        """A row's tokens, the first at position `start`; logits after the last are asked for or not."""
        self.spans.append(Span(row, len(self.token_ids), len(token_ids), start + len(token_ids)))
        self._append(checkpoint, row, token_ids, start)
        if asked:
            self.asked.append(len(self.token_ids) - 1)

    def step(self, cache: RowCache, *, nobody: int, fewest: int, device: str) -> Step:
        """The step, with so many tokens in the row of nobody that it has `fewest`."""
        missing = max(0, fewest - len(self.token_ids))
        for _ in range(missing):
            self._append(self.checkpoints[0], nobody, [0], 0)
        reading = Reading.of(cache, self.rows, self.positions, self.spans, device)
        return Step(self.token_ids, self.checkpoints, reading, self.asked)

    def _append(self, checkpoint: Checkpoint, row: int, token_ids: Sequence[int], start: int) -> None:
        self.token_ids += token_ids
        self.checkpoints += [checkpoint] * len(token_ids)
        self.rows += [row] * len(token_ids)
        self.positions += range(start, start + len(token_ids))


def uniforms(request: Request) -> np.ndarray | None:
    """A request's own numbers, one a token it may have; None where greedy."""
    if request.decoding.temperature == 0:
        return None
    return seeds.stream(request.root_seed, *request.stream).random(request.decoding.max_tokens)
