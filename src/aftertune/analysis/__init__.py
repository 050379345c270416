"""Statistics of a table of observations: `analyze` and its parts."""

from aftertune.analysis.analyze import analysis_schema, analyze
from aftertune.analysis.files import analyze_file, analyze_run
from aftertune.analysis.table import read_observations
from aftertune.sources.columns import TableSpec

__all__ = ["TableSpec", "analysis_schema", "analyze", "analyze_file", "analyze_run", "read_observations"]
