"""The table of observations: reading it, and refusing what would be misread."""

import codecs
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl

from aftertune.analysis.warnings import assumed_meaning, constant_seed, numbered_repeats, same_text
from aftertune.errors import DataError, nearest
from aftertune.records import OBSERVATION_COLUMNS, Construct, Intent
from aftertune.records.analysis import Warning
from aftertune.sources import read_parquet
from aftertune.sources.cell_values import NO_VALUE
from aftertune.sources.columns import PROMPT, TEXT, UNNAMED, TableSpec, renamed
from aftertune.sources.table import csv_header, csv_separator, names_separator, refuse_twins

BASE = "base"  # the base's name where nobody gives another
# What a table from elsewhere means where it does not say.
_DEFAULTS: dict[str, str | int | None] = {
    "study": UNNAMED,
    "seed": None,
    "checkpoint": None,
    "task": UNNAMED,
    "category": UNNAMED,
    "intent": Intent.HARMFUL.value,
    "decoding": UNNAMED,
    "repeat": 0,
    "variation": "",
    "judge": UNNAMED,
    "judge_repeat": 0,
    "construct": Construct.HARMFUL.value,
    "status": None,
    "reason": "",
    "finish": None,
    "response_key": None,
}
_PEEK = 1 << 16  # bytes of a CSV that hold its header
_INTEGERS = ("seed", "repeat", "judge_repeat")
# Those with few different values; `reason` and `response_key` have many and are never grouped by.
_NAMES = (
    "study", "model", "checkpoint", "task", "item", "category", "intent", "decoding", "variation", "judge",
    "construct", "status", "finish",
)  # fmt: skip
_DRAW = (
    "model",
    "seed",
    "checkpoint",
    "task",
    "item",
    "decoding",
    "variation",
    "repeat",
    "judge",
    "construct",
)


@dataclass(frozen=True, eq=False)
class Observations:
    """A checked table with all columns of the contract, and what was noticed while reading it.

    `base` is the name of the base among its models, None where it has none; `texts` are the responses' texts,
    a row each, None where the table holds none.
    """

    frame: pl.DataFrame
    base: str | None
    warnings: tuple[Warning, ...]
    texts: pl.Series | None = None


def read_observations(path: Path, spec: TableSpec | None = None) -> pl.DataFrame:
    """Read observations from Parquet or CSV and check them; columns that the table lacks get their defaults.

    Raises:
        DataError: for a file that cannot be read, is empty or lacks a column, text in a number column, a
            value outside [0, 1], an unknown intent or construct, or two rows of one cell.
    """
    return normalise_table(read_table(path), spec, source=str(path)).frame


def read_table(path: Path, *, without: Collection[str] = ()) -> pl.DataFrame:
    """A Parquet or CSV file as it is; CSV columns are text. Of Parquet some columns can be left out.

    Raises:
        DataError: the file cannot be read, is empty or is no table.
    """
    readers = {".parquet": partial(_read_parquet, without=without), ".csv": _read_csv, ".tsv": _read_csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"cannot tell the format of {path} from its ending {path.suffix!r}", "use .parquet, .csv or .tsv"
        )
    try:
        return reader(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}", "give the path of a Parquet or CSV file") from error
    except pl.exceptions.NoDataError as error:
        raise DataError(f"{path} is empty", "write a header and at least one row") from error
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} is not a table: {error}", "write it as Parquet or UTF-8 CSV with a header"
        ) from error


