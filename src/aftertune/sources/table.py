"""A table of text from CSV, JSONL, a JSON list or Parquet, with the line of each row, for messages."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aftertune.errors import DataError
from aftertune.sources.parquet import read_parquet

FORMATS = ("csv", "jsonl", "json", "parquet")
_SAVE_AGAIN = "write the row again, or save the table anew from the program it came from"


@dataclass(frozen=True, slots=True)
class Row:
    """One row; `line` counts from 1 in the file (in a JSON list and in Parquet it is the row's number)."""

    line: int
    values: dict[str, str]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows in the file's order; `columns` are those that occur in any row, in order of appearance."""

    source: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_table(content: bytes, source: str) -> Table:
    """Read a table; `source` names it in errors, and its ending says the format.

    A byte order mark is dropped. Numbers, truth values and lists become the text that JSON writes for them; a
    null is an absent value.

    Raises:
        DataError: another format, no UTF-8, a malformed row; with the line and what to do.
    """
    suffix = Path(source).suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        raise DataError(
            f"{source}: a task is read from CSV, JSONL, JSON or Parquet, got the ending {suffix!r}",
            "save the table as .csv (with commas and a header), .jsonl, .json or .parquet",
        )
    if suffix == "parquet":
        return _table(source, tuple(_parquet_rows(content, source)))
    text = utf8_text(content, source)
    reader = {"csv": _csv_rows, "jsonl": _jsonl_rows, "json": _json_rows}[suffix]
    return _table(source, tuple(reader(text, source)))


def utf8_text(content: bytes, source: str) -> str:
    """The text of a file, without a byte order mark.

    Raises:
        DataError: it is no UTF-8; `source` names it.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{source} is not UTF-8 text: {error.reason} at byte {error.start}", "save it as UTF-8"
        ) from error


def filled_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, each with its number from 1."""
    # Not splitlines(): it also cuts at U+2028 and the like, which may stand inside a JSON string.
    return ((at, line) for at, line in enumerate(text.split("\n"), start=1) if line.strip())


def _table(source: str, rows: tuple[Row, ...]) -> Table:
    columns = tuple(dict.fromkeys(column for row in rows for column in row.values))
    return Table(source, columns, rows)


def _csv_rows(text: str, source: str) -> Iterator[Row]:
    # newline="" leaves line ends inside quotes to the csv module.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    begins = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{source}, line {begins}: not CSV: {error}", _SAVE_AGAIN) from error
        if cells is None:
            return
        if header is None and cells:
            header = _header(cells, source)
        elif header is not None and cells:
            if len(cells) != len(header):
                raise DataError(
                    f"{source}, line {begins}: {len(cells)} cells under {len(header)} columns",
                    "quote a cell that holds a comma, and write every cell, empty ones too",
                )
            yield Row(begins, dict(zip(header, cells, strict=True)))
        begins = reader.line_num + 1


def _header(cells: list[str], source: str) -> list[str]:
    twins = sorted({cell for cell in cells if cells.count(cell) > 1})
    if twins:
        raise DataError(
            f"{source}: the header has the column {twins[0]!r} more than once",
            "give each column its own name",
        )
    return cells


def _jsonl_rows(text: str, source: str) -> Iterator[Row]:
    for number, line in filled_lines(text):
        yield _json_row(_parse(line, f"{source}, line {number}"), number, f"{source}, line {number}")


def _json_rows(text: str, source: str) -> Iterator[Row]:
    content = _parse(text, source)
    if not isinstance(content, list):
        raise DataError(
            f"{source}: expected a list of rows, got {type(content).__name__}", 'write [{"prompt": …}, …]'
        )
    for number, row in enumerate(content, start=1):
        yield _json_row(row, number, f"{source}, row {number}")


def _parquet_rows(content: bytes, source: str) -> Iterator[Row]:
    for number, row in enumerate(read_parquet(content, source).iter_rows(named=True), start=1):
        yield _json_row(row, number, f"{source}, row {number}")


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON: {error}", _SAVE_AGAIN) from error


def _json_row(row: Any, number: int, where: str) -> Row:
    if not isinstance(row, dict):
        raise DataError(
            f"{where}: expected columns and values, got {json.dumps(row)[:80]}", 'write {"prompt": "…"}'
        )
    return Row(number, {key: _text(value, key, where) for key, value in row.items() if value is not None})


def _text(value: Any, key: str, where: str) -> str:
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False, default=str)  # Parquet also has dates and bytes
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: {key!r} holds half of a surrogate pair at character {error.start}", _SAVE_AGAIN
        ) from error
    return value
