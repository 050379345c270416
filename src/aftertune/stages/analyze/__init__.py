"""The analyze stage: observations in, `Analysis` out."""

from aftertune.sources.columns import TableSpec
from aftertune.stages.analyze.files import analyze_file, analyze_run
from aftertune.stages.analyze.stage import analysis_schema, analyze
from aftertune.stages.analyze.table import read_observations

__all__ = ["TableSpec", "analysis_schema", "analyze", "analyze_file", "analyze_run", "read_observations"]
