"""Archives that nobody should open, made in memory."""

import io
import zipfile
import zlib


def zip_of(entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return sink.getvalue()


def lying_about_size(size: int, *, told: int) -> bytes:
    """One entry of zeros that says in both headers that it has another length."""
    content = bytearray(zip_of({"header.json": b"\0" * size}))
    real, false = size.to_bytes(4, "little"), told.to_bytes(4, "little")
    for mark in (b"PK\x03\x04", b"PK\x01\x02"):
        at = content.index(mark) + (22 if mark == b"PK\x03\x04" else 24)
        assert content[at : at + 4] == real
        content[at : at + 4] = false
    return bytes(content)


def overlapping() -> bytes:
    """Two names of the directory that point to one entry's bytes (Fifield's zip bomb, small)."""
    content = zip_of({"a": b"x" * 50, "b": b"y" * 50}, zipfile.ZIP_STORED)
    data = bytearray(content)
    second = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 1)
    data[second + 16 : second + 20] = zlib.crc32(b"x" * 50).to_bytes(4, "little")
    data[second + 42 : second + 46] = (0).to_bytes(4, "little")
    return bytes(data)
