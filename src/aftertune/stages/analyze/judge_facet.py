"""Where several judges judge one construct: how much of the variance is the judge's."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from aftertune.records.analysis import Component
from aftertune.stages.analyze.cells import MetricCells, ModelCell, Settings
from aftertune.stats import FloatArray, three_way


def judge_components_of(groups: Iterable[MetricCells], settings: Settings) -> list[Component]:
    """Components of seeds × items × judges for each recipe that several judges have judged on one metric.

    Repeats are averaged; items without a value from every judge and seed are left out of this table alone.
    Judges count as a sample of judges, of which there are few: the judge's share is a rough number.
    """
    found: list[Component] = []
    for cells in _by_judge(groups):
        if any(cell.too_much_missing(settings) for cell in cells):
            continue
        y_spj = _table(cells)
        if y_spj is None:
            continue
        key: dict[str, Any] = cells[0].key | {"judge": " + ".join(cell.judge for cell in cells)}
        found += [
            Component(
                **key, facet=e.name, variance=e.variance, share=e.share,
                ci_low=None, ci_high=None, f=None, p_value=None,
            )
            for e in three_way(y_spj).effects
            if e.share is not None
        ]  # fmt: skip
    return found


def _by_judge(groups: Iterable[MetricCells]) -> Iterator[list[ModelCell]]:
    """The cells of one model, task, decoding and metric that several judges gave, in the judges' order."""
    alike: dict[tuple[str, ...], list[ModelCell]] = {}
    for group in groups:
        for cell in group.cells.values():
            place = (cell.model, cell.task, cell.decoding, cell.metric.name, cell.metric.note)
            alike.setdefault(place, []).append(cell)
    return (cells for cells in alike.values() if len(cells) > 1)


def _table(cells: list[ModelCell]) -> FloatArray | None:
    """Cell means, seeds × items × judges; None below two seeds or items, or where seeds are not the same."""
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
