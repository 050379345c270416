"""From the rows of a table to items, by column names."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from aftertune.errors import DataError, nearest
from aftertune.records import Item
from aftertune.sources import Row, Table

ONE_CATEGORY = "all"


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column holds what; `twins` gives equal prompts without ids an id each, and refuses none."""

    prompt_column: str
    id_column: str | None
    category_column: str | None
    context_column: str | None
    reference_column: str | None
    one_turn: bool = False
    twins: bool = False


def rows_where(task: str, table: Table, rows: tuple[Row, ...], where: Mapping[str, str]) -> tuple[Row, ...]:
    """The rows that have every value of `where`; a row without the column has no value and is left out."""
    if not table.rows:
        raise DataError(
            f"task {task!r}: {table.source} has no rows", "write at least one row below the header"
        )
    for column, wanted in where.items():
        _known_column(table, column, "where")
        kept = tuple(row for row in rows if row.values.get(column) == wanted)
        if not kept:
            values = sorted({row.values[column] for row in rows if column in row.values})
            shown = ", ".join(repr(value) for value in values[:20]) + (", …" if len(values) > 20 else "")
            raise DataError(
                f"task {task!r}: no row of {table.source} is left with {column} = {wanted!r}",
                f"the values there are: {shown}",
            )
        rows = kept
    return rows


def items_of(table: Table, rows: Iterable[Row], columns: Columns) -> tuple[Item, ...]:
    """One item a row, in the table's order.

    Raises:
        DataError: an unknown column, an empty cell, an id that stands twice; with the line.
    """
    keys = ("prompt_column", "id_column", "category_column", "context_column", "reference_column")
    for key in keys:
        column: str | None = getattr(columns, key)
        if column is not None:
            _known_column(table, column, key)
    lines: dict[str, int] = {}
    items: list[Item] = []
    copies: Counter[str] = Counter()
    for row in rows:
        item = _item(table.source, row, columns)
        if columns.twins and columns.id_column is None:
            copies[item.id] += 1
            if copies[item.id] > 1:
                item = Item(f"{item.id}-{copies[item.id]}", item.prompt, item.category, item.reference)
        if item.id in lines:
            raise DataError(
                f"{table.source}: the id {item.id!r} stands on lines {lines[item.id]} and {row.line}",
                "give each item its own id" if columns.id_column else "the prompts are the same: remove one",
            )
        lines[item.id] = row.line
        items.append(item)
    return tuple(items)


def _item(source: str, row: Row, columns: Columns) -> Item:
    prompt = _cell(source, row, columns.prompt_column)
    if columns.one_turn:
        prompt = _only_turn(source, row, prompt)
    context = row.values.get(columns.context_column, "") if columns.context_column else ""
    if context.strip():
        prompt = f"{context}\n\n---\n\n{prompt}"  # as HarmBench's own code puts a context before a behaviour
    category = (
        ONE_CATEGORY if columns.category_column is None else _cell(source, row, columns.category_column)
    )
    reference = (
        None if columns.reference_column is None else _reference(source, row, columns.reference_column)
    )
    if columns.id_column is None:
        return Item(hashlib.sha256(prompt.encode()).hexdigest()[:16], prompt, category, reference)
    return Item(_cell(source, row, columns.id_column), prompt, category, reference)


def _reference(source: str, row: Row, column: str) -> str:
    value = _cell(source, row, column)
    reference = value.rsplit("####", 1)[-1].strip()
    if not reference:
        raise DataError(
            f"{source}, line {row.line}: {column!r} has nothing after its last ####, got {value[-60:]!r}",
            "write the expected answer after ####, or alone",
        )
    return reference


def _only_turn(source: str, row: Row, value: str) -> str:
    try:
        turns = json.loads(value)
    except ValueError:
        return value  # a copy that holds the text itself
    if not isinstance(turns, list):
        return value
    texts = cast(list[object], turns)
    if len(texts) != 1 or not isinstance(texts[0], str) or not texts[0].strip():
        raise DataError(
            f"{source}, line {row.line}: expected one turn of text, got {value[:80]}",
            "get the original again: each prompt of this benchmark is one turn",
        )
    return texts[0]


def _cell(source: str, row: Row, column: str) -> str:
    value = row.values.get(column, "")
    if not value.strip():
        raise DataError(f"{source}, line {row.line}: {column!r} is empty", "fill it, or remove the row")
    return value


def _known_column(table: Table, column: str, key: str) -> None:
    if column not in table.columns:
        optional = key not in ("prompt_column", "where")
        raise DataError(
            f"{table.source} has no column {column!r} ({key})",
            nearest(column, table.columns) + (f", or write {key}: null" if optional else ""),
        )
