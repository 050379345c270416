"""Parquet of strangers: what is damaged, or made to do damage, is an error and not the end of the process."""

import io
from collections.abc import Collection, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aftertune.errors import DataError

if TYPE_CHECKING:
    import polars as pl

_STATM = Path("/proc/self/statm")  # Linux tells there how much address space a process has
_MOST_CELLS = 2_000_000_000
_MOST_BYTES = 16 << 30  # unpacked, by the file's own account
_SPARE = 4 << 30  # address space, of which allocators and threads reserve far more than they use


def read_parquet(
    content: bytes, source: str, *, coded: bool = False, without: Collection[str] = ()
) -> "pl.DataFrame":
    """The table in a Parquet file's bytes; `source` names it in errors.

    Read by pyarrow, whose reader is fuzzed by its makers; polars' own panics at some damaged files. Where
    texts are `coded`, they come as categoricals: each different one once, which is a fraction of the memory.
    Columns `without` which one can do are not read.

    Raises:
        DataError: it is no whole Parquet file, is larger than it says or than anybody needs, or holds what is
            no table of plain values.
    """
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(io.BytesIO(content))
        if coded:
            texts = [f.name for f in file.schema_arrow if pa.types.is_string(f.type) or _is_long(f.type)]
            file = pq.ParquetFile(io.BytesIO(content), read_dictionary=texts)
        with _address_space(_needed(file.metadata, source)):
            # One after the other, not the whole table in two libraries' memory at once.
            columns = [name for name in file.schema_arrow.names if name not in without]
            groups = [_checked(file, number, columns) for number in range(file.num_row_groups)]
            frame = pl.concat(groups) if groups else pl.DataFrame(pl.from_arrow(file.read(use_threads=False)))
    except MemoryError as error:  # a page whose header tells of more than the file does
        raise DataError(
            f"{source} would need far more memory than its size tells of", "do not trust it; get it again"
        ) from error
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError, ValueError, TypeError, KeyError) as error:
        said = " ".join(str(error).split())[:200]
        raise DataError(f"{source}: not Parquet: {said}", "get or write the file again") from error
    except pl.exceptions.PanicException as error:
        raise DataError(
            f"{source}: a column type that cannot be read", "save it with plain columns"
        ) from error
    return frame


def _checked(file: Any, number: int, columns: list[str]) -> "pl.DataFrame":
    import polars as pl

    # By one thread: a pool that cannot start another ends the process.
    table = file.read_row_group(number, columns=columns, use_threads=False)
    table.validate(full=True)
    return pl.DataFrame(pl.from_arrow(table))


def _is_long(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_large_string(kind)


def _needed(metadata: Any, source: str) -> int:
    """Bytes that reading may take, generously, by the file's own account."""
    n_cells, unpacked = 0, 0
    for group in (metadata.row_group(n) for n in range(metadata.num_row_groups)):
        columns = [group.column(n) for n in range(group.num_columns)]
        n_cells += sum(max(0, column.num_values) for column in columns)
        unpacked += sum(max(0, column.total_uncompressed_size) for column in columns)
    if n_cells > _MOST_CELLS or unpacked > _MOST_BYTES:
        raise DataError(
            f"{source} says that it holds {n_cells:,} values, {unpacked:,} bytes unpacked",
            f"at most {_MOST_CELLS:,} values and {_MOST_BYTES:,} bytes are read: part it",
        )
    return _SPARE + 4 * unpacked + 32 * n_cells


@contextmanager
def _address_space(more: int) -> "Generator[None]":
    """So many bytes more for this process and then no memory; where the system knows no such limit, none."""
    try:
        import resource

        held = _STATM.read_text(encoding="ascii")
    except (ModuleNotFoundError, OSError):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = int(held.split()[0]) * resource.getpagesize()
    most = now + more
    if soft != resource.RLIM_INFINITY and soft <= most:
        yield
        return
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
