"""A run in an object store (`s3://…`): a working copy here, and there what counts, by published entries.

An object store has no rename, no lock and no append. So files are worked on in a local copy, with all that a
file system promises, and carried over in two steps. First a file's bytes are written as an object that is
named by their SHA-256: who reads sees nothing of it. Then an entry, one small object with the next number,
says which paths now stand for which objects: that is the moment at which all of them count, together. A
machine that vanishes between the two leaves objects that nobody names.

An entry is written only where none has its number (a conditional PUT). So of two drivers one publishes, and
the other is told and stops: it cannot write over what it has not seen. A store that knows no such condition
is found out by a probe, and then one driver at a time is up to you.
"""

import hashlib
import json
import logging
import os
import socket
import threading
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

from aftertune.errors import StoreError
from aftertune.store.atomic import SCRATCH_PREFIX, file_sha256, replace

log = logging.getLogger(__name__)

ENTRY_VERSION = 1
PUBLISH_S = 20.0  # how often what is finished is carried over: the most that a vanished machine costs
SILENT = timedelta(minutes=15)  # after which another driver may take a run over
_HEARTBEAT = timedelta(minutes=5)
_WEIGHTS = ".safetensors"
_BATCH, _BATCH_BYTES = 64, 256_000_000  # of files that are carried at a time

File = dict[str, Any]  # sha256, bytes


