"""Variations against the baseline: effects, surviving conclusions, numerics, sources of the seeds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from aftertune.records.analysis import Difference, Warning
from aftertune.records.cell import Verdict
from aftertune.records.variations import (
    NumericsCheck,
    Outcome,
    RankingSurvival,
    SeedSource,
    Survival,
    VariationClass,
    VariationEffect,
)
from aftertune.stages.analyze.cells import MetricCells, ModelCell, Settings, cells_of
from aftertune.stages.analyze.details import components_of
from aftertune.stages.analyze.differences import differences_of
from aftertune.stages.analyze.pairs import p_value_of, pairs_with_base
from aftertune.stages.analyze.rates import FACETS, covered
from aftertune.stats import Contrast, Draws, equivalence, holm, paired_effect, repeat_noise

_LESS_SAFE: tuple[Verdict, ...] = ("less safe", "less safe, within the margin")
_SHOWN: tuple[Verdict, ...] = (*_LESS_SAFE, "safer")


@dataclass(frozen=True, slots=True)
class Varied:
    """One variation, as its study and its run describe it beside the observations.

    `deterministic` are its greedy decodings under exact numerics. The three counts are of a numerics
    variation: how many responses it shares with the baseline, how many differ, and which is the first.
    `vary` is (recipe, source) where the variation lets that recipe's seed move one source of chance alone.
    """

    name: str
    kind: VariationClass
    deterministic: frozenset[str] = frozenset()
    n_compared: int | None = None
    n_changed: int | None = None
    first_changed: str | None = None
    vary: tuple[str, str] | None = None


@dataclass(frozen=True, eq=False)
class VariedCells:
    """One variation's cells that the baseline has too, each beside the baseline's on the same checkpoints."""

    varied: Varied
    settings: Settings
    pairs: tuple[tuple[MetricCells, MetricCells], ...]  # baseline, variation

    @property
    def unchanged(self) -> bool:
        """Whether no value of any cell differs."""
        return all(
            _same(group.cells[name], cell)
            for group, other in self.pairs
            for name, cell in other.cells.items()
        )


def varied_cells(
    frame: pl.DataFrame,
    baseline: Sequence[MetricCells],
    varied: Varied,
    settings: Settings,
    also: frozenset[str],
) -> VariedCells:
    """The cells of one variation's rows, matched to the baseline's.

    Args:
        frame: all rows of the table.
        baseline: the baseline's contrasted cells.
        varied: the variation.
        settings: the baseline's.
        also: metrics that the primary contrast asks for.
    """
    rows = frame.filter(pl.col("variation").cast(pl.String) == varied.name)
    there = {_place(group.any): group for group in cells_of(rows, also=also)}
    pairs = [
        matched
        for group in baseline
        if (other := there.get(_place(group.any))) is not None
        and (matched := _matched(group, other)) is not None
    ]
    return VariedCells(varied, replace(settings, deterministic=varied.deterministic), tuple(pairs))


def effects_of(found: Sequence[VariedCells], settings: Settings) -> list[VariationEffect]:
    """Every variation's effect on every model in every cell, their p values adjusted together by Holm."""
    effects = [
        _effect(group.cells[name], cell, cells, settings)
        for cells in found
        for group, other in cells.pairs
        for name, cell in other.cells.items()
    ]
    tested = [i for i, effect in enumerate(effects) if effect.p_value is not None]
    adjusted = holm([p for i in tested if (p := effects[i].p_value) is not None])
    by_place = dict(zip(tested, adjusted, strict=True))
    return [_judged(effect, by_place.get(i), settings) for i, effect in enumerate(effects)]


def numerics_of(found: Sequence[VariedCells]) -> list[NumericsCheck]:
    """Whether the numerics variations changed any response."""
    return [
        NumericsCheck(
            variation=v.name,
            n_compared=v.n_compared,
            n_changed=v.n_changed,
            passed=v.n_changed == 0 and v.n_compared > 0,
            first_changed=v.first_changed,
        )
        for v in (cells.varied for cells in found)
        if v.n_compared is not None and v.n_changed is not None
    ]


def survivals_of(found: Sequence[VariedCells], settings: Settings) -> list[Survival]:
    """Every conclusion of the baseline beside the same one under each variation, on the same checkpoints."""
    target = settings.primary.target if settings.primary else "benchmark"
    survivals: list[Survival] = []
    for cells in found:
        if cells.unchanged:
            continue
        for group, other in cells.pairs:
            before = _conclusions(group, settings, target)
            after = _conclusions(other, cells.settings, target)
            survivals += [
                _survival(cells.varied, old, after[key]) for key, old in before.items() if key in after
            ]
    return survivals


def rankings_of(found: Sequence[VariedCells], settings: Settings) -> list[RankingSurvival]:
    """The models' order in each cell, in the baseline and under each variation."""
    rankings: list[RankingSurvival] = []
    for cells in found:
        if cells.unchanged:
            continue
        for group, other in cells.pairs:
            rates = [mean_rates(each, settings) for each in (group, other)]
            names = [name for name in rates[0] if name in rates[1]]
            if len(names) < 2:
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