def normalise_table(
    frame: pl.DataFrame, spec: TableSpec | None = None, *, source: str = "the observations"
) -> Observations:
    """The frame under our names, with all columns of the contract, right types and nothing ambiguous.

    Raises:
        DataError: see `read_observations`.
    """
    spec = spec or TableSpec()
    named = renamed(frame, spec, source)
    frame, warnings = named.frame, named.warnings
    if frame.is_empty():
        raise DataError(f"{source} has no rows", "give at least one observation")
    warnings += assumed_meaning([name for name in ("construct", "intent") if _is_silent(frame, spec, name)])
    frame = _typed(frame, spec, source)
    _check_words(frame, "intent", [x.value for x in Intent], source, given=spec.intent)
    _check_words(frame, "construct", [x.value for x in Construct], source, given=spec.construct)
    _check_status(frame, source)
    _check_one_each(frame, "intent", ["task"], source)
    in_category = frame.select("task", "item", "category").filter(pl.col("category") != UNNAMED)
    _check_one_each(in_category, "category", ["task", "item"], source)
    warnings += constant_seed(frame)
    if PROMPT in frame.columns:
        prompts = frame.select("task", "item", _words(frame, PROMPT, source))
        warnings += same_text(prompts.unique())
    texts = _texts(frame)
    frame = _coded(frame.select(list(OBSERVATION_COLUMNS)))
    _check_duplicates(frame, source, unused=named.unused)
    frame, renumbered = numbered_repeats(frame)
    return Observations(frame, _base(frame, spec, source), (*warnings, *renumbered), texts)


def _is_silent(frame: pl.DataFrame, spec: TableSpec, name: str) -> bool:
    """Whether nothing says what a word is in all or some of the rows."""
    return getattr(spec, name) is None and (name not in frame.columns or frame[name].has_nulls())


def _texts(frame: pl.DataFrame) -> pl.Series | None:
    words = TEXT in frame.columns and isinstance(frame[TEXT].dtype, pl.String | pl.Categorical | pl.Enum)
    return frame[TEXT].cast(pl.String) if words else None


def _base(frame: pl.DataFrame, spec: TableSpec, source: str) -> str | None:
    models = frame["model"].unique().cast(pl.String).sort().to_list()
    if spec.base is None:
        return BASE if BASE in models else None
    if spec.base not in models:
        raise DataError(
            f"{source} has no model {spec.base!r}, which was to be the base", nearest(spec.base, models)
        )
    return spec.base


def _typed(frame: pl.DataFrame, spec: TableSpec, source: str) -> pl.DataFrame:
    """Numbers as numbers, words as words, and what the table does not say filled in."""
    for name in _INTEGERS:
        if name in frame.columns:
            frame = frame.with_columns(_numbers(frame, name, pl.Int64, source))
    frame = frame.with_columns(_numbers(frame, "value", pl.Float64, source))
    _check_values(frame, source)
    for name, default in (_DEFAULTS | _said(frame, spec, source)).items():
        kind = pl.Int64 if OBSERVATION_COLUMNS[name] is int else pl.String
        if name not in frame.columns:
            frame = frame.with_columns(pl.lit(default, dtype=kind).alias(name))
        elif kind == pl.String:
            frame = frame.with_columns(_words(frame, name, source))
        if default is not None:
            frame = frame.with_columns(pl.col(name).fill_null(default))
    frame = frame.with_columns(_words(frame, "model", source), _words(frame, "item", source))
    for name in ("model", "item"):
        empty = pl.col(name).is_null() | (pl.col(name) == "")
        _refuse(frame, empty, name, source, "an empty name", "name every row")
    return frame.with_columns(_status(), _checkpoint())


def _said(frame: pl.DataFrame, spec: TableSpec, source: str) -> dict[str, str]:
    """The intent and construct that were given beside the table, for the rows that do not say."""
    given = {name: word for name in ("intent", "construct") if (word := getattr(spec, name)) is not None}
    for name, word in given.items():
        if name in frame.columns and not frame[name].has_nulls():
            raise DataError(
                f"{source} has a column {name!r}, and {name} was given as {word!r} beside it",
                f"leave --{name} out: it is for rows that do not say",
            )
    return given


