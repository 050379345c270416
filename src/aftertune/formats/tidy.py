"""A tidy table: a row a judgment, with our columns and the texts beside them, as Parquet or CSV.

- Citation: Wickham, Tidy Data, Journal of Statistical Software 59 (10), 2014.
- Licence: a layout, nobody's.
- Versions tried: polars writes and reads it; pandas and R read it.

It comes back as it was, by `aftertune import` with its texts or by `aftertune analyze` to the same numbers.
Texts that a spreadsheet would take for a formula stay as they are: nothing may be lost on the way back.
"""

import hashlib
import io
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Literal

import polars as pl

from aftertune.errors import DataError
from aftertune.formats.archives import MAX_ENTRY_BYTES, read_capped
from aftertune.formats.logs import MOST, Log, Sample, Scored, halves_note, scored
from aftertune.records import BASELINE, Construct, Intent, JudgmentStatus
from aftertune.sources.cell_values import MISSING, NO_VALUE
from aftertune.sources.columns import PROMPT, REQUIRED, TEXT, UNNAMED, TableSpec, our_name, renamed
from aftertune.sources.table import Row, Table, csv_columns, read_table

TEXTS = (PROMPT, TEXT)
TidyKind = Literal["parquet", "csv"]
_CELL = ("study", "model", "seed", "task", "intent", "decoding", "variation")
_DIGITS = re.compile(r"[+-]?[0-9]{1,400}")
TOOL = "a table"


def tidy_bytes(frame: pl.DataFrame, kind: TidyKind) -> bytes:
    """A table as the bytes of a file; a null is an empty cell in CSV, and an empty text is `""`."""
    sink = io.BytesIO()
    if kind == "parquet":
        frame.write_parquet(sink, compression="zstd")
    else:
        frame.write_csv(sink, quote_style="non_numeric", null_value="")
    return sink.getvalue()


def looks_tidy(path: Path, content: bytes, spec: TableSpec | None = None) -> bool:
    """Whether a file is such a table: Parquet, or CSV with the needed columns as `spec` names them."""
    if path.suffix.lower() == ".parquet":
        return True
    named = spec.columns if spec is not None else {}
    needed = {named.get(name, name) for name in REQUIRED}
    columns = csv_columns(content)
    return path.suffix.lower() == ".csv" and needed <= columns | {our_name(name) for name in columns}


def read_tidy(path: Path, spec: TableSpec | None = None) -> list[Log]:
    """Read a table as one log for each model, seed, task, decoding and variation.

    Args:
        path: a CSV or Parquet file.
        spec: which column is which, and which are left out.

    Raises:
        DataError: a column is missing, a number is none, or a word is not known.
    """
    content = read_capped(path, MAX_ENTRY_BYTES)
    table = read_table(content, path.name, escape=True)
    rows, notes = _named_rows(table, spec or TableSpec())
    notes += halves_note(len(table.escaped), "rows")
    cells: dict[tuple[str | None, ...], list[Row]] = {}
    for row in rows:
        cells.setdefault(_cell(row, path.name), []).append(row)
    digest = hashlib.sha256(content).hexdigest()
    return [_log(path, digest, cell, rows, notes) for cell, rows in cells.items()]


def _cell(row: Row, source: str) -> tuple[str | None, ...]:
    """Which log a row belongs to; a seed is one however it is written (1, 1.0)."""
    given = {name: row.values.get(name) or None for name in _CELL}
    seed = (given["seed"] or "").strip()
    given["seed"] = str(_whole(seed, "seed", f"{source}, line {row.line}")) if seed else None
    return tuple(given.values())


def _named_rows(table: Table, spec: TableSpec) -> tuple[list[Row], tuple[str, ...]]:
    """The rows under our names of the columns, by the rule of `aftertune analyze`, and what it notes."""
    # A spreadsheet saves empty rows below a table.
    filled = [row for row in table.rows if any(cell.strip() for cell in row.values.values())]
    cells = {name: [row.values.get(name) for row in filled] for name in table.columns}
    found = renamed(pl.DataFrame(cells, schema=dict.fromkeys(cells, pl.String)), spec, table.source)
    rows = [
        Row(row.line, {name: cell for name, cell in named.items() if cell is not None})
        for row, named in zip(filled, found.frame.iter_rows(named=True), strict=True)
    ]
    return rows, tuple(warning.text for warning in found.warnings)


