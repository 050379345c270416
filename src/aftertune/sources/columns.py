"""Which column is which: a table from elsewhere may call them anything, and no column is lost in silence."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from aftertune.errors import DataError, nearest
from aftertune.records import OBSERVATION_COLUMNS, Construct, Intent
from aftertune.records.analysis import Warning
from aftertune.sources.cell_values import in_our_spelling

REQUIRED = ("model", "item", "value")
UNNAMED = "unnamed"  # a task, judge, decoding or category of which the table has no column
PROMPT, TEXT = "prompt", "text"  # of the item and of the response; no statistic is made of them
KNOWN = (*OBSERVATION_COLUMNS, PROMPT, TEXT)
# What other tools call the two, the surest name first.
_PROMPTS = (PROMPT, "question", "request", "query", "instruction")
_TEXTS = (TEXT, "response", "completion", "output", "generation", "answer")
# Columns that tell apart what is otherwise one response, or one judge's judgment of it.
_CELL = ("model", "seed", "checkpoint", "task", "item", "decoding", "variation", "judge", "construct")
_APART = {*_CELL, "repeat", "judge_repeat"} - {*REQUIRED, "construct"}
_MEANINGS = {"intent": {i.value for i in Intent}, "construct": {c.value for c in Construct}}
_NEAR = 0.8  # difflib's ratio: one letter too many or too few in a word of four to eight


@dataclass(frozen=True, slots=True)
class TableSpec:
    """How a table of observations is to be read; every default is what an observations file of a run needs.

    Args:
        columns: our name of a column -> the table's, for instance {"repeat": "decode_seed"}.
        base: the model that the others are compared with; by default the one named "base".
        intent: of the items, harmful or benign, where the table does not say; by default harmful.
        construct: what the values judge, where the table does not say; by default harmful.
        ignore: columns of the table that are left out, and not named among those that were not used.
    """

    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    base: str | None = None
    intent: str | None = None
    construct: str | None = None
    ignore: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Renamed:
    """A table under our names and in our spelling; `unused` are its other columns, under its own."""

    frame: pl.DataFrame
    unused: pl.DataFrame
    warnings: list[Warning]


def renamed(frame: pl.DataFrame, spec: TableSpec, source: str) -> Renamed:
    """The table under our names; the columns that were not used are named in one warning.

    Raises:
        DataError: a mapping or `ignore` names a column that is not there, or one twice; model, item or value
            is missing; or a misspelt column is needed to read the others (see `_refuse_needed`).
    """
    spec = _as_written(frame, spec)
    _check_mapping(frame, spec, source)
    frame = frame.drop(spec.ignore)
    frame = frame.rename(_capitalised(frame.columns, spec))
    spec = _with_texts(frame, spec)
    shadowed = [name for name in spec.columns if name in frame.columns and spec.columns[name] != name]
    shadowed = [name for name in shadowed if name not in spec.columns.values()]
    ours = frame.drop(shadowed).rename({theirs: ours for ours, theirs in spec.columns.items()})
    unknown = [name for name in ours.columns if name not in KNOWN]
    _require(ours, unknown, source)
    near = _near_misses(ours, unknown)
    _refuse_needed(ours, near, source)
    unused = frame.select(*unknown, *shadowed)
    warnings = [_unused(unused.columns, near)] if unused.columns else []
    return Renamed(in_our_spelling(ours.drop(unknown)), unused, warnings)


def _as_written(frame: pl.DataFrame, spec: TableSpec) -> TableSpec:
    """The options with the table's spelling of the columns they name, as `--ignore status` of Status."""

    def found(name: str) -> str:
        alike = [column for column in frame.columns if our_name(column) == our_name(name)]
        return alike[0] if name not in frame.columns and len(alike) == 1 else name

    columns = {ours: found(theirs) for ours, theirs in spec.columns.items()}
    return replace(spec, columns=columns, ignore=[found(name) for name in spec.ignore])


def our_name(column: str) -> str:
    """A column's name without what tells no two of ours apart: capital letters and white space around it."""
    return column.strip().lower()


def _capitalised(columns: Sequence[str], spec: TableSpec) -> dict[str, str]:
    """The columns called `Model` or `ITEM` -> our name, where the table has no other so called."""
    free = {name: our_name(name) for name in columns if name not in spec.columns.values()}
    taken = {*columns, *spec.columns}
    found = {theirs: ours for theirs, ours in free.items() if ours in KNOWN and ours not in taken}
    return {theirs: ours for theirs, ours in found.items() if [*free.values()].count(ours) == 1}


