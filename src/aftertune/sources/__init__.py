"""Public files that a study names: from the hub or the web into the user's cache, and read as tables."""

from aftertune.sources.parquet import read_parquet
from aftertune.sources.public_files import HubFile, WebFile, cache_directory, fetch, keep_copy
from aftertune.sources.table import Row, Table, filled_lines, read_table, utf8_text

__all__ = [
    "HubFile",
    "Row",
    "Table",
    "WebFile",
    "cache_directory",
    "fetch",
    "filled_lines",
    "keep_copy",
    "read_parquet",
    "read_table",
    "utf8_text",
]