def _words(frame: pl.DataFrame, name: str, source: str) -> pl.Series:
    kind = frame[name].dtype
    if kind == pl.String:
        return frame[name]
    if kind.is_nested() or kind == pl.Binary:
        raise DataError(f"{source}: column {name!r} holds {kind}, not names", "write text or numbers")
    return frame[name] if kind == pl.Categorical else frame[name].cast(pl.String)


def _coded(frame: pl.DataFrame) -> pl.DataFrame:
    """Names as numbers in the order of the alphabet: grouping a million rows by text takes seconds."""
    for name in _NAMES:
        known = frame[name].unique().drop_nulls().cast(pl.String).sort()
        frame = frame.with_columns(pl.col(name).cast(pl.Enum(known)))
    return frame


def _read_parquet(path: Path, *, without: Collection[str]) -> pl.DataFrame:
    return read_parquet(path.read_bytes(), str(path), coded=True, without=without)


def _read_csv(path: Path) -> pl.DataFrame:
    with path.open("rb") as file:
        first = file.read(_PEEK)
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{path} is UTF-16, not UTF-8", "save it as UTF-8 (in Excel: CSV UTF-8)")
    beginning = first.decode("utf-8-sig", "replace")
    # As text, so that a word in a number column is named rather than turned into a null.
    frame = pl.read_csv(
        path,
        infer_schema=False,
        separator=csv_separator(beginning),
        skip_rows=int(names_separator(beginning)),
    )
    refuse_twins(csv_header(beginning), str(path))
    # A blank line, or the empty rows that a spreadsheet saves below a table.
    return frame.filter(pl.any_horizontal(pl.all().str.strip_chars().fill_null("") != ""))


def _numbers(
    frame: pl.DataFrame, name: str, kind: type[pl.Int64] | type[pl.Float64], source: str
) -> pl.Series:
    column = frame[name]
    if column.dtype == pl.Categorical:  # how Parquet's text comes
        column = column.cast(pl.String)
    if column.dtype == pl.String:
        column = column.str.strip_chars().replace("", None)
    elif not (column.dtype.is_numeric() or column.dtype == pl.Boolean or column.dtype == pl.Null):
        raise DataError(
            f"{source}: column {name!r} holds {column.dtype}, not numbers", "write numbers or leave it empty"
        )
    cast = _whole(column) if kind == pl.Int64 else column.cast(pl.Float64, strict=False)
    wrong = cast.is_null() & column.is_not_null()
    if wrong.any():
        row = int(wrong.arg_true()[0])
        what = "whole numbers below 2^63" if kind == pl.Int64 else "numbers"
        raise DataError(
            f"{source}: column {name!r} holds {column[row]!r} in row {row + 1}; it takes {what}",
            "write a number, or leave it empty where there is none",
        )
    return cast.alias(name)


def _whole(column: pl.Series) -> pl.Series:
    """Whole numbers, null where there is none; those of 64 bits, such as hashes, stay as they are."""
    if column.dtype.is_integer() or column.dtype == pl.Boolean or column.dtype == pl.Null:
        return column.cast(pl.Int64, strict=False)
    if column.dtype.is_decimal():  # exact, as integers are
        found = column.cast(pl.Int64, strict=False)
        return found.set(~(found == column).fill_null(False), None)
    # 1.0 is how other tools write an integer column that has holes; beyond 2^53 a float has lost digits.
    number = column.cast(pl.Float64, strict=False)
    whole = (number == number.round()) & (number.abs() < 2**53)
    found = number.set(~whole.fill_null(False), None).cast(pl.Int64)
    if column.dtype != pl.String:
        return found
    exact = column.cast(pl.Int64, strict=False)
    return exact.zip_with(exact.is_not_null(), found)


def _check_values(frame: pl.DataFrame, source: str) -> None:
    outside = ((pl.col("value") < 0) | (pl.col("value") > 1)).fill_null(False)
    _refuse(
        frame, outside, "value", source, "a value outside [0, 1]", "rescale it: 0 is no event, 1 is an event"
    )


