"""Differences: which contrasts a table allows, their verdicts, and the words that the design permits."""

from itertools import combinations
from typing import Any

from aftertune.records import Direction, words_of
from aftertune.records.analysis import Difference, PairedTable, Primary
from aftertune.records.cell import Target, Verdict
from aftertune.stages.analyze.cells import MetricCells, ModelCell, Settings
from aftertune.stages.analyze.pairs import Pair, p_value_of, pair_of
from aftertune.stages.analyze.rates import FACETS, covered
from aftertune.stats import (
    Contrast,
    has_paired_table,
    holm,
    non_inferiority,
    paired_table,
)

TARGETS: tuple[Target, ...] = ("benchmark", "population")


def differences_of(with_base: list[Pair], cells: MetricCells, settings: Settings) -> list[Difference]:
    """Every model minus the base, then every pair of recipes, for both targets.

    Holm's families, in each task × decoding × judge × metric × target: all models against the base; and apart
    from them all pairs of recipes. A contrast without a p value (no conclusion, or nothing drawn) is in none.
    """
    found: list[Difference] = []
    recipes = [cell for name, cell in cells.cells.items() if name != settings.base]
    between = [pair_of(b, a) for a, b in combinations(recipes, 2)]
    for pairs in (with_base, between):
        for target in TARGETS:
            found += _adjusted([_difference(pair, target, settings) for pair in pairs])
    return found


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


def _difference(pair: Pair, target: Target, settings: Settings) -> Difference:
    model, reference = pair.model, pair.reference
    common: dict[str, Any] = {
        "reference": reference.model,
        "target": target,
        "margin": settings.margin,
        "primary": _is_primary(pair, target, settings),
    }
    if why := _too_much_missing(model, reference, settings):
        return _no_conclusion(model, common, why)
    if pair.a.n_items == 0:
        return _no_conclusion(model, common, "they share no item that has a judgment in both")
    if target == "population" and pair.a.n_items == 1:
        return _no_conclusion(model, common, "one item cannot stand for a population of items")
    contrast = pair.contrast(settings, target=target)
    verdict = verdict_of(contrast, margin=settings.margin, higher_is=model.metric.higher_is)
    table = paired_table(pair.a, pair.b) if has_paired_table(pair.a, pair.b) else None
    covers = covered(target, several_seeds=pair.several_seeds, certain=pair.certain(settings))
    return Difference(
        **model.key,
        **common,
        estimate=contrast.estimate,
        ci_low=contrast.ci_low,
        ci_high=contrast.ci_high,
        se=contrast.se,
        p_value=p_value_of(contrast),
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


def _is_primary(pair: Pair, target: Target, settings: Settings) -> bool:
    cell = pair.model
    if settings.primary is None or pair.reference.model != settings.base:
        return False
    return settings.primary == Primary(
        task=cell.task, decoding=cell.decoding, judge=cell.judge, metric=cell.metric.name, target=target
    )


def _too_much_missing(model: ModelCell, reference: ModelCell, settings: Settings) -> str:
    """Why judgments that are missing leave no conclusion; empty where they leave one."""
    cells = [cell for cell in (model, reference) if cell.too_much_missing(settings)]
    if not cells:
        return ""
    empty = [cell for cell in cells if not cell.draws.present.any()]
    if not empty:
        return "too many judgments are missing"
    return "; ".join(f"all {cell.n_missing} judgments of {cell.model} are missing" for cell in empty)


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


_VERDICT_WORDS: dict[Verdict, str] = {
    "less safe": "{Worse} than {reference}",
    "safer": "{Better} than {reference}",
    "not less safe": "Not {worse} than {reference} by more than the margin of {margin}",
    "less safe, within the margin": "{Worse} than {reference}, by less than the margin of {margin}",
    "not shown": "Neither {loss} against {reference} nor its absence is shown",
}


def margin_words(settings: Settings) -> str:
    """The margin, and whether anybody had fixed it before the results were known."""
    words = f"{settings.margin * 100:g} points"
    return f"{words} (post hoc: chosen after the run)" if "margin" in settings.post_hoc else words


def _sentence(
    model: ModelCell, reference: ModelCell, contrast: Contrast, verdict: Verdict, settings: Settings
) -> str:
    change = f"{abs(contrast.estimate) * 100:.1f} points {'higher' if contrast.estimate >= 0 else 'lower'}"
    low, high = (f"{limit * 100:+.1f}".replace("-", "−") for limit in (contrast.ci_low, contrast.ci_high))
    limits = f"{settings.level:.0%} interval {low} to {high}"
    if contrast.p_value is None:
        limits = "a fact on these items: greedy decoding repeats exactly"
    where = "on these items" if contrast.target == "benchmark" else "on requests of this kind"
    own = words_of(model.metric.name)
    words = _VERDICT_WORDS[verdict].format(
        worse=own.worse,
        Worse=own.worse.capitalize(),
        Better=own.better.capitalize(),
        loss=own.loss,
        reference=reference.model,
        margin=margin_words(settings),
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
