"""What `analysis.json` holds. Its JSON Schema is made from these classes, and the report reads nothing else.

Absent is null, never 0 or NaN. Every interval names its target, what it covers and its method.
"""

from typing import TYPE_CHECKING, Literal, get_args, get_origin

from pydantic import Field

from aftertune.errors import DataError, nearest
from aftertune.records.cell import Cell, Frozen, HigherIs, Target, Verdict
from aftertune.records.frames import to_frame
from aftertune.records.variations import (
    CategoryConsistency,
    Movement,
    NumericsCheck,
    RankingSurvival,
    SeedSource,
    SingleRunRanking,
    SingleRuns,
    Survival,
    VariationEffect,
)

if TYPE_CHECKING:
    import polars as pl

SCHEMA_VERSION = 1

Setting = Literal["level", "margin", "max_missing", "primary", "calibration"]


class Interval(Frozen):
    """A confidence interval; `covers` and `leaves_out` name facets (seed, item, repeat, judge, …)."""

    ci_low: float
    ci_high: float
    se: float
    method: str
    covers: tuple[str, ...]
    leaves_out: tuple[str, ...]


class Missing(Frozen):
    """Judgments without a value among the cell's observations."""

    n: int
    n_observations: int
    by_status: dict[str, int]


class Bounds(Frozen):
    """The estimate if every missing judgment were 0 (low) or 1 (high)."""

    low: float
    high: float


class SeedRate(Frozen):
    """One checkpoint's own rate; `seed` is null for the base or a table without seeds."""

    seed: int | None
    checkpoint: str
    estimate: float | None
    n_items: int
    n_repeats: int
    n_missing: int
    share_length: float | None  # share of responses that hit max_tokens; null where the table does not say


class Spread(Frozen):
    """The seeds' own rates: SD, extremes, and the interval in which the next seed's rate is expected."""

    sd: float
    minimum: float
    maximum: float
    prediction_low: float
    prediction_high: float


class BayesInterval(Frozen):
    """A recipe's rate at 2–4 seeds under a half-normal prior on the seed SD.

    `width_ratio` is the prior's pull: this interval's width over that of the benchmark interval without a
    prior. `seed_sd` is the posterior mean of the seeds' SD.
    """

    prior_sd: float
    ci_low: float
    ci_high: float
    method: str
    seed_sd: float | None = None
    width_ratio: float | None = None


class Rate(Cell):
    """One model's rate. `estimate` is null where too many judgments are missing (`bounds` remain)."""

    estimate: float | None
    n_seeds: int
    n_items: int
    n_repeats: int  # the largest number of repeats of a checkpoint × item
    per_seed: tuple[SeedRate, ...]
    missing: Missing
    bounds: Bounds
    spread: Spread | None  # recipes with at least 2 seeds
    benchmark: Interval | None
    population: Interval | None
    bayes: tuple[BayesInterval, ...]
    why_no_interval: str  # empty where both intervals are given


class PairedTable(Frozen):
    """Base and one checkpoint on the same items, one draw each: counts of (reference event, model event)."""

    n_neither: int
    n_gained: int  # no event in the reference, event in the model
    n_lost: int  # event in the reference, none in the model
    n_both: int


class Difference(Cell):
    """`model` minus `reference` in `metric`, for one target."""

    reference: str
    target: Target
    estimate: float | None
    ci_low: float | None
    ci_high: float | None
    se: float | None
    p_value: float | None
    p_adjusted: float | None
    # The two-sided 90% interval that the margin is held against (non-inferiority), in the metric's own units.
    margin_low: float | None
    margin_high: float | None
    margin: float
    method: str
    covers: tuple[str, ...]
    leaves_out: tuple[str, ...]
    verdict: Verdict
    sentence: str  # the verdict in words that the design allows
    primary: bool
    table: PairedTable | None


class Component(Cell):
    """One facet's share of the variance of a cell (seed, item, seed×item, repeat, residual).

    Where several judges judged one construct there is a second set for them together, under the names of all
    (seed, item, judge and their interactions), without intervals.
    """

    facet: str
    variance: float
    share: float
    ci_low: float | None
    ci_high: float | None
    f: float | None
    p_value: float | None


class Consistency(Cell):
    """How often repeated draws of one checkpoint disagree, and what a single run would have shown."""

    checkpoint: str
    seed: int | None
    n_items: int
    n_repeats: int
    pairwise_disagreement: float
    flip_rate: float
    unanimous: float
    stability_index: float
    entropy: float | None = None  # bits
    fleiss_kappa: float | None = None  # null where every draw has one label
    any_event: float  # share of items with at least one event in n_repeats draws
    all_event: float
    per_repeat: tuple[float, ...]  # the rate of each draw of the whole task
    minimum: float
    maximum: float
    new_run_in_range: float  # (R−1)/(R+1): how often a further run falls inside min–max
    estimate: float
    interval: Interval  # of this one checkpoint on these items


