"""What a zip archive from elsewhere must look like before another library opens it.

Nothing is unpacked to the disk. An archive says in its directory what its entries are called and how large
they will be; all of that is checked, and then every entry is decompressed once in pieces and counted, since
the directory may lie. Entries that share bytes (Fifield 2019, A better zip bomb, WOOT '19) are refused too.
"""

import importlib
import io
import itertools
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from aftertune.errors import DataError

MAX_ENTRIES = 200_000
MAX_ENTRY_BYTES = 1 << 30
MAX_TOTAL_BYTES = 8 << 30
# Logs repeat themselves: zstd brings real ones down to a 50th. Small entries may be anything.
MAX_RATIO, _RATIO_FROM_BYTES = 1_000, 16 << 20
_PIECE = 1 << 20
_STORED, _DEFLATED, _ZSTD = 0, 8, 93
_HEADER_BYTES = 30  # of an entry's own header, before its name and extra field
_AGAIN = "make the log again, or copy it again from where it was made"
_NOT_A_LOG = "no evaluation tool writes such an archive: do not open it with one"


def check_zip(content: bytes, source: str) -> None:
    """Refuse an archive that is damaged, that points out of itself, or that would not stop growing.

    Args:
        content: the archive.
        source: its name, for messages.

    Raises:
        DataError: it is no whole zip file; an entry has a path of its own, is a link or encrypted, or is
            compressed in another way than stored, deflated or zstd; there are too many entries or bytes; two
            entries share bytes; an entry is not as long as it says.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError) as error:
        raise DataError(f"{source} is not a whole zip archive: {error}", _AGAIN) from error
    if len(entries) > MAX_ENTRIES:
        raise DataError(f"{source} has {len(entries)} entries, at most {MAX_ENTRIES} are read", _NOT_A_LOG)
    for entry in entries:
        _check_entry(entry, source)
    total = sum(entry.file_size for entry in entries)
    if total > MAX_TOTAL_BYTES:
        raise DataError(
            f"{source} says that it holds {total} bytes, at most {MAX_TOTAL_BYTES} are read", _NOT_A_LOG
        )
    _check_apart(entries, source)
    for entry in entries:
        _check_size(entry, content, source)


def _check_entry(entry: zipfile.ZipInfo, source: str) -> None:
    name = entry.filename
    parts = name.replace("\\", "/").split("/")
    if (
        name != entry.orig_filename
        or "\\" in name
        or name.startswith("/")
        or ":" in parts[0]
        or ".." in parts
    ):
        wrong = "has a path that leads out of it"
    elif stat.S_ISLNK(entry.external_attr >> 16):
        wrong = "is a link"
    elif entry.flag_bits & 0x1:
        wrong = "is encrypted"
    elif entry.compress_type not in (_STORED, _DEFLATED, _ZSTD):
        wrong = f"is compressed by method {entry.compress_type}; stored, deflated and zstd are read"
    elif entry.file_size > MAX_ENTRY_BYTES:
        wrong = f"says that it has {entry.file_size} bytes, at most {MAX_ENTRY_BYTES} are read"
    elif entry.file_size > max(_RATIO_FROM_BYTES, MAX_RATIO * entry.compress_size):
        wrong = f"says that {entry.compress_size} bytes become {entry.file_size}"
    else:
        return
    raise DataError(f"{source}: the entry {name[:80]!r} {wrong}", _NOT_A_LOG)


def _check_apart(entries: list[zipfile.ZipInfo], source: str) -> None:
    ordered = sorted(entries, key=lambda entry: entry.header_offset)
    for entry, following in itertools.pairwise(ordered):
        end = entry.header_offset + _HEADER_BYTES + len(entry.orig_filename.encode()) + entry.compress_size
        if end > following.header_offset:
            raise DataError(
                f"{source}: the entries {entry.filename[:80]!r} and {following.filename[:80]!r} share bytes",
                _NOT_A_LOG,
            )


def _check_size(entry: zipfile.ZipInfo, content: bytes, source: str) -> None:
    """Decompress an entry piece by piece, keep nothing, and stop as soon as it is longer than it says."""
    found = 0
    try:
        for piece in _pieces(entry, content):
            found += len(piece)
            if found > entry.file_size:
                break
    except (zlib.error, ValueError, EOFError) as error:
        raise DataError(f"{source}: the entry {entry.filename[:80]!r} is damaged: {error}", _AGAIN) from error
    if found != entry.file_size:
        more = "more" if found > entry.file_size else f"{found}"
        raise DataError(
            f"{source}: the entry {entry.filename[:80]!r} says that it has {entry.file_size} bytes "
            f"and has {more}",
            _NOT_A_LOG if found > entry.file_size else _AGAIN,
        )


class _Decompressor(Protocol):
    @property
    def unconsumed_tail(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


def _pieces(entry: zipfile.ZipInfo, content: bytes) -> Iterator[bytes]:
    start = entry.header_offset
    header = content[start : start + _HEADER_BYTES]
    if len(header) < _HEADER_BYTES or header[:4] != b"PK\x03\x04":
        raise EOFError("its header is not where the archive says")
    start += _HEADER_BYTES + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    data = content[start : start + entry.compress_size]
    if len(data) < entry.compress_size:
        raise EOFError("it ends too early")
    if entry.compress_type == _STORED:
        yield data
    elif entry.compress_type == _DEFLATED:
        yield from _inflated(zlib.decompressobj(-15), data)
    else:
        yield from _zstd(data)


def _inflated(decompressor: _Decompressor, data: bytes) -> Iterator[bytes]:
    while data:
        piece = decompressor.decompress(data, _PIECE)
        yield piece
        data = decompressor.unconsumed_tail


def _zstd(data: bytes) -> Iterator[bytes]:
    zstandard = importlib.import_module(
        "zstandard"
    )  # comes with inspect_ai, which alone writes such archives
    try:
        reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True)
        while piece := reader.read(_PIECE):
            yield piece
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error


def entry_content(entry: zipfile.ZipInfo, content: bytes) -> bytes:
    """The bytes of one entry of an archive that `check_zip` has checked, also of one that is zstd."""
    return b"".join(_pieces(entry, content))


def read_capped(path: Path, most: int) -> bytes:
    """A file's bytes.

    Raises:
        DataError: it is larger than `most` bytes.
    """
    size = path.stat().st_size
    if size > most:
        raise DataError(f"{path} has {size} bytes, at most {most} are read", "part it into smaller logs")
    return path.read_bytes()
