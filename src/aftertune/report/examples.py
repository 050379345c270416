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
    """One item, the base's response and one checkpoint's, and what changed between them.

    `base` and `checkpoint` are labels of checkpoints.
    """

    change: str
    base: str
    checkpoint: str
    category: str
    item: str
    prompt: str
    before: str
    after: str


def choose(frame: pl.DataFrame, head: Headline, *, base: str | None) -> list[Example]:
    """For each recipe the first items that changed, one category after the other; the same ones every time.

    Args:
        frame: a row per judgment: model, checkpoint, task, item, category, prompt, decoding, repeat, judge,
            construct, value, status, text, finish. Only the headline's task, decoding and judge are read.
        head: the headline.
        base: the model that the others are compared with; None where there is none, and then no examples.
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
    rows = rows.sort("model", "checkpoint", "category", "item", "repeat").to_dicts()
    by_draw = groupby(rows, key=lambda r: (r["model"], r["checkpoint"], r["item"]))
    first = [next(group) for _, group in by_draw]
    # Of a base with several checkpoints the first that has the item, so that a pair is always of two.
    of_base = {row["item"]: row for row in reversed(first) if row["model"] == base}
    tuned = [row for row in first if row["model"] != base and row["item"] in of_base]
    chosen: list[Example] = []
    for _, of_recipe in groupby(tuned, key=lambda r: r["model"]):
        chosen += _of_recipe(list(of_recipe), of_base, words.changes(head.metric))
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
        base=base["checkpoint"],
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
