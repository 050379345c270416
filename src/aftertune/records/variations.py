"""What an analysis says of a study's variations: each is one deliberate change around the baseline.

Every estimate is the variation minus the baseline, on the items and seeds that both have.
"""

from typing import Literal

from aftertune.records.cell import Cell, Frozen, Target, Verdict

VariationClass = Literal["procedure", "numerics", "design"]
Outcome = Literal["survives", "weakened", "reversed", "appears", "no conclusion"]


class VariationEffect(Cell):
    """How far one variation moves one model's rate, for these items and another training seed.

    `noise` is the absolute difference that two measurements of the same checkpoints, which differ in nothing
    but their draws, stay below with probability `level`; 0 where nothing is drawn. `p_adjusted` is Holm's
    over all effects of the analysis. `margin_low` and `margin_high` are the two-sided 90% interval.
    """

    variation: str
    kind: VariationClass
    n_seeds: int
    n_items: int
    baseline: float | None
    varied: float | None
    estimate: float | None
    ci_low: float | None
    ci_high: float | None
    se: float | None
    p_value: float | None
    p_adjusted: float | None
    margin_low: float | None
    margin_high: float | None
    noise: float | None
    method: str
    covers: tuple[str, ...]
    leaves_out: tuple[str, ...]
    verdict: Literal["moves the score", "within the margin", "not shown", "no change", "no conclusion"]
    sentence: str


class NumericsCheck(Frozen):
    """Whether a numerics variation left every response that both asked for as it was.

    `first_changed` is checkpoint · task · item · decoding · repeat of the first response whose text differs.
    """

    variation: str
    n_compared: int
    n_changed: int
    passed: bool
    first_changed: str | None


class Survival(Cell):
    """One conclusion (`model` against `reference`) under one variation.

    "weakened": shown in the baseline, and not here; "appears": the other way; "reversed": shown in both, with
    opposite signs; "no conclusion" where either has too much missing.
    """

    variation: str
    kind: VariationClass
    reference: str
    target: Target
    baseline_estimate: float | None
    varied_estimate: float | None
    baseline_verdict: Verdict
    varied_verdict: Verdict
    outcome: Outcome


class RankingSurvival(Frozen):
    """The models of one cell from the lowest rate to the highest, in the baseline and under a variation."""

    variation: str
    kind: VariationClass
    task: str
    decoding: str
    judge: str
    metric: str
    note: str
    baseline: tuple[str, ...]
    varied: tuple[str, ...]
    n_pairs: int
    n_swapped: int  # pairs of models whose order is another one


class SingleRuns(Cell):
    """What one run would have said: `model` against `reference` from one seed and one draw of each item.

    All `n_runs` combinations of a seed and a draw of both are taken. Each is judged as most papers do: the
    exact McNemar test of the two at 1 − level. The first three shares add up to 1.
    """

    reference: str
    n_runs: int
    full_verdict: Verdict
    share_less_safe: float
    share_safer: float
    share_not_shown: float
    share_otherwise: float  # says another of the three than the full study
    lowest: float  # single-run difference
    highest: float


class SingleRunRanking(Frozen):
    """How often one run of each model gives another order of the models than the full study."""

    task: str
    decoding: str
    judge: str
    metric: str
    note: str
    order: tuple[str, ...]  # of the full study, from the lowest rate
    n_draws: int
    share_otherwise: float


class SeedSource(Cell):
    """The seeds' variance where the seed moves one source alone (`vary` of the recipe), beside the whole.

    `share` is of the variance where it moves all; null where that is 0. Sources need not add up: they
    interact.
    """

    source: Literal["init", "order", "dropout", "subset", "all"]
    variation: str
    n_seeds: int
    variance: float
    ci_low: float | None
    ci_high: float | None
    share: float | None


class Movement(Cell):
    """How far one facet moves one model's rate, the others held as in the baseline.

    `sd` is that of single measurements over the facet's `n` levels (seeds: between their rates, with one
    draw's noise; repeats: between draws of one checkpoint, pooled). `lowest` and `highest` are the extremes.
    """

    facet: Literal["seed", "repeat", "judge", "decoding", "task", "variation"]
    n: int
    sd: float
    lowest: float
    highest: float


class CategoryConsistency(Cell):
    """Pairwise disagreement of repeated draws on one category's items, over items and checkpoints."""

    category: str
    n_checkpoints: int
    n_items: int
    n_repeats: int
    pairwise_disagreement: float
