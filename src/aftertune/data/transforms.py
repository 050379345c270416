"""What a recipe does to its rows: keep those of some values, those of some length, and mix refusals in."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from aftertune.data.conversations import Conversation
from aftertune.data.packaged_data import refusals
from aftertune.errors import DataError, nearest
from aftertune.seeds import stream
from aftertune.study import DataSpec

_MIX_SEED = 2025  # the mix is part of the data, which are the same for every study


@dataclass(frozen=True, slots=True)
class DataRow:
    """A row as it was read, and the conversation in it."""

    values: Any
    conversation: Conversation


def keep_where(
    rows: Sequence[DataRow], spec: DataSpec, *, category: str | None, place: str
) -> tuple[list[DataRow], list[str]]:
    """The rows that have a wanted value in every column of `where`, and what was done in words.

    `category` is the column that the name "category" stands for, if the data map one. A value that is no
    text is compared as JSON writes it.

    Raises:
        DataError: a column is in no row, or nothing is left.
    """
    kept, done = list(rows), list[str]()
    for key, given in spec.where.items():
        column = category if key == "category" and category else key
        wanted = (given,) if isinstance(given, str) else given
        values = [_value(row, column) for row in kept]
        found = sorted({value for value in values if value is not None})
        if not found:
            columns = sorted({name for row in kept if isinstance(row.values, dict) for name in row.values})
            raise DataError(f"{place}: where names the column {column!r}", nearest(column, columns))
        for value in wanted:
            if value not in found:
                raise DataError(f"{place}: where: no row's {column} is {value!r}", nearest(value, found[:40]))
        n_before = len(kept)
        kept = [row for row, value in zip(kept, values, strict=True) if value in wanted]
        done.append(f"{column} is {' or '.join(wanted)} ({len(kept)} of {n_before} rows)")
    return kept, done


def keep_length(rows: list[DataRow], spec: DataSpec, *, place: str) -> tuple[list[DataRow], list[str]]:
    """The rows whose user's and assistant's texts have together the wanted number of characters.

    Raises:
        DataError: nothing is left.
    """
    low, high = spec.min_chars, spec.max_chars
    if low is None and high is None:
        return rows, []
    lengths = [n_chars(row.conversation) for row in rows]
    kept = [
        row
        for row, n in zip(rows, lengths, strict=True)
        if (low is None or n >= low) and (high is None or n <= high)
    ]
    bounds = " and ".join(
        f"{word} {bound}" for word, bound in (("min_chars", low), ("max_chars", high)) if bound is not None
    )
    if not kept:
        raise DataError(
            f"{place}: {bounds} leave none of {len(rows)} rows, which have {min(lengths)} to {max(lengths)} "
            "characters",
            "widen the bounds",
        )
    return kept, [f"{bounds} ({len(kept)} of {len(rows)} rows)"]


def n_chars(conversation: Conversation) -> int:
    """Characters of the user's and the assistant's texts."""
    return sum(len(message.content) for message in conversation if message.role != "system")


def safety_mix(n_rows: int, share: float) -> tuple[Conversation, ...]:
    """So many refusals that they are `share` of all rows, at least one; none for a share of 0.

    The mitigation of Bianchi et al. 2024 ("Safety-Tuned LLaMAs"). The refusals come in an order that is drawn
    once; where more are needed than there are, they come again.
    """
    if share == 0:
        return ()
    pool = refusals()
    n_mixed = max(1, round(n_rows * share / (1 - share)))
    order = stream(_MIX_SEED, "data", "safety-mix").permutation(len(pool)).tolist()
    return tuple(pool[order[i % len(pool)]] for i in range(n_mixed))


def _value(row: DataRow, column: str) -> str | None:
    if not isinstance(row.values, dict):
        return None
    value = cast(dict[str, Any], row.values).get(column)
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