@dataclass(eq=False)
class RemoteRun:
    """A run directory at an address, and its working copy in a folder of this machine."""

    url: str
    local: Path
    fs: Any
    root: str
    files: dict[str, File] = field(default_factory=dict[str, File])  # published, by path below the run
    number: int = 0  # of the last entry that was read or written
    last: dict[str, Any] = field(default_factory=dict[str, Any])  # the last entry
    _here: set[str] = field(
        default_factory=set[str]
    )  # paths that this copy has had: their absence means removal
    _sent: dict[str, tuple[int, int, str]] = field(default_factory=dict[str, tuple[int, int, str]])
    _writer: str = field(default_factory=lambda: uuid.uuid4().hex)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _taken: StoreError | None = None

    @classmethod
    def at(cls, url: str, local: Path) -> "RemoteRun":
        """The run at an address, as it is published now; nothing is fetched yet.

        Raises:
            StoreError: the address cannot be reached, its package is not installed, or it is of a newer
                aftertune.
        """
        import fsspec

        scheme, _, rest = url.rstrip("/").partition("://")
        if "@" in rest.split("/")[0] or "?" in rest:
            raise StoreError(
                f"the address {scheme}://… holds a user, a password or an option",
                "leave them out: credentials come from the environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, …)",
            )
        try:
            fs, root = fsspec.url_to_fs(url)
        except ImportError as error:
            extra = " (pip install 'aftertune[s3]')" if url.startswith("s3:") else ""
            raise StoreError(
                f"cannot open {url}: {error}", f"install the package that fsspec names{extra}"
            ) from error
        except ValueError as error:
            raise StoreError(f"cannot open {url}: {error}", "give s3://bucket/path, or a path") from error
        found = cls(url.rstrip("/"), local, fs, root.rstrip("/"))
        found.refresh()
        return found

    def refresh(self) -> None:
        """Read the entries that were published since."""
        with _told(self.url):
            self.fs.invalidate_cache()
            names = self.fs.find(f"{self.root}/entries") if self.fs.exists(f"{self.root}/entries") else []
            new = sorted(n for n in names if _number(n) > self.number)
            contents = self.fs.cat(new) if new else {}
            for name in new:
                self._apply(_number(name), json.loads(contents[name]))

    def fetch(self, wanted: Callable[[str], bool] = lambda _: True) -> None:
        """Bring the working copy to what is published; what is here alone stays, to be published.

        An object whose bytes are not those of its name is left there and counts as not made.
        """
        self.local.mkdir(parents=True, exist_ok=True)
        asked = sorted(name for name in self.files if wanted(name))
        self._here |= set(asked)
        missing = [name for name in asked if not self._is_here(name)]
        for batch in _batches(missing, lambda name: self.files[name]["bytes"]):
            objects = {name: f"{self.root}/objects/{self.files[name]['sha256']}" for name in batch}
            with _told(self.url):
                got = self.fs.cat(sorted(set(objects.values())), on_error="return")
            for name in batch:
                sha256 = self.files[name]["sha256"]
                content = got.get(objects[name])
                if isinstance(content, bytes) and hashlib.sha256(content).hexdigest() == sha256:
                    self._path(name).parent.mkdir(parents=True, exist_ok=True)
                    replace(self._path(name), content)
                elif isinstance(content, bytes | FileNotFoundError):
                    log.warning("%s of %s is missing or damaged: it is made again", name, self.url)
                    del self.files[name]
                    self._path(name).unlink(missing_ok=True)
                else:
                    raise _unusable(self.url, content)

    def claim(self) -> None:
        """Become the one driver of the run.

        Raises:
            StoreError: another is at work there.
        """
        said = self.last
        if said and not said["closed"] and said["writer"] != self._writer and not _is_gone(said):
            silent = abs(datetime.now(UTC) - datetime.fromisoformat(said["at"]))
            if silent < SILENT:
                raise StoreError(
                    f"another run ({said['host']}, process {said['process']}) is at work in {self.url}, and "
                    f"was heard of {silent.total_seconds():.0f} s ago",
                    f"wait for it to end; one that is gone is followed {SILENT.seconds // 60} minutes later",
                )
        with _told(self.url):
            self._warn_without_condition()
        self._publish({}, [], closed=False)

    def publish(self, *, closed: bool = False) -> int:
        """Carry over what is new or changed here; returns how many files.

        Raises:
            StoreError: another driver has published, or the store cannot be reached.
        """
        with self._lock, _told(self.url):
            found = dict(self._found())
            changed = {name: file for name, file in found.items() if self.files.get(name) != file}
            known = {file["sha256"] for file in self.files.values()}
            new = [name for name, file in changed.items() if file["sha256"] not in known]
            for batch in _batches(new, lambda name: changed[name]["bytes"]):
                self._send({name: changed[name] for name in batch})
            removed = sorted(name for name in self._here & self.files.keys() if name not in found)
            late = (
                bool(self.last) and datetime.now(UTC) - datetime.fromisoformat(self.last["at"]) > _HEARTBEAT
            )
            if changed or removed or closed or late:
                self._publish(changed, removed, closed=closed)
            self._here |= found.keys()
            return len(changed)

    @contextmanager
    def driven(self, stop: Callable[[], None]) -> Generator[None]:
        """Publish what is finished while the body works, and the rest at its end, however it ends.

        Args:
            stop: called, from another thread, where another driver has taken the run over; the body must end.

        Raises:
            StoreError: at the end, if it was taken over or not all could be published; what is done stands in
                the working copy.
        """
        self.claim()
        over = threading.Event()
        thread = threading.Thread(target=self._keep_publishing, args=(over, stop), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            if self._taken is not None:
                raise self._taken
            self.publish(closed=True)

    def _keep_publishing(self, over: threading.Event, stop: Callable[[], None]) -> None:
        while not over.wait(PUBLISH_S):
            try:
                self.publish()
            except Taken as error:
                self._taken = error
                stop()
                return
            except StoreError as error:
                log.warning("%s; it is tried again", str(error).splitlines()[0])

    def _found(self) -> Iterable[tuple[str, File]]:
        """The files of the working copy that are whole, with their hashes, which unchanged ones keep."""
        for folder, folders, names in os.walk(self.local):
            folders[:] = [name for name in folders if not name.startswith((SCRATCH_PREFIX, ".training-"))]
            for name in names:
                path = Path(folder, name)
                if name == "lock" or name.startswith(SCRATCH_PREFIX):
                    continue
                try:
                    stat = path.stat()
                    below = path.relative_to(self.local).as_posix()
                    size, at, sha256 = self._sent.get(below, (0, 0, ""))
                    if (size, at) != (stat.st_size, stat.st_mtime_ns):
                        sha256 = file_sha256(path)
                    self._sent[below] = (stat.st_size, stat.st_mtime_ns, sha256)
                    yield below, {"sha256": sha256, "bytes": stat.st_size}
                except FileNotFoundError:  # removed or renamed while we looked
                    continue

    def _send(self, files: dict[str, File]) -> None:
        """Write files' bytes as objects; one that grew meanwhile is sent as it is now."""
        objects: dict[str, bytes] = {}
        for name, file in files.items():
            content = self._path(name).read_bytes()
            file["sha256"], file["bytes"] = hashlib.sha256(content).hexdigest(), len(content)
            objects[f"{self.root}/objects/{file['sha256']}"] = content
        self.fs.pipe(objects)

    def _is_here(self, name: str) -> bool:
        path, file = self._path(name), self.files[name]
        same_size = path.is_file() and path.stat().st_size == file["bytes"]
        return same_size and file_sha256(path) == file["sha256"]

    def _publish(self, changed: dict[str, File], removed: list[str], *, closed: bool) -> None:
        entry = {
            "entry_version": ENTRY_VERSION,
            "writer": self._writer,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "closed": closed,
            "files": changed,
            "removed": removed,
        }
        content = json.dumps(entry, indent=1).encode()
        number = self.number + 1
        with _told(self.url):
            try:
                self.fs.pipe_file(f"{self.root}/entries/{number:08}.json", content, mode="create")
            except FileExistsError:
                raise Taken(
                    f"another driver has published to {self.url} since (entry {number})",
                    f"this one stops; what it did stands in {self.local}, and goes there with the next run",
                ) from None
        self._apply(number, entry)

    def _apply(self, number: int, entry: dict[str, Any]) -> None:
        if entry.get("entry_version", 0) > ENTRY_VERSION:
            raise StoreError(
                f"{self.url} has entries of version {entry['entry_version']}, this aftertune knows "
                f"{ENTRY_VERSION}",
                "upgrade aftertune",
            )
        for name in entry["files"]:
            self._path(name)
        self.files |= entry["files"]
        for name in entry["removed"]:
            self.files.pop(name, None)
        self.number, self.last = number, entry

    def _path(self, name: str) -> Path:
        """Where a published path stands here; others' entries may name anything."""
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or not name:
            raise StoreError(f"{self.url} names a path outside of the run: {name!r}", "do not trust it")
        return self.local / pure

    def _warn_without_condition(self) -> None:
        probe = f"{self.root}/probes/{self._writer}"
        self.fs.pipe_file(probe, b"1")
        try:
            self.fs.pipe_file(probe, b"2", mode="create")
        except FileExistsError:
            return
        finally:
            self.fs.rm_file(probe)
        log.warning(
            "the store at %s writes over what is there although it is asked not to: see to it that one "
            "driver works at a time",
            self.url,
        )


class Taken(StoreError):
    """Another driver has published to the run."""


def no_weights(name: str) -> bool:
    """Whether a file is needed by who only reads a run or judges it."""
    return not name.endswith(_WEIGHTS)


def _number(name: str) -> int:
    stem = PurePosixPath(name).stem
    return int(stem) if stem.isdecimal() else 0


def _is_gone(entry: dict[str, Any]) -> bool:
    """Whether an entry's driver was a process of this machine that has ended."""
    if entry["host"] != socket.gethostname() or entry["process"] == os.getpid():
        return False
    import psutil

    return not psutil.pid_exists(entry["process"])


def _batches(names: Sequence[str], size: Callable[[str], int]) -> Iterator[list[str]]:
    """Names of files that are carried together: so many, or so large, and at least one."""
    batch: list[str] = []
    for name in names:
        if batch and (len(batch) >= _BATCH or sum(map(size, batch)) + size(name) > _BATCH_BYTES):
            yield batch
            batch = []
        batch.append(name)
    if batch:
        yield batch


def _unusable(url: str, error: object) -> StoreError:
    said = " ".join(str(error).split())[:300] or type(error).__name__
    return StoreError(
        f"the object store at {url} cannot be used: {said}",
        "check the address, the network and the credentials; what is done is kept here, run again",
    )


@contextmanager
def _told(url: str) -> Generator[None]:
    """What a store's client raises, as our error."""
    try:
        yield
    except (StoreError, FileExistsError):
        raise
    except Exception as error:  # each store's client has its own
        raise _unusable(url, error) from error
