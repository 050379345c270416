"""Cells of the design: the judgments of one model on one task, by decoding, judge and metric."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from aftertune.records import Construct, Intent, Metric, metrics_of
from aftertune.records.analysis import (
    Design,
    DesignKind,
    Interval,
    ModelDesign,
    Primary,
    Rate,
    Setting,
    WholeDesign,
)
from aftertune.records.cell import Cell
from aftertune.stats import BoolArray, Draws, are_linked, filled_means


@dataclass(frozen=True)
class Settings:
    """What the analysis goes by.

    `deterministic` names decodings that are greedy and exact, `base` the model that others are compared with;
    `post_hoc` names the settings that no study fixed beforehand.
    """

    level: float
    margin: float
    max_missing: float
    deterministic: frozenset[str]
    base: str | None = None
    primary: Primary | None = None
    post_hoc: tuple[Setting, ...] = ()


@dataclass(frozen=True)
class Checkpoint:
    """One row of a cell's array."""

    seed: int | None
    label: str
    share_length: float | None


@dataclass(frozen=True, eq=False)
class ModelCell:
    """One model's draws in one cell of the study, S×P×R, in units of the metric.

    `asked` says where the table has a row, `draws.present` where that row has a value. `by_status` counts the
    rows without one, and under `absent` the seed × item cells without any row.
    """

    model: str
    task: str
    decoding: str
    judge: str
    metric: Metric
    checkpoints: tuple[Checkpoint, ...]
    items: tuple[str, ...]
    categories: tuple[str, ...]
    draws: Draws
    asked: BoolArray
    by_status: dict[str, int]

    @property
    def key(self) -> dict[str, Any]:
        """The fields of `records.analysis.Cell`."""
        metric = self.metric
        return {
            "model": self.model,
            "task": self.task,
            "decoding": self.decoding,
            "judge": self.judge,
            "metric": metric.name,
            "higher_is": metric.higher_is.value,
            "note": metric.note,
        }

    @property
    def where(self) -> str:
        """The cell in one line, for warnings."""
        return f"{self.model} · {self.place}"

    @property
    def place(self) -> str:
        """The cell without its model."""
        note = f" {self.metric.note}" if self.metric.note else ""
        return f"{self.task} · {self.decoding} · {self.judge} · {self.metric.name}{note}"

    @property
    def n_missing(self) -> int:
        """Judgments without a value."""
        return sum(self.by_status.values())

    @property
    def n_observations(self) -> int:
        """Rows, and the cells that should have had one."""
        return int(self.asked.sum()) + self.by_status.get("absent", 0)

    def exceeds_missing_limit(self, settings: Settings) -> bool:
        """Whether only bounds may be given."""
        return bool(self.why_bounds(settings))

    def why_bounds(self, settings: Settings) -> str:
        """Why only bounds may be given; empty where an estimate may be too."""
        share, limit = self.n_missing / self.n_observations, settings.max_missing
        if share > limit or not self.draws.present.any():
            return f"{share:.1%} of the judgments are missing, more than {limit:.1%}"
        return (
            "" if self.linked else "judgments are missing, and no item links some of the seeds to the others"
        )

    @cached_property
    def linked(self) -> bool:
        """Whether every seed that has values shares items with the others, directly or over further seeds."""
        return are_linked(self.usable.counts_sp > 0)

    def certain(self, settings: Settings) -> bool:
        """Whether nothing was drawn: greedy decoding under exact numerics, every judgment there."""
        return self.decoding in settings.deterministic and self.n_missing == 0

    @cached_property
    def has_value(self) -> tuple[BoolArray, BoolArray]:
        """Which seeds and which items have any value."""
        counts = self.draws.counts_sp
        return counts.sum(axis=1) > 0, counts.sum(axis=0) > 0

    @cached_property
    def usable(self) -> Draws:
        """The draws without seeds and items that have no value at all; these count in the bounds alone."""
        seeds, items = self.has_value
        return Draws(self.draws.values[seeds][:, items], self.draws.present[seeds][:, items])

    @cached_property
    def seed_rates(self) -> list[float | None]:
        """Each checkpoint's rate on the items of the cell, None where it has no value.

        Their mean is the cell's rate (`point_estimate`): a seed is not better for having missed a hard item.
        """
        rates = iter(filled_means(self.usable).mean(axis=1).tolist() if self.draws.present.any() else ())
        return [next(rates) if there else None for there in self.has_value[0]]

    def bounds(self) -> tuple[float, float]:
        """The mean over seeds × items if every missing judgment were 0, or 1."""
        asked = self.asked.sum(axis=2)
        total = self.draws.values.sum(axis=2)
        missing = np.where(asked > 0, asked - self.draws.counts_sp, 1)
        n = np.maximum(asked, 1)
        return float((total / n).mean()), float(((total + missing) / n).mean())


