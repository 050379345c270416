"""Intervals of one proportion: Wilson's, and Wilson's with an effective sample size."""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

from scipy import special


@dataclass(frozen=True, slots=True)
class RateInterval:
    """A proportion with its interval, and what made it."""

    estimate: float
    ci_low: float
    ci_high: float
    level: float
    n_effective: float
    method: str


def z_quantile(level: float) -> float:
    """The two-sided standard normal critical value."""
    return float(special.ndtri((1 + level) / 2))


def t_quantile(level: float, df: float) -> float:
    """The two-sided critical value of Student's t with `df` degrees of freedom."""
    return float(special.stdtrit(df, (1 + level) / 2))


def score_limits(p: float, kappa: float) -> tuple[float, float]:
    """Wilson's limits, the π with (p − π)² ≤ κ·π(1 − π), where κ is critical value² / sample size.

    The set grows with κ, so a larger variance can never give a narrower interval.
    """
    if kappa <= 0:
        return p, p
    if p > 0.5:
        low, high = score_limits(1 - p, kappa)
        return 1 - high, 1 - low
    high = (p + kappa / 2 + sqrt(kappa * p * (1 - p) + kappa**2 / 4)) / (1 + kappa)
    # The limits' product is p²/(1+κ): a difference of two near numbers would lose the small limit's digits.
    return p**2 / ((1 + kappa) * high), high


def two_part_limits(p: float, proportional: float, binomial: float) -> tuple[float, float]:
    """The π with (p − π)² ≤ proportional·(g(π)/g(p))² + binomial·g(π)/g(p), g(π) = π(1 − π).

    Both are squared half-widths at p. The binomial one changes with π as p(1 − p)/n does, so alone it gives
    Wilson's limits; the proportional one changes as a shift of the logit does, whose effect on the rate is
    proportional to π(1 − π) itself. Between-run variation is of the second kind: at a rate of 2% seeds move
    a model by less than at 50%. The form is ours; p itself must not be 0 or 1.
    """
    g = p * (1 - p)
    if proportional <= 0:
        return score_limits(p, binomial / g)

    def outside(x: float) -> bool:
        scale = x * (1 - x) / g
        return (p - x) ** 2 > proportional * scale**2 + binomial * scale

    return _edge(p, 0.0, outside), _edge(p, 1.0, outside)


def _edge(inside: float, end: float, outside: Callable[[float], bool]) -> float:
    """The last point on the way from `inside` to `end`, by bisection; `end` itself is outside."""
    for _ in range(52):
        middle = (inside + end) / 2
        inside, end = (inside, middle) if outside(middle) else (middle, end)
    return inside


def wilson(n_events: float, n: float, *, level: float = 0.95) -> RateInterval:
    """Wilson's score interval (Wilson 1927; Newcombe 1998, method 3, no continuity correction).

    Args:
        n_events: the number of events, or the sum of values in [0, 1].
        n: the number of independent trials.
        level: the confidence level.

    Raises:
        ValueError: unless 0 ≤ n_events ≤ n and n > 0.
    """
    if not 0 <= n_events <= n or n <= 0:
        raise ValueError(f"wilson needs 0 ≤ n_events ≤ n with n > 0, got {n_events} of {n}")
    p = n_events / n
    low, high = score_limits(p, z_quantile(level) ** 2 / n)
    return RateInterval(p, low, high, level, float(n), "Wilson")


def check_level(level: float) -> None:
    """Refuse a confidence level that is none, such as 95.

    Raises:
        ValueError: unless 0 < level < 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level lies between 0 and 1, got {level}")