def _with_texts(frame: pl.DataFrame, spec: TableSpec) -> TableSpec:
    """The mapping with the columns that hold the items' and the responses' texts, where the names say so."""
    columns = dict(spec.columns)
    names = [name for name in frame.columns if name not in columns.values()]
    free = {our_name(name): name for name in names} | {name: name for name in names}
    for ours, known in ((PROMPT, _PROMPTS), (TEXT, _TEXTS)):
        theirs = next((free[name] for name in known if name in free), None)
        # A question that is not the same in all rows of an item is something else than the item's prompt.
        doubtful = ours == PROMPT and theirs is not None and theirs != PROMPT
        if theirs is not None and ours not in columns and not (doubtful and _varies(frame, theirs, columns)):
            columns[ours] = theirs
    return replace(spec, columns=columns)


def _varies(frame: pl.DataFrame, name: str, columns: Mapping[str, str]) -> bool:
    key = [found for ours in ("task", "item") if (found := columns.get(ours, ours)) in frame.columns]
    return bool(key) and frame.select(key).n_unique() < frame.select(*key, name).n_unique()


def _check_mapping(frame: pl.DataFrame, spec: TableSpec, source: str) -> None:
    for ours, theirs in spec.columns.items():
        if ours not in KNOWN:
            raise DataError(f"there is no column called {ours!r} to map {theirs!r} to", nearest(ours, KNOWN))
        if theirs not in frame.columns:
            raise DataError(
                f"{source} has no column {theirs!r}, which was to be read as {ours!r}",
                nearest(theirs, frame.columns),
            )
    taken = list(spec.columns.values())
    for theirs in taken:
        if taken.count(theirs) > 1:
            both = " and ".join(ours for ours, name in spec.columns.items() if name == theirs)
            raise DataError(
                f"the column {theirs!r} was to be read as {both}", "a column has one meaning: choose one"
            )
    for name in spec.ignore:
        if name not in frame.columns:
            raise DataError(
                f"{source} has no column {name!r}, which was to be ignored", nearest(name, frame.columns)
            )
        if name in taken:
            raise DataError(f"the column {name!r} was to be read and to be ignored", "choose one")


def _require(frame: pl.DataFrame, unknown: list[str], source: str) -> None:
    missing = [name for name in REQUIRED if name not in frame.columns]
    if not missing:
        return
    hints: list[str] = []
    for name in missing:
        close = difflib.get_close_matches(name, unknown, n=1, cutoff=0.5)
        hints.append(f"rename {close[0]!r} to {name!r}" if close else f"add {name!r}")
    raise DataError(
        f"{source} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; "
        f"it has {_named(frame.columns)}",
        "; ".join(hints) + ", or say which column it is: --column NAME=COLUMN",
    )


def _near_misses(frame: pl.DataFrame, unknown: list[str]) -> dict[str, str]:
    """The unknown columns whose name is close to one of ours that the table lacks -> that name."""
    absent = [name for name in KNOWN if name not in frame.columns]
    found = {name: difflib.get_close_matches(our_name(name), absent, n=1, cutoff=_NEAR) for name in unknown}
    return {name: close[0] for name, close in found.items() if close}


def _refuse_needed(frame: pl.DataFrame, near: dict[str, str], source: str) -> None:
    """Refuse `seeed` beside no `seed` where ignoring it would change the numbers.

    It does where the column tells apart rows that would else count as repeats or copies of one response, or
    where it holds nothing but the words of an intent or a construct.
    """
    for theirs, ours in near.items():
        if frame[theirs].dtype.is_nested():
            continue
        if _holds_meanings(frame[theirs], ours) or (ours in _APART and _tells_apart(frame, theirs, ours)):
            raise DataError(
                f"{source} has a column {theirs!r} and none called {ours!r}",
                f"if that is what it is, write --column {ours}={theirs} or rename it; "
                f"if not, write --ignore {theirs}",
            )


def _holds_meanings(column: pl.Series, ours: str) -> bool:
    words = (
        column.cast(pl.String).str.strip_chars().str.to_lowercase().replace("", None).drop_nulls().unique()
    )
    return len(words) > 0 and set(words) <= _MEANINGS.get(ours, set())


def _tells_apart(frame: pl.DataFrame, theirs: str, ours: str) -> bool:
    key = [name for name in (*_CELL, *["repeat"] * (ours == "judge_repeat")) if name in frame.columns]
    return frame.select(key).n_unique() < frame.select(*key, theirs).n_unique()


def _unused(names: Sequence[str], near: dict[str, str]) -> Warning:
    alike = "".join(f"; {theirs!r} is not read as {ours!r}" for theirs, ours in near.items())
    return Warning(
        code="columns_ignored",
        text=f"the table's columns {_named(names)} were not used{alike}",
        remedy="if one of them is a seed, a repeat, a task or a judge, say so: --column seed=NAME; "
        "--ignore NAME leaves one out",
    )


def _named(names: Sequence[str]) -> str:
    """The names; one without letters, such as pandas gives its index, in quotes."""
    return ", ".join(name if name.strip() else repr(name) for name in names)
