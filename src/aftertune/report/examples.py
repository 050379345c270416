"""Which responses the page shows: a few items whose event differs between the base and a recipe."""

from dataclasses import dataclass
from itertools import groupby
from typing import Any

import polars as pl

from aftertune.records import METRICS
from aftertune.report import words
from aftertune.report.select import Headline

MOST_TO_EVENT, MOST_TO_NO_EVENT = 3, 2  # a recipe
LONGEST = 1200  # characters of a response

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Example:
    """One item, the base's response and one checkpoint's, and what changed between them."""

    change: str
    checkpoint: str
    category: str
    item: str
    prompt: str
    before: str
    after: str


def choose(frame: pl.DataFrame, head: Headline) -> list[Example]:
    """For each recipe the first items that changed, one category after the other; the same ones every time.

    Args:
        frame: a row per judgment: checkpoint, task, item, category, prompt, decoding, repeat, judge,
            construct, value, status, text, finish. Only the headline's task, decoding and judge are read.
        head: the headline.
    """
    metric = next((m for m in METRICS if (m.name, m.note) == (head.metric, head.note)), None)
    if metric is None:
        return []
    rows = frame.filter(
        pl.col("task") == head.task,
        pl.col("decoding") == head.decoding,
        pl.col("judge") == head.judge,
        pl.col("construct") == metric.construct,
        pl.col("value").is_not_null(),
    ).with_columns(event=(pl.col("value") >= 0.5) != metric.complement)
    rows = rows.sort("checkpoint", "category", "item", "repeat").to_dicts()
    first = {key: next(group) for key, group in groupby(rows, key=lambda r: (r["checkpoint"], r["item"]))}
    base = {item: row for (checkpoint, item), row in first.items() if checkpoint == "base"}
    tuned = [row for (checkpoint, item), row in first.items() if checkpoint != "base" and item in base]
    chosen: list[Example] = []
    for _, of_recipe in groupby(tuned, key=lambda r: r["checkpoint"].rpartition("/")[0] or r["checkpoint"]):
        chosen += _of_recipe(list(of_recipe), base, words.changes(head.metric))
    return chosen


def _of_recipe(rows: list[Row], base: dict[str, Row], names: tuple[str, str]) -> list[Example]:
    chosen: list[Example] = []
    for event, most, name in ((True, MOST_TO_EVENT, names[0]), (False, MOST_TO_NO_EVENT, names[1])):
        changed = {r["item"]: r for r in reversed(rows) if r["event"] == event != base[r["item"]]["event"]}
        turn: dict[str, int] = {}
        order: list[tuple[int, str, str]] = []
        for row in sorted(changed.values(), key=lambda r: (r["category"], r["item"])):
            turn[row["category"]] = turn.get(row["category"], -1) + 1
            order.append((turn[row["category"]], row["category"], row["item"]))
        chosen += [_example(changed[item], base[item], name) for _, _, item in sorted(order)[:most]]
    return chosen


def _example(row: Row, base: Row, change: str) -> Example:
    return Example(
        change=change,
        checkpoint=row["checkpoint"],
        category=row["category"],
        item=row["item"],
        prompt=_shortened(row["prompt"] or "(no prompt)"),
        before=_response(base),
        after=_response(row),
    )


def _response(row: Row) -> str:
    if not row["text"]:
        return "(no text)"
    cut = "\n[cut off at max_tokens]" if row["finish"] == "length" else ""
    return _shortened(row["text"]) + cut


def _shortened(text: str) -> str:
    left = len(text) - LONGEST
    return text if left <= 0 else f"{text[:LONGEST]}…\n[{left:,} more characters]"
