"""A log of Inspect whose texts hold halves of surrogate pairs, made readable.

inspect_ai refuses such a log, or writes `?` for them. JSON can hold half of a pair, as an escape or as bytes
that are no UTF-8: a text that was cut inside an emoji.
"""

import io
import re
import zipfile
from pathlib import Path

from aftertune.formats.archives import entry_content

# A whole pair, half of one, or any other escape, so that the backslash of none is taken for another's.
_ESCAPES = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|\\(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})"
    rb"|\\.",
    re.DOTALL,
)

_MAYBE = re.compile(rb"\\u[dD][89a-fA-F]")


def write_without_halves(content: bytes, copy: Path) -> int:
    """Write a copy of a log with each half of a surrogate pair escaped once more; returns how many.

    Args:
        content: of a `.json`, or of a `.eval` that `check_zip` has checked.
        copy: where it goes; its ending says which of the two it is. Not written where there is no half.
    """
    if copy.suffix != ".eval":
        changed, n = _without_halves(content)
        if n:
            copy.write_bytes(changed)
        return n
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
    found = [(entry.filename, *_without_halves(entry_content(entry, content))) for entry in entries]
    total = sum(n for _, _, n in found)
    if total:
        with zipfile.ZipFile(copy, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, changed, _ in found:
                archive.writestr(name, changed)
    return total


def _without_halves(content: bytes) -> tuple[bytes, int]:
    if content.isascii() and not _MAYBE.search(content):
        return content, 0
    try:
        text = content.decode("utf-8", "surrogatepass").encode("utf-8", "backslashreplace")
    except UnicodeDecodeError:  # it is damaged in another way too
        text = content
    n = 0

    def escaped(match: re.Match[bytes]) -> bytes:
        nonlocal n
        half = match["half"]
        n += half is not None
        return match[0] if half is None else b"\\\\" + half

    return _ESCAPES.sub(escaped, text), n
