"""One side of a comparison: a rate whose interval can be asked at any level, for either target."""

from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np

from aftertune.stats.crossed import TwoWay, two_way
from aftertune.stats.draws import Draws, FloatArray
from aftertune.stats.rates import RateInterval, t_quantile, two_part_limits, wilson, z_quantile

Target = Literal["benchmark", "population"]

# METHODS section 2: with fewer items than these that ever show the rarer outcome, variances are floored.
SPARSE_POPULATION = 15
SPARSE_BENCHMARK = 5


@dataclass(frozen=True, slots=True)
class SeedPart:
    """What varies from run to run: V, estimated from the seeds, is known to be at least `floor`.

    V = MSs/(SP) has `df` = S − 1 degrees of freedom. `floor` = MSe/(SP) is what repeated draws and the
    interaction with the items give alone; it has hundreds of degrees of freedom and is taken as known.
    """

    variance: float
    floor: float
    df: float

    def square(self, level: float) -> float:
        """h² = max(b·z²·floor, t²·V − (a/b)·(t² − z²)·floor), a = min(½, (df − 1)/6).

        With a = 0 all of V would be paid for with t, and the known part too dearly: such intervals cover
        .98 to 1.00 where seeds hardly differ (S = 5). With a = 1 only the excess over the floor would be
        paid with t, which covers .93 where the two are of like size. Half way, h covers between .940 and
        .972 at 5 seeds and between .944 and .967 at 10, whatever the ratio of the two (normal theory,
        `tests/stats/test_arms.py`); at 2 seeds a = 0. Beyond 95%, b = (t²/z²)/(t²₉₅/z²₉₅) in place of 1: the
        smaller a p value, the less may it trust that seeds which agree by chance do not differ. The rule is
        ours.
        """
        t2, z2 = t_quantile(level, self.df) ** 2, z_quantile(level) ** 2
        at_95 = (t_quantile(0.95, self.df) / z_quantile(0.95)) ** 2
        tail = max(t2 / z2 / at_95, 1.0)
        credit = min(0.5, (self.df - 1) / 6) / tail
        return max(tail * z2 * self.floor, t2 * self.variance - credit * (t2 - z2) * self.floor)

    @property
    def excess(self) -> float:
        """The share of V above the floor: what the seeds themselves add."""
        return max(self.variance - self.floor, 0.0) / self.variance if self.variance > 0 else 0.0

    @property
    def known(self) -> float:
        """V, but at least the floor."""
        return max(self.variance, self.floor)


@dataclass(frozen=True, eq=False)
class Arm:
    """A rate with the two parts of its variance, which keep their own degrees of freedom.

    h² = seed.square + t²(df_item)·v_item, but at least t²(seed.df)·v_least, the sparse floor of the
    benchmark, so that the population's interval is never the narrower one. `seed` is None for a single
    checkpoint, whose v_item is its own sampling variance (benchmark) or that of its items (population).
    `bounded` says that this variance is an upper bound and not an estimate (one draw an item); `certain`
    that nothing was drawn: greedy decoding, exact numerics.
    """

    target: Target
    estimate: float
    item_means: FloatArray
    seed: SeedPart | None
    v_item: float
    df_item: int
    method: str
    v_least: float = 0.0
    bounded: bool = False
    certain: bool = False

    @property
    def n_items(self) -> int:
        """P."""
        return len(self.item_means)

    @property
    def extreme(self) -> bool:
        """No event at all, or nothing else."""
        return self.estimate <= 0 or self.estimate >= 1

    def variance(self) -> float:
        """V of the rate; for a rate of 0 or 1 that which Wilson's interval with n = P stands for."""
        if self.certain:
            return 0.0
        if self.extreme:
            z, limits = z_quantile(0.95), wilson(self.estimate * self.n_items, self.n_items)
            return ((limits.ci_high - limits.ci_low) / (2 * z)) ** 2
        return max((self.seed.known if self.seed else 0.0) + self.v_item, self.v_least)

    def half_width(self, level: float, *, scale: float = 1.0) -> float:
        """h, before it takes its asymmetric form; `scale` multiplies the square of the seeds' part."""
        if self.certain or self.extreme:
            return z_quantile(level) * sqrt(self.variance())
        return sqrt(self._seed_square(level) * scale + self._rest(level))

    def interval(self, level: float, *, scale: float = 1.0) -> RateInterval:
        """`two_part_limits` of h²; with no event, or only events, Wilson with n = P, never with n = S·P·R."""
        p, n = self.estimate, float(self.n_items)
        if self.certain:
            return RateInterval(p, p, p, level, n, self.method)
        if self.extreme:
            return wilson(p * n, n, level=level)
        square, excess = self._seed_square(level) * scale, self.seed.excess if self.seed else 0.0
        low, high = two_part_limits(p, excess * square, (1 - excess) * square + self._rest(level))
        return RateInterval(p, low, high, level, p * (1 - p) / self.variance(), self.method)

    def _seed_square(self, level: float) -> float:
        return self.seed.square(level) if self.seed else 0.0

    def _rest(self, level: float) -> float:
        items = t_quantile(level, self.df_item) ** 2 * self.v_item if self.v_item > 0 else 0.0
        if self.seed is None:
            return items
        least = t_quantile(level, self.seed.df) ** 2 * self.v_least
        return max(items, least - self._seed_square(level))


