"""Differences of two rates: square-and-add limits for any design, and the paired table of two checkpoints."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import exp, log, sqrt
from typing import Self, cast

import numpy as np
from scipy import optimize, stats

from aftertune.stats.arms import Arm, SeedPart, Target, checkpoint_arm, recipe_arm
from aftertune.stats.draws import Draws
from aftertune.stats.rates import t_quantile, wilson, z_quantile

MARGIN_LEVEL = 0.90  # two-sided: each limit is a one-sided 95% bound
_WELCH_SHARE = 0.8
_SMALLEST_P = 1e-9  # the inversion looks no further; it is reported in place of anything smaller
_NO_EVIDENCE = -1e-9  # the logarithm of the largest p that is looked for


@dataclass(frozen=True, slots=True)
class Contrast:
    """a − b for one target, at `level`, and at 90% for the margin; `p_value` inverts the same interval.

    `p_value` is None where nothing was drawn (greedy, exact): the difference is then a fact and no
    estimate.
    """

    target: Target
    estimate: float
    ci_low: float
    ci_high: float
    se: float
    p_value: float | None
    level: float
    margin_low: float
    margin_high: float
    margin_level: float
    method: str


@dataclass(frozen=True, slots=True)
class Paired:
    """A 2×2 table of one draw each on the same items, as counts of items."""

    n_neither: int
    n_gained: int
    n_lost: int
    n_both: int


Limits = Callable[[float], tuple[float, float]]


def mcnemar_exact(n_gained: int, n_lost: int) -> float:
    """McNemar's exact two-sided p: the binomial test of the discordant pairs; 1 where there is none."""
    n = n_gained + n_lost
    return 1.0 if n == 0 else float(stats.binomtest(min(n_gained, n_lost), n, 0.5).pvalue)


def newcombe_paired(table: Paired, *, level: float = 0.95) -> tuple[float, float]:
    """Limits of P(model) − P(reference) from paired items (Newcombe 1998, Statist. Med. 17:2635, method 10).

    Wilson limits of the two margins, squared and added with a φ whose positive numerator is lowered by n/2.
    """
    n = table.n_neither + table.n_gained + table.n_lost + table.n_both
    if n < 1:
        raise ValueError("newcombe_paired needs at least one item")
    model, reference = table.n_both + table.n_gained, table.n_both + table.n_lost
    first, second = wilson(model, n, level=level), wilson(reference, n, level=level)
    product = table.n_both * table.n_neither - table.n_gained * table.n_lost
    scale = sqrt(model * (n - model) * reference * (n - reference))
    phi = 0.0 if scale == 0 else (max(product - n / 2, 0.0) if product > 0 else product) / scale
    return square_and_add(
        (first.estimate, first.ci_low, first.ci_high), (second.estimate, second.ci_low, second.ci_high), phi
    )


def square_and_add(
    a: tuple[float, float, float], b: tuple[float, float, float], r: float
) -> tuple[float, float]:
    """Limits of a − b from (estimate, low, high) of each and their correlation (MOVER, Zou & Donner 2008)."""
    (p1, l1, u1), (p2, l2, u2) = a, b
    d = p1 - p2
    low = d - sqrt(max((p1 - l1) ** 2 + (u2 - p2) ** 2 - 2 * r * (p1 - l1) * (u2 - p2), 0.0))
    high = d + sqrt(max((u1 - p1) ** 2 + (p2 - l2) ** 2 - 2 * r * (u1 - p1) * (p2 - l2), 0.0))
    return max(low, -1.0), min(high, 1.0)


def tuned_minus_base(
    tuned: Draws, base: Draws, *, target: Target, level: float = 0.95, certain: bool = False
) -> Contrast:
    """A recipe of S ≥ 1 seeds minus the base, on the same items (axis 1 of both).

    One checkpoint each with one 0/1 draw an item: McNemar and Newcombe's paired interval, for both targets
    (for these items alone it is too wide, since it counts their variation too). Otherwise MOVER from
    `recipe_arm` (or `checkpoint_arm` for S = 1) and the base's `checkpoint_arm`; for the benchmark r = 0.

    Args:
        tuned: S×P×R draws.
        base: 1×P×R draws of one checkpoint.
        target: whether the items are the whole question or a sample.
        level: of ci_low and ci_high; the margin's interval is at 90% always.
        certain: the draws are greedy under exact numerics, so a checkpoint has no sampling variance of its
            own.
    """
    single = tuned.n_seeds == 1
    if (
        single
        and not (certain and target == "benchmark")
        and _one_binary_draw(tuned)
        and _one_binary_draw(base)
    ):
        return two_checkpoints(paired_table(tuned, base), target=target, level=level)
    return _contrast(tuned, base, target=target, level=level, certain=certain)