def _log(
    path: Path, digest: str, cell: tuple[str | None, ...], rows: list[Row], notes: tuple[str, ...]
) -> Log:
    study, model, seed, task, intent, decoding, variation = cell
    where = f"{path.name}, line {rows[0].line}"
    if intent is not None and intent not in [i.value for i in Intent]:
        raise DataError(f"{where}: the intent is {intent!r}", "write harmful or benign")
    if model is None:
        raise DataError(f"{where}: no model", "name the model of every row")
    number = None if seed is None else int(seed)
    return Log(
        path=path,
        sha256=digest,
        tool=TOOL,
        identity="",
        model=model,
        checkpoint=f"{model}/{seed}",
        task=task or UNNAMED,
        decoding=decoding or UNNAMED,
        samples=tuple(_samples(rows, path.name)),
        notes=notes,
        part=json.dumps([name for name in cell if name is not None], ensure_ascii=False),
        intent=intent,
        seed=number,
        study=study,
        variation=variation or BASELINE,
    )


def _samples(rows: list[Row], source: str) -> Iterator[Sample]:
    draws: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        where = f"{source}, line {row.line}"
        item = row.values.get("item")
        if not item:
            raise DataError(f"{where}: no item", "name the item of every row")
        draws.setdefault(
            (item, _whole(row.values.get("repeat", "").strip() or "1", "repeat", where)), []
        ).append(row)
    for (item, repeat), mine in draws.items():
        first = mine[0].values
        prompt = first.get("prompt", "")
        yield Sample(
            item=item,
            repeat=repeat,
            prompt=prompt,
            prompt_sha256=hashlib.sha256(prompt.encode()).hexdigest() if prompt else "",
            text=first.get("text"),
            finish=first.get("finish") or None,
            reason="",
            category=first.get("category", ""),
            reference=None,
            scores=tuple(_score(row, f"{source}, line {row.line}") for row in mine),
            key=first.get("response_key", ""),
        )


def _score(row: Row, where: str) -> Scored:
    given = row.values
    judge, value = given.get("judge") or UNNAMED, given.get("value", "").strip()
    construct = given.get("construct") or None
    if construct is not None and construct not in [c.value for c in Construct]:
        known = ", ".join(c.value for c in Construct)
        raise DataError(f"{where}: the construct is {construct!r}", f"write one of {known}")
    repeat = _whole(given.get("judge_repeat", "").strip() or "0", "judge_repeat", where)
    status, reason = given.get("status", ""), given.get("reason", "")
    if value and status not in ("", JudgmentStatus.OK):
        raise DataError(
            f"{where}: the status is {status!r} beside the value {value}",
            f"write ok, or {', '.join(sorted(NO_VALUE))} where there is no value",
        )
    try:
        found = scored(judge, float(value or "nan"))
    except ValueError as error:
        raise DataError(f"{where}: the value is {value!r}", "write a number, or leave it empty") from error
    if not value:
        return Scored(judge, None, status or MISSING, reason, construct, repeat)
    return Scored(judge, found.value, found.status, reason or found.reason, construct, repeat)


def _whole(text: str, column: str, where: str) -> int:
    """A whole number of 64 bits, as `aftertune analyze` reads it: no digit of a large one is lost."""
    number: int | None = None
    with suppress(InvalidOperation, ValueError):
        # 1.0 is how other tools write an integer column that has holes; beyond 2^53 a float has lost digits.
        exact = Decimal(text.strip())
        plain = _DIGITS.fullmatch(text.strip()) is not None
        if plain or (exact.is_finite() and abs(exact) < 2**53 and exact == int(exact)):
            number = int(exact)
    if number is None:
        raise DataError(
            f"{where}: the {column} is {text[:80]!r}",
            "write a whole number (from 2^53 on without a point or exponent: such a number has lost digits)",
        )
    if not -MOST - 1 <= number <= MOST:
        raise DataError(
            f"{where}: the {column} {text[:80]} needs more than 64 bits with a sign",
            f"number the {column}s in a column of smaller numbers, 1, 2, 3, …",
        )
    return number
