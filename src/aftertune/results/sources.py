"""A run directory, the directory of imported logs, and a table as objects for Python."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from aftertune.analysis import TableSpec, analyze
from aftertune.analysis.stored import StaleAnalysisError, read_analysis
from aftertune.analysis.table import normalise_table
from aftertune.commands.analyze import TableOptions, analyze_source
from aftertune.commands.exported import source_at
from aftertune.commands.gate import Gate, gate_of
from aftertune.commands.report_import import report_import
from aftertune.commands.status import status
from aftertune.pipeline import run_stages
from aftertune.records import Checkpoint
from aftertune.records.analysis import Analysis
from aftertune.records.manifest import Manifest
from aftertune.records.progress import RunProgress
from aftertune.report import summary, write_report
from aftertune.store import ImportDirectory, RunDirectory
from aftertune.study import AnalysisSpec, Study

if TYPE_CHECKING:
    from typing import Any


@dataclass(frozen=True)
class _Source:
    """What is the same for all sources: the gate, and how a notebook shows them."""

    @property
    def analysis(self) -> Analysis:
        raise NotImplementedError

    def gate(self, *, models: Sequence[str] = ()) -> Gate:
        """Compare the primary contrast with its margin: pass, fail or insufficient evidence.

        Args:
            models: the models that must pass; all but the base by default.

        Raises:
            DataError: there is no primary contrast of a model.
            StudyError: no primary contrast was named.
        """
        return gate_of(self.analysis, models)

    def __str__(self) -> str:
        """The verdicts and rates in plain text."""
        return summary(self.analysis)

    def _repr_html_(self) -> str:
        """The verdicts, rates and warnings for a notebook."""
        return f"<pre>{escape(summary(self.analysis, in_full=True))}</pre>"


@dataclass(frozen=True)
class _Directory(_Source):
    """A directory that holds observations and their analysis."""

    root: Path

    @property
    def analysis(self) -> Analysis:
        """The stored analysis; made first where there is none, or where it is of other observations.

        Raises:
            AftertuneError: there are no observations, or the stored analysis is of a newer aftertune.
        """
        try:
            return read_analysis(self.root)
        except StaleAnalysisError:
            return analyze_source(self.root, None, TableOptions())[0]

    def responses(self) -> pl.DataFrame:
        """One row a judgment, with item, prompt, response text and the judge's own words.

        Raises:
            StoreError: a file is missing.
        """
        return source_at(self.root).judged().frame


@dataclass(frozen=True)
class Run(_Directory):
    """A run directory: its study, what was made of it, and what it says."""

    @property
    def directory(self) -> RunDirectory:
        """Paths, lock and files."""
        return RunDirectory(self.root)

    @property
    def name(self) -> str:
        """The name of the study."""
        return self.study.name

    @property
    def study(self) -> Study:
        """The study with every default."""
        return self.directory.study

    @property
    def manifest(self) -> Manifest:
        """Versions, hardware, hashes: what made the run."""
        return self.directory.read_manifest()

    def checkpoints(self) -> list[Checkpoint]:
        """The base and the tuned checkpoints, with their status."""
        return self.directory.listed_checkpoints()

    def observations(self) -> pl.DataFrame:
        """One row an observation, of the baseline and of every variation."""
        return self.directory.read_table(self.directory.observations)

    def status(self) -> RunProgress:
        """How far the run is."""
        return status(self.root)

    def report(self) -> Path:
        """Write the report; returns the path of its page."""
        return run_stages(None, self.root, ("report",))


@dataclass(frozen=True)
class Imported(_Directory):
    """The directory of imported logs."""

    @property
    def directory(self) -> ImportDirectory:
        """Paths and files."""
        return ImportDirectory(self.root)

    @property
    def record(self) -> "dict[str, Any]":
        """What became of which log."""
        return self.directory.read()

    @property
    def name(self) -> str:
        """The name under which the logs were imported."""
        return str(self.record["study"])

    def observations(self) -> pl.DataFrame:
        """One row an observation."""
        return pl.read_parquet(self.directory.observations)

    def report(self) -> Path:
        """Write the report; returns the path of its page."""
        _ = self.analysis  # made again where it is of other observations
        return report_import(self.directory)


@dataclass(frozen=True)
class Table(_Source):
    """A table of observations in memory.

    Args:
        frame: model, item and value at least; other columns under our names or those that `columns` maps.
        name: of the study.
        spec: level, margin, max_missing and the primary contrast; chosen after the results.
        columns: which column is which, and what the table does not say.
    """

    frame: pl.DataFrame
    name: str = "unnamed"
    spec: AnalysisSpec = field(default_factory=AnalysisSpec)
    columns: TableSpec = field(default_factory=TableSpec)

    @property
    def analysis(self) -> Analysis:
        """The analysis, made when it is first asked for.

        Raises:
            DataError: the table cannot be read without guessing.
        """
        return self._analysed

    @cached_property
    def _analysed(self) -> Analysis:
        return analyze(self.frame, study=self.name, spec=self.spec, table=self.columns)

    def observations(self) -> pl.DataFrame:
        """One row an observation, under our names, with defaults for columns that the table lacks."""
        return normalise_table(self.frame, self.columns, source=self.name).frame

    def report(self, out: Path | str = "report") -> Path:
        """Write the report into the folder `out`; returns the path of its page."""
        return write_report(self.analysis, examples=None, manifest=Manifest(study=self.name), out=Path(out))