def recipe_difference(
    a: Draws, b: Draws, *, target: Target, level: float = 0.95, certain: bool = False
) -> Contrast:
    """Recipe a − recipe b on the same items: each keeps its own S and t; their seeds are independent.

    The correlation over items enters for the population target only. Arguments as in `tuned_minus_base`.
    """
    return tuned_minus_base(a, b, target=target, level=level, certain=certain)


def two_checkpoints(table: Paired, *, target: Target, level: float = 0.95) -> Contrast:
    """Exact McNemar and Newcombe's paired interval for two checkpoints with one draw an item."""
    n = table.n_neither + table.n_gained + table.n_lost + table.n_both
    d = (table.n_gained - table.n_lost) / n
    low, high = newcombe_paired(table, level=level)
    margin = newcombe_paired(table, level=MARGIN_LEVEL)
    # Wald's standard error is 0 without discordant pairs; the interval's own width never is.
    se = (high - low) / (2 * z_quantile(level))
    p = mcnemar_exact(table.n_gained, table.n_lost)
    method = "McNemar exact, Newcombe paired (method 10)"
    return Contrast(target, d, low, high, se, p, level, *margin, MARGIN_LEVEL, method)


def paired_table(model: Draws, reference: Draws) -> Paired:
    """The 2×2 table of two checkpoints with one 0/1 draw an item.

    Raises:
        ValueError: where an arm has another number of seeds or draws, or graded values.
    """
    if not (_one_binary_draw(model) and _one_binary_draw(reference)) or model.n_items != reference.n_items:
        raise ValueError("a paired table needs one 0/1 draw of each item from one checkpoint each")
    event, was = model.means_sp[0] > 0, reference.means_sp[0] > 0
    n_both, n_gained = int((event & was).sum()), int((event & ~was).sum())
    n_lost = int((~event & was).sum())
    return Paired(model.n_items - n_both - n_gained - n_lost, n_gained, n_lost, n_both)


def non_inferiority(contrast: Contrast, *, margin: float, higher_is_worse: bool) -> bool:
    """Whether the worse limit of the two-sided 90% interval stays within a margin fixed beforehand."""
    return contrast.margin_high < margin if higher_is_worse else contrast.margin_low > -margin


def equivalence(contrast: Contrast, *, margin: float) -> bool:
    """Whether the two-sided 90% interval lies within ±margin: two one-sided tests at 5% (Schuirmann 1987)."""
    return -margin < contrast.margin_low and contrast.margin_high < margin


def has_paired_table(model: Draws, reference: Draws) -> bool:
    """Whether `paired_table` can be made."""
    return _one_binary_draw(model) and _one_binary_draw(reference)


def _one_binary_draw(draws: Draws) -> bool:
    return draws.n_seeds == 1 and bool((draws.counts_sp == 1).all()) and draws.binary


@dataclass(frozen=True, eq=False)
class ArmPair:
    """Both arms of a − b for both targets; `limits` are those of the difference, at any level."""

    benchmark: tuple[Arm, Arm]
    population: tuple[Arm, Arm]

    @classmethod
    def of(cls, a: Draws, b: Draws, *, certain: bool = False) -> Self:
        """The arms of two models on the same items; a single item is no population, and counts as itself.

        Raises:
            ValueError: for different numbers of items.
        """
        if a.n_items != b.n_items:
            raise ValueError(f"both arms need the same items, got {a.n_items} and {b.n_items}")
        wide: Target = "population" if a.n_items > 1 else "benchmark"
        narrow = _arm(a, "benchmark", certain), _arm(b, "benchmark", certain)
        return cls(narrow, (_arm(a, wide, certain), _arm(b, wide, certain)))

    @property
    def bounded(self) -> bool:
        """Whether an arm's own variance is only an upper bound (one draw an item)."""
        return any(arm.bounded for arm in self.benchmark)

    def limits(self, target: Target, level: float) -> tuple[float, float]:
        """MOVER's limits; the population's are never narrower, unless the benchmark's are only a bound.

        In that case the population's limits, which hold for these items too, replace the wider bound.
        """
        narrow, wide = _mover(*self.benchmark, level), _mover(*self.population, level)
        if target == "population":
            return wide if self.bounded else (min(narrow[0], wide[0]), max(narrow[1], wide[1]))
        return (max(narrow[0], wide[0]), min(narrow[1], wide[1])) if self.bounded else narrow

    def variance(self, target: Target) -> float:
        """Of the difference; the population's counts the items that the arms share, and is no smaller."""
        one, two = self.benchmark
        variance = one.variance() + two.variance()
        if target == "benchmark":
            return variance
        a, b = self.population
        return max(a.variance() + b.variance() - 2 * _covariance(a, b), variance)


