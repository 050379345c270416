"""Results from a path: what stands there decides whether it is a run, an import or a table."""

import os
from pathlib import Path

from aftertune.analysis import TableSpec
from aftertune.analysis.table import read_table
from aftertune.errors import DataError
from aftertune.results.sources import Imported, Run, Table
from aftertune.store import ImportDirectory, run_at
from aftertune.study import AnalysisSpec


def open(
    source: str | os.PathLike[str],
    *,
    spec: AnalysisSpec | None = None,
    columns: TableSpec | None = None,
) -> Run | Imported | Table:
    """Open a run directory, the directory of an import, or a table of observations.

    Args:
        source: the path of a directory that `aftertune run` or `import` made, or of a Parquet or CSV file.
        spec: of a table: level, margin, max_missing and the primary contrast.
        columns: of a table: which column is which, and what the table does not say.

    Raises:
        DataError: there is nothing, or `spec` or `columns` goes with a directory.
        StoreError: the directory is neither a run nor an import, or of a newer aftertune.
    """
    path = Path(source)
    if path.is_dir():
        if spec is not None or columns is not None:
            raise DataError(
                f"spec and columns go with a table, and {path} is a directory",
                "leave them out; or open its observations.parquet, as a table",
            )
        return Imported(path) if ImportDirectory(path).is_there() else Run(run_at(path).root)
    if not path.is_file():
        raise DataError(f"there is no {path}", "give a run directory, an import or a table of observations")
    return Table(read_table(path), path.stem, spec or AnalysisSpec(), columns or TableSpec())
