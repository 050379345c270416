"""`aftertune analyze`: its options for a table from elsewhere, and what they mean together."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aftertune.errors import DataError

if TYPE_CHECKING:
    from aftertune.analysis import TableSpec
    from aftertune.records.analysis import Analysis
    from aftertune.store import ImportDirectory
    from aftertune.study import AnalysisSpec

_PRIMARY = "metric=compliance_rate,target=population,task=…,decoding=…,judge=…"


@dataclass(frozen=True, slots=True)
class TableOptions:
    """How a table is read and what is asked of it; a run directory's study has fixed all of it."""

    column: Annotated[
        list[str] | None,
        typer.Option("--column", help="NAME=COLUMN: the table's COLUMN is our NAME, as in task=benchmark."),
    ] = None
    seed_column: Annotated[
        str | None, typer.Option("--seed-column", help="The column of the training seed: --column seed=…")
    ] = None
    repeat_column: Annotated[
        str | None,
        typer.Option("--repeat-column", help="The column of the draw or decoding seed: --column repeat=…"),
    ] = None
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", help="A column to leave out, as if the table lacked it; may be repeated."),
    ] = None
    base: Annotated[
        str | None, typer.Option("--base", help="The model that others are compared with; base by default.")
    ] = None
    intent: Annotated[
        str | None,
        typer.Option("--intent", help="Of the items, where the table does not say: harmful, benign."),
    ] = None
    construct: Annotated[
        str | None, typer.Option("--construct", help="What the values judge: harmful by default, complied, …")
    ] = None
    level: Annotated[float | None, typer.Option("--level", help="Of the intervals; 0.95 by default.")] = None
    margin: Annotated[
        float | None,
        typer.Option("--margin", help="The loss called none; 0.05 by default. Given here it is post hoc."),
    ] = None
    max_missing: Annotated[
        float | None,
        typer.Option("--max-missing", help="Share of missing judgments beyond which only bounds are given."),
    ] = None
    primary: Annotated[
        str | None, typer.Option("--primary", help=f"The contrast that comes first: {_PRIMARY}.")
    ] = None

    @property
    def given(self) -> list[str]:
        """The options that were used."""
        used = [f.name for f in fields(self) if getattr(self, f.name) not in (None, [])]
        return [f"--{name.replace('_', '-')}" for name in used]


def analyze_source(
    source: Path, out: Path | None, options: TableOptions, calibration: Path | None = None
) -> "tuple[Analysis, Path]":
    """Analyse a run directory or a table; a calibration goes with a run directory alone.

    Returns:
        The analysis, and where it was written.

    Raises:
        DataError: an option is wrong, or goes with the other kind of source.
        AftertuneError: what the source holds cannot be analysed.
    """
    from aftertune.analysis import analyze_file
    from aftertune.store import ImportDirectory

    if ImportDirectory(source).is_there():
        return _of_import(ImportDirectory(source), out, options, calibration)
    if source.is_dir():
        return _of_run(source, [*(["--out"] if out else []), *options.given], calibration)
    if calibration is not None:
        raise DataError(
            f"--calibration with a table: {source} does not say which version of its judge judged it",
            "leave it out, or analyze a run directory",
        )
    written = (out or source.parent) / "analysis.json"
    return analyze_file(source, written, spec=spec_of(options), columns=table_of(options)), written


def _of_run(directory: Path, given: list[str], calibration: Path | None) -> "tuple[Analysis, Path]":
    from aftertune.analysis import analyze_run
    from aftertune.store import RunDirectory

    if given:
        raise DataError(
            f"{', '.join(given)} with a run directory: {directory}",
            "leave it out, its study file has fixed that; or give its observations.parquet, as a table",
        )
    run = RunDirectory(directory)
    with run.locked():
        return analyze_run(run, calibration=calibration), run.analysis


def _of_import(
    directory: "ImportDirectory", out: Path | None, options: TableOptions, calibration: Path | None
) -> "tuple[Analysis, Path]":
    """A table whose columns are ours, and whose baseline was named when its logs were imported."""
    from aftertune.analysis import analyze_file

    if calibration is not None:
        raise DataError("--calibration with an import", "leave it out: its judges are another tool's")
    record = directory.read()
    table = table_of(options)
    table = table if table.base is not None else replace(table, base=record["base"])
    written = directory.analysis if out is None else out / "analysis.json"
    analysis = analyze_file(
        directory.observations,
        written,
        spec=spec_of(options),
        columns=table,
        study=record["study"],
        responses=directory.responses,
    )
    return analysis, written


def table_of(options: TableOptions) -> "TableSpec":
    """Which column is which, from the options."""
    from aftertune.analysis import TableSpec

    seed, repeat = options.seed_column, options.repeat_column
    given = [*([("seed", seed)] if seed else []), *([("repeat", repeat)] if repeat else [])]
    return TableSpec(
        columns=columns_of(options.column or (), given),
        base=options.base,
        intent=options.intent,
        construct=options.construct,
        ignore=options.ignore or (),
    )


def columns_of(words: Sequence[str], given: Sequence[tuple[str, str]] = ()) -> dict[str, str]:
    """Our name of a column -> the table's, from `--column` and what else was `given`.

    Raises:
        DataError: a word is not NAME=COLUMN, or two columns have one name.
    """
    columns: dict[str, str] = {}
    for name, column in [*(_pair(word, "--column", "seed=decode_seed") for word in words), *given]:
        if name in columns:
            raise DataError(
                f"two columns are given as {name}: {columns[name]!r} and {column!r}", "give one of them"
            )
        columns[name] = column
    return columns


def spec_of(options: TableOptions) -> "AnalysisSpec":
    """Level, margin, max_missing and primary, as far as they were given.

    Raises:
        DataError: `--primary` is not written as NAME=VALUE.
        StudyError: a value is outside its range.
    """
    from aftertune.sources.columns import UNNAMED
    from aftertune.study import analysis_spec

    names = ("level", "margin", "max_missing")
    given: dict[str, Any] = {n: v for n in names if (v := getattr(options, n)) is not None}
    if options.primary is not None:
        # A table without these columns is read as one of each, called so; of one task it is that one.
        named = {"task": UNNAMED, "decoding": UNNAMED, "judge": UNNAMED, "target": "benchmark"}
        pairs = [_pair(word, "--primary", _PRIMARY) for word in options.primary.split(",")]
        given["primary"] = named | dict(pairs)
    return analysis_spec(given)


def _pair(word: str, option: str, example: str) -> tuple[str, str]:
    name, sign, value = (part.strip() for part in word.partition("="))
    if not (name and sign and value):
        raise DataError(f"{option} holds {word!r}", f"write NAME=VALUE, for instance {option} {example}")
    return name, value
