"""What stands where in the directory of an import."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aftertune.errors import StoreError
from aftertune.store.run import RunDirectory

IMPORT_VERSION = 1
_OWN = {"lock", "observations.parquet", "responses.parquet", "items.parquet"}  # an import that was cut off


@dataclass(frozen=True, slots=True)
class ImportDirectory:
    """Logs of other tools as tables: no study, no checkpoints, and nothing here can be drawn again."""

    root: Path

    @property
    def record(self) -> Path:
        """What became of which log; it tells an import from a run."""
        return self.root / "import.json"

    @property
    def observations(self) -> Path:
        """The table that all statistics start from."""
        return self.root / "observations.parquet"

    @property
    def responses(self) -> Path:
        """The responses that the logs hold."""
        return self.root / "responses.parquet"

    @property
    def items(self) -> Path:
        """The items with their prompts."""
        return self.root / "items.parquet"

    @property
    def analysis(self) -> Path:
        """Every number of the report."""
        return self.root / "analysis.json"

    @property
    def report(self) -> Path:
        """The report's folder."""
        return self.root / "report"

    def is_there(self) -> bool:
        """Whether this is the directory of an import."""
        return self.record.is_file()

    def check_free(self) -> None:
        """Refuse a directory that is something else.

        Raises:
            StoreError: a run, or a folder with other files, stands there.
        """
        if self.is_there() or not self.root.exists():
            return
        if not self.root.is_dir() or {entry.name for entry in self.root.iterdir()} - _OWN:
            raise StoreError(
                f"{self.root} is there and is not an import", "give another directory with --out"
            )

    @contextmanager
    def locked(self) -> Generator[None]:
        """Hold the directory for one writer, like a run's."""
        with RunDirectory(self.root).locked():
            yield

    def read(self) -> dict[str, Any]:
        """The record.

        Raises:
            StoreError: it is no JSON, or of a newer aftertune.
        """
        try:
            found = json.loads(self.record.read_text(encoding="utf-8"))
        except ValueError as error:
            raise StoreError(f"{self.record} is not JSON: {error}", "import the logs again") from error
        version = found.get("import_version") if isinstance(found, dict) else None
        if version != IMPORT_VERSION:
            raise StoreError(
                f"{self.record} has version {version!r}, this aftertune knows {IMPORT_VERSION}",
                "import the logs again, or upgrade aftertune",
            )
        return found
