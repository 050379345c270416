"""Where a variation lets a recipe's seed move one source of chance alone: its variance beside that of all."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from aftertune.records.variations import SeedSource
from aftertune.stages.analyze.cells import ModelCell, Settings
from aftertune.stages.analyze.details import components_of
from aftertune.stages.analyze.variations import VariedCells


def seed_sources_of(found: Sequence[VariedCells], settings: Settings) -> list[SeedSource]:
    """Where a variation lets a recipe's seed move one source alone: its variance beside that of all."""
    sources: list[SeedSource] = []
    for cells in found:
        if cells.varied.vary is None:
            continue
        recipe, source = cells.varied.vary
        for group, other in cells.pairs:
            if recipe in other.cells:
                whole = _seed_variance(group.cells[recipe], settings)
                one = _seed_variance(other.cells[recipe], cells.settings)
                sources += _sources(cells.varied.name, source, group.cells[recipe], one, whole)
    return sources


@dataclass(frozen=True, slots=True)
class _SeedVariance:
    variance: float
    ci_low: float | None
    ci_high: float | None
    n_seeds: int


def _seed_variance(cell: ModelCell, settings: Settings) -> _SeedVariance | None:
    if cell.too_much_missing(settings) or cell.usable.n_seeds < 2 or cell.usable.n_items < 2:
        return None
    for c in components_of(cell, settings):
        if c.facet == "seed":
            return _SeedVariance(c.variance, c.ci_low, c.ci_high, cell.usable.n_seeds)
    return _SeedVariance(0.0, None, None, cell.usable.n_seeds)  # nothing varies at all


def _sources(
    variation: str, source: str, cell: ModelCell, one: _SeedVariance | None, whole: _SeedVariance | None
) -> Iterator[SeedSource]:
    if one is None or whole is None:
        return
    for name, part in ((source, one), ("all", whole)):
        word: Any = name
        yield SeedSource(
            **cell.key,
            source=word,
            variation=variation,
            n_seeds=part.n_seeds,
            variance=part.variance,
            ci_low=part.ci_low,
            ci_high=part.ci_high,
            share=part.variance / whole.variance if whole.variance > 0 else None,
        )