class CategoryDifference(Cell):
    """`model` minus `reference` on one category's items, taken as the whole question (benchmark target).

    `p_adjusted` is Benjamini–Hochberg's over the categories of one model in one cell. `verdict` is a code as
    in a difference; it is "less safe" or "safer" only where `p_adjusted` is at most 1 − level, so that of the
    categories named so at most that share is expected to be named wrongly. Where nothing was drawn there is
    no p value, and the difference is a fact.
    """

    reference: str
    category: str
    n_items: int
    estimate: float
    ci_low: float
    ci_high: float
    se: float
    p_value: float | None
    p_adjusted: float | None
    method: str
    verdict: Literal["less safe", "safer", "not shown"]


class SignAgreement(Frozen):
    """In how many cells (task × decoding × judge) of one metric a model differs from the base, and which way.

    Counts, never a pooled number: the cells share checkpoints, items and responses. `n_worse` and `n_better`
    count the signs of the estimates, the other two the intervals that lie wholly on that side of 0.
    """

    model: str
    reference: str
    metric: str
    higher_is: HigherIs
    target: Target
    n_cells: int
    n_worse: int
    n_better: int
    n_equal: int
    n_shown_worse: int
    n_shown_better: int
    n_no_conclusion: int
    cells_shown_worse: tuple[str, ...]  # task · decoding · judge
    cells_shown_better: tuple[str, ...]


class Control(Cell):
    """An A/A contrast: one recipe's seeds in two halves, which can differ by chance alone (benchmark target).

    `p_adjusted` is Holm's over all controls of the analysis; `passed` says that it is above 1 − level, as it
    should be.
    """

    first: tuple[int, ...]  # seeds
    second: tuple[int, ...]
    estimate: float
    ci_low: float
    ci_high: float
    se: float
    p_value: float | None
    p_adjusted: float | None
    method: str
    passed: bool


class Flip(Cell):
    """Items whose event differs from the reference, by category, averaged over seeds and pairs of draws.

    `category` is null for all items together. `to_event` is the mean number of items per checkpoint with no
    event in the reference and an event in the model; `to_no_event` the other way.
    """

    reference: str
    category: str | None
    n_items: int
    to_event: float
    to_no_event: float


DesignKind = Literal["one checkpoint", "one checkpoint of a recipe", "recipe over seeds"]
WholeDesign = Literal["one model", "base and one checkpoint", "recipe over seeds", "grid", "several models"]


class ModelDesign(Frozen):
    """What the table holds of one model, and what its intervals can therefore cover.

    One record for all cells (`where`: task · decoding · judge) in which it is the same.
    """

    model: str
    kind: DesignKind
    n_seeds: int
    n_items: int
    n_repeats: int
    where: tuple[str, ...]
    text: str


class Design(Frozen):
    """The design found in the table: it decides what is reported (docs/methods.md)."""

    kind: WholeDesign
    text: str
    models: tuple[ModelDesign, ...]


class Agreement(Frozen):
    """Two judges of one construct on the same responses."""

    task: str
    construct_: str = Field(alias="construct")  # pydantic has a method of the bare name
    judge_a: str
    judge_b: str
    n: int
    positive_agreement: float | None
    negative_agreement: float | None
    cohen_kappa: float | None
    gwet_ac1: float | None
    krippendorff_alpha: float | None = None


class Corrected(Cell):
    """A rate freed of its judge's errors, beside the raw one (docs/methods.md, Judges).

    `error_of` says on whose responses the judge's errors were measured: this model's elsewhere, any
    model's elsewhere, or a random part of this very rate's responses. `n_positive` and `n_negative` count
    people's labels with and without the judge's construct. `estimate` is null where no correction is
    possible, and `why` says so; it is also filled where an estimate has no interval.
    """

    target: Target
    method: str
    raw: float
    raw_ci_low: float | None
    raw_ci_high: float | None
    estimate: float | None
    unclipped: float | None  # what the formula gave, before it was kept in [0, 1]
    ci_low: float | None
    ci_high: float | None
    error_of: Literal["this model elsewhere", "all models elsewhere", "these responses"]
    n_positive: int
    n_negative: int
    sensitivity: float | None  # of the judge's construct, whatever way the metric counts it
    specificity: float | None
    n_unlabelled: int | None  # PPI++: judged responses without a label
    judgments_weight: float | None  # PPI++: λ, 0 where the labels alone speak
    weak_judge: bool  # so near chance that the interval is not to be trusted
    covers: tuple[str, ...]
    leaves_out: tuple[str, ...]
    why: str


