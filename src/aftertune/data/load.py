"""From what a recipe says of its data to conversations: read, map columns, keep, mix."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from aftertune.data.conversations import (
    REMEDY,
    BlankText,
    Conversation,
    TuningData,
    conversation_by,
    conversation_of,
)
from aftertune.data.known import KNOWN, KnownSet
from aftertune.data.packaged_data import OUR_LICENCE, PACKAGED, packaged_bytes
from aftertune.data.rows import read_rows
from aftertune.data.transforms import DataRow, keep_length, keep_where, safety_mix
from aftertune.errors import DataError, nearest
from aftertune.sources import HubFile, fetch
from aftertune.study import Columns, DataSpec

_PREFIX = "packaged:"


@dataclass(frozen=True, slots=True)
class _Original:
    """The bytes of a set and what is known of it; `place` names it in errors, `ending` its format."""

    content: bytes
    place: str
    ending: str
    licence: str | None
    columns: Columns | None
    drop_blank: bool
    dangerous: bool = False


def load_conversations(source: str | DataSpec) -> TuningData:
    """Read `packaged:NAME`, a known set or a local file, and do to its rows what the mapping says.

    Raises:
        DataError: naming file, row, column and value, for anything that is not a conversation with an answer,
            and the filter that leaves nothing.
    """
    spec = source if isinstance(source, DataSpec) else _spec(source)
    original = _original(spec)
    rows, done = _rows(original)
    category = original.columns.category if original.columns else None
    rows, kept = keep_where(rows, spec, category=category, place=original.place)
    rows, sized = keep_length(rows, spec, place=original.place)
    mixed = safety_mix(len(rows), spec.safety_mix)
    done += [*kept, *sized]
    licence = original.licence
    if mixed:
        done.append(f"refusals mixed in ({len(mixed)} rows, {len(set(mixed))} different)")
        licence = f"{licence or 'not stated'}; refusals {OUR_LICENCE}"
    conversations = (*(row.conversation for row in rows), *mixed)
    words = "; ".join([original.place, *done])
    changed = bool(done) or original.columns is not None
    sha256 = _sha256(original.content, spec, conversations if changed else None)
    return TuningData(words, licence, sha256, conversations, len(mixed), original.dangerous)


def _spec(source: str) -> DataSpec:
    """The mapping that a bare string is short for."""
    if source.startswith(_PREFIX) or re.fullmatch(r"[A-Za-z0-9_-]+", source):
        return DataSpec(name=source)
    return DataSpec(path=source)


def _original(spec: DataSpec) -> _Original:
    if spec.name is not None and spec.name.startswith(_PREFIX):
        if spec.path is not None:
            raise DataError(f"{spec.name} has no path, got {spec.path!r}", "leave one of the two out")
        content = packaged_bytes(spec.name.removeprefix(_PREFIX))
        return _Original(content, spec.name, ".jsonl", OUR_LICENCE, None, spec.drop_blank)
    if spec.name is not None:
        return _known(spec, spec.name)
    if spec.hub is not None:
        file = HubFile(spec.hub, spec.file or "", spec.revision or "")
        content, ending = fetch(file).read_bytes(), _ending(file.path)
        return _Original(content, file.name, ending, None, spec.columns, spec.drop_blank)
    path = spec.path or ""
    return _Original(_local(path), path, _ending(path), None, spec.columns, spec.drop_blank)


def _known(spec: DataSpec, name: str) -> _Original:
    if name not in KNOWN:
        names = [*KNOWN, *(f"{_PREFIX}{packaged}" for packaged in PACKAGED)]
        raise DataError(
            f"there is no tuning data called {name!r}", f"{nearest(name, names)}; for a file write ./{name}"
        )
    known: KnownSet = KNOWN[name]
    if spec.path is not None:
        content, place, ending = _local(spec.path), f"{name} (copy {spec.path})", _ending(spec.path)
    else:
        file = known.file
        ending = _ending(file.path if isinstance(file, HubFile) else file.url)
        content, place = fetch(file).read_bytes(), f"{name} ({file.name})"
    drop = spec.drop_blank or known.drop_blank
    return _Original(content, place, ending, known.licence, known.columns, drop, known.dangerous)


def _ending(path: str) -> str:
    return Path(path).suffix.lower()


def _local(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(
            f"cannot read the tuning data {path}: {error.strerror}",
            "give the path of a .jsonl, .json, .csv or .parquet file, "
            f"or packaged: and one of {', '.join(PACKAGED)}",
        ) from error


def _rows(original: _Original) -> tuple[list[DataRow], list[str]]:
    rows: list[DataRow] = []
    n_blank = 0
    for where, row in read_rows(original.content, original.place, ending=original.ending):
        try:
            conversation = (
                conversation_of(row, where)
                if original.columns is None
                else conversation_by(original.columns, row, where)
            )
        except BlankText:
            if not original.drop_blank:
                raise
            n_blank += 1
            continue
        rows.append(DataRow(row, conversation))
    if not rows:
        left_out = f": all {n_blank} are blank and drop_blank left them out" if n_blank else ""
        raise DataError(f"{original.place} has no rows{left_out}", REMEDY)
    return rows, [f"{n_blank} blank rows left out"] if n_blank else []


def _sha256(content: bytes, spec: DataSpec, conversations: tuple[Conversation, ...] | None) -> str:
    """The hash of the bytes; where something was done to them, also of that and of what came of it."""
    plain = hashlib.sha256(content).hexdigest()
    if conversations is None:
        return plain
    done = spec.model_dump(mode="json", include={"columns", "where", "min_chars", "max_chars", "safety_mix"})
    texts = [[(message.role, message.content) for message in row] for row in conversations]
    whole = json.dumps([plain, done, texts], ensure_ascii=True, sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()
