"""The keys and values of rows that come and go, and what of them the tokens of one step read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import torch

LENGTH_STEP = 32  # lengths in attention are multiples of this: some others change bytes

Filled = list[
    tuple[torch.Tensor, torch.Tensor]
]  # a row's keys and values by layer, key heads × tokens × size


class RowCache:
    """Keys and values by layer, each rows × key heads × capacity × size; all rows see the whole capacity.

    The capacity follows the longest row in steps, since a product over a part of it would first be copied.
    """

    def __init__(self, n_rows: int):
        self.n_rows = n_rows
        self.capacity = LENGTH_STEP
        self.layers: list[tuple[torch.Tensor, torch.Tensor]] = []

    @torch.inference_mode()
    def make_room(self, length: int) -> None:
        """Let rows have `length` tokens; what is longer than the capacity that this gives is lost."""
        wanted = round_up(length)
        if self.capacity // 2 < wanted <= self.capacity:
            return
        kept = min(wanted, self.capacity)
        for index, pair in enumerate(self.layers):
            resized = tuple(t.new_zeros(*t.shape[:2], wanted, t.shape[3]) for t in pair)
            for new, old in zip(resized, pair, strict=True):
                new[:, :, :kept] = old[:, :, :kept]
            self.layers[index] = (resized[0], resized[1])
        self.capacity = wanted

    def layer(
        self, index: int, keys: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A layer's keys and values, made at first for tokens like these (tokens × key heads × size)."""
        while len(self.layers) <= index:
            shape = (self.n_rows, keys.shape[1], self.capacity)
            new = keys.new_zeros(*shape, keys.shape[2]), values.new_zeros(*shape, values.shape[2])
            self.layers.append(new)
        return self.layers[index]

    @torch.inference_mode()
    def copy_of(self, row: int, length: int) -> Filled:
        """The first `length` tokens of a row."""
        return [
            (keys[row, :, :length].clone(), values[row, :, :length].clone()) for keys, values in self.layers
        ]

    @torch.inference_mode()
    def clear(self, rows: Sequence[int]) -> None:
        """Set rows to zero: a key or value that is not finite spoils who sees the row next, unseen as it is.

        The weight of an unseen key is 0, and 0 × NaN is NaN.
        """
        for keys, values in self.layers:
            for row in rows:
                keys[row] = values[row] = 0

    @torch.inference_mode()
    def put(self, rows: Sequence[int], filled: Filled) -> None:
        """Begin rows with tokens that were read before."""
        index = torch.tensor(rows, device=filled[0][0].device)
        length = filled[0][0].shape[1]
        for mine, (keys, values) in zip(self.layers, filled, strict=True):
            mine[0][index, :, :length] = keys
            mine[1][index, :, :length] = values

    @torch.inference_mode()
    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy rows onto others."""
        if not sources:
            return
        for keys, values in self.layers:
            source, target = (torch.tensor(rows, device=keys.device) for rows in (sources, targets))
            keys[target] = keys[source]
            values[target] = values[source]


@dataclass(frozen=True, slots=True)
class Part:
    """Neighbouring rows of which one step reads the same number of tokens, padding included.

    Attributes:
        first: the first row, of `n_rows`.
        n_tokens: of each row.
        n_keys: the first of its keys, which the tokens see at most: for a prompt no more than it needs, so
            that its products have one shape whatever stands beside it.
        tokens: which of the step's tokens they are, row by row; a row's last stands for its padding.
        hidden: rows × 1 × tokens × n_keys, True where a token does not see a key.
    """

    first: int
    n_rows: int
    n_tokens: int
    n_keys: int
    tokens: torch.Tensor
    hidden: torch.Tensor


@dataclass(frozen=True, slots=True)
class Reading:
    """What the tokens of one step write and see: each has a row and a position in the cache.

    `order` says where each token stands when the tokens of all parts, padding included, are put one after
    another; tokens of nobody stand anywhere.
    """

    cache: RowCache
    rows: torch.Tensor
    positions: torch.Tensor
    parts: tuple[Part, ...]
    order: torch.Tensor
    _places: dict[int, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        cache: RowCache,
        rows: Sequence[int],
        positions: Sequence[int],
        spans: Sequence["Span"],
        device: str,
    ) -> Self:
        """Lay out a step.

        Args:
            cache: with room for all positions.
            rows: the row of each token.
            positions: of each token in its row.
            spans: rows and their tokens; spans that read equally many and stand side by side become one part.
            device: of the cache.
        """
        at = torch.tensor(positions, device=device)
        seen = torch.arange(cache.capacity, device=device)
        order = [0] * len(rows)
        parts: list[Part] = []
        start = n_before = 0
        while start < len(spans):
            end = start + 1
            while end < len(spans) and spans[end].follows(spans[end - 1]):
                end += 1
            for span in spans[start:end]:
                order[span.start : span.start + span.n] = range(n_before, n_before + span.n)
                n_before += span.padded
            parts.append(_part(spans[start:end], at, seen))
            start = end
        return cls(
            cache,
            torch.tensor(rows, device=device),
            at,
            tuple(parts),
            torch.tensor(order, device=device),
        )

    def write(
        self, layer: int, keys: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Set the step's keys and values of a layer, tokens × key heads × size; what the rows see."""
        all_keys, all_values = self.cache.layer(layer, keys, values)
        places = self._places_of(keys.shape[1])
        # Assignment by indices over three dimensions took 270 µs for 16 tokens, a fifth of attention.
        all_keys.view(-1, keys.shape[2]).index_copy_(0, places, keys.reshape(-1, keys.shape[2]))
        all_values.view(-1, values.shape[2]).index_copy_(0, places, values.reshape(-1, values.shape[2]))
        return all_keys, all_values

    def _places_of(self, n_heads: int) -> torch.Tensor:
        if n_heads not in self._places:
            heads = torch.arange(n_heads, device=self.rows.device)
            row_and_head = self.rows[:, None] * n_heads + heads
            self._places[n_heads] = (row_and_head * self.cache.capacity + self.positions[:, None]).flatten()
        return self._places[n_heads]


@dataclass(frozen=True, slots=True)
class Span:
    """One row's tokens in a step: `n` from `start` on, the row being `row`, where it will have `length`."""

    row: int
    start: int
    n: int
    length: int

    @property
    def padded(self) -> int:
        """How many tokens attention reads: one, or a multiple of LENGTH_STEP."""
        return 1 if self.n == 1 else round_up(self.n)

    @property
    def n_keys(self) -> int | None:
        """How many keys attention sees: what a prompt of this length needs; all (None) for one token."""
        return None if self.n == 1 else round_up(self.length)

    def follows(self, other: "Span") -> bool:
        """Whether both can stand in one part."""
        alike = self.padded == other.padded and self.n_keys == other.n_keys
        return alike and self.row == other.row + 1


def _part(spans: Sequence[Span], positions: torch.Tensor, keys: torch.Tensor) -> Part:
    n = spans[0].padded
    steps = torch.arange(n)
    starts, ns = (torch.tensor([getattr(s, name) for s in spans])[:, None] for name in ("start", "n"))
    tokens = (starts + torch.minimum(steps, ns - 1)).flatten().to(positions.device)
    n_keys = spans[0].n_keys or len(keys)
    hidden = keys[None, :n_keys] > positions[tokens][:, None]
    return Part(spans[0].row, len(spans), n, n_keys, tokens, hidden.view(len(spans), 1, n, n_keys))


def round_up(length: int) -> int:
    """The next multiple of LENGTH_STEP."""
    return -(-length // LENGTH_STEP) * LENGTH_STEP
