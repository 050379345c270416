"""A table of text from CSV, JSONL, a JSON list or Parquet, with the line of each row, for messages."""

import csv
import io
import json
import re
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from aftertune.errors import DataError
from aftertune.sources.parquet import read_parquet

FORMATS = ("csv", "jsonl", "json", "parquet")
# An agent's transcript has megabytes; a longer one is a quote that is never closed.
MAX_CELL = 1 << 26  # characters
_SEPARATORS = (",", ";", "\t")  # spreadsheets write the second where the comma is the decimal mark
_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_SAVE_AGAIN = "write the row again, or save the table again from the program it came from"
_SEPARATOR_LINE = re.compile(r'"?sep=([,;\t|])"?\r?\n')
_QUOTED = re.compile(r'"[^"]*"')
_csv_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Row:
    """One row; `line` counts from 1 in the file (in a JSON list and in Parquet it is the row's number)."""

    line: int
    values: dict[str, str]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows in the file's order; `columns` are those that occur in any row, in order of appearance.

    `escaped` are the lines in which half a surrogate pair was escaped, `faults` those that were left out and
    why; both only where the reader allowed it.
    """

    source: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    escaped: tuple[int, ...] = ()
    faults: tuple[tuple[int, str], ...] = ()


def read_table(content: bytes, source: str, *, escape: bool = False, spreadsheet: bool = False) -> Table:
    """Read a table; `source` names it in errors, and its ending says the format.

    A byte order mark is dropped. A CSV has commas, or semicolons or tabs where its header has no comma, and
    cells of at most 2^26 characters. Numbers, truth values and lists become the text that JSON writes for
    them; a null is an absent value.

    Args:
        content: the file's bytes.
        source: its name.
        escape: whether half of a surrogate pair is kept, as its escape in JSON; by default it is an error.
        spreadsheet: whether people saved it from one: the last cells of a CSV row that is too short are empty
            (Excel leaves out the separators before them), and a row that is too long is a fault of the table.

    Raises:
        DataError: another format, no UTF-8, a malformed row; with the line and what to do.
    """
    suffix = Path(source).suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        raise DataError(
            f"{source}: a task is read from CSV, JSONL, JSON or Parquet, got the ending {suffix!r}",
            "save the table as .csv (with commas and a header), .jsonl, .json or .parquet",
        )
    faults: list[tuple[int, str]] = []
    if suffix == "parquet":
        rows = tuple(_parquet_rows(content, source))
    else:
        text = utf8_text(content, source, escape=escape)
        if suffix == "csv":
            with _long_cells():
                rows = tuple(_csv_rows(text, source, faults if spreadsheet else None))
        else:
            rows = tuple((_jsonl_rows if suffix == "jsonl" else _json_rows)(text, source))
    place = "row" if suffix in ("json", "parquet") else "line"
    escaped = _escaped(rows) if escape else _refuse_halves(rows, source, place)
    columns = tuple(dict.fromkeys(column for row in rows for column in row.values))
    return Table(source, columns, rows, escaped, tuple(faults))


def utf8_text(content: bytes, source: str, *, escape: bool = False) -> str:
    """The text of a file, without a byte order mark; with `escape` it may hold halves of surrogate pairs.

    Raises:
        DataError: it is no UTF-8; `source` names it.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if escape:
            try:
                halves = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogatepass")
                # Where both halves stand side by side they are one character.
                return halves.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
            except UnicodeDecodeError:
                pass
        raise DataError(
            f"{source} is not UTF-8 text: {error.reason} at byte {error.start}",
            "save it as UTF-8 (in Excel: CSV UTF-8)",
        ) from error


def without_halves(text: str) -> str:
    """The text with each half of a surrogate pair escaped: no file, table or page can hold one."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def filled_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, each with its number from 1."""
    # Not splitlines(): it also cuts at U+2028 and the like, which may stand inside a JSON string.
    return ((at, line) for at, line in enumerate(text.split("\n"), start=1) if line.strip())


@contextmanager
def _long_cells() -> Generator[None]:
    """Longer cells than the csv module reads by itself, while this lasts.

    Its limit is the process's: it is put back, and the lock keeps two threads of ours from putting it back
    under each other. Another reader can meanwhile read longer cells than it would, which loses nothing.
    """
    with _csv_lock:
        before = csv.field_size_limit(MAX_CELL)
        try:
            yield
        finally:
            csv.field_size_limit(before)