def variation_warnings(
    found: Sequence[VariedCells], frame: pl.DataFrame, n_checkpoints: int
) -> list[Warning]:
    """What a reader must know of the variations as such."""
    warnings = [
        Warning(
            code="variation_changed_nothing",
            text=f"variation {cells.varied.name} ({cells.varied.kind}) changed no value at all",
            remedy="look whether its key reaches what it was to change",
            where=cells.varied.name,
        )
        for cells in found
        if cells.pairs and cells.unchanged and cells.varied.kind != "numerics"
    ]
    warnings += [
        Warning(
            code="numerics_changed",
            text=f"variation {check.variation} changed {check.n_changed} of {check.n_compared} responses, "
            f"the first is {check.first_changed}",
            remedy="numerics must change nothing: use `numerics: exact`, or count this among the noise",
            where=check.variation,
        )
        for check in numerics_of(found)
        if check.n_changed
    ]
    warnings += _twins(found, frame)
    for cells in found:
        n = max((len(c.checkpoints) for _, other in cells.pairs for c in other.cells.values()), default=0)
        if 0 < n < n_checkpoints:
            text = f"variation {cells.varied.name} has {n} of {n_checkpoints} seeds: it is compared on these"
            remedy = "fewer seeds find less; their baseline is cut to the same"
            warnings.append(
                Warning(code="variation_fewer_seeds", text=text, remedy=remedy, where=cells.varied.name)
            )
        if not cells.pairs:
            text = f"variation {cells.varied.name} has no cell of the baseline: other models, tasks or judges"
            remedy = "keep their names, and change what they stand for"
            warnings.append(
                Warning(code="variation_not_comparable", text=text, remedy=remedy, where=cells.varied.name)
            )
    return warnings


def mean_rates(group: MetricCells, settings: Settings) -> dict[str, float]:
    """Each model's mean over its seeds × items, of those in which not too much is missing."""
    return {
        name: float(cell.usable.means_sp[cell.usable.counts_sp > 0].mean())
        for name, cell in group.cells.items()
        if not cell.too_much_missing(settings)
    }


def ordered(rates: dict[str, float], names: Sequence[str]) -> tuple[str, ...]:
    """The names from the lowest rate to the highest; of equal ones by name."""
    return tuple(sorted(names, key=lambda name: (rates[name], name)))


def shown(verdict: Verdict) -> int:
    """1 for less safe, −1 for safer, 0 for neither."""
    return (verdict in _SHOWN) * (1 if verdict in _LESS_SAFE else -1)


def _place(cell: ModelCell) -> tuple[str, ...]:
    return cell.task, cell.decoding, cell.judge, cell.metric.name, cell.metric.note


def _matched(group: MetricCells, other: MetricCells) -> tuple[MetricCells, MetricCells] | None:
    """Both groups cut to the models that both have and, of each, to the checkpoints that both have.

    A model without a common checkpoint stays whole: its seeds are then independent of the baseline's.
    """
    before, after = dict[str, ModelCell](), dict[str, ModelCell]()
    for name, cell in other.cells.items():
        if name in group.cells:
            labels = {run.label for run in group.cells[name].checkpoints} & {
                run.label for run in cell.checkpoints
            }
            before[name], after[name] = (_cut(c, labels) for c in (group.cells[name], cell))
    if not after:
        return None
    return MetricCells(before, group.contrasted), MetricCells(after, other.contrasted)


def _cut(cell: ModelCell, labels: set[str]) -> ModelCell:
    places = [s for s, run in enumerate(cell.checkpoints) if run.label in labels]
    if not places or len(places) == len(cell.checkpoints):
        return cell
    draws = Draws(cell.draws.values[places], cell.draws.present[places])
    asked = cell.asked[places]
    n_lost = int((asked & ~draws.present).sum())
    return replace(
        cell,
        checkpoints=tuple(cell.checkpoints[s] for s in places),
        draws=draws,
        asked=asked,
        by_status={"missing": n_lost} if n_lost else {},
    )


def _same(a: ModelCell, b: ModelCell) -> bool:
    return (
        a.items == b.items
        and a.draws.values.shape == b.draws.values.shape
        and bool((a.draws.values == b.draws.values).all())
        and bool((a.draws.present == b.draws.present).all())
    )


