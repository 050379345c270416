"""Where a task's rows come from: the package, the hub or the web, a local copy, a user's table."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from aftertune.errors import DataError
from aftertune.sources import HubFile, Row, Table, WebFile, fetch, filled_lines, read_table, utf8_text
from aftertune.study import TaskSpec
from aftertune.tasks.base import Benchmark, HubFiles

_TABLES = (".csv", ".jsonl", ".json", ".parquet")
FILE_COLUMN = "file"  # of a folder of tables: the name of the file that a row stands in, without its ending


def from_file(spec: TaskSpec, path: Path) -> Table:
    """A user's table, or all tables of a folder one after another.

    Raises:
        DataError: it cannot be read; a folder without tables, or with tables of several formats.
    """
    if not path.is_dir():
        return read_table(_read(spec, path), str(path))
    files = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in _TABLES)
    formats = sorted({entry.suffix.lower() for entry in files})
    if len(formats) != 1:
        held = f"tables of several formats ({', '.join(formats)})" if formats else "no table"
        raise DataError(
            f"task {spec.name!r}: the folder {path} holds {held}",
            "give a folder of CSV, JSONL, JSON or Parquet files, all of one format, or name one file",
        )
    return _joined(str(path), [_named(read_table(_read(spec, entry), str(entry)), entry) for entry in files])


def from_local_copy(spec: TaskSpec, benchmark: Benchmark, path: Path) -> Table:
    """A benchmark's original files in a folder, or its one file under any name.

    Raises:
        DataError: the files are not there or cannot be read.
    """
    files = [path / name for name in benchmark.file_names] if path.is_dir() or not path.exists() else [path]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise DataError(
            f"task {spec.name!r}: {path} does not hold {', '.join(missing)}",
            f"get {benchmark.title} from {benchmark.page}; or give another copy as `file` with its columns",
        )
    return _original(spec, benchmark, files, [str(file) for file in files], whole=str(path))


def from_publisher(spec: TaskSpec, benchmark: Benchmark) -> Table:
    """A benchmark's files from where its authors publish them, at a pinned commit; kept in the user's cache.

    Raises:
        DataError: no commit is known, or the files cannot be had; for a gated one, how to get access.
    """
    sources = publisher_files(spec, benchmark)
    try:
        files = [fetch(source) for source in sources]
    except DataError as error:
        raise DataError(f"task {spec.name!r}: {error.what}", error.remedy) from error
    names = [source.name for source in sources]
    return _original(spec, benchmark, files, names, whole=f"{names[0]} and {len(names) - 1} more")


def publisher_files(spec: TaskSpec, benchmark: Benchmark) -> tuple[HubFile | WebFile, ...]:
    """The files that make up a benchmark, each at a commit."""
    source = benchmark.source
    if isinstance(source, WebFile):
        if spec.revision is not None:
            raise DataError(
                f"task {spec.name!r}: {benchmark.title} is fetched at the commit in {source.url}, and "
                f"revision is {spec.revision!r}",
                "leave revision out, or give your copy as data_dir",
            )
        return (source,)
    return _hub_files(spec, benchmark, source)


def _hub_files(spec: TaskSpec, benchmark: Benchmark, source: HubFiles) -> tuple[HubFile, ...]:
    revision = spec.revision or source.revision
    if revision is None:
        gate = f"accept its terms at {source.page}, set HF_TOKEN, and " if benchmark.gated else ""
        raise DataError(
            f"task {spec.name!r}: aftertune knows no commit of {source.repo}",
            f"{gate}write revision: the commit that {source.page} shows; or give a local copy as data_dir",
        )
    return tuple(HubFile(source.repo, path, revision, gated=benchmark.gated) for path in source.paths)


def _original(
    spec: TaskSpec, benchmark: Benchmark, files: list[Path], names: Iterable[str], *, whole: str
) -> Table:
    read = _headless if benchmark.headless else read_table
    tables = [
        _named(replace(read(_read(spec, file), str(file)), source=name), file)
        for file, name in zip(files, names, strict=True)
    ]
    return tables[0] if len(tables) == 1 else _joined(whole, tables)


def _headless(content: bytes, source: str) -> Table:
    """Prompts alone, one a row, in a text file or in a CSV of one column; the column is then `prompt`."""
    if Path(source).suffix.lower() != ".txt":
        headed = read_table(b"prompt\n" + content.removeprefix(b"\xef\xbb\xbf"), source)
        return replace(headed, rows=tuple(replace(row, line=row.line - 1) for row in headed.rows))
    lines = filled_lines(utf8_text(content, source))
    rows = (Row(at, {"prompt": line.strip()}) for at, line in lines)
    return Table(source, ("prompt",), tuple(rows))


def _named(table: Table, file: Path) -> Table:
    if FILE_COLUMN in table.columns:
        return table
    rows = tuple(replace(row, values={**row.values, FILE_COLUMN: file.stem}) for row in table.rows)
    return replace(table, columns=(*table.columns, FILE_COLUMN), rows=rows)


def _joined(source: str, tables: list[Table]) -> Table:
    columns = tuple(dict.fromkeys(column for table in tables for column in table.columns))
    return Table(source, columns, tuple(row for table in tables for row in table.rows))


def _read(spec: TaskSpec, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"task {spec.name!r}: cannot read {path}: {error.strerror}",
            "give the path of a CSV, JSONL, JSON or Parquet file",
        ) from error
