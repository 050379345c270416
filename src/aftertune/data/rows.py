"""The rows of a file of tuning data, as values of JSON, each with its place for messages."""

import json
from collections.abc import Iterator
from typing import Any, cast

from aftertune.data.conversations import shown
from aftertune.errors import DataError
from aftertune.sources import filled_lines, read_parquet, read_table, utf8_text

Rows = Iterator[tuple[str, Any]]  # (file and row in words, the row)


def read_rows(content: bytes, place: str, *, ending: str) -> Rows:
    """The rows of a `.json` list, a `.csv` or `.parquet` table, or (any other ending) of JSON lines.

    Raises:
        DataError: the bytes are not of that format; with the place and what to do.
    """
    if ending == ".parquet":
        return _parquet_rows(content, place)
    text = utf8_text(content, place)
    if ending == ".csv":
        table = read_table(content, place if place.endswith(".csv") else f"{place}.csv")
        return ((f"{place}, line {row.line}", row.values) for row in table.rows)
    return _json_rows(text, place) if ending == ".json" else _jsonl_rows(text, place)


def _parquet_rows(content: bytes, place: str) -> Rows:
    rows = read_parquet(content, place).iter_rows(named=True)
    return ((f"{place}, row {number}", row) for number, row in enumerate(rows, start=1))


def _jsonl_rows(text: str, place: str) -> Rows:
    for number, line in filled_lines(text):
        where = f"{place}, line {number}"
        yield where, _parse(line, where)


def _json_rows(text: str, place: str) -> Rows:
    rows = _parse(text, place)
    if not isinstance(rows, list):
        raise DataError(
            f"{place}: expected one list of rows, got {shown(rows)}",
            "write a list, or one row a line in a .jsonl file",
        )
    for number, row in enumerate(cast(list[Any], rows), start=1):
        yield f"{place}, row {number}", row


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        spot = f"line {error.lineno}, column {error.colno}" if "\n" in text else f"column {error.colno}"
        raise DataError(
            f"{where}: not JSON ({error.msg}, {spot}), got {text[:60]!r}",
            "a .jsonl file has one JSON object a line, a .json file one list",
        ) from error
