"""How precise a design will be, from assumed variances (METHODS section 6)."""

import bisect
import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import optimize, special

from aftertune.stats.draws import FloatArray
from aftertune.stats.rates import check_level, t_quantile


@dataclass(frozen=True, slots=True)
class AssumedVariances:
    """Variances of a rate: between seeds (the seed's own rate), seed × item, and repeats within a cell."""

    seed: float
    seed_item: float
    repeat: float

    def __post_init__(self) -> None:
        """Refuse what is no variance."""
        if not min(self.seed, self.seed_item, self.repeat) >= 0:
            raise ValueError(f"variances are not negative, got {self}")


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds (or any unit) of one training and of one response with its judgment."""

    train: float
    generate: float

    def __post_init__(self) -> None:
        """Refuse a free response: a budget would then buy repeats without end."""
        if not (self.train >= 0 and self.generate > 0):
            raise ValueError(f"costs need train ≥ 0 and generate > 0, got {self}")


@dataclass(frozen=True, slots=True)
class Split:
    """A budget spent: seeds and repeats in whole numbers, what they cost, and the half-width to expect."""

    n_seeds: int
    n_repeats: int
    cost: float
    half_width: float
    level: float


# Seeds that move a rate by 4 points, and cells as variable as METHODS section 8's allocation example.
TYPICAL = AssumedVariances(seed=0.04**2, seed_item=0.03, repeat=0.03)


def standard_error(variances: AssumedVariances, *, n_seeds: int, n_items: int, n_repeats: int) -> float:
    """Standard error of a recipe's rate on its benchmark: √((σ²_seed + (σ²_si + σ²_repeat/R)/P)/S).

    Raises:
        ValueError: for a number below 1.
    """
    if min(n_seeds, n_items, n_repeats) < 1:
        raise ValueError(
            f"a design has at least 1 seed, item and repeat, got {n_seeds}, {n_items} and {n_repeats}"
        )
    within = (variances.seed_item + variances.repeat / n_repeats) / n_items
    return math.sqrt((variances.seed + within) / n_seeds)


def half_width(
    variances: AssumedVariances, *, n_seeds: int, n_items: int, n_repeats: int, level: float = 0.95
) -> float:
    """Half the width of a recipe's benchmark interval: t_{S−1} standard errors.

    Raises:
        ValueError: fewer than 2 seeds, for which there is no interval.
    """
    check_level(level)
    if n_seeds < 2:
        raise ValueError(f"an interval over seeds needs at least 2 seeds, got {n_seeds}")
    error = standard_error(variances, n_seeds=n_seeds, n_items=n_items, n_repeats=n_repeats)
    return t_quantile(level, n_seeds - 1) * error


def power_of(
    difference: float,
    variances: AssumedVariances,
    *,
    n_seeds: int,
    n_items: int,
    n_repeats: int,
    level: float = 0.95,
) -> float:
    """Probability that a true difference to a base measured without error is found, in either direction.

    Raises:
        ValueError: fewer than 2 seeds, or variances that are all 0.
    """
    error = _error_of_test(variances, n_seeds, n_items, n_repeats, level)
    return _t_power(abs(difference) / error, n_seeds - 1, level)


def detectable_difference(
    variances: AssumedVariances,
    *,
    n_seeds: int,
    n_items: int,
    n_repeats: int,
    power: float = 0.8,
    level: float = 0.95,
) -> float:
    """The difference to a base measured without error that is found with the given power.

    The noncentrality of Student's t with S−1 degrees of freedom at which `power_of` is `power`, in standard
    errors. The sum of quantiles t_{α/2} + t_{power} that stands for it in textbooks is 14% too small at 2
    seeds, 5% at 3 and 1% at 5.

    Raises:
        ValueError: fewer than 2 seeds, variances that are all 0, or a power that is not between 1 − level
            and 1.
    """
    error = _error_of_test(variances, n_seeds, n_items, n_repeats, level)
    if not 1 - level < power < 1:
        raise ValueError(f"power lies between 1 − level = {1 - level:.3g} and 1, got {power}")
    freedom, high = n_seeds - 1, 2.0
    while _t_power(high, freedom, level) < power:
        high *= 2
    found = optimize.brentq(lambda shift: _t_power(float(shift), freedom, level) - power, 0.0, high)
    return float(found) * error  # type: ignore[arg-type]


def seeds_needed(
    variances: AssumedVariances, *, wanted: float, n_items: int, n_repeats: int = 1, level: float = 0.95
) -> int:
    """The fewest seeds at which `half_width` is at most `wanted`.

    Raises:
        ValueError: for a width that is not positive, or one that a million seeds do not reach.
    """
    if not wanted > 0:
        raise ValueError(f"the wanted half-width must be positive, got {wanted}")
    one = standard_error(variances, n_seeds=1, n_items=n_items, n_repeats=n_repeats)

    def width(n_seeds: int) -> float:
        return t_quantile(level, n_seeds - 1) * one / math.sqrt(n_seeds)

    check_level(level)
    most = 1_000_000
    if width(most) > wanted:
        raise ValueError(f"a half-width of {wanted} needs more than a million seeds")
    return bisect.bisect_left(range(2, most), -wanted, key=lambda n: -width(n)) + 2


def best_split(
    variances: AssumedVariances, *, n_items: int, costs: Costs, budget: float, level: float = 0.95
) -> Split:
    """Whole numbers of seeds and repeats with the smallest `half_width` that a budget pays for.

    Every number of seeds is tried with the most repeats that it leaves room for; at equal widths the fewer
    seeds win. Few seeds also mean few degrees of freedom, which the width counts.

    Raises:
        ValueError: for a budget that does not pay for 2 seeds with one repeat.
    """
    check_level(level)
    if n_items < 1:
        raise ValueError(f"a design has at least 1 item, got {n_items}")
    once = n_items * costs.generate
    most = math.floor(budget / (costs.train + once) + 1e-9)
    if most < 2:
        raise ValueError(
            f"2 seeds of one repeat cost {2 * (costs.train + once):.6g}, more than the budget of"
            f" {budget:.6g}: raise it, or take fewer items"
        )
    seeds = np.arange(2, min(most, 1_000_000) + 1)
    repeats = np.maximum(np.floor((budget / seeds - costs.train) / once + 1e-9), 1)
    one = np.sqrt(variances.seed + (variances.seed_item + variances.repeat / repeats) / n_items)
    widths = special.stdtrit(seeds - 1, (1 + level) / 2) * one / np.sqrt(seeds)
    best = int(widths.argmin())
    n_seeds, n_repeats = int(seeds[best]), int(repeats[best])
    cost = n_seeds * (costs.train + n_repeats * once)
    return Split(n_seeds, n_repeats, cost, float(widths[best]), level)


def collapse_unseen(probability: float, n_seeds: int) -> float:
    """(1 − q)^S: the chance that no seed of S shows a collapse that befalls one run with probability q.

    Raises:
        ValueError: for a probability outside [0, 1] or fewer than 1 seed.
    """
    if not 0 <= probability <= 1 or n_seeds < 1:
        raise ValueError(f"needs a probability and at least 1 seed, got {probability} and {n_seeds}")
    return (1 - probability) ** n_seeds


def _error_of_test(
    variances: AssumedVariances, n_seeds: int, n_items: int, n_repeats: int, level: float
) -> float:
    check_level(level)
    if n_seeds < 2:
        raise ValueError(f"a test over seeds needs at least 2 seeds, got {n_seeds}")
    error = standard_error(variances, n_seeds=n_seeds, n_items=n_items, n_repeats=n_repeats)
    if error <= 0:
        raise ValueError("variances that are all 0 find any difference: assume some")
    return error


@cache
def _unit_nodes() -> tuple[FloatArray, FloatArray]:
    nodes, weights = np.polynomial.legendre.leggauss(400)
    return (nodes + 1) / 2, weights / 2


def _t_power(shift: float, df: int, level: float) -> float:
    """P(|T| > t) for noncentral T, by quadrature over the quantiles of χ.

    scipy's nct gives NaN at 1 or 2 degrees of freedom and shifts of some 10 and more.
    """
    u, weights = _unit_nodes()
    reach = t_quantile(level, df) * np.sqrt(special.chdtri(df, 1 - u) / df)
    return float(weights @ (special.ndtr(shift - reach) + special.ndtr(-shift - reach)))
