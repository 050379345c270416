"""From a task of the study file to its pinned items."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from aftertune.errors import DataError, nearest
from aftertune.records import Intent, Item, Task
from aftertune.sources import Row, Table, read_table
from aftertune.study import TaskSpec
from aftertune.tasks.packaged_tasks import INTENTS, LICENCE, SOURCE, packaged_bytes, packaged_task_names
from aftertune.tasks.subset import stratified_subset

ONE_CATEGORY = "all"


def load_task(spec: TaskSpec, *, root_seed: int) -> Task:
    """The items of a packaged task, or of a user's table: those that `where` keeps, and of them `n` drawn.

    Raises:
        DataError: a file, column, id, prompt or name that is wrong; with the line and the nearest name.
    """
    table, intent, source, licence = _packaged(spec) if spec.file is None else _users(spec, Path(spec.file))
    rows = _where(table, spec)
    items = _items(table, rows, spec)
    if spec.n is not None:
        if spec.n > len(items):
            raise DataError(
                f"task {spec.name!r}: n is {spec.n}, but there are {len(items)} items",
                f"write n: {len(items)} or less, or leave n out for all of them",
            )
        items = stratified_subset(items, spec.n, root_seed=root_seed, task=spec.name)
    return Task(spec.name, intent, items, source, licence, items_sha256(intent, items))


def items_sha256(intent: Intent, items: Iterable[Item]) -> str:
    """The hash of the intent and of each item's id, prompt and category, in order."""
    content = [intent.value, [[item.id, item.prompt, item.category] for item in items]]
    return hashlib.sha256(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()


def _packaged(spec: TaskSpec) -> tuple[Table, Intent, str, str]:
    if spec.name not in INTENTS:
        raise DataError(
            f"there is no packaged task called {spec.name!r}",
            f"{nearest(spec.name, packaged_task_names())}; for your own table write its file and intent",
        )
    intent = INTENTS[spec.name]
    if spec.intent not in (None, intent):
        raise DataError(
            f"task {spec.name!r} is {intent.value}, but the study calls it {spec.intent}",
            "leave its intent out",
        )
    return read_table(packaged_bytes(spec.name), f"{spec.name}.jsonl"), intent, SOURCE, LICENCE


def _users(spec: TaskSpec, path: Path) -> tuple[Table, Intent, str, str]:
    assert spec.intent is not None  # the study's grammar demands it beside a file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"task {spec.name!r}: cannot read {path}: {error.strerror}",
            "give the path of a CSV or JSONL file",
        ) from error
    return read_table(content, str(path)), spec.intent, spec.source or path.name, spec.licence or "not stated"


def _where(table: Table, spec: TaskSpec) -> tuple[Row, ...]:
    """The rows that have every value of `where`; a row without the column has no value and is left out."""
    if not table.rows:
        raise DataError(
            f"task {spec.name!r}: {table.source} has no rows", "write at least one row below the header"
        )
    rows = table.rows
    for column, wanted in spec.where.items():
        _known_column(table, column, "where")
        kept = tuple(row for row in rows if row.values.get(column) == wanted)
        if not kept:
            values = sorted({row.values[column] for row in rows if column in row.values})
            shown = ", ".join(repr(value) for value in values[:20]) + (", …" if len(values) > 20 else "")
            raise DataError(
                f"task {spec.name!r}: no row of {table.source} is left with {column} = {wanted!r}",
                f"the values there are: {shown}",
            )
        rows = kept
    return rows


def _items(table: Table, rows: tuple[Row, ...], spec: TaskSpec) -> tuple[Item, ...]:
    for column, key in (
        (spec.prompt_column, "prompt_column"),
        (spec.id_column, "id_column"),
        (spec.category_column, "category_column"),
    ):
        if column is not None:
            _known_column(table, column, key)
    lines: dict[str, int] = {}
    items: list[Item] = []
    for row in rows:
        item = _item(table.source, row, spec)
        if item.id in lines:
            raise DataError(
                f"{table.source}: the id {item.id!r} stands on lines {lines[item.id]} and {row.line}",
                "give each item its own id" if spec.id_column else "the prompts are the same: remove one",
            )
        lines[item.id] = row.line
        items.append(item)
    return tuple(items)


def _item(source: str, row: Row, spec: TaskSpec) -> Item:
    prompt = _cell(source, row, spec.prompt_column)
    category = ONE_CATEGORY if spec.category_column is None else _cell(source, row, spec.category_column)
    if spec.id_column is None:
        return Item(hashlib.sha256(prompt.encode()).hexdigest()[:16], prompt, category)
    return Item(_cell(source, row, spec.id_column), prompt, category)


def _cell(source: str, row: Row, column: str) -> str:
    value = row.values.get(column, "")
    if not value.strip():
        raise DataError(f"{source}, line {row.line}: {column!r} is empty", "fill it, or remove the row")
    return value


def _known_column(table: Table, column: str, key: str) -> None:
    if column not in table.columns:
        optional = key in ("id_column", "category_column")
        raise DataError(
            f"{table.source} has no column {column!r} ({key})",
            nearest(column, table.columns) + (f", or write {key}: null" if optional else ""),
        )
