"""What a run, imported logs and a table have in common."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import polars as pl

from aftertune.commands.gate import Gate
from aftertune.records.analysis import Analysis


class Results(Protocol):
    """Observations with their analysis, whatever they come from."""

    @property
    def name(self) -> str:
        """The name of the study."""
        ...

    @property
    def analysis(self) -> Analysis:
        """The analysis; made first where there is none, or where it is of other observations."""
        ...

    def observations(self) -> pl.DataFrame:
        """One row an observation, with the columns of `aftertune.records.OBSERVATION_COLUMNS`."""
        ...

    def gate(self, *, models: Sequence[str] = ()) -> Gate:
        """Pass, fail or insufficient evidence, on the primary contrast and its margin."""
        ...

    def report(self) -> Path:
        """Write the report; returns the path of its page."""
        ...
