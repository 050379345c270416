"""Every response of the baseline procedure, packed into the page: an index, and texts read when asked for.

A page opened from disk can fetch nothing, so the pieces lie inside it: gzip, as base64, in data blocks that
no browser runs. The index is small and read at once; a piece of texts is read when one of its items is
opened, and all of them for a search. Nothing is estimated here: values are selected, counted and coded.
"""

import base64
import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from aftertune.foreign_text import visible
from aftertune.records import Construct, Finish, ResponseStatus
from aftertune.report import words
from aftertune.report.select import Headline

PIECE = 1_000_000  # characters of text in a piece: unpacked in some 20 ms, and few enough for a short page
_SHORT = 160  # characters of a prompt in the list
_REASON = 300  # characters of why a judgment is missing
_LEVEL = 6  # of gzip: 9 takes twice as long for 2% less
_EVENT = 0.5  # a value from here on is the event

# Bits of an item's flags under a decoding: true of at least one of its responses.
FLAGS = {"missing": 1, "failed": 2, "empty": 4, "length": 8}

_ITEM, _PLACE = ["task", "item"], ["i", "d", "c", "repeat"]


@dataclass(frozen=True, slots=True)
class Explorer:
    """Data blocks for the page, each base64 of gzip.

    `index` is JSON: names, items, where each item's texts lie. `counts` are little-endian 16-bit numbers:
    events, then judged draws, both decodings × items × checkpoints × measures, then flags and splits, both
    decodings × items. `pieces` are JSON: a list of items with their prompt and responses.
    """

    index: str
    counts: str
    pieces: tuple[str, ...]
    n_items: int
    n_responses: int


@dataclass(frozen=True, slots=True)
class _Names:
    """What stands in the index by name and elsewhere by number."""

    models: list[str]
    checkpoints: pl.DataFrame  # c, checkpoint, model, seed
    items: pl.DataFrame  # i, task, item, category, intent, prompt
    decodings: list[str]
    measures: list[tuple[str, str]]  # judge, construct
    constructs: list[str]


def pack(frame: pl.DataFrame, head: Headline, *, models: Sequence[str], base: str | None) -> Explorer | None:
    """All responses of a frame; None where it holds none.

    Args:
        frame: a row per judgment: model, seed, checkpoint, task, item, category, intent, prompt, decoding,
            repeat, judge, judge_repeat, construct, value, status, reason, and of its response text, finish,
            response_status, response_reason. In any order: the same rows give the same pieces.
        head: its task, decoding and judge come first.
        models: their order and colours on the page, the base first.
        base: which of them the others are held against; None where there is none.
    """
    if frame.is_empty():
        return None
    names = _names(frame, head, models)
    # Sorted first: the mean over judge repeats then adds in one order, whatever the frame's.
    rows = _numbered(frame, names).sort(*_PLACE, "k", "judge_repeat")
    judged = rows.group_by(*_PLACE, "k", maintain_order=True).agg(
        pl.col("value").mean(),
        pl.col("status").filter(pl.col("value").is_null()).first(),
        pl.col("reason").filter(pl.col("value").is_null()).first(),
    )
    kept = ("text", "finish", "response_status", "response_reason")
    responses = rows.unique(_PLACE, keep="first", maintain_order=True).select(*_PLACE, *kept)
    where, pieces = _pieces(responses, judged, names)
    index = _index(names, where, base=base, head=head, n_responses=responses.height)
    index["judge_repeats"] = rows["judge_repeat"].n_unique()
    return Explorer(
        index=_packed(_json(index)),
        counts=_packed(_counts(judged, responses, names)),
        pieces=tuple(map(_packed, pieces)),
        n_items=names.items.height,
        n_responses=responses.height,
    )


