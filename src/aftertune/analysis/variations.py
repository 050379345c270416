"""Effects of a study's variations, and which source of randomness moves a rate."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from aftertune.analysis.cells import MetricCells, ModelCell, Settings, build_cells
from aftertune.analysis.differences import on_same_checkpoints, positive_p
from aftertune.analysis.rates import FACETS, covered
from aftertune.analysis.variance import estimate_components
from aftertune.records.variations import NumericsCheck, SeedSource, VariationClass, VariationEffect
from aftertune.stats import Contrast, Draws, equivalence, holm, paired_effect, paired_rates, repeat_noise

_CELL = ["model", "task", "decoding", "judge"]
_OBSERVATION = [*_CELL, "checkpoint", "item", "repeat", "judge_repeat", "construct"]


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
    """One variation's cells that the baseline has too, each beside the baseline's on the same checkpoints.

    `untouched` are (model, task, decoding, judge) whose every response and judgment is the baseline's own, as
    a model's that the variation has nothing to do with: no effect, and no conclusion to survive.
    """

    varied: Varied
    settings: Settings
    pairs: tuple[tuple[MetricCells, MetricCells], ...]  # baseline, variation
    untouched: frozenset[tuple[str, ...]]

    def touches(self, cell: ModelCell) -> bool:
        """Whether anything of a model's cell is another than in the baseline."""
        return (cell.model, cell.task, cell.decoding, cell.judge) not in self.untouched

    @property
    def touched_pairs(self) -> list[tuple[MetricCells, MetricCells]]:
        """The pairs with anything in which the two differ."""
        return [(a, b) for a, b in self.pairs if any(map(self.touches, b.cells.values()))]

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
    baseline_rows: pl.DataFrame,
    baseline: Sequence[MetricCells],
    varied: Varied,
    settings: Settings,
    also: frozenset[str],
) -> VariedCells:
    """The cells of one variation's rows, matched to the baseline's.

    Args:
        frame: all rows of the table.
        baseline_rows: the baseline's.
        baseline: the baseline's contrasted cells.
        varied: the variation.
        settings: the baseline's.
        also: metrics that the primary contrast asks for.
    """
    rows = frame.filter(pl.col("variation").cast(pl.String) == varied.name)
    there = {_place(group.any): group for group in build_cells(rows, also=also)}
    pairs = [
        matched
        for group in baseline
        if (other := there.get(_place(group.any))) is not None
        and (matched := _matched(group, other)) is not None
    ]
    own = replace(settings, deterministic=varied.deterministic)
    return VariedCells(varied, own, tuple(pairs), _untouched(baseline_rows, rows))


def estimate_effects(found: Sequence[VariedCells], settings: Settings) -> list[VariationEffect]:
    """Every variation's effect on every model in every cell, their p values adjusted together by Holm."""
    effects = [
        _effect(group.cells[name], cell, cells, settings)
        for cells in found
        for group, other in cells.pairs
        for name, cell in other.cells.items()
        if cells.touches(cell)
    ]
    adjusted = holm([effect.p_value for effect in effects])
    return [_judged(effect, p, settings) for effect, p in zip(effects, adjusted, strict=True)]


def check_numerics(found: Sequence[VariedCells]) -> list[NumericsCheck]:
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


def _untouched(baseline: pl.DataFrame, rows: pl.DataFrame) -> frozenset[tuple[str, ...]]:
    """The cells whose rows are all the baseline's: the same response by its key, and the same judgment."""
    here = rows.select(*_OBSERVATION, "response_key", "value", "status")
    shared = rows.select("model", "checkpoint").unique()
    there = baseline.join(shared, on=["model", "checkpoint"], how="semi", nulls_equal=True)
    there = there.select(here.columns)
    both = here.join(there, on=_OBSERVATION, how="full", suffix="_baseline", nulls_equal=True, coalesce=True)
    same = pl.col("response_key") == pl.col("response_key_baseline")  # null where it is not known
    for name in ("value", "status"):
        same &= pl.col(name).eq_missing(pl.col(f"{name}_baseline"))
    cells = both.group_by(_CELL).agg(same.fill_null(value=False).all().alias("same")).filter("same")
    return frozenset(cells.select(pl.col(_CELL).cast(pl.String)).iter_rows())


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
    both = on_same_checkpoints(after, before)
    common: dict[str, Any] = {
        **before.key,
        "variation": cells.varied.name,
        "kind": cells.varied.kind,
        "n_seeds": both[0].n_seeds if both else len(after.checkpoints),
        "n_items": both[0].n_items if both else len(set(after.items) & set(before.items)),
    }
    lost = before.exceeds_missing_limit(settings) or after.exceeds_missing_limit(cells.settings)
    if lost or both is None:
        why = (
            "too many judgments are missing"
            if lost
            else "no item in common: another benchmark is another question"
            if not common["n_items"]
            else "no seed in common"
        )
        return _nothing(common, why)
    a, b = both
    baseline, varied = paired_rates(a, b)
    certain = before.certain(settings), after.certain(cells.settings)
    c = paired_effect(a, b, level=settings.level, certain=all(certain))
    covers = covered("benchmark", several_seeds=a.n_seeds > 1, certain=all(certain))
    same = cells.varied.n_changed == 0 or _same(before, after)
    return VariationEffect(
        **common,
        baseline=baseline,
        varied=varied,
        estimate=varied - baseline,
        ci_low=c.ci_low,
        ci_high=c.ci_high,
        se=c.se,
        p_value=None if same else positive_p(c),
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


def estimate_seed_sources(found: Sequence[VariedCells], settings: Settings) -> list[SeedSource]:
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
    if cell.exceeds_missing_limit(settings) or cell.usable.n_seeds < 2 or cell.usable.n_items < 2:
        return None
    for c in estimate_components(cell, settings):
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
