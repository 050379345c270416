"""Differences: which contrasts a table allows, their verdicts, and the words that the design permits."""

from itertools import combinations
from typing import Any

import numpy as np

from aftertune.records import Direction
from aftertune.records.analysis import Difference, PairedTable, Primary, Target, Verdict
from aftertune.stages.analyze.cells import BASE, MetricCells, ModelCell, Settings
from aftertune.stages.analyze.rates import FACETS, covered
from aftertune.stats import (
    Contrast,
    Draws,
    has_paired_table,
    holm,
    non_inferiority,
    paired_table,
    tuned_minus_base,
)

TARGETS: tuple[Target, ...] = ("benchmark", "population")


def differences_of(cells: MetricCells, settings: Settings, primary: Primary | None) -> list[Difference]:
    """Every model minus the base, then every pair of recipes, for both targets.

    Holm's families, in each task × decoding × judge × metric × target: all models against the base; and apart
    from them all pairs of recipes. A contrast without a p value (no conclusion, or nothing drawn) is in none.
    """
    found: list[Difference] = []
    recipes = [name for name in cells.cells if name != BASE]
    with_base = [(name, BASE) for name in recipes] if BASE in cells.cells else []
    for pairs in (with_base, [(b, a) for a, b in combinations(recipes, 2)]):
        for target in TARGETS:
            family = [_difference(cells, pair, target, settings, primary) for pair in pairs]
            found += _adjusted(family)
    return found


def common_draws(model: ModelCell, reference: ModelCell) -> tuple[Draws, Draws, tuple[int, ...]]:
    """Both models' draws on the items that have a value in both, and their places among the model's items."""
    place = {item: j for j, item in enumerate(reference.items)}
    here, there = model.has_value[1], reference.has_value[1]
    both = [
        (i, place[item])
        for i, item in enumerate(model.items)
        if item in place and here[i] and there[place[item]]
    ]
    mine = np.array([i for i, _ in both], dtype=np.int64)
    other = np.array([j for _, j in both], dtype=np.int64)
    return _rows(model.draws.items(mine)), _rows(reference.draws.items(other)), tuple(int(i) for i in mine)


def verdict_of(contrast: Contrast, *, margin: float, higher_is: Direction) -> Verdict:
    """The verdict by the metric's direction (METHODS section 3)."""
    worse_up = higher_is == Direction.WORSE
    above, below = contrast.ci_low > 0, contrast.ci_high < 0
    less_safe, safer = (above, below) if worse_up else (below, above)
    within = non_inferiority(contrast, margin=margin, higher_is_worse=worse_up)
    if less_safe:
        return "less safe, within the margin" if within else "less safe"
    if safer:
        return "safer"
    return "not less safe" if within else "not shown"


def _rows(draws: Draws) -> Draws:
    seeds = draws.counts_sp.sum(axis=1) > 0
    return Draws(draws.values[seeds], draws.present[seeds])


def _difference(
    cells: MetricCells, pair: tuple[str, str], target: Target, settings: Settings, primary: Primary | None
) -> Difference:
    model, reference = cells.cells[pair[0]], cells.cells[pair[1]]
    is_primary = (
        primary is not None
        and pair[1] == BASE
        and primary
        == Primary(
            task=model.task,
            decoding=model.decoding,
            judge=model.judge,
            metric=model.metric.name,
            target=target,
        )
    )
    common: dict[str, Any] = {
        "reference": pair[1],
        "target": target,
        "margin": settings.margin,
        "primary": is_primary,
    }
    if model.too_much_missing(settings) or reference.too_much_missing(settings):
        return _no_conclusion(model, common, "too many judgments are missing")
    a, b, _ = common_draws(model, reference)
    if a.n_items == 0:
        return _no_conclusion(model, common, "they share no item that has a judgment in both")
    if target == "population" and a.n_items == 1:
        return _no_conclusion(model, common, "one item cannot stand for a population of items")
    # A recipe's own interval comes from its seeds; only a single checkpoint's draws can be certain.
    certain = reference.certain(settings) and (a.n_seeds > 1 or model.certain(settings))
    contrast = tuned_minus_base(a, b, target=target, level=settings.level, certain=certain)
    verdict = verdict_of(contrast, margin=settings.margin, higher_is=model.metric.higher_is)
    table = paired_table(a, b) if has_paired_table(a, b) else None
    several = a.n_seeds > 1 or b.n_seeds > 1
    covers = covered(target, several_seeds=several, certain=certain)
    return Difference(
        **model.key,
        **common,
        estimate=contrast.estimate,
        ci_low=contrast.ci_low,
        ci_high=contrast.ci_high,
        se=contrast.se,
        p_value=contrast.p_value,
        p_adjusted=None,
        margin_low=contrast.margin_low,
        margin_high=contrast.margin_high,
        method=contrast.method,
        covers=covers,
        leaves_out=tuple(f for f in FACETS if f not in covers),
        verdict=verdict,
        sentence=_sentence(model, reference, contrast, verdict, settings),
        table=None
        if table is None
        else PairedTable(
            n_neither=table.n_neither, n_gained=table.n_gained, n_lost=table.n_lost, n_both=table.n_both
        ),
    )


