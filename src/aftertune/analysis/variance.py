"""Variance components, consistency of repeats, flips of items, and movements under each facet."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

import numpy as np

from aftertune.analysis.cells import MetricCells, ModelCell, Settings, cell_of
from aftertune.analysis.differences import LEAST_P, Pair, on_same_checkpoints
from aftertune.analysis.rates import checkpoint_interval
from aftertune.records.analysis import Component, Consistency, Flip, Rate
from aftertune.records.cell import Cell
from aftertune.records.variations import CategoryConsistency, Movement, VariationEffect
from aftertune.stats import (
    Draws,
    FloatArray,
    components,
    paired_rates,
    pairwise_disagreement,
    summarize,
    three_way,
    two_way,
)


def estimate_components(cell: ModelCell, settings: Settings) -> list[Component]:
    """Variance components of a recipe with two seeds and two items or more; none where nothing varies."""
    draws = cell.usable
    if cell.exceeds_missing_limit(settings) or draws.n_seeds < 2 or draws.n_items < 2:
        return []
    table = two_way(draws.means_sp, draws.counts_sp > 0)
    found = components(table, draws, level=settings.level)
    if not any(c.variance > 0 for c in found):
        return []
    return [
        Component(
            **cell.key,
            facet=c.facet,
            variance=c.variance,
            share=c.share,
            ci_low=c.ci_low,
            ci_high=c.ci_high,
            f=c.f,
            p_value=None if c.p_value is None else max(c.p_value, LEAST_P),
        )
        for c in found
    ]


def measure_consistency(cell: ModelCell, settings: Settings) -> list[Consistency]:
    """Repeated draws of each checkpoint with two or more, on the items whose every draw has a 0/1 value."""
    if cell.exceeds_missing_limit(settings) or not cell.draws.binary:
        return []
    found: list[Consistency] = []
    for s, run in enumerate(cell.checkpoints):
        asked = cell.asked[s].any(axis=0)
        values, present = cell.draws.values[s][:, asked], cell.draws.present[s][:, asked]
        complete = present.all(axis=1)
        if asked.sum() < 2 or not complete.any():
            continue
        events = values[complete]
        whole = summarize(events)
        rates = events.mean(axis=0)
        draws = Draws.of(events[None, :, :])
        found.append(
            Consistency(
                **cell.key,
                checkpoint=run.label,
                seed=run.seed,
                n_items=whole.n_items,
                n_repeats=whole.n_repeats,
                pairwise_disagreement=whole.pairwise_disagreement,
                flip_rate=whole.flip_rate,
                unanimous=whole.unanimous,
                stability_index=whole.stability_index,
                entropy=whole.entropy,
                fleiss_kappa=whole.fleiss_kappa,
                any_event=whole.any_event,
                all_event=whole.all_event,
                per_repeat=tuple(float(x) for x in rates),
                minimum=float(rates.min()),
                maximum=float(rates.max()),
                new_run_in_range=(whole.n_repeats - 1) / (whole.n_repeats + 1),
                estimate=float(events.mean()),
                interval=checkpoint_interval(draws, "benchmark", level=settings.level, certain=False),
            )
        )
    return found


def count_flips(pairs: list[Pair], settings: Settings) -> list[Flip]:
    """Items gained and lost against the base, in all and by category.

    `to_event` is Σ over items of mean_s (1 − b_i)·t_si, the average over all pairs of draws, since a draw of
    the base and one of the model are independent; item means are never cut back to 0 or 1.
    """
    found: list[Flip] = []
    for pair in pairs:
        if any(cell.exceeds_missing_limit(settings) for cell in (pair.model, pair.reference)):
            continue
        if not len(pair.places):
            continue
        event, was = _mean_over_seeds(pair.a), _mean_over_seeds(pair.b)
        names = sorted(set(pair.categories.tolist()))
        for category in (None, *(names if len(names) > 1 else ())):
            part = pair.categories == category if category is not None else np.ones(len(was), dtype=bool)
            found.append(
                Flip(
                    **pair.model.key,
                    reference=pair.reference.model,
                    category=category,
                    n_items=int(part.sum()),
                    to_event=float(((1 - was) * event)[part].sum()),
                    to_no_event=float((was * (1 - event))[part].sum()),
                )
            )
    return found


def _mean_over_seeds(draws: Draws) -> FloatArray:
    """Item means over the seeds that have a value there; every item has one."""
    counted = draws.counts_sp > 0
    return np.where(counted, draws.means_sp, 0.0).sum(axis=0) / counted.sum(axis=0)


def estimate_facet_components(
    groups: Sequence[MetricCells], settings: Settings, facet: Literal["judge", "decoding"]
) -> list[Component]:
    """Components of seeds × items × the facet's levels, for each recipe that has several on one metric.

    Repeats are averaged; items without a value in every level and seed are left out of this table alone. The
    levels count as a sample of levels, of which there are few: their share is a rough number.
    """
    found: list[Component] = []
    for cells in _alike(groups, facet):
        if any(cell.exceeds_missing_limit(settings) for cell in cells):
            continue
        y_spl = _table(cells)
        if y_spl is None:
            continue
        key: dict[str, Any] = cells[0].key | {facet: " + ".join(str(getattr(cell, facet)) for cell in cells)}
        found += [
            Component(
                **key, facet=e.name.replace("judge", facet), variance=e.variance, share=e.share,
                ci_low=None, ci_high=None, f=None, p_value=None,
            )
            for e in three_way(y_spl).effects
            if e.share is not None
        ]  # fmt: skip
    return found


def _alike(groups: Sequence[MetricCells], facet: str) -> Iterator[list[ModelCell]]:
    """The cells of one model and metric that differ in the facet alone, in its order."""
    alike: dict[tuple[str, ...], list[ModelCell]] = {}
    for group in groups:
        for cell in group.cells.values():
            names = {"task": cell.task, "decoding": cell.decoding, "judge": cell.judge}
            others = (name for key, name in names.items() if key != facet)
            alike.setdefault((cell.model, *others, cell.metric.name, cell.metric.note), []).append(cell)
    return (cells for cells in alike.values() if len(cells) > 1)


def _table(cells: list[ModelCell]) -> FloatArray | None:
    """Cell means, seeds × items × levels; None below two seeds or items, or where seeds are not the same."""
    runs = [tuple(run.label for run in cell.checkpoints) for cell in cells]
    if len(set(runs)) > 1 or len(runs[0]) < 2:
        return None
    whole = [set(np.array(c.items)[(c.draws.counts_sp > 0).all(axis=0)].tolist()) for c in cells]
    items = sorted(set.intersection(*whole))
    if len(items) < 2:
        return None
    places = [{item: i for i, item in enumerate(cell.items)} for cell in cells]
    means = [c.draws.means_sp[:, [at[i] for i in items]] for c, at in zip(cells, places, strict=True)]
    return np.stack(means, axis=2)


Facet = Literal["seed", "repeat", "judge", "decoding", "task", "variation"]
_CROSSED: tuple[Literal["judge", "decoding"], ...] = ("judge", "decoding")
_Result = TypeVar("_Result", bound=Cell)


def measure_movements(
    groups: Sequence[MetricCells],
    rates: Sequence[Rate],
    consistency: Sequence[Consistency],
    effects: Sequence[VariationEffect],
) -> list[Movement]:
    """Of every rate, the SD over seeds, repeats, judges, decodings and variations, of two levels or more.

    A level is the rate, moved by the difference on the seeds and items that both have: what is missing at one
    level alone moves nothing. Variations are the baseline and those of class procedure and numerics, which
    ought not to move it.
    """
    cells = {tuple(cell.key.values()): cell for group in groups for cell in group.cells.values()}
    drawn_again = _by_cell(consistency)
    varied = _by_cell([e for e in effects if e.kind != "design" and e.estimate is not None])
    alike = {facet: _by_cell(rates, without=facet) for facet in _CROSSED}
    found: list[Movement] = []
    for rate in rates:
        if rate.estimate is None:
            continue
        seeds = [s.estimate for s in rate.per_seed if s.estimate is not None]
        found += _movement(rate, "seed", seeds if len(rate.per_seed) > 1 else [])
        found += _of_repeats(rate, drawn_again.get(cell_of(rate), []))
        for facet in _CROSSED:
            others = alike[facet][cell_of(rate, without=facet)]
            found += _movement(rate, facet, _levels(rate, others, cells))
        moved = [rate.estimate + (e.estimate or 0.0) for e in varied.get(cell_of(rate), [])]
        found += _movement(rate, "variation", [rate.estimate, *moved])
    return found


def measure_category_consistency(cell: ModelCell, settings: Settings) -> list[CategoryConsistency]:
    """Pairwise disagreement by category over the checkpoints of two draws or more, on complete items."""
    if cell.exceeds_missing_limit(settings) or not cell.draws.binary or len(set(cell.categories)) < 2:
        return []
    categories = np.array(cell.categories)
    found: list[CategoryConsistency] = []
    for name in sorted(set(cell.categories)):
        means: list[float] = []
        n_items, n_repeats = 0, 0
        for s in range(len(cell.checkpoints)):
            here = categories == name
            asked = cell.asked[s].any(axis=0)
            values, present = (x[s][here][:, asked] for x in (cell.draws.values, cell.draws.present))
            whole = present.all(axis=1)
            if asked.sum() < 2 or not whole.any():
                continue
            events = values[whole].sum(axis=1).astype(np.int64)
            n_draws = int(asked.sum())
            means.append(pairwise_disagreement(np.stack([n_draws - events, events], axis=1)))
            n_items, n_repeats = max(n_items, int(whole.sum())), max(n_repeats, n_draws)
        if means:
            found.append(
                CategoryConsistency(
                    **cell.key,
                    category=name,
                    n_checkpoints=len(means),
                    n_items=n_items,
                    n_repeats=n_repeats,
                    pairwise_disagreement=float(np.mean(means)),
                )
            )
    return found


def _levels(
    rate: Rate, others: Sequence[Rate], cells: Mapping[tuple[str, ...], ModelCell]
) -> Iterator[float]:
    """The rate under every level of a facet, in their order; as it stands where nothing can be paired."""
    mine = cells[cell_of(rate)]
    for other in others:
        if other.estimate is None or rate.estimate is None:
            continue
        theirs = cells[cell_of(other)]
        both = None
        if mine.n_missing or theirs.n_missing or mine.items != theirs.items:
            both = on_same_checkpoints(theirs, mine)
        if other is rate or both is None:
            yield other.estimate
        else:
            before, after = paired_rates(*both)
            yield rate.estimate + after - before


def _of_repeats(rate: Rate, measured: Iterable[Consistency]) -> list[Movement]:
    """Pooled over checkpoints; the extremes are those of the checkpoint with the widest range."""
    runs = [np.array(c.per_repeat) for c in measured]
    if not runs:
        return []
    widest = max(runs, key=lambda run: float(run.max() - run.min()))
    df = sum(len(run) - 1 for run in runs)
    sd = float(np.sqrt(sum(((run - run.mean()) ** 2).sum() for run in runs) / df))
    return [
        Movement(
            **_fields(rate),
            facet="repeat",
            n=max(len(run) for run in runs),
            sd=sd,
            lowest=float(widest.min()),
            highest=float(widest.max()),
        )
    ]


def _movement(rate: Rate, facet: Facet, found: Iterable[float]) -> list[Movement]:
    levels = [min(max(level, 0.0), 1.0) for level in found]
    if len(levels) < 2:
        return []
    sd = float(np.std(levels, ddof=1))
    return [
        Movement(**_fields(rate), facet=facet, n=len(levels), sd=sd, lowest=min(levels), highest=max(levels))
    ]


def _fields(rate: Rate) -> dict[str, Any]:
    return {name: getattr(rate, name) for name in Cell.model_fields}


def _by_cell(results: Iterable[_Result], *, without: str = "") -> dict[tuple[str, ...], list[_Result]]:
    """Results by their cell, or by the cell without a facet; the way of counting always belongs to it."""
    found: dict[tuple[str, ...], list[_Result]] = {}
    for result in results:
        found.setdefault(cell_of(result, without=without), []).append(result)
    return found
