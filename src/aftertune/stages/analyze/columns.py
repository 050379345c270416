"""Which column is which: a table from elsewhere may call them anything, and no column is lost in silence."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from aftertune.errors import DataError, nearest
from aftertune.records import OBSERVATION_COLUMNS
from aftertune.records.analysis import Warning

REQUIRED = ("model", "item", "value")
PROMPT = "prompt"  # read only to find items with the same text
KNOWN = (*OBSERVATION_COLUMNS, PROMPT)
_NEAR = 0.8  # difflib's ratio: one letter too many or too few in a word of four to eight


@dataclass(frozen=True, slots=True)
class TableSpec:
    """How a table of observations is to be read; every default is what an observations file of a run needs.

    Args:
        columns: our name of a column -> the table's, for instance {"repeat": "decode_seed"}.
        base: the model that the others are compared with; by default the one named "base".
        intent: of the items, harmful or benign, where the table does not say; by default harmful.
        construct: what the values judge, where the table does not say; by default harmful.
    """

    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    base: str | None = None
    intent: str | None = None
    construct: str | None = None


def renamed(frame: pl.DataFrame, spec: TableSpec, source: str) -> tuple[pl.DataFrame, list[Warning]]:
    """The frame under our names, without columns that we do not know; those are named in one warning.

    Raises:
        DataError: a mapping leads nowhere or twice to one column, model, item or value is missing, or a
            column looks like a misspelt one of ours.
    """
    _check_mapping(frame, spec, source)
    shadowed = [name for name in spec.columns if name in frame.columns and spec.columns[name] != name]
    shadowed = [name for name in shadowed if name not in spec.columns.values()]
    frame = frame.drop(shadowed).rename({theirs: ours for ours, theirs in spec.columns.items()})
    unknown = [name for name in frame.columns if name not in KNOWN]
    _require(frame, unknown, source)
    _refuse_misspelt(frame, unknown, source)
    ignored = [*unknown, *shadowed]
    warnings: list[Warning] = []
    if ignored:
        text = f"the table's columns {', '.join(ignored)} were not used"
        remedy = "if one of them is a seed, a repeat, a task or a judge, say so: --column seed=NAME"
        warnings.append(Warning(code="columns_ignored", text=text, remedy=remedy))
    return frame.drop(unknown), warnings


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
        f"it has {', '.join(frame.columns)}",
        "; ".join(hints) + ", or say which column it is: --column NAME=COLUMN",
    )


def _refuse_misspelt(frame: pl.DataFrame, unknown: list[str], source: str) -> None:
    """`seeed` beside no `seed`: to ignore it would take all its runs for one."""
    absent = [name for name in KNOWN if name not in frame.columns]
    for name in unknown:
        close = difflib.get_close_matches(name.strip().lower(), absent, n=1, cutoff=_NEAR)
        if close:
            raise DataError(
                f"{source} has a column {name!r} and none called {close[0]!r}",
                f"if that is what it is, write --column {close[0]}={name} or rename it; "
                "if not, give it a name that is less like it",
            )
