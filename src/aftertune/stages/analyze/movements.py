"""How far each facet moves a rate by itself, and how consistent repeated answers are by category."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

import numpy as np

from aftertune.records.analysis import Consistency, Rate
from aftertune.records.cell import Cell
from aftertune.records.variations import CategoryConsistency, Movement, VariationEffect
from aftertune.stages.analyze.cells import MetricCells, ModelCell, Settings, cell_of
from aftertune.stages.analyze.pairs import on_same_checkpoints
from aftertune.stats import paired_rates, pairwise_disagreement

Facet = Literal["seed", "repeat", "judge", "decoding", "task", "variation"]
_CROSSED: tuple[Literal["judge", "decoding"], ...] = ("judge", "decoding")
_Result = TypeVar("_Result", bound=Cell)


def movements_of(
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


def category_consistency_of(cell: ModelCell, settings: Settings) -> list[CategoryConsistency]:
    """Pairwise disagreement by category over the checkpoints of two draws or more, on complete items."""
    if cell.too_much_missing(settings) or not cell.draws.binary or len(set(cell.categories)) < 2:
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
