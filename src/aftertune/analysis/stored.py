"""The analysis that a run directory or an import holds, and the one rule for when it is out of date."""

from pathlib import Path

from pydantic import ValidationError

from aftertune.errors import StoreError
from aftertune.records.analysis import SCHEMA_VERSION, Analysis
from aftertune.store import file_sha256


class StaleAnalysisError(StoreError):
    """There is no analysis, or it is of other observations than are there now."""


def read_analysis(root: Path) -> Analysis:
    """The stored analysis of a run directory or an import.

    Args:
        root: the directory. Where it has no observations any more, its analysis is taken as it is.

    Raises:
        StaleAnalysisError: there is none, or it is of other observations than are there now.
        StoreError: it is damaged, or comes from a newer aftertune.
    """
    stored, observations = root / "analysis.json", root / "observations.parquet"
    if not stored.is_file():
        raise StaleAnalysisError(f"{stored} is missing", f"run `aftertune analyze {root}`")
    try:
        analysis = Analysis.model_validate_json(stored.read_text(encoding="utf-8"))
    except (ValidationError, ValueError) as error:
        first = str(error).splitlines()[0][:200]
        raise StoreError(
            f"{stored} is no analysis of this version (schema {SCHEMA_VERSION}): {first}",
            f"run `aftertune analyze {root}` again, or upgrade aftertune",
        ) from error
    if analysis.schema_version > SCHEMA_VERSION:
        raise StoreError(
            f"{stored} has schema version {analysis.schema_version}, this aftertune knows {SCHEMA_VERSION}",
            "upgrade aftertune",
        )
    if observations.is_file() and file_sha256(observations) != analysis.observations_sha256:
        raise StaleAnalysisError(
            f"{stored} is of other observations than are there now", f"run `aftertune analyze {root}` again"
        )
    return analysis
