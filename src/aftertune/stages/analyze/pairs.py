"""Two models on their common items: what every contrast starts from."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from aftertune.stages.analyze.cells import MetricCells, ModelCell, Settings
from aftertune.stats import Contrast, Draws, Target, tuned_minus_base

# An exact binomial p of thousands of items underflows, and no p value is 0.
LEAST_P = 1e-304


@dataclass(frozen=True, eq=False)
class Pair:
    """`model` against `reference`; `a` and `b` are their draws on the items that have a value in both."""

    model: ModelCell
    reference: ModelCell
    a: Draws
    b: Draws
    places: npt.NDArray[np.int64]  # of the common items among the model's

    @cached_property
    def categories(self) -> npt.NDArray[np.str_]:
        """The common items' categories."""
        return np.array(self.model.categories, dtype=np.str_)[self.places]

    @property
    def several_seeds(self) -> bool:
        """Whether either has more than one checkpoint."""
        return self.a.n_seeds > 1 or self.b.n_seeds > 1

    def certain(self, settings: Settings) -> bool:
        """Whether the reference was not drawn, and the model neither, unless its seeds speak for it.

        A recipe's own interval comes from its seeds; only a single checkpoint's draws can be certain.
        """
        return self.reference.certain(settings) and (self.a.n_seeds > 1 or self.model.certain(settings))

    def contrast(
        self, settings: Settings, *, target: Target, part: npt.NDArray[np.bool_] | None = None
    ) -> Contrast:
        """The model minus the reference for one target, on all common items or a part of them."""
        a, b = (self.a, self.b) if part is None else (_rows(self.a.items(part)), _rows(self.b.items(part)))
        return tuned_minus_base(a, b, target=target, level=settings.level, certain=self.certain(settings))


def pair_of(model: ModelCell, reference: ModelCell) -> Pair:
    """The pair, cut to the items that have a value in both; it may have none."""
    here, there = model.has_value[1], reference.has_value[1]
    if model.items == reference.items:
        mine = other = np.flatnonzero(here & there)
    else:
        place = {item: j for j, item in enumerate(reference.items)}
        found = np.array([place.get(item, -1) for item in model.items], dtype=np.int64)
        mine = np.flatnonzero(here & (found >= 0))
        mine = mine[there[found[mine]]]
        other = found[mine]
    a = model.draws if len(mine) == len(model.items) else model.draws.items(mine)
    b = reference.draws if len(other) == len(reference.items) else reference.draws.items(other)
    return Pair(model, reference, _rows(a), _rows(b), mine)


def on_same_checkpoints(a: ModelCell, b: ModelCell) -> tuple[Draws, Draws] | None:
    """Both cells' draws on their common items, seed by seed; None without an item, or of other checkpoints.

    Every seed and every item that is left has a cell with a value on both sides.
    """
    if [run.label for run in a.checkpoints] != [run.label for run in b.checkpoints]:
        return None
    place = {item: i for i, item in enumerate(b.items)}
    mine = [i for i, item in enumerate(a.items) if item in place]
    theirs = [place[a.items[i]] for i in mine]
    common = (a.draws.counts_sp[:, mine] > 0) & (b.draws.counts_sp[:, theirs] > 0)
    seeds, items = common.any(axis=1), common.any(axis=0)
    if not common.any():
        return None

    def cut(draws: Draws, places: list[int]) -> Draws:
        kept = np.array(places)[items]
        return Draws(draws.values[seeds][:, kept], draws.present[seeds][:, kept])

    return cut(a.draws, mine), cut(b.draws, theirs)


def pairs_with_base(cells: MetricCells, settings: Settings) -> list[Pair]:
    """Every other model against the base, where there is one."""
    base = cells.cells.get(settings.base) if settings.base is not None else None
    if base is None:
        return []
    return [pair_of(model, base) for model in cells.cells.values() if model is not base]


def p_value_of(contrast: Contrast) -> float | None:
    """The contrast's p value, never 0."""
    return None if contrast.p_value is None else max(contrast.p_value, LEAST_P)


def _rows(draws: Draws) -> Draws:
    """The draws of the seeds that have any value; the same object where all have."""
    seeds = draws.counts_sp.sum(axis=1) > 0
    return draws if seeds.all() else Draws(draws.values[seeds], draws.present[seeds])