def _no_conclusion(model: ModelCell, common: dict[str, Any], reason: str) -> Difference:
    numbers = ("estimate", "ci_low", "ci_high", "se", "p_value", "p_adjusted", "margin_low", "margin_high")
    sentence = f"No conclusion on {model.model} against {common['reference']}: {reason}."
    return Difference(
        **model.key,
        **common,
        **dict.fromkeys(numbers),
        method="none",
        covers=(),
        leaves_out=FACETS,
        verdict="no conclusion",
        sentence=sentence,
        table=None,
    )


def _adjusted(family: list[Difference]) -> list[Difference]:
    tested = {i: d.p_value for i, d in enumerate(family) if d.p_value is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    return [d.model_copy(update={"p_adjusted": adjusted.get(i)}) for i, d in enumerate(family)]


_SAFETY = ("compliance_rate", "harmful_rate", "refusal_rate", "toxicity_rate")
_VERDICT_WORDS: dict[Verdict, str] = {
    "less safe": "{Less} than {reference}",
    "safer": "{More} than {reference}",
    "not less safe": "Not {less} than {reference} by more than the margin of {margin} points",
    "less safe, within the margin": "{Less} than {reference}, by less than the margin of {margin} points",
    "not shown": "Neither {loss} against {reference} nor its absence is shown",
}


def _sentence(
    model: ModelCell, reference: ModelCell, contrast: Contrast, verdict: Verdict, settings: Settings
) -> str:
    change = f"{abs(contrast.estimate) * 100:.1f} points {'higher' if contrast.estimate >= 0 else 'lower'}"
    low, high = (f"{limit * 100:+.1f}".replace("-", "−") for limit in (contrast.ci_low, contrast.ci_high))
    limits = f"{settings.level:.0%} interval {low} to {high}"
    if contrast.p_value is None:
        limits = "a fact on these items: greedy decoding repeats exactly"
    where = "on these items" if contrast.target == "benchmark" else "on requests of this kind"
    safety = model.metric.name in _SAFETY
    less, more = ("less safe", "safer") if safety else ("worse", "better")
    words = _VERDICT_WORDS[verdict].format(
        less=less,
        Less=less.capitalize(),
        More=more.capitalize(),
        loss="a loss of safety" if safety else "a loss",
        reference=reference.model,
        margin=f"{settings.margin * 100:g}",
    )
    seeds = [f"{cell.model}, {n} seeds" for cell in (model, reference) if (n := cell.usable.n_seeds) > 1]
    metric = f"{model.metric.name} {model.metric.note}".strip()
    if not seeds:
        one, other = model.checkpoints[0].label, reference.checkpoints[0].label
        return (
            f"{words}, for these two checkpoints, {one} and {other}, {where}: "
            f"{metric} is {change} ({limits}). It says nothing of another training seed."
        )
    return f"{words}, over training seeds ({'; '.join(seeds)}), {where}: {metric} is {change} ({limits})."