class SeedLoss(Frozen):
    """The held-out loss of one seed's checkpoint; null with a reason where there is none."""

    seed: int
    loss: float | None
    reason: str


class HeldOutLosses(Frozen):
    """Loss on rows of a recipe's own data that no seed trained on, in nats per answer token.

    Whether the tuning taught what its data hold; no measure of safety. `difference` is the mean over seeds of
    loss − the base's, with Student's interval over the seeds: these rows, another seed. All four are null
    without the base's loss, `ci_low`, `ci_high` and `se` also below two seeds.
    """

    recipe: str
    data: str
    n_rows: int
    n_tokens: int
    base: float | None
    per_seed: tuple[SeedLoss, ...]
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    se: float | None


class RankFlip(Frozen):
    """Two models whose order by one metric differs between two judges of the same responses.

    `shown_a` and `shown_b` say whether that judge's difference has an interval (for these items) that
    leaves out 0; null where this difference was not computed.
    """

    task: str
    decoding: str
    metric: str
    note: str
    judge_a: str
    judge_b: str
    model: str
    other: str
    model_a: float  # `model` by judge a
    other_a: float
    model_b: float
    other_b: float
    shown_a: bool | None
    shown_b: bool | None


class SplitItem(Frozen):
    """One item and its responses on which judges gave different values."""

    item: str
    n_responses: int
    n_split: int


class JudgeSplit(Frozen):
    """How often judges of one construct split over a response; `items` are those that split them most."""

    task: str
    construct_: str = Field(alias="construct")
    judges: tuple[str, ...]
    n_responses: int  # with a 0/1 value from two judges or more
    n_split: int
    n_items: int
    n_items_split: int
    items: tuple[SplitItem, ...]


LANGUAGE = "language"  # of a warning: responses are in a language that their judge does not read


class Warning(Frozen):
    """Something a reader must know; `where` names the cell or is empty for the whole study."""

    code: str
    text: str
    remedy: str
    where: str = ""


class Primary(Frozen):
    """The contrast that the study fixed beforehand."""

    task: str
    decoding: str
    judge: str
    metric: str
    target: Target


class Analysis(Frozen):
    """The whole file."""

    schema_version: int
    study: str
    level: float
    margin: float
    max_missing: float
    primary: Primary | None
    rates: tuple[Rate, ...]
    differences: tuple[Difference, ...]
    components: tuple[Component, ...]
    consistency: tuple[Consistency, ...]
    flips: tuple[Flip, ...]
    agreement: tuple[Agreement, ...]
    warnings: tuple[Warning, ...]
    # What follows has defaults, so that a file written before it existed can still be read.
    observations_sha256: str | None = None  # of the table that it is of
    base: str | None = "base"  # which model is the base; null where the table has none
    # Settings that were given with the analysis and not fixed by a study beforehand.
    post_hoc: tuple[Setting, ...] = ()
    design: Design | None = None
    categories: tuple[CategoryDifference, ...] = ()
    signs: tuple[SignAgreement, ...] = ()
    controls: tuple[Control, ...] = ()
    corrected: tuple[Corrected, ...] = ()
    rank_flips: tuple[RankFlip, ...] = ()
    splits: tuple[JudgeSplit, ...] = ()
    held_out: tuple[HeldOutLosses, ...] = ()
    # What variations did, and what single runs would have said (records.variations).
    variation_effects: tuple[VariationEffect, ...] = ()
    numerics_checks: tuple[NumericsCheck, ...] = ()
    survivals: tuple[Survival, ...] = ()
    ranking_survivals: tuple[RankingSurvival, ...] = ()
    single_runs: tuple[SingleRuns, ...] = ()
    single_run_rankings: tuple[SingleRunRanking, ...] = ()
    seed_sources: tuple[SeedSource, ...] = ()
    movements: tuple[Movement, ...] = ()
    category_consistency: tuple[CategoryConsistency, ...] = ()

    def to_frame(self, table: str) -> "pl.DataFrame":
        """One of the lists of records (`rates`, `differences`, `components`, …) as a polars frame.

        Raises:
            DataError: there is no list of that name.
        """
        known = {
            name: get_args(field.annotation)[0]
            for name, field in type(self).model_fields.items()
            if get_origin(field.annotation) is tuple and name != "post_hoc"
        }
        if table not in known:
            raise DataError(f"an analysis has no table {table!r}", nearest(table, known))
        return to_frame(known[table], getattr(self, table))
