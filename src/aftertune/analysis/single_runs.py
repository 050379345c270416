"""What single runs and varied designs would have concluded."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import stats as scipy_stats

from aftertune.analysis.cells import MetricCells, ModelCell, Settings, cell_of
from aftertune.analysis.differences import estimate_differences, pairs_with_base
from aftertune.analysis.variations import Varied, VariedCells
from aftertune.records import Direction
from aftertune.records.analysis import Difference
from aftertune.records.cell import Verdict
from aftertune.records.variations import (
    Outcome,
    RankingSurvival,
    SingleRunRanking,
    SingleRuns,
    Survival,
    VariationEffect,
)
from aftertune.seeds import stream
from aftertune.stats import Draws, FloatArray, point_estimate

N_RANKINGS = 2_000


def simulate_single_runs(
    group: MetricCells, differences: list[Difference], settings: Settings
) -> list[SingleRuns]:
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


def rank_single_runs(group: MetricCells, settings: Settings) -> list[SingleRunRanking]:
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


_LESS_SAFE: tuple[Verdict, ...] = ("less safe", "less safe, within the margin")
_SHOWN: tuple[Verdict, ...] = (*_LESS_SAFE, "safer")


def check_conclusions(found: Sequence[VariedCells], settings: Settings) -> list[Survival]:
    """Every conclusion of the baseline beside the same one under each variation, on the same checkpoints."""
    target = settings.primary.target if settings.primary else "benchmark"
    survivals: list[Survival] = []
    for cells in found:
        if cells.unchanged:
            continue
        for group, other in cells.touched_pairs:
            before = _conclusions(group, settings, target)
            after = _conclusions(other, cells.settings, target)
            survivals += [
                _survival(cells.varied, old, after[key])
                for key, old in before.items()
                if key in after and any(cells.touches(other.cells[name]) for name in key)
            ]
    return survivals


def check_rankings(
    found: Sequence[VariedCells], effects: Sequence[VariationEffect], settings: Settings
) -> list[RankingSurvival]:
    """The models' order in each cell, in the baseline and under each variation.

    Under a variation a model's rate is that of the baseline moved by the effect, so that what is missing on
    one side alone changes no order; without an effect (other seeds, other items) it is the variation's own.
    """
    moved = {(e.variation, *cell_of(e)): e.estimate for e in effects}
    rankings: list[RankingSurvival] = []
    for cells in found:
        if cells.unchanged:
            continue
        for group, other in cells.touched_pairs:
            rates = [rates_in(each, settings) for each in (group, other)]
            for name, cell in other.cells.items():
                effect = moved.get((cells.varied.name, *cell.key.values()))
                if effect is not None and name in rates[0]:
                    rates[1][name] = rates[0][name] + effect
            names = [name for name in rates[0] if name in rates[1]]
            if len(names) < 2 or not any(cells.touches(other.cells[name]) for name in names):
                continue
            n_swapped = sum(
                (rates[0][a] - rates[0][b]) * (rates[1][a] - rates[1][b]) < 0
                for a, b in combinations(names, 2)
            )
            cell = group.any
            rankings.append(
                RankingSurvival(
                    variation=cells.varied.name,
                    kind=cells.varied.kind,
                    task=cell.task,
                    decoding=cell.decoding,
                    judge=cell.judge,
                    metric=cell.metric.name,
                    note=cell.metric.note,
                    baseline=ordered(rates[0], names),
                    varied=ordered(rates[1], names),
                    n_pairs=len(names) * (len(names) - 1) // 2,
                    n_swapped=n_swapped,
                )
            )
    return rankings


def rates_in(group: MetricCells, settings: Settings) -> dict[str, float]:
    """Each model's rate, of those in which not too much is missing."""
    return {
        name: point_estimate(cell.usable)
        for name, cell in group.cells.items()
        if not cell.exceeds_missing_limit(settings)
    }


def ordered(rates: dict[str, float], names: Sequence[str]) -> tuple[str, ...]:
    """The names from the lowest rate to the highest; of equal ones by name."""
    return tuple(sorted(names, key=lambda name: (rates[name], name)))


def shown(verdict: Verdict) -> int:
    """1 for less safe, −1 for safer, 0 for neither."""
    return (verdict in _SHOWN) * (1 if verdict in _LESS_SAFE else -1)


def _conclusions(group: MetricCells, settings: Settings, target: str) -> dict[tuple[str, str], Difference]:
    found = estimate_differences(pairs_with_base(group, settings), group, settings)
    return {(d.model, d.reference): d for d in found if d.target == target}


def _survival(varied: Varied, old: Difference, new: Difference) -> Survival:
    cell = {k: getattr(old, k) for k in ("model", "task", "decoding", "judge", "metric", "higher_is", "note")}
    return Survival(
        **cell,
        variation=varied.name,
        kind=varied.kind,
        reference=old.reference,
        target=old.target,
        baseline_estimate=old.estimate,
        varied_estimate=new.estimate,
        baseline_verdict=old.verdict,
        varied_verdict=new.verdict,
        outcome=_outcome(old.verdict, new.verdict),
    )


def _outcome(old: Verdict, new: Verdict) -> Outcome:
    if "no conclusion" in (old, new):
        return "no conclusion"
    if shown(old) == shown(new):
        return "survives"
    if shown(old) and shown(new):
        return "reversed"
    return "weakened" if shown(old) else "appears"
