"""Shards: Parquet files of finished rows, each named by the hash of its own bytes.

The name makes a shard self-checking: one that was torn, edited or swapped no longer matches. It is set aside,
its rows count as not done, and they are made again.
"""

import hashlib
import io
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from aftertune.errors import StoreError
from aftertune.store.atomic import put_if_absent

log = logging.getLogger(__name__)

_FRAMES = 1_000
_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64()}


def write_shard(directory: Path, rows: Sequence[Mapping[str, object]], columns: dict[str, type]) -> Path:
    """Publish rows as one shard; the same rows give the same name and bytes."""
    data = parquet_bytes(rows, columns)
    path = directory / f"{hashlib.sha256(data).hexdigest()[:32]}.parquet"
    put_if_absent(path, data)
    return path


def parquet_bytes(rows: Sequence[Mapping[str, object]], columns: dict[str, type]) -> bytes:
    """Rows as a Parquet file with exactly these columns and types; nulls are allowed everywhere."""
    schema = pa.schema([(name, _ARROW[kind]) for name, kind in columns.items()])
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=schema), sink, compression="zstd")
    return sink.getvalue()


def parquet_of(frames: Iterable[pl.DataFrame], columns: dict[str, type]) -> bytes:
    """Frames, one after the other, as one Parquet file with exactly these columns; each is a row group."""
    schema = pa.schema([(name, _ARROW[kind]) for name, kind in columns.items()])
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for frame in frames:
            table = frame.select(list(columns)).to_arrow().cast(schema)
            writer.write_table(table, row_group_size=max(1, table.num_rows))
    return sink.getvalue()


def read_shards(
    directory: Path,
    columns: dict[str, type],
    *,
    aside: Path,
    only: Sequence[str] | None = None,
    wanted: Callable[[pl.DataFrame], pl.DataFrame] = lambda frame: frame,
) -> pl.DataFrame:
    """All rows of a directory's shards, in the order of the shards' names.

    A shard that is not what its name promises is moved to `aside` with a warning in the log.

    Args:
        directory: where they stand.
        columns: which each must have, with their types.
        aside: where those go that are not what they promise.
        only: the columns that are wanted; all of them by default.
        wanted: gives the rows of a shard that are.
    """
    names = list(only or columns)
    frames = [empty_frame({name: columns[name] for name in names})]
    for path in sorted(directory.glob("*.parquet")):
        frame = _read(path, columns, names)
        if frame is None:
            _set_aside(path, aside)
        else:
            frames.append(wanted(frame))
        if len(frames) >= _FRAMES:  # a small frame takes some times the room of its rows
            frames = [pl.concat(frames, rechunk=True)]
    return pl.concat(frames, rechunk=True)


def empty_frame(columns: dict[str, type]) -> pl.DataFrame:
    """No rows, with the right columns."""
    kinds = {str: pl.String, int: pl.Int64, float: pl.Float64}
    return pl.DataFrame(schema={name: kinds[kind] for name, kind in columns.items()})


def _read(path: Path, columns: dict[str, type], names: list[str]) -> pl.DataFrame | None:
    """The rows; None where the bytes are not those of the name, or are no table of these columns."""
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest()[:32] != path.stem:
        return None
    try:
        if pl.read_parquet_schema(io.BytesIO(data)) != empty_frame(columns).schema:
            return None
        return pl.read_parquet(io.BytesIO(data), columns=names)
    except pl.exceptions.PolarsError:
        return None


def _set_aside(path: Path, aside: Path) -> None:
    aside.mkdir(parents=True, exist_ok=True)
    number = 0
    while (target := aside / f"{path.name}.{number}").exists():
        number += 1
    try:
        path.rename(target)
    except OSError as error:
        raise StoreError(
            f"{path} is corrupt and cannot be moved to {target}: {error.strerror}", "remove it"
        ) from error
    log.warning(
        "shard %s is corrupt (its bytes do not match its name, or it is no such table): set aside as %s, "
        "its rows are made again",
        path,
        target,
    )