def _check_words(frame: pl.DataFrame, name: str, known: list[str], source: str, *, given: str | None) -> None:
    for got in frame[name].unique().sort():
        if got not in known:
            other = "" if got == given else f"; a column of another meaning is left out by --ignore {name}"
            raise DataError(f"{source}: column {name!r} holds {got!r}", nearest(str(got), known) + other)


def _check_status(frame: pl.DataFrame, source: str) -> None:
    both = (pl.col("status") == "ok") != pl.col("value").is_not_null()
    _refuse(
        frame,
        both,
        "status",
        source,
        "another status than ok beside a value",
        f"write ok, or {', '.join(sorted(NO_VALUE))} where there is no value; a column of another meaning: "
        "--ignore status",
    )


def _check_duplicates(frame: pl.DataFrame, source: str, *, unused: pl.DataFrame) -> None:
    key = [name for name in (*_DRAW, "judge_repeat") if frame[name].n_unique() > 1]
    cells = frame.select(key or ["model"])
    if not cells.hash_rows().is_duplicated().any():  # a tenth of the memory
        return
    twins = cells.is_duplicated()
    if twins.any():
        row = frame.row(int(twins.arg_true()[0]), named=True)
        where = ", ".join(
            f"{name}={row[name]!r}" for name in ("model", "seed", "task", "item", "decoding", "repeat")
        )
        raise DataError(
            f"{source}: {int(twins.sum())} rows share their cell with another row, the first is {where}",
            "number independent draws in a column `repeat`, training seeds in `seed`; remove copies"
            + _telling_apart(cells, unused),
        )


def _telling_apart(cells: pl.DataFrame, unused: pl.DataFrame) -> str:
    """A remedy that names the first unused column that leaves no two rows alike; empty without one."""
    plain = [name for name in unused.columns if not unused[name].dtype.is_nested()]
    beside = (cells.with_columns(unused[name].alias("unused")) for name in plain)
    found = [name for name, rows in zip(plain, beside, strict=True) if not rows.is_duplicated().any()]
    if not found:
        return ""
    first = found[0]
    return f". The column {first!r} tells them apart: --column repeat={first} or seed={first}"


def _check_one_each(frame: pl.DataFrame, name: str, by: list[str], source: str) -> None:
    pairs = frame.lazy().select(*by, name).unique().collect(engine="streaming")
    pairs = pairs.cast(dict.fromkeys((*by, name), pl.String))
    several = pairs.group_by(by).agg(pl.col(name).sort()).filter(pl.col(name).list.len() > 1)
    if not several.is_empty():
        first = several.sort(by).row(0, named=True)
        where = ", ".join(f"{key} {first[key]!r}" for key in by)
        raise DataError(
            f"{source}: {where} has more than one {name}: {', '.join(first[name])}",
            f"one {by[-1]} has one {name}: part it into two, under two names, or leave out a {name} of "
            f"another meaning by --ignore {name}",
        )


def _refuse(frame: pl.DataFrame, wrong: pl.Expr, column: str, source: str, what: str, remedy: str) -> None:
    found = frame.select(wrong.alias("wrong"))["wrong"]
    if found.any():
        row = int(found.arg_true()[0])
        got, n = frame[column][row], int(found.sum())
        raise DataError(
            f"{source}: column {column!r} holds {what} in {n} rows, first in row {row + 1}: {got!r}",
            remedy,
        )


def _status() -> pl.Expr:
    given = pl.when(pl.col("value").is_null()).then(pl.lit("missing")).otherwise(pl.lit("ok"))
    return pl.coalesce(pl.col("status"), given).alias("status")


def _checkpoint() -> pl.Expr:
    label = (
        pl.when(pl.col("seed").is_null())
        .then(pl.col("model"))
        .otherwise(pl.col("model") + "/" + pl.col("seed").cast(pl.String))
    )
    return pl.coalesce(pl.col("checkpoint"), label).alias("checkpoint")