def _names(frame: pl.DataFrame, head: Headline, models: Sequence[str]) -> _Names:
    found = frame["model"].unique().sort().to_list()
    ordered = [*(m for m in models if m in found), *(m for m in found if m not in models)]
    checkpoints = (
        frame.select("checkpoint", "model", "seed")
        .unique("checkpoint")
        .sort(pl.col("model").replace_strict(ordered, range(len(ordered))), "seed", "checkpoint")
        .with_row_index("c")
    )
    items = (
        frame.unique(_ITEM, keep="any")
        .select(*_ITEM, pl.col("category").fill_null(""), "intent", pl.col("prompt").fill_null(""))
        .sort(pl.col("task") != head.task, "task", "category", "item")
        .with_row_index("i")
    )
    measures: list[tuple[str, str]] = frame.select("judge", "construct").unique().rows()
    fits = {Construct.REFUSED, Construct.COMPLIED, Construct.HARMFUL}  # what the headline's judge says first
    return _Names(
        models=ordered,
        checkpoints=checkpoints,
        items=items,
        decodings=sorted(frame["decoding"].unique().to_list(), key=lambda d: (d != head.decoding, d)),
        measures=sorted(measures, key=lambda m: (m[0] != head.judge, m[1] not in fits, m)),
        constructs=sorted({construct for _, construct in measures}),
    )


def _numbered(frame: pl.DataFrame, names: _Names) -> pl.DataFrame:
    """The frame with numbers for names: i, d, c, k."""
    judges, constructs = zip(*names.measures, strict=True)
    measures = pl.DataFrame({"judge": judges, "construct": constructs}).with_row_index("k")
    return (
        frame.drop("category", "intent", "prompt")
        .join(names.items.select("i", *_ITEM), on=_ITEM)
        .join(names.checkpoints.select("c", "checkpoint"), on="checkpoint")
        .join(pl.DataFrame({"decoding": names.decodings}).with_row_index("d"), on="decoding")
        .join(measures, on=["judge", "construct"])
    )


def _counts(judged: pl.DataFrame, responses: pl.DataFrame, names: _Names) -> bytes:
    """Events and judged draws of each checkpoint on each item, and what is true of any of its responses."""
    flat = (len(names.decodings), names.items.height)
    full = (*flat, names.checkpoints.height, len(names.measures))
    known = judged.drop_nulls("value").with_columns(event=pl.col("value") >= _EVENT)
    cells = known.group_by("d", "i", "c", "k").agg(pl.col("event").sum(), judged=pl.len())
    constructs = pl.Series([names.constructs.index(construct) for _, construct in names.measures])
    splits = (
        known.with_columns(construct=constructs.gather(known["k"]))
        .group_by(*_PLACE, "construct")
        .agg(split=pl.col("event").n_unique() > 1)
        .filter("split")
    )
    marks = {
        "missing": judged.filter(pl.col("value").is_null()),
        "failed": responses.filter(pl.col("response_status") == ResponseStatus.FAILED),
        "empty": responses.filter(pl.col("response_status") == ResponseStatus.EMPTY),
        "length": responses.filter(pl.col("finish") == Finish.LENGTH),
    }
    flags, split = np.zeros(flat, "<u2"), np.zeros(flat, "<u2")
    for name, found in marks.items():
        flags[found["d"].to_numpy(), found["i"].to_numpy()] |= FLAGS[name]
    bits = np.left_shift(1, splits["construct"].to_numpy()).astype("<u2")
    np.bitwise_or.at(split, (splits["d"].to_numpy(), splits["i"].to_numpy()), bits)
    place = tuple(cells[axis].to_numpy() for axis in ("d", "i", "c", "k"))
    both = [np.zeros(full, "<u2"), np.zeros(full, "<u2")]
    for array, column in zip(both, ("event", "judged"), strict=True):
        array[place] = cells[column].to_numpy()
    return b"".join(array.tobytes() for array in (*both, flags, split))


def _index(
    names: _Names, where: list[int], *, base: str | None, head: Headline, n_responses: int
) -> dict[str, Any]:
    tasks = names.items.select("task", "intent").unique("task", keep="any", maintain_order=True)
    categories = sorted(set(names.items["category"].to_list()))
    changes = {c: words.construct_changes(c) for c in names.constructs}
    return {
        "models": _seen(names.models),
        "base": names.models.index(base) if base in names.models else None,
        "checkpoints": [
            [names.models.index(row["model"]), row["seed"], visible(row["checkpoint"])]
            for row in names.checkpoints.iter_rows(named=True)
        ],
        "tasks": [[visible(task), intent] for task, intent in tasks.iter_rows()],
        "categories": _seen(categories),
        "decodings": _seen(names.decodings),
        "measures": [[visible(judge), construct] for judge, construct in names.measures],
        "constructs": [[c, *changes[c]] for c in names.constructs],
        "flags": FLAGS,
        "n_responses": n_responses,
        "items": {
            "task": _codes(names.items["task"], tasks["task"].to_list()),
            "category": _codes(names.items["category"], categories),
            "id": _seen(names.items["item"]),
            "prompt": [visible(_short(p)) for p in names.items["prompt"]],
            "piece": where,
        },
        "headline": visible(head.task),
    }


