"""What stands where in a run directory, and who may write to it."""

import errno
import json
import logging
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import polars as pl
from filelock import lock_descriptor
from pydantic import ValidationError

from aftertune.errors import StoreError
from aftertune.foreign_text import without_secrets
from aftertune.records import BASELINE, RESPONSE_COLUMNS, Checkpoint, ResponseStatus
from aftertune.records.manifest import MANIFEST_VERSION, Manifest, ModelEntry
from aftertune.store.atomic import SCRATCH_PREFIX, replace
from aftertune.store.run_log import append_event
from aftertune.store.shards import read_shards
from aftertune.study import Study

log = logging.getLogger(__name__)

T = TypeVar("T")


def shard_told(
    run: "RunDirectory", stage: str, path: Path, n_rows: int, seconds: float, *, done: int | None = None
) -> None:
    """Tell the run's log of a shard; `done` counts the responses that it finishes, where rows are others."""
    run.tell(
        "shard",
        stage=stage,
        shard=path.name,
        rows=n_rows,
        done=n_rows if done is None else done,
        seconds=round(seconds, 3),
        bytes=path.stat().st_size,
    )


class AtWork(StoreError):
    """Another process of this machine holds the run directory."""


def run_at(directory: Path) -> "RunDirectory":
    """The run directory at a path.

    Raises:
        StoreError: it is none, or of a newer aftertune.
    """
    run = RunDirectory(directory)
    if not run.study_json.is_file():
        raise StoreError(
            f"{directory} is not a run directory: it has no study.json", "give a study file, or run one first"
        )
    run.read_manifest()
    return run


