"""Where several judges, or decodings, cross seeds and items: how much of the variance is theirs."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

from aftertune.records.analysis import Component
from aftertune.stages.analyze.cells import MetricCells, ModelCell, Settings
from aftertune.stats import FloatArray, three_way


def facet_components_of(
    groups: Sequence[MetricCells], settings: Settings, facet: Literal["judge", "decoding"]
) -> list[Component]:
    """Components of seeds × items × the facet's levels, for each recipe that has several on one metric.

    Repeats are averaged; items without a value in every level and seed are left out of this table alone. The
    levels count as a sample of levels, of which there are few: their share is a rough number.
    """
    found: list[Component] = []
    for cells in _alike(groups, facet):
        if any(cell.too_much_missing(settings) for cell in cells):
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