def _pieces(responses: pl.DataFrame, judged: pl.DataFrame, names: _Names) -> tuple[list[int], list[bytes]]:
    """Which piece each item is in, and the pieces."""
    where: list[int] = []
    pieces: list[bytes] = []
    pending: list[dict[str, Any]] = []
    held = 0
    for item in _items(responses, judged, names):
        size = len(item["p"]) + sum(map(len, item["t"]))
        if pending and held + size > PIECE:
            pieces.append(_json(pending))
            pending, held = [], 0
        pending.append(item)
        held += size
        where.append(len(pieces))
    return where, [*pieces, _json(pending)]


def _items(responses: pl.DataFrame, judged: pl.DataFrame, names: _Names) -> Iterator[dict[str, Any]]:
    """Each item's prompt and responses.

    By column: d, c, r (decoding, checkpoint, repeat), t (text), f (1: cut off), s (status and reason where a
    response is not ok), v (a list of values per measure, null where none), m (place, measure, status and
    reason of each judgment without a value).
    """
    values = _values(responses, judged, len(names.measures))
    gone = judged.filter(pl.col("value").is_null()).join(
        responses.with_row_index("n").select("n", *_PLACE), on=_PLACE, maintain_order="left"
    )
    lost = _by_item(gone, names.items.height)
    columns = {short: responses[name].to_list() for short, name in (("d", "d"), ("c", "c"), ("r", "repeat"))}
    columns["f"] = (responses["finish"] == Finish.LENGTH).fill_null(value=False).cast(pl.Int8).to_list()
    texts = [visible(text) for text in responses["text"].fill_null("")]
    wrong = responses.select("response_status", "response_reason").rows()
    ends = np.searchsorted(responses["i"].to_numpy(), np.arange(1, names.items.height + 1)).tolist()
    start = 0
    for i, (prompt, end) in enumerate(zip(names.items["prompt"], ends, strict=True)):
        item: dict[str, Any] = {"p": visible(prompt)}
        item |= {name: column[start:end] for name, column in columns.items()}
        item["t"] = texts[start:end]
        item["s"] = [_status(*pair) for pair in wrong[start:end]]
        item["v"] = [column[start:end] for column in values]
        item["m"] = [
            [n - start, k, status, visible((reason or "")[:_REASON])] for n, k, status, reason in lost[i]
        ]
        yield item
        start = end


def _values(responses: pl.DataFrame, judged: pl.DataFrame, n_measures: int) -> list[list[float | None]]:
    """A list per measure, a value per response."""
    return [
        responses.select(_PLACE)
        .join(judged.filter(pl.col("k") == k), on=_PLACE, how="left", maintain_order="left")["value"]
        .round(3)
        .to_list()
        for k in range(n_measures)
    ]


def _by_item(gone: pl.DataFrame, n_items: int) -> list[list[tuple[int, int, str, str | None]]]:
    found: list[list[tuple[int, int, str, str | None]]] = [[] for _ in range(n_items)]
    for i, *rest in gone.select("i", "n", "k", "status", "reason").iter_rows():
        found[i].append(tuple(rest))
    return found


def _status(status: str | None, reason: str | None) -> list[str] | None:
    return None if status in (None, ResponseStatus.OK) else [status, visible((reason or "")[:_REASON])]


def _codes(column: pl.Series, names: list[str]) -> list[int]:
    return column.replace_strict(names, range(len(names)), return_dtype=pl.Int64).to_list()


def _seen(names: Sequence[str] | pl.Series) -> list[str]:
    return [visible(name) for name in names]


def _short(prompt: str) -> str:
    text = " ".join(prompt.split())
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 1].rstrip()}…"


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _packed(content: bytes) -> str:
    # Without a time in its header: the same content gives the same bytes.
    return base64.b64encode(gzip.compress(content, _LEVEL, mtime=0)).decode()