def csv_separator(text: str) -> str:
    """What separates the cells of a CSV: a comma, or what its header has where it has no comma.

    Excel can also name it in a first line, `sep=;`.
    """
    said = _SEPARATOR_LINE.match(text)
    if said:
        return said[1]
    header = _QUOTED.sub("", text.lstrip("\r\n").split("\n", 1)[0])
    return next((separator for separator in _SEPARATORS if separator in header), ",")


def names_separator(text: str) -> bool:
    """Whether the first line of a CSV says what separates its cells, and is no header."""
    return _SEPARATOR_LINE.match(text) is not None


def csv_header(text: str) -> list[str]:
    """The names in a CSV's header, in order, as far as the beginning of its text tells."""
    lines = _SEPARATOR_LINE.sub("", text, count=1).lstrip("\r\n")
    try:
        return next(csv.reader(io.StringIO(lines, newline=""), delimiter=csv_separator(text)), [])
    except csv.Error:
        return []


def csv_columns(beginning: bytes) -> set[str]:
    """The columns in a CSV's header, as far as its first bytes tell."""
    return {cell.strip() for cell in csv_header(beginning.decode("utf-8-sig", "replace"))}


def refuse_twins(header: list[str], source: str) -> None:
    """Refuse a header with one name twice; columns without a name, as spreadsheets add them, are not read.

    Raises:
        DataError: which name is there twice.
    """
    twins = sorted({cell for cell in header if cell.strip() and header.count(cell) > 1})
    if twins:
        raise DataError(
            f"{source}: the header has the column {twins[0]!r} more than once",
            "give each column its own name",
        )


def _escaped(rows: tuple[Row, ...]) -> tuple[int, ...]:
    """Escape halves of surrogate pairs in the rows, and say in which."""
    found: list[int] = []
    for row in rows:
        changed = {without_halves(key): without_halves(value) for key, value in row.values.items()}
        if changed != row.values:
            row.values.clear()
            row.values.update(changed)
            found.append(row.line)
    return tuple(found)


def _refuse_halves(rows: tuple[Row, ...], source: str, place: str) -> tuple[int, ...]:
    for row in rows:
        for key, value in row.values.items():
            if without_halves(value) != value or without_halves(key) != key:
                raise DataError(
                    f"{source}, {place} {row.line}: {without_halves(key)!r} holds half of a surrogate pair: "
                    f"{without_halves(value)[:80]!r}",
                    _SAVE_AGAIN,
                )
    return ()


def _csv_rows(text: str, source: str, faults: list[tuple[int, str]] | None) -> Iterator[Row]:
    separator = csv_separator(text)
    # newline="" leaves line ends inside quotes to the csv module.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
    header: list[str] | None = None
    begins = 1
    if _SEPARATOR_LINE.match(text):
        next(reader)
        begins = 2
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            said, remedy = str(error), _SAVE_AGAIN
            if "field limit" in said:
                said = f"a cell of more than {MAX_CELL:,} characters"
                remedy = "close its quotes, or cut it: longer ones are not read"
            raise DataError(f"{source}, line {begins}: not CSV: {said}", remedy) from error
        if cells is None:
            return
        if header is None and cells:
            refuse_twins(cells, source)
            header = cells
        elif header is not None and cells:
            row = _csv_row(cells, header, begins, spreadsheet=faults is not None)
            if isinstance(row, Row):
                yield row
            elif faults is not None:
                faults.append((begins, row))
            else:
                raise DataError(
                    f"{source}, line {begins}: {row}",
                    f"quote a cell that holds a {_NAMES[separator]}, and write every cell, empty ones too",
                )
        begins = reader.line_num + 1


def _csv_row(cells: list[str], header: list[str], line: int, *, spreadsheet: bool) -> Row | str:
    """The row, or what is wrong with it."""
    if spreadsheet:
        while len(cells) > len(header) and not cells[-1]:
            cells = cells[:-1]
        cells = cells + [""] * (len(header) - len(cells))
    elif len(cells) < len(header):
        return f"{len(cells)} cells under {len(header)} columns"
    if len(cells) > len(header):
        return f"{len(cells)} cells under {len(header)} columns"
    return Row(line, dict(zip(header, cells, strict=True)))


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
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):  # how some writers of Parquet save text
        try:
            return value.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{where}: {key!r} holds bytes, not text", "save it as a column of text"
            ) from error
    if isinstance(value, Decimal | date | time):  # of Parquet
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str)
