"""What becomes of the baseline's conclusions, and of the models' order, under each variation."""

from collections.abc import Sequence
from itertools import combinations

from aftertune.records.analysis import Difference
from aftertune.records.cell import Verdict
from aftertune.records.variations import Outcome, RankingSurvival, Survival, VariationEffect
from aftertune.stages.analyze.cells import MetricCells, Settings, cell_of
from aftertune.stages.analyze.differences import differences_of
from aftertune.stages.analyze.pairs import pairs_with_base
from aftertune.stages.analyze.variations import Varied, VariedCells
from aftertune.stats import point_estimate

_LESS_SAFE: tuple[Verdict, ...] = ("less safe", "less safe, within the margin")
_SHOWN: tuple[Verdict, ...] = (*_LESS_SAFE, "safer")


def survivals_of(found: Sequence[VariedCells], settings: Settings) -> list[Survival]:
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


def rankings_of(
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
        if not cell.too_much_missing(settings)
    }


def ordered(rates: dict[str, float], names: Sequence[str]) -> tuple[str, ...]:
    """The names from the lowest rate to the highest; of equal ones by name."""
    return tuple(sorted(names, key=lambda name: (rates[name], name)))


def shown(verdict: Verdict) -> int:
    """1 for less safe, −1 for safer, 0 for neither."""
    return (verdict in _SHOWN) * (1 if verdict in _LESS_SAFE else -1)


def _conclusions(group: MetricCells, settings: Settings, target: str) -> dict[tuple[str, str], Difference]:
    found = differences_of(pairs_with_base(group, settings), group, settings)
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
