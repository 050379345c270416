"""The one place that knows what atomic means: write beside, flush to the disk, publish under the name."""

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from aftertune.errors import StoreError

SCRATCH_PREFIX = ".writing-"


def put_if_absent(path: Path, data: bytes) -> bool:
    """Publish `data` under `path` unless something stands there; a reader sees all of it or nothing.

    Returns:
        False where the name was taken: what stands there is kept.

    Raises:
        StoreError: the disk is full or not writable; nothing is left behind.
    """
    scratch = _write_flushed(path, data)
    try:
        os.link(scratch, path)  # unlike a rename, a link fails where the name is taken
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP):
            raise _store_error(path, error, len(data)) from error
        # A file system without hard links: the run's lock keeps a second writer away.
        if path.exists():
            return False
        os.rename(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    _flush(path.parent)
    return True


def replace(path: Path, data: bytes) -> None:
    """Publish `data` under `path` in place of what stands there; for files that a later run makes anew.

    Raises:
        StoreError: the disk is full or not writable; the old file stays.
    """
    scratch = _write_flushed(path, data)
    try:
        os.replace(scratch, path)
    except OSError as error:
        raise _store_error(path, error, len(data)) from error
    finally:
        scratch.unlink(missing_ok=True)
    _flush(path.parent)


def publish_directory(scratch: Path, target: Path) -> None:
    """Give a finished directory its name; what is in it is flushed first.

    Raises:
        StoreError: the name is taken, or the disk is full or not writable; `scratch` stays.
    """
    try:
        for entry in (scratch, *scratch.rglob("*")):
            _flush(entry)
        os.rename(scratch, target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise StoreError(f"{target} is there already", "remove it and run the study again") from error
        raise _store_error(target, error, 0) from error
    _flush(target.parent)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_files(root: Path, paths: Iterable[Path]) -> str:
    """SHA-256 over names (relative to `root`), sizes and contents of files, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        name = path.relative_to(root).as_posix()
        digest.update(f"{len(name)}:{name}:{path.stat().st_size}:".encode())
        with path.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


def _write_flushed(path: Path, data: bytes) -> Path:
    scratch: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=SCRATCH_PREFIX)
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.chmod(scratch, 0o644)
    except OSError as error:
        if scratch is not None:
            Path(scratch).unlink(missing_ok=True)
        raise _store_error(path, error, len(data)) from error
    return Path(scratch)


def _flush(entry: Path) -> None:
    """Make a file's content, or a directory's list of names, outlive a loss of power."""
    windows = os.name == "nt"
    if windows and entry.is_dir():  # which Windows neither opens nor needs to flush
        return
    descriptor = os.open(entry, os.O_RDWR if windows else os.O_RDONLY)  # Windows flushes no read-only handle
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _store_error(path: Path, error: OSError, n_bytes: int) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(
            f"the disk is full: cannot write {n_bytes} bytes to {path}",
            "free some space and run the same command again: all that was finished is kept",
        )
    return StoreError(
        f"cannot write {path}: {error.strerror}", "give a directory that you may write to (--out)"
    )