def recipe_arm(draws: Draws, target: Target) -> Arm:
    """A recipe's rate over its S ≥ 2 seeds: the seeds' part, and V2 = max(MSp − MSe, 0)/(SP).

    Sparse rules as in METHODS section 2. Departures: the seeds' part is `SeedPart.square` in place of
    t²·max(MSs, MSe)/(SP); its floor is at least (1/SP)², the value if a single cell of the table had come
    out otherwise, since S seeds that agree everywhere do not prove that the next one will.

    Raises:
        ValueError: for fewer than two seeds, or for the population target with a single item.
    """
    table = two_way(draws.means_sp, draws.counts_sp > 0)
    return recipe_arm_of(table, target)


def recipe_arm_of(table: TwoWay, target: Target) -> Arm:
    """`recipe_arm` from mean squares that are already there."""
    n_cells, p = table.n_seeds * table.n_items, min(max(table.mean, 0.0), 1.0)
    m, bernoulli = rarer_outcome(table.item_means), p * (1 - p) / table.n_items
    floor = max(table.ms_residual or 0.0, 1 / n_cells) / n_cells
    seed = SeedPart(table.ms_seed / n_cells, floor, table.df_seed)
    least = bernoulli if m < SPARSE_BENCHMARK else 0.0
    method = "two-way crossed, two-part score form"
    if target == "benchmark":
        return Arm(target, p, table.item_means, seed, 0.0, table.df_item, method, least)
    if table.ms_item is None or table.ms_residual is None:
        raise ValueError("one item cannot stand for a population of items")
    v_item = max(table.ms_item - table.ms_residual, 0.0) / n_cells
    v_item = max(v_item, bernoulli) if m < SPARSE_POPULATION else v_item
    return Arm(target, p, table.item_means, seed, v_item, table.df_item, method, least)


def checkpoint_arm(draws: Draws, target: Target, *, certain: bool = False) -> Arm:
    """The rate of one checkpoint (1×P×R draws): says nothing about another training seed.

    Benchmark: its own sampling variance Σ s²_i/R_i /P² (for 0/1 draws Σp̂(1−p̂)/(R−1)/P²), at least
    (1/PR)²; an item with one draw counts p̄(1−p̄), which bounds the mean of the items' own p(1−p).
    `certain` (greedy decoding under exact numerics, nothing missing) makes it 0. Population: the variance
    of the item means over P.

    Raises:
        ValueError: for more than one seed, an item without a value, or a population of one item.
    """
    if draws.n_seeds != 1 or not (draws.counts_sp > 0).all():
        raise ValueError("checkpoint_arm takes one seed in which every item has a value")
    means, counts, n = draws.means_sp[0], draws.counts_sp[0], draws.n_items
    p = float(means.mean())
    own = np.where(counts > 1, draws.within_sp[0] / counts, p * (1 - p))
    v_own = 0.0 if certain else max(float(own.sum()) / n**2, 1 / (n * draws.n_repeats) ** 2)
    bounded = not certain and bool((counts == 1).any())
    df = max(n - 1, 1)
    if target == "benchmark":
        method = "no sampling: greedy under exact numerics" if certain else "own draws, Wilson form"
        return Arm(target, p, means, None, v_own, df, method, bounded=bounded, certain=certain)
    if n < 2:
        raise ValueError("one item cannot stand for a population of items")
    v_item = float(means.var(ddof=1)) / n
    v_item = max(v_item, p * (1 - p) / n) if rarer_outcome(means) < SPARSE_POPULATION else v_item
    return Arm(target, p, means, None, max(v_item, v_own), df, "item-clustered, Wilson form")


def rarer_outcome(item_means: FloatArray) -> int:
    """The smaller of the numbers of items with a mean above 0 and with a mean below 1."""
    return min(int((item_means > 0).sum()), int((item_means < 1).sum()))