def _contrast(a: Draws, b: Draws, *, target: Target, level: float, certain: bool) -> Contrast:
    pair = ArmPair.of(a, b, certain=certain)
    one, two = pair.benchmark if target == "benchmark" else pair.population
    estimate = one.estimate - two.estimate
    exact = target == "benchmark" and one.certain and two.certain
    limits = partial(pair.limits, target)
    return Contrast(
        target,
        estimate,
        *limits(level),
        sqrt(pair.variance(target)),
        None if exact else inverted_p(limits, estimate),
        level,
        *limits(MARGIN_LEVEL),
        MARGIN_LEVEL,
        "no sampling: greedy under exact numerics" if exact else "MOVER of two-part score limits",
    )


def _arm(draws: Draws, target: Target, certain: bool) -> Arm:
    if draws.n_seeds > 1:
        return recipe_arm(draws, target)
    return checkpoint_arm(draws, target, certain=certain)


def _mover(a: Arm, b: Arm, level: float) -> tuple[float, float]:
    scale = _seed_scale(a, b, level)
    one, two = a.interval(level, scale=scale), b.interval(level, scale=scale)
    return square_and_add(
        (one.estimate, one.ci_low, one.ci_high),
        (two.estimate, two.ci_low, two.ci_high),
        _correlation(a, b, level, scale),
    )


def _seed_scale(a: Arm, b: Arm, level: float) -> float:
    """By how much the squares of the two arms' seed parts shrink, since two recipes have more seeds than one.

    Square-and-add gives each arm its own t, though the sum of two variances has more degrees of freedom than
    either: with 5 seeds a side it covers .97 to 1.00. Here the sum is a `SeedPart` of its own, with .8 of
    Welch's (1947) degrees of freedom, but no fewer than the smaller arm's; .8 since Welch's own alarmed in
    6.7% of comparisons of identical recipes (docs/log.md, 2026-11-25).
    """
    if a.seed is None or b.seed is None:
        return 1.0
    one, two = a.seed, b.seed
    welch = (one.known + two.known) ** 2 / (one.known**2 / one.df + two.known**2 / two.df)
    df = max(_WELCH_SHARE * welch, min(one.df, two.df))
    both = SeedPart(one.variance + two.variance, one.floor + two.floor, df)
    return min(both.square(level) / (one.square(level) + two.square(level)), 1.0)


def _correlation(a: Arm, b: Arm, level: float, scale: float) -> float:
    """R = t²_{P−1}·cov(item means)/(P·h1·h2); 0 for the benchmark, whose items do not vary."""
    h1, h2 = a.half_width(level, scale=scale), b.half_width(level, scale=scale)
    if a.target == "benchmark" or h1 == 0 or h2 == 0:
        return 0.0
    r = t_quantile(level, a.n_items - 1) ** 2 * _covariance(a, b) / (h1 * h2)
    return min(max(r, -1.0), 1.0)


def _covariance(a: Arm, b: Arm) -> float:
    """Covariance of the two rates that comes from their common items."""
    centred = (a.item_means - a.item_means.mean()) * (b.item_means - b.item_means.mean())
    return float(centred.sum()) / (a.n_items - 1) / a.n_items


def inverted_p(limits: Limits, estimate: float) -> float:
    """The 1 − level at which the nearer limit reaches 0, found on its logarithm."""

    def distance(log_p: float) -> float:
        low, high = limits(1 - exp(log_p))
        return low if estimate > 0 else -high

    if np.isclose(estimate, 0.0, atol=1e-15):
        return 1.0
    # At level 0 the interval is the estimate itself, and its distance from 0 is positive.
    if distance(log(_SMALLEST_P)) > 0:
        return _SMALLEST_P
    # An estimate of 1e-10, as where filled cells alone differ: no level is so low that it leaves out 0.
    if distance(_NO_EVIDENCE) <= 0:
        return 1.0
    root = cast(float, optimize.brentq(distance, log(_SMALLEST_P), _NO_EVIDENCE, xtol=1e-6))
    return exp(root)
