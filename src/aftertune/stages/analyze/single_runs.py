"""What one run would have said, as most papers have one: a seed, a draw of each item.

A run alone has no other seed to fill its gaps from: its rate is the mean over the items that it has a value
for, and two runs are compared on the items that both have.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats as scipy_stats

from aftertune.records import Direction
from aftertune.records.analysis import Difference
from aftertune.records.variations import SingleRunRanking, SingleRuns
from aftertune.seeds import stream
from aftertune.stages.analyze.cells import MetricCells, ModelCell, Settings
from aftertune.stages.analyze.survivals import ordered, rates_in, shown
from aftertune.stats import Draws, FloatArray

N_RANKINGS = 2_000


def single_runs_of(group: MetricCells, differences: list[Difference], settings: Settings) -> list[SingleRuns]:
    """Every difference of a cell (benchmark) whose models have several runs, judged from each pair of runs.

    A run is one checkpoint and one draw of every item; two runs are compared on the items that both have a
    value for, and not at all where there is none. Values other than 0 and 1 have no McNemar test, and their
    cells are left out.
    """
    found: list[SingleRuns] = []
    for d in differences:
        if d.target != "benchmark" or d.verdict == "no conclusion":
            continue
        model, reference = group.cells[d.model], group.cells[d.reference]
        mine, theirs = _runs(model), _runs(reference)
        if mine is None or theirs is None:
            continue
        where = {item: i for i, item in enumerate(reference.items)}
        at = [i for i, item in enumerate(model.items) if item in where]
        pairs = _paired(mine.of(at), theirs.of([where[model.items[i]] for i in at]))
        if len(pairs.estimates) > 1:
            found.append(_judged(model, d, pairs, settings))
    return found


def rankings_of_single_runs(group: MetricCells, settings: Settings) -> list[SingleRunRanking]:
    """How often one run of each model orders some two models the other way than the full study."""
    full = rates_in(group, settings)
    runs = {name: its.rates for name in full if (its := _runs(group.cells[name])) is not None}
    names = ordered(full, list(runs))
    if len(names) < 2 or all(len(runs[name]) < 2 for name in names):
        return []
    cell = group.any
    place = (cell.task, cell.decoding, cell.judge, cell.metric.name, cell.metric.note)
    rng = stream(0, "single runs", *place)
    drawn = np.stack([runs[n][rng.integers(len(runs[n]), size=N_RANKINGS)] for n in names])
    whole = np.array([full[name] for name in names])
    apart = (whole[:, None] - whole[None, :])[:, :, None] * (drawn[:, None] - drawn[None, :]) < 0
    return [
        SingleRunRanking(
            task=cell.task,
            decoding=cell.decoding,
            judge=cell.judge,
            metric=cell.metric.name,
            note=cell.metric.note,
            order=names,
            n_draws=N_RANKINGS,
            share_otherwise=float(apart.any(axis=(0, 1)).mean()),
        )
    ]


@dataclass(frozen=True, eq=False)
class _Runs:
    """Runs × items: where there is a value, and 0/1 events (0 where there is none)."""

    events: FloatArray
    present: FloatArray

    @property
    def rates(self) -> FloatArray:
        """Each run's rate: the mean over the items that it has a value for."""
        return self.events.sum(axis=1) / self.present.sum(axis=1)

    def of(self, items: list[int]) -> "_Runs":
        """On some items."""
        return _Runs(self.events[:, items], self.present[:, items])


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Of every pair of runs with an item in common: items gained and lost, and the difference of rates."""

    gained: FloatArray
    lost: FloatArray
    estimates: FloatArray


def _runs(cell: ModelCell) -> _Runs | None:
    """The runs that have a value for any item; None where values are graded, or there are none."""
    draws: Draws = cell.draws
    if not draws.binary or not draws.present.any():
        return None
    values = draws.values.transpose(0, 2, 1).reshape(-1, draws.n_items)
    present = draws.present.transpose(0, 2, 1).reshape(-1, draws.n_items)
    any_value = present.any(axis=1)
    return _Runs(values[any_value], present[any_value].astype(float))


def _paired(a: _Runs, b: _Runs) -> _Pairs:
    """All pairs; `events` are 0 where there is no value, so products count the items that both have."""
    n_common = a.present @ b.present.T
    gained, lost = a.events @ (b.present - b.events).T, (a.present - a.events) @ b.events.T
    kept = n_common > 0
    return _Pairs(gained[kept], lost[kept], (gained[kept] - lost[kept]) / n_common[kept])


def _judged(model: ModelCell, d: Difference, pairs: _Pairs, settings: Settings) -> SingleRuns:
    gained, lost, estimates = pairs.gained, pairs.lost, pairs.estimates
    tail = scipy_stats.binom.cdf(np.minimum(gained, lost), gained + lost, 0.5)
    significant = np.minimum(2 * tail, 1.0) <= 1 - settings.level
    worse_up = 1 if model.metric.higher_is == Direction.WORSE else -1
    said = np.where(significant, np.sign(estimates) * worse_up, 0)
    return SingleRuns(
        **model.key,
        reference=d.reference,
        n_runs=said.size,
        full_verdict=d.verdict,
        share_less_safe=float((said == 1).mean()),
        share_safer=float((said == -1).mean()),
        share_not_shown=float((said == 0).mean()),
        share_otherwise=float((said != shown(d.verdict)).mean()),
        lowest=float(estimates.min()),
        highest=float(estimates.max()),
    )
