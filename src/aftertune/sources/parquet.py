"""Parquet of strangers: what is damaged, or made to do damage, is an error and not the end of the process."""

import io
from typing import TYPE_CHECKING

from aftertune.errors import DataError

if TYPE_CHECKING:
    import polars as pl


def read_parquet(content: bytes, source: str) -> "pl.DataFrame":
    """The table in a Parquet file's bytes; `source` names it in errors.

    Read by pyarrow, whose reader is fuzzed by its makers; polars' own panics at some damaged files.

    Raises:
        DataError: it is no whole Parquet file, or holds what is no table of plain values.
    """
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(io.BytesIO(content)).read()
        table.validate(full=True)
        frame = pl.from_arrow(table)
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError, ValueError, TypeError, KeyError) as error:
        said = " ".join(str(error).split())[:200]
        raise DataError(f"{source}: not Parquet: {said}", "get or write the file again") from error
    except pl.exceptions.PanicException as error:
        raise DataError(
            f"{source}: a column type that cannot be read", "save it with plain columns"
        ) from error
    assert isinstance(frame, pl.DataFrame)
    return frame
