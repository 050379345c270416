"""From a task of the study file to its pinned items."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aftertune.errors import DataError, nearest
from aftertune.records import Intent, Item, Task
from aftertune.sources import Table, read_table
from aftertune.study import TaskSpec
from aftertune.tasks.base import Benchmark, prompts_sha256
from aftertune.tasks.benchmarks import BENCHMARKS
from aftertune.tasks.items import Columns, items_of, rows_where
from aftertune.tasks.origin import from_file, from_local_copy, from_publisher
from aftertune.tasks.packaged_tasks import INTENTS, LICENCE, SOURCE, packaged_bytes, packaged_task_names
from aftertune.tasks.subset import stratified_subset


def load_task(spec: TaskSpec, *, root_seed: int) -> Task:
    """The items of a packaged task, of a benchmark or of a user's table.

    A benchmark must be whole and unchanged. Then `where` keeps items, and of them `n` are drawn.

    Raises:
        DataError: a file, column, id, prompt or name that is wrong, with the line and the nearest name; a
            benchmark that is not the known one; items of another hash than `sha256`.
    """
    benchmark = BENCHMARKS.get(spec.name)
    intent = _intent(spec, benchmark)
    table = _table(spec, benchmark)
    items = _items(spec, benchmark, table)
    if spec.n is not None:
        if spec.n > len(items):
            raise DataError(
                f"task {spec.name!r}: n is {spec.n}, but there are {len(items)} items",
                f"write n: {len(items)} or less, or leave n out for all of them",
            )
        items = stratified_subset(items, spec.n, root_seed=root_seed, task=spec.name)
    found = items_sha256(intent, items)
    if spec.sha256 not in (None, found):
        raise DataError(
            f"task {spec.name!r}: the items have the SHA-256 {found}, but the study expects {spec.sha256}",
            "get the items that were pinned, or write the new hash if the change is meant",
        )
    source, licence = _credits(spec, benchmark, table)
    return Task(spec.name, intent, items, source, licence, found)


def known_tasks() -> tuple[str, ...]:
    """The names that a study may write without a file: packaged tasks and public benchmarks."""
    return (*packaged_task_names(), *BENCHMARKS)


def items_sha256(intent: Intent, items: Iterable[Item]) -> str:
    """The hash of the intent and of each item's id, prompt, category and (where it has one) reference."""
    rows = [
        [item.id, item.prompt, item.category, *([] if item.reference is None else [item.reference])]
        for item in items
    ]
    content = json.dumps([intent.value, rows], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()


def _intent(spec: TaskSpec, benchmark: Benchmark | None) -> Intent:
    if benchmark is not None:
        known = benchmark.intent
    elif spec.file is not None:
        if spec.intent is None:
            raise DataError(f"task {spec.name!r} comes from a file", "write its intent, harmful or benign")
        return spec.intent
    elif spec.name in INTENTS:
        known = INTENTS[spec.name]
    else:
        raise DataError(
            f"there is no task called {spec.name!r}",
            f"{nearest(spec.name, known_tasks())}; for your own table write its file and intent",
        )
    if spec.intent not in (None, known):
        raise DataError(
            f"task {spec.name!r} is {known.value}, but the study calls it {spec.intent}",
            "leave its intent out",
        )
    return known


def _table(spec: TaskSpec, benchmark: Benchmark | None) -> Table:
    if spec.file is not None:
        return from_file(spec, Path(spec.file))
    if benchmark is not None:
        if spec.data_dir is not None:
            return from_local_copy(spec, benchmark, Path(spec.data_dir))
        return from_publisher(spec, benchmark)
    for key, value in (("data_dir", spec.data_dir), ("revision", spec.revision)):
        if value is not None:
            raise DataError(
                f"task {spec.name!r} is packaged, but the study gives its {key}, {value!r}",
                f"leave {key} out; it belongs to a benchmark: {', '.join(BENCHMARKS)}",
            )
    return read_table(packaged_bytes(spec.name), f"{spec.name}.jsonl")


def _items(spec: TaskSpec, benchmark: Benchmark | None, table: Table) -> tuple[Item, ...]:
    """The items that `where` keeps; a benchmark is checked as a whole before."""
    columns = _columns(spec, benchmark, table)
    if benchmark is None:
        return items_of(table, rows_where(spec.name, table, table.rows, spec.where), columns)
    # An empty `where` that is written says that the copy holds this benchmark alone.
    own = {} if "where" in spec.model_fields_set and not spec.where else benchmark.where
    rows = rows_where(spec.name, table, table.rows, own)
    items = items_of(table, rows, columns)
    _check_known(benchmark, table, items)
    kept = {id(row) for row in rows_where(spec.name, table, rows, spec.where)}
    return tuple(item for row, item in zip(rows, items, strict=True) if id(row) in kept)


def _columns(spec: TaskSpec, benchmark: Benchmark | None, table: Table) -> Columns:
    keys = ("prompt_column", "id_column", "category_column", "context_column", "reference_column")
    written: dict[str, Any] = {key: getattr(spec, key) for key in keys if key in spec.model_fields_set}
    if benchmark is not None:
        known = {key: getattr(benchmark, key) for key in keys}
        return Columns(**{**known, **written}, one_turn=benchmark.one_turn, twins=True)
    known = {key: getattr(spec, key) for key in keys}
    if spec.file is None and "reference" in table.columns:
        known["reference_column"] = "reference"
    return Columns(**{**known, **written})


def _check_known(benchmark: Benchmark, table: Table, items: tuple[Item, ...]) -> None:
    remedy = f"get the original ({benchmark.page}), or give it as your own task under another name"
    if len(items) != benchmark.n_items:
        raise DataError(
            f"{benchmark.name}: {table.source} has {len(items)} items, but {benchmark.title} has "
            f"{benchmark.n_items}",
            remedy,
        )
    found = prompts_sha256(item.prompt for item in items)
    if benchmark.prompts_sha256 not in (None, found):
        raise DataError(
            f"{benchmark.name}: {table.source} is not the {benchmark.title} that aftertune knows: its "
            f"prompts have the SHA-256 {found}, expected {benchmark.prompts_sha256}",
            remedy,
        )


def _credits(spec: TaskSpec, benchmark: Benchmark | None, table: Table) -> tuple[str, str]:
    if benchmark is not None:
        return spec.source or f"{benchmark.citation}; {table.source}", spec.licence or benchmark.licence
    if spec.file is not None:
        return spec.source or Path(spec.file).name, spec.licence or "not stated"
    return SOURCE, LICENCE
