"""How far each facet moves a rate by itself, and how consistent repeated answers are by category."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from aftertune.records.analysis import Consistency, Rate
from aftertune.records.variations import CategoryConsistency, Movement, VariationEffect
from aftertune.stages.analyze.cells import ModelCell, Settings
from aftertune.stats import pairwise_disagreement

Facet = Literal["seed", "repeat", "judge", "decoding", "task", "variation"]
_CELL = ("model", "task", "decoding", "judge", "metric", "higher_is", "note")


def movements_of(
    rates: Sequence[Rate], consistency: Sequence[Consistency], effects: Sequence[VariationEffect]
) -> list[Movement]:
    """Of every rate, the SD over seeds, repeats, judges, decodings and variations, of two levels or more.

    Variations are the baseline and those of class procedure and numerics, which ought not to move it.
    """
    found: list[Movement] = []
    for rate in rates:
        if rate.estimate is None:
            continue
        seeds = [s.estimate for s in rate.per_seed if s.estimate is not None]
        found += _movement(rate, "seed", seeds if len(rate.per_seed) > 1 else [])
        found += _of_repeats(rate, [c for c in consistency if _cell(c) == _cell(rate)])
        for facet in ("judge", "decoding"):
            alike = [r.estimate for r in rates if _cell(r, facet) == _cell(rate, facet)]
            found += _movement(rate, facet, [e for e in alike if e is not None])
        varied = [e.varied for e in effects if _cell(e) == _cell(rate) and e.kind != "design"]
        levels = [rate.estimate, *(v for v in varied if v is not None)]
        found += _movement(rate, "variation", levels)
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


def _movement(rate: Rate, facet: Facet, levels: Sequence[float]) -> list[Movement]:
    if len(levels) < 2:
        return []
    sd = float(np.std(levels, ddof=1))
    return [
        Movement(**_fields(rate), facet=facet, n=len(levels), sd=sd, lowest=min(levels), highest=max(levels))
    ]


def _fields(rate: Rate) -> dict[str, Any]:
    return {name: getattr(rate, name) for name in _CELL}


def _cell(found: Rate | Consistency | VariationEffect, free: str = "") -> tuple[Any, ...]:
    """The cell's names, but for the facet that is let free; of judges it keeps the same way of counting."""
    return tuple(getattr(found, name) for name in _CELL if name != free)