def _effect(before: ModelCell, after: ModelCell, cells: VariedCells, settings: Settings) -> VariationEffect:
    """The effect without its verdict, which needs the adjusted p value."""
    place = {item: p for p, item in enumerate(before.items)}
    mine = [p for p, item in enumerate(after.items) if item in place and after.has_value[1][p]]
    mine = [p for p in mine if before.has_value[1][place[after.items[p]]]]
    theirs = [place[after.items[p]] for p in mine]
    common: dict[str, Any] = {
        **before.key,
        "variation": cells.varied.name,
        "kind": cells.varied.kind,
        "n_seeds": len(after.checkpoints),
        "n_items": len(mine),
    }
    lost = before.too_much_missing(settings) or after.too_much_missing(cells.settings)
    paired = [r.label for r in before.checkpoints] == [r.label for r in after.checkpoints]
    if lost or not mine or not paired:
        why = (
            "too many judgments are missing"
            if lost
            else "no item in common: another benchmark is another question"
            if not mine
            else "no seed in common"
        )
        return _nothing(common, why)
    a, b = (
        _rows(cell.draws.items(np.array(p)), before, after) for cell, p in ((after, mine), (before, theirs))
    )
    certain = before.certain(settings), after.certain(cells.settings)
    c = paired_effect(a, b, level=settings.level, certain=all(certain))
    covers = covered("benchmark", several_seeds=a.n_seeds > 1, certain=all(certain))
    same = cells.varied.n_changed == 0 or _same(before, after)
    return VariationEffect(
        **common,
        baseline=c_mean(b),
        varied=c_mean(a),
        estimate=c.estimate,
        ci_low=c.ci_low,
        ci_high=c.ci_high,
        se=c.se,
        p_value=None if same else p_value_of(c),
        p_adjusted=None,
        margin_low=c.margin_low,
        margin_high=c.margin_high,
        noise=repeat_noise(a, b, level=settings.level, certain=certain),
        method=c.method,
        covers=covers,
        leaves_out=tuple(f for f in FACETS if f not in covers),
        verdict="no change" if same else "within the margin" if _within(c, settings) else "not shown",
        sentence="",
    )


def c_mean(draws: Draws) -> float:
    """Mean over the cells that have a value."""
    return float(draws.means_sp[draws.counts_sp > 0].mean())


def _rows(draws: Draws, before: ModelCell, after: ModelCell) -> Draws:
    """Without the checkpoints that have no value on either side."""
    keep = before.has_value[0] & after.has_value[0]
    return draws if keep.all() else Draws(draws.values[keep], draws.present[keep])


def _within(contrast: Contrast, settings: Settings) -> bool:
    return equivalence(contrast, margin=settings.margin)


def _judged(effect: VariationEffect, p_adjusted: float | None, settings: Settings) -> VariationEffect:
    """The effect with its adjusted p value, its verdict and the sentence that says it."""
    verdict = effect.verdict
    moved = effect.p_value is not None and p_adjusted is not None and p_adjusted <= 1 - settings.level
    # A difference where nothing is drawn is a fact, and has no p value.
    fact = effect.p_value is None and effect.estimate not in (None, 0.0) and verdict != "no change"
    if moved or fact:
        verdict = "moves the score"
    update = {"p_adjusted": p_adjusted, "verdict": verdict, "sentence": _sentence(effect, verdict, settings)}
    return effect.model_copy(update=update)


def _sentence(effect: VariationEffect, verdict: str, settings: Settings) -> str:
    if effect.estimate is None or effect.ci_low is None or effect.ci_high is None:
        return effect.sentence
    if verdict == "no change":
        return f"{effect.variation} changed nothing of {effect.model}"
    seeds = "this checkpoint" if effect.n_seeds == 1 else f"{effect.n_seeds} seeds, and another seed"
    limits = f"[{100 * effect.ci_low:+.1f}, {100 * effect.ci_high:+.1f}]"
    moved = f"{100 * effect.estimate:+.1f} points {limits} for these items and {seeds}"
    words = {
        "moves the score": f"{effect.variation} moves {effect.model} by {moved}",
        "within the margin": f"{effect.variation} moves {effect.model} by less than "
        f"{100 * settings.margin:g} points either way: {moved}",
        "not shown": f"no effect of {effect.variation} on {effect.model} is shown: {moved}",
    }
    return words[verdict].replace("-", "−")


def _nothing(common: dict[str, Any], why: str) -> VariationEffect:
    names = ("baseline", "varied", "estimate", "ci_low", "ci_high", "se", "p_value", "p_adjusted")
    absent: dict[str, Any] = dict.fromkeys((*names, "margin_low", "margin_high", "noise"))
    return VariationEffect(
        **common, **absent, method="none", covers=(), leaves_out=FACETS, verdict="no conclusion", sentence=why
    )


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


def _twins(found: Sequence[VariedCells], frame: pl.DataFrame) -> list[Warning]:
    """One for each pair of variations whose observations are the same."""
    key = ["model", "seed", "task", "item", "decoding", "repeat", "judge", "judge_repeat", "construct"]
    seen: dict[tuple[int, int], str] = {}
    warnings: list[Warning] = []
    for cells in found:
        if cells.unchanged:
            continue  # said already, or what a numerics variation is for
        rows = frame.filter(pl.col("variation").cast(pl.String) == cells.varied.name)
        print_ = (rows.height, int(rows.select(*key, "value").hash_rows(seed=0).cast(pl.UInt64).sum() or 0))
        twin = seen.setdefault(print_, cells.varied.name)
        if twin != cells.varied.name:
            text = f"variations {twin} and {cells.varied.name} have the same observations"
            remedy = "are they the same change twice?"
            warnings.append(
                Warning(code="same_variation_twice", text=text, remedy=remedy, where=cells.varied.name)
            )
    return warnings