def first_fault(error: ValidationError) -> str:
    """The first fault that pydantic found: key, what is wrong, the value got."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}, got {str(first['input'])[:100]!r}"


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """A study's run directory. Stages meet here and nowhere else.

    A variation's is a folder in it, with a study, items and lists of its own; what is found by its content
    (checkpoints, answers, prompts, responses, judgments) stands in `main`, once for all. Where it
    `draws_anew` it keeps its own responses and judgments: the baseline's would be found under their keys.
    """

    root: Path
    main: Self | None = None
    draws_anew: bool = False

    def of_variation(self, name: str, *, draws_anew: bool) -> "RunDirectory":
        """The directory of one of the study's variations."""
        return RunDirectory(self.root / "variations" / name, main=self, draws_anew=draws_anew)

    @property
    def variation(self) -> str:
        """The variation's name."""
        return BASELINE if self.main is None else self.root.name

    @property
    def _shared(self) -> Path:
        return self.root if self.main is None else self.main.root

    @property
    def _drawn(self) -> Path:
        return self.root if self.draws_anew else self._shared

    @property
    def study_file(self) -> Path:
        """The study file as its author wrote it."""
        return self.root / "study.yaml"

    @property
    def study_json(self) -> Path:
        """The study with every default written out and every path absolute."""
        return self.root / "study.json"

    @property
    def manifest(self) -> Path:
        """Versions, hardware, hashes: what made this run."""
        return self.root / "manifest.json"

    @property
    def items(self) -> Path:
        """The items of all tasks."""
        return self.root / "items.parquet"

    @property
    def checkpoints(self) -> Path:
        """One folder a training."""
        return self._shared / "checkpoints"

    @property
    def checkpoint_list(self) -> Path:
        """The checkpoints of this study as it stands, with their status."""
        return self.root / "checkpoints.json"

    @property
    def held_out(self) -> Path:
        """The losses of the checkpoints on the rows that their recipes hold out."""
        return self.root / "held_out.json"

    @property
    def answers(self) -> Path:
        """The base's own answers to tuning data (`answers: self`)."""
        return self._shared / "answers"

    @property
    def requests(self) -> Path:
        """Which responses this study is made of, each by its key."""
        return self.root / "requests.parquet"

    @property
    def responses(self) -> Path:
        """Shards of responses."""
        return self._drawn / "responses"

    @property
    def served(self) -> Path:
        """Shards of what endpoints said beside their responses."""
        return self._drawn / "served"

    @property
    def prompts(self) -> Path:
        """Shards of rendered prompts."""
        return self._shared / "prompts"

    def judgments(self, judge: str, sha256: str) -> Path:
        """Shards of one judge's judgments; another version of its rules has another folder."""
        return self._drawn / "judgments" / f"{judge}-{sha256[:12]}"

    @property
    def judges_added(self) -> Path:
        """Judges that were added after the study was written."""
        return self._shared / "judges_added.json"

    def labels(self, construct: str) -> Path:
        """People's labels of one construct."""
        return self._shared / "labels" / f"{construct}.parquet"

    def label_draws(self, construct: str) -> Path:
        """Which responses were drawn for people to label."""
        return self._shared / "labels" / f"{construct}-draws.json"

    @property
    def observations(self) -> Path:
        """The table that all statistics start from."""
        return self.root / "observations.parquet"

    @property
    def analysis(self) -> Path:
        """Every number of the report."""
        return self.root / "analysis.json"

    @property
    def report(self) -> Path:
        """The report's folder."""
        return self.root / "report"

    @property
    def aside(self) -> Path:
        """Corrupt shards, kept for a look."""
        return self._shared / "aside"

    @property
    def log(self) -> Path:
        """What happened when, a line an event."""
        return self._shared / "log.jsonl"

    def tell(self, event: str, **fields: Any) -> None:
        """Add an event to the log; it names the variation that it is of."""
        varied = {} if self.main is None else {"variation": self.variation}
        append_event(self.log, event, **varied, **fields)

    @contextmanager
    def locked(self) -> Generator[None]:
        """Hold the directory for one writer; the system lets go of it when the process ends, however it ends.

        Raises:
            StoreError: another process holds it, it cannot be written, or is of a newer aftertune.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StoreError(
                f"cannot write to {self.root}: {error.strerror}", "give another directory with --out"
            ) from error
        try:
            self._take(lock)
            self.read_manifest()  # a newer aftertune's is left alone
            if self.manifest.is_file():  # a run directory, and no other that was named by mistake
                for scratch in self.root.rglob(f"{SCRATCH_PREFIX}*"):
                    scratch.unlink()  # a killed run left it; nobody else writes here now
            yield
        finally:
            os.close(lock)

    def _take(self, lock: int) -> None:
        try:
            taken = lock_descriptor(lock, blocking=False)
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise StoreError(
                    f"cannot lock {self.root}: {error.strerror}",
                    "give a directory on a local disk with --out",
                ) from error
            log.warning("this system has no file locks: let only one process write to %s", self.root)
            taken = True
        if not taken:
            holder = "unknown"
            with suppress(OSError):  # Windows lets nobody else read the locked byte
                holder = os.read(lock, 32).decode(errors="replace").strip() or holder
            raise AtWork(
                f"another run (process {holder}) is at work in {self.root}",
                "wait for it to end, or give another directory with --out",
            )
        with suppress(OSError):  # on a full disk the lock holds all the same; it only cannot say whose it is
            os.ftruncate(lock, 0)
            os.write(lock, str(os.getpid()).encode())

    @property
    def study(self) -> Study:
        """The study with every default.

        Raises:
            StoreError: study.json is missing, or is none of this version.
        """
        content = self.read_json(self.study_json)
        try:
            return Study.model_validate(content, strict=False)
        except ValidationError as error:
            raise StoreError(
                f"{self.study_json} is no study: {first_fault(error)}", "run its study file again"
            ) from error

    def parts(self) -> list["RunDirectory"]:
        """The directories of the baseline (this one) and of each variation, in the study's order."""
        return [self, *(self.of_variation(v.name, draws_anew=v.draws_anew) for v in self.study.variations)]

    def listed_checkpoints(self) -> list[Checkpoint]:
        """The checkpoints of this study as it stands, those without weights too.

        Raises:
            StoreError: nothing was tuned yet.
        """
        return [Checkpoint.from_json(entry) for entry in self.read_json(self.checkpoint_list)]

    @property
    def model(self) -> ModelEntry:
        """The base model that the run was prepared with.

        Raises:
            StoreError: it was not prepared.
        """
        return self._prepared(self.read_manifest().model, "model")

    @property
    def study_folder(self) -> Path:
        """The folder of the study file, where trainers of the user's own run.

        Raises:
            StoreError: the run was not prepared.
        """
        return Path(self._prepared(self.read_manifest().study_folder, "study_folder"))

    def _prepared(self, section: T | None, name: str) -> T:
        if section is None:
            raise StoreError(f"{self.manifest} has no {name}", "run the study again: `aftertune run`")
        return section

    def read_manifest(self) -> Manifest:
        """The manifest; without any section before the first run.

        Raises:
            StoreError: it comes from a newer aftertune, is not JSON, or a section has another form.
        """
        if not self.manifest.is_file():
            return Manifest()
        found = self.read_json(self.manifest)
        if not isinstance(found, dict):
            raise StoreError(
                f"{self.manifest} is no manifest: got {type(found).__name__}",
                "remove it and run the study again",
            )
        version = found.get("manifest_version", 0)
        if not isinstance(version, int) or version > MANIFEST_VERSION:
            raise StoreError(
                f"{self.manifest} has version {version}, this aftertune knows {MANIFEST_VERSION}",
                "upgrade aftertune",
            )
        try:
            return Manifest.model_validate(found)
        except ValidationError as error:
            raise StoreError(
                f"{self.manifest} is no manifest: {first_fault(error)}", "remove it and run the study again"
            ) from error

    def update_manifest(self, **sections: Any) -> None:
        """Write sections of the manifest, each in place of what it was; the others stay."""
        known = {"manifest_version": MANIFEST_VERSION, **self.read_manifest().recorded()}
        self.write_json(self.manifest, Manifest.model_validate(known | sections).recorded())

    def read_json(self, path: Path) -> Any:
        """A JSON file of this directory.

        Raises:
            StoreError: it is missing or not JSON; says which stage makes it.
        """
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise StoreError(
                f"{path} is missing", "run the stages before this one, or `aftertune run`"
            ) from error
        except ValueError as error:  # bytes that are no text, or text that is no JSON
            raise StoreError(f"{path} is not JSON: {error}", "remove it and run the study again") from error

    def read_table(self, path: Path) -> pl.DataFrame:
        """A table of this directory that is no shard.

        Raises:
            StoreError: it is missing or no Parquet file; says what makes it.
        """
        if not path.is_file():
            raise StoreError(f"{path} is missing", "run the stages before this one, or `aftertune run`")
        try:
            return pl.read_parquet(path)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise StoreError(
                f"{path} is no Parquet table: {error}", "remove it and run the study again"
            ) from error

    def read_responses(self, *columns: str, of_items: pl.DataFrame | None = None) -> pl.DataFrame:
        """The responses, one a key: where an endpoint gave none at first and one later, the later one.

        Args:
            columns: those that are wanted, `key` and `status` among them; all by default.
            of_items: task and item, whose responses are wanted; all by default.
        """

        def wanted(frame: pl.DataFrame) -> pl.DataFrame:
            return frame if of_items is None else frame.join(of_items, on=["task", "item"], how="semi")

        found = read_shards(
            self.responses, RESPONSE_COLUMNS, aside=self.aside, only=columns or None, wanted=wanted
        )
        found = found.sort(pl.col("status") == ResponseStatus.FAILED, maintain_order=True)
        return found.unique("key", keep="first", maintain_order=True)

    def write_json(self, path: Path, value: Any) -> None:
        """Replace a JSON file of this directory; no secret of the environment is written."""
        text = without_secrets(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))
        replace(path, f"{text}\n".encode())
