"""Results as objects for Python: a run, imported logs, or a table, behind one protocol."""

from aftertune.results.base import Results
from aftertune.results.opening import open
from aftertune.results.running import run
from aftertune.results.sources import Imported, Run, Table

__all__ = ["Imported", "Results", "Run", "Table", "open", "run"]