def cell_of(result: Cell, *, without: str = "") -> tuple[str, ...]:
    """The names of the cell that a result is about, in the order of `ModelCell.key`; of all but one facet."""
    return tuple(getattr(result, name) for name in Cell.model_fields if name != without)


@dataclass(frozen=True, eq=False)
class MetricCells:
    """All models' cells of one task × decoding × judge × metric; `contrasted` is False for a mirror image."""

    cells: dict[str, ModelCell]
    contrasted: bool

    @property
    def any(self) -> ModelCell:
        """One of them, for the names that they share."""
        return next(iter(self.cells.values()))


def build_cells(frame: pl.DataFrame, *, also: frozenset[str] = frozenset()) -> Iterator[MetricCells]:
    """The cells of a checked table in a fixed order that does not depend on the order of its rows.

    A judge that gives `complied` needs no compliance by refusal. Where compliance is `1 − refused`, the
    refusal rate is its mirror image and only its rates are reported, unless `also` names it.
    """
    slim = frame.drop("study", "variation", "reason", "response_key", strict=False)
    draws = _average_judge_repeats(slim).with_columns(pl.col("item").to_physical().alias("code"))
    groups = draws.partition_by(["task", "decoding", "judge", "construct"], as_dict=True)
    constructs: dict[tuple[str, ...], set[str]] = {}
    for task, decoding, judge, construct in groups:
        constructs.setdefault((task, decoding, judge), set()).add(construct)
    for key in sorted(groups):
        group = groups.pop(key)  # let go of when it is told: a large table is not kept twice
        complied = Construct.COMPLIED.value in constructs[key[:3]]
        intent = Intent(group["intent"][0])
        models = group.partition_by("model", as_dict=True)
        for metric in metrics_of(intent, Construct(key[3])):
            if metric.complement and complied:
                continue
            cells = {name[0]: _cell(models[name], metric) for name in sorted(models)}
            mirror = metric.name == "refusal_rate" and not complied
            yield MetricCells(cells, contrasted=not mirror or metric.name in also)


def without_metric(frame: pl.DataFrame) -> dict[tuple[str, str], int]:
    """How many rows have no metric and are in no cell, by intent and construct."""
    counts = frame.group_by("intent", "construct").len().cast({"intent": pl.String, "construct": pl.String})
    return {
        (intent, construct): n
        for intent, construct, n in counts.sort("intent", "construct").iter_rows()
        if not metrics_of(Intent(intent), Construct(construct))
    }


def _average_judge_repeats(frame: pl.DataFrame) -> pl.DataFrame:
    """Average a judge's repeats of one response, over those that have a value."""
    if frame["judge_repeat"].n_unique() == 1:
        return frame
    key = ["model", "seed", "checkpoint", "task", "item", "decoding", "repeat", "judge", "construct"]
    failed = pl.col("status").filter(pl.col("status") != "ok")
    status = pl.when(pl.col("value").is_not_null().any()).then(pl.lit("ok")).otherwise(failed.sort().first())
    return (
        frame.cast({"status": pl.String})
        .group_by(key)
        .agg(
            pl.col("value").mean(),
            status.alias("status"),
            pl.col("category", "intent", "finish").sort().first(),
        )
    )


def _cell(rows: pl.DataFrame, metric: Metric) -> ModelCell:
    runs = rows.select("seed", "checkpoint").unique().sort("seed", "checkpoint", nulls_last=False)
    names = rows.group_by("code").agg(pl.col("item").first(), pl.col("category").sort().first()).sort("code")
    code, repeat = rows["code"].to_numpy(), rows["repeat"].to_numpy()
    p = np.searchsorted(names["code"].to_numpy(), code)
    labels = runs["checkpoint"].to_list()
    run_of = runs.with_row_index("run")
    s = rows.join(run_of, on=["seed", "checkpoint"], how="left", nulls_equal=True, maintain_order="left")[
        "run"
    ].to_numpy()
    numbers, r = np.unique(repeat, return_inverse=True)
    shape = (runs.height, names.height, len(numbers))
    values, present, asked = np.zeros(shape), np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    given = rows["value"].is_not_null().to_numpy()
    value = rows["value"].fill_null(0.0).to_numpy()
    asked[s, p, r] = True
    present[s, p, r] = given
    values[s, p, r] = np.where(given, 1 - value if metric.complement else value, 0.0)
    by_status = _missing_by_status(rows, asked)
    shares = _length_shares(rows)
    first = rows.row(0, named=True)
    return ModelCell(
        model=first["model"],
        task=first["task"],
        decoding=first["decoding"],
        judge=first["judge"],
        metric=metric,
        checkpoints=tuple(
            Checkpoint(seed, label, shares.get(label))
            for seed, label in zip(runs["seed"], labels, strict=True)
        ),
        items=tuple(names["item"]),
        categories=tuple(names["category"]),
        draws=Draws(values, present),
        asked=asked,
        by_status=by_status,
    )


