"""A zip from elsewhere is looked at before any library opens it, and nothing is unpacked."""

import stat
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

import formats.zips as zips
from aftertune.errors import DataError
from aftertune.formats import archives
from aftertune.formats.archives import check_zip

REAL = Path(__file__).parent / "data" / "inspect-0.3.100.eval"


def test_a_real_log_passes():
    check_zip(REAL.read_bytes(), REAL.name)


@pytest.mark.parametrize("name", ["../evil.json", "/etc/passwd", "a/../../b", "..\\evil", "C:/x", "a\\b"])
def test_a_path_of_its_own_is_refused(name: str):
    entry = zipfile.ZipInfo("x")
    entry.filename = name
    sink = BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr(entry, b"{}")
    with pytest.raises(DataError, match=r"bad.eval: the entry .* has a path that leads out of it"):
        check_zip(sink.getvalue(), "bad.eval")


def test_a_link_is_refused():
    entry = zipfile.ZipInfo("header.json")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    sink = BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr(entry, b"/etc/passwd")
    with pytest.raises(DataError, match="is a link"):
        check_zip(sink.getvalue(), "bad.eval")


def test_an_encrypted_entry_and_an_odd_method_are_refused():
    content = bytearray(zips.zip_of({"header.json": b"{}"}))
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + flags] |= 1
    with pytest.raises(DataError, match="is encrypted"):
        check_zip(bytes(content), "bad.eval")
    with pytest.raises(DataError, match="compressed by method 14"):
        check_zip(zips.zip_of({"header.json": b"{}" * 99}, zipfile.ZIP_LZMA), "bad.eval")


def test_a_bomb_by_its_own_account_is_refused_without_being_opened(monkeypatch: pytest.MonkeyPatch):
    bomb = zips.zip_of({"header.json": b"\0" * (32 << 20)})
    assert len(bomb) < 40_000
    monkeypatch.setattr(archives, "_pieces", None)
    with pytest.raises(DataError, match=r"says that \d+ bytes become 33554432"):
        check_zip(bomb, "bomb.eval")
    monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", 1000)
    with pytest.raises(DataError, match="says that it holds 1200 bytes, at most 1000"):
        check_zip(zips.zip_of({str(i): b"x" * 100 for i in range(12)}), "big.eval")
    monkeypatch.setattr(archives, "MAX_ENTRIES", 3)
    with pytest.raises(DataError, match="has 4 entries, at most 3"):
        check_zip(zips.zip_of({str(i): b"" for i in range(4)}), "many.eval")
    monkeypatch.setattr(archives, "MAX_ENTRY_BYTES", 10)
    with pytest.raises(DataError, match="says that it has 11 bytes, at most 10"):
        check_zip(zips.zip_of({"a": b"x" * 11}), "long.eval")


def test_a_bomb_that_lies_is_stopped_where_its_lie_ends(monkeypatch: pytest.MonkeyPatch):
    lie = zips.lying_about_size(64 << 20, told=1000)
    grown: list[int] = []
    pieces = archives._pieces
    monkeypatch.setattr(
        archives, "_pieces", lambda *given: (grown.append(len(piece)) or piece for piece in pieces(*given))
    )
    with pytest.raises(DataError, match="says that it has 1000 bytes and has more"):
        check_zip(lie, "lie.eval")
    assert sum(grown) <= 2 << 20


def test_entries_that_share_bytes_are_refused():
    with pytest.raises(DataError, match="share bytes"):
        check_zip(zips.overlapping(), "bad.eval")


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95, 0.999])
def test_a_log_that_was_cut_off_is_refused(share: float):
    content = REAL.read_bytes()
    with pytest.raises(DataError, match=r"cut.eval is not a whole zip archive.*\n  → make the log again"):
        check_zip(content[: int(len(content) * share)], "cut.eval")


def test_damaged_bytes_are_refused():
    content = bytearray(zips.zip_of({"header.json": bytes(range(256)) * 20}))
    content[60:80] = b"\xff" * 20
    with pytest.raises(DataError, match=r"the entry 'header.json' (is damaged|says)"):
        check_zip(bytes(content), "bad.eval")


def test_zstd_is_counted_too():
    zstandard = pytest.importorskip("zstandard")
    plain = b'{"a": 1}' * 5000
    packed = zstandard.ZstdCompressor().compress(plain)
    content = bytearray(zips.zip_of({"header.json": packed}, zipfile.ZIP_STORED))
    for told, right in ((len(plain), True), (99, False)):
        for mark, method, size in ((b"PK\x03\x04", 8, 22), (b"PK\x01\x02", 10, 24)):
            at = content.index(mark)
            content[at + method : at + method + 2] = (93).to_bytes(2, "little")
            content[at + size : at + size + 4] = told.to_bytes(4, "little")
        if right:
            check_zip(bytes(content), "log.eval")
        else:
            with pytest.raises(DataError, match="says that it has 99 bytes and has more"):
                check_zip(bytes(content), "log.eval")
