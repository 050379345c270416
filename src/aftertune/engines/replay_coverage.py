"""What of a study's responses a table of recorded ones holds, found before anything is run."""

from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from aftertune.errors import DataError
from aftertune.records import Checkpoint, Task
from aftertune.study import Decoding

_SHOWN = 6  # names of a list
_KEY = ("model", "task", "item", "decoding", "repeat")


def coverage(
    source: str,
    known: Mapping[str, pl.DataFrame],
    checkpoints: Sequence[Checkpoint],
    tasks: Sequence[Task],
    decodings: Mapping[str, Decoding],
) -> tuple[str, ...]:
    """Compare what a study asks for with what a table holds.

    Args:
        source: the table's path, for messages.
        known: its rows by model; a row whose decoding is null is of every decoding.
        checkpoints: of the study, each with a model of the table as `served`.
        tasks: of the study.
        decodings: of the study, by name.

    Returns:
        In words, what the study does not ask for, and how many single responses are not there.

    Raises:
        DataError: a task, an item, a decoding or a repeat is asked for that the table does not have.
    """
    asked = _asked(checkpoints, tasks, decodings)
    names = asked["model"].unique().to_list()
    held = pl.concat(
        known[name].select("task", "item", "decoding", "repeat").with_columns(model=pl.lit(name))
        for name in names
    )
    _require(source, asked, held, "task", by=["model"])
    _require(source, asked, held, "item", by=["task"])
    _require(source, asked, held, "decoding", by=["model", "task"])
    drawn = _of_every_decoding(held, decodings)
    of_items = drawn.join(asked.select("task", "item").unique(), on=["task", "item"], how="semi")
    _require(source, asked, of_items, "repeat", by=["model", "task", "decoding"])
    absent = asked.join(drawn, on=_KEY, how="anti").height
    spare = {"model": set(known) - set(names)}
    spare |= {name: _values(held, name) - _values(asked, name) for name in _KEY[1:]}
    more = ", ".join(f"{name}s {listed(found)}" for name, found in spare.items() if found)
    notes = {
        f"{absent:,} of {asked.height:,} responses are not in the table and will have failed": absent,
        f"the study does not ask for {more} of the table": more,
    }
    return tuple(note for note, true in notes.items() if true)


def listed(names: Iterable[object]) -> str:
    """The names in their order, of many the first ones and how many more."""
    found = sorted(names, key=str)
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(map(str, found[:_SHOWN])) + more


def _asked(
    checkpoints: Sequence[Checkpoint], tasks: Sequence[Task], decodings: Mapping[str, Decoding]
) -> pl.DataFrame:
    """A row for each response of the study."""
    items = pl.DataFrame(
        [(task.name, item.id) for task in tasks for item in task.items],
        schema={"task": pl.String, "item": pl.String},
        orient="row",
    )
    draws = pl.DataFrame(
        [
            (str(checkpoint.served), name, repeat)
            for checkpoint in checkpoints
            for name, decoding in decodings.items()
            for repeat in range(1, decoding.repeats_of(checkpoint.label) + 1)
        ],
        schema={"model": pl.String, "decoding": pl.String, "repeat": pl.Int64},
        orient="row",
    )
    return draws.join(items, how="cross").unique()


def _of_every_decoding(held: pl.DataFrame, decodings: Iterable[str]) -> pl.DataFrame:
    names = pl.DataFrame({"decoding": list(decodings)}, schema={"decoding": pl.String})
    every = held.filter(pl.col("decoding").is_null()).drop("decoding").join(names, how="cross")
    return pl.concat([held.filter(pl.col("decoding").is_not_null()), every.select(held.columns)])


def _require(source: str, asked: pl.DataFrame, held: pl.DataFrame, column: str, *, by: list[str]) -> None:
    """Refuse a value of a column that the study asks for and the table does not have in the same place."""
    if column == "decoding":
        held = _of_every_decoding(held, asked["decoding"].unique())
    absent = asked.select(*by, column).unique().join(held, on=[*by, column], how="anti")
    if absent.is_empty():
        return
    place = absent.sort(*by, column).row(0, named=True)
    there = pl.all_horizontal(pl.col(name) == place[name] for name in by)
    where = ", ".join(f"{name} {place[name]!r}" for name in by)
    raise DataError(
        f"{source} has no {column} {listed(_values(absent.filter(there), column))} of {where}; "
        f"it has {listed(_values(held.filter(there), column)) or 'none'}, "
        f"the study asks for {listed(_values(asked.filter(there), column))}",
        f"name in the study the {column}s that the table holds, or rename them there; "
        "repeats count from 1, and a row without a text is a response that failed",
    )


def _values(frame: pl.DataFrame, column: str) -> set[object]:
    return set(frame[column].drop_nulls().unique())