def _missing_by_status(rows: pl.DataFrame, asked: BoolArray) -> dict[str, int]:
    counted = rows.filter(pl.col("value").is_null()).group_by("status").len().sort("status")
    by_status = dict(zip(counted["status"], counted["len"], strict=True))
    absent = int((asked.sum(axis=2) == 0).sum())
    return by_status | ({"absent": absent} if absent else {})


def _length_shares(rows: pl.DataFrame) -> dict[str, float]:
    """By checkpoint, the share of its responses that hit max_tokens; left out where no row says."""
    known = rows.filter(pl.col("finish").is_not_null())
    shares = known.group_by("checkpoint").agg((pl.col("finish") == "length").mean().alias("share"))
    return dict(zip(shares["checkpoint"], shares["share"], strict=True))


_FOR = {"benchmark": "these items", "population": "requests like these"}


def describe_design(rates: list[Rate], base: str | None) -> Design:
    """The design of the whole table, and of each model as far as its cells differ."""
    groups: dict[tuple[str, str, str], list[Rate]] = defaultdict(list)
    for rate in rates:
        groups[rate.model, _kind(rate, base), _text(rate, base)].append(rate)
    models = tuple(_model(text, _kind(found[0], base), found) for (_, _, text), found in groups.items())
    kind = _whole(models, base)
    return Design(kind=kind, text=_words(kind, models, rates), models=models)


def _kind(rate: Rate, base: str | None) -> DesignKind:
    if rate.n_seeds > 1:
        return "recipe over seeds"
    of_recipe = rate.model != base and rate.per_seed[0].seed is not None
    return "one checkpoint of a recipe" if of_recipe else "one checkpoint"


def _model(text: str, kind: DesignKind, found: list[Rate]) -> ModelDesign:
    first = found[0]
    return ModelDesign(
        model=first.model,
        kind=kind,
        n_seeds=first.n_seeds,
        n_items=first.n_items,
        n_repeats=first.n_repeats,
        where=tuple(dict.fromkeys(f"{r.task} · {r.decoding} · {r.judge}" for r in found)),
        text=text,
    )


def _whole(models: tuple[ModelDesign, ...], base: str | None) -> WholeDesign:
    tuned = {m.model: m for m in models if m.model != base}
    places = {place for m in models for place in m.where}
    if len(tuned) > 1 or (tuned and len(places) > 1):
        return "grid"
    if not tuned:
        return "one model"
    if any(m.kind == "recipe over seeds" for m in tuned.values()):
        return "recipe over seeds"
    return "base and one checkpoint" if base is not None else "one model"


def _words(kind: WholeDesign, models: tuple[ModelDesign, ...], rates: list[Rate]) -> str:
    """`grid: 3 models (base, 1 checkpoint; …) × 2 tasks × 1 decoding × 2 judges`."""
    seeds: dict[str, int] = {}
    for m in models:
        seeds[m.model] = max(seeds.get(m.model, 0), m.n_seeds)
    named = "; ".join(f"{name}, {n} seeds" if n > 1 else f"{name}, 1 checkpoint" for name, n in seeds.items())
    counts = [_count(len({getattr(r, name) for r in rates}), name) for name in ("task", "decoding", "judge")]
    return f"{kind}: {_count(len(seeds), 'model')} ({named}) × {' × '.join(counts)}"


def _text(rate: Rate, base: str | None) -> str:
    """What one model's cell is made of and what its intervals cover."""
    kind = _kind(rate, base)
    runs = {
        "recipe over seeds": f"a recipe over {rate.n_seeds} seeds",
        "one checkpoint of a recipe": "one checkpoint of a recipe",
        "one checkpoint": "one checkpoint",
    }[kind]
    draws = f"{_count(rate.n_repeats, 'draw')} of each"
    found = [f"{runs}, {_count(rate.n_items, 'item')}, {draws}"]
    for target in ("benchmark", "population"):
        interval: Interval | None = getattr(rate, target)
        if interval is not None:
            found.append(
                f"the interval for {_FOR[target]} covers {_listed(interval.covers)} "
                f"and leaves out {_listed(interval.leaves_out)}"
            )
    if kind == "one checkpoint":
        found.append("it does not include training-seed variation")
    if rate.why_no_interval:
        found.append(f"no interval: {rate.why_no_interval}")
    return "; ".join(found)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _listed(facets: tuple[str, ...]) -> str:
    *head, last = facets or ("nothing",)
    return f"{', '.join(head)} and {last}" if head else last
