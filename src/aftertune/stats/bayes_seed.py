"""A recipe's rate at two to four seeds, with a half-normal prior on the seeds' SD."""

from dataclasses import dataclass
from functools import cache
from math import sqrt

import numpy as np
from scipy import optimize, special

from aftertune.stats.arms import recipe_arm_of
from aftertune.stats.crossed import TwoWay
from aftertune.stats.rates import score_limits, z_quantile

PRIOR_SDS = (0.10, 0.20)


@dataclass(frozen=True, slots=True)
class BayesSeed:
    """The interval, its prior, and the posterior mean of the seed SD (all in units of the rate)."""

    estimate: float
    ci_low: float
    ci_high: float
    level: float
    prior_sd: float
    seed_sd: float
    method: str


def half_normal_seed(table: TwoWay, *, prior_sd: float, level: float = 0.95) -> BayesSeed:
    """Benchmark interval of a recipe's rate when S is too small for the seeds to show their own SD.

    Model: a seed's mean ~ N(μ, σ² + v), v = MSe/P (its draws and its own interaction with the items, taken
    as known), flat prior on μ, σ ~ half-normal(prior_sd). Given σ, μ ~ N(ȳ, (σ²+v)/S); the posterior of σ
    is found by Gauss–Legendre quadrature on σ = 8·prior_sd·u³, which is fine near 0. h solves P(|μ − ȳ| ≤
    h) = level and takes Wilson's form, κ = h²/(p(1−p)). As for the t interval, h is never less than a
    single differing cell and the sparse rule allow, and a rate of 0 or 1 is Wilson's with n = P.

    Raises:
        ValueError: for a prior SD that is not positive.
    """
    if prior_sd <= 0:
        raise ValueError(f"the prior SD must be positive, got {prior_sd}")
    arm = recipe_arm_of(table, "benchmark")
    method = "benchmark target, half-normal seed SD, Wilson form"
    n_seeds, n_items, p = table.n_seeds, table.n_items, arm.estimate
    within = max(table.ms_residual or 0.0, 1 / (n_seeds * n_items)) / n_items
    sigma, weights = seed_sd_posterior(table.ms_seed * (n_seeds - 1) / n_items, n_seeds, within, prior_sd)
    seed_sd = float((weights * sigma).sum())
    if arm.extreme:
        limits = arm.interval(level)
        return BayesSeed(p, limits.ci_low, limits.ci_high, level, prior_sd, seed_sd, limits.method)
    scales = np.sqrt((sigma**2 + within) / n_seeds)

    def excess(h: float) -> float:
        return float((weights * special.erf(h / scales / sqrt(2))).sum()) - level

    h = float(optimize.brentq(excess, 0.0, 40 * float(scales.max())))  # type: ignore[arg-type]
    h = max(h, z_quantile(level) * sqrt(arm.v_least))
    low, high = score_limits(p, h**2 / (p * (1 - p)))
    return BayesSeed(p, low, high, level, prior_sd, seed_sd, method)


def seed_sd_posterior(
    sum_squares: float, n_seeds: int, within: float, prior_sd: float
) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights (summing to 1) of the posterior of σ, given Σ(ȳ_s − ȳ)² and v.

    The likelihood with μ integrated out is (σ²+v)^(−(S−1)/2)·exp(−Σ(ȳ_s − ȳ)²/(2(σ²+v))).
    """
    nodes, weights = _gauss_legendre()
    u = (nodes + 1) / 2
    sigma, jacobian = 8 * prior_sd * u**3, u**2
    total = sigma**2 + within
    log_prior = -((sigma / prior_sd) ** 2) / 2
    log_density = log_prior - (n_seeds - 1) / 2 * np.log(total) - sum_squares / (2 * total)
    mass = weights * jacobian * np.exp(log_density - log_density.max())
    return sigma, mass / mass.sum()


@cache
def _gauss_legendre() -> tuple[np.ndarray, np.ndarray]:
    # An eigenvalue problem: milliseconds alone, seconds where other processes hold the cores.
    return np.polynomial.legendre.leggauss(200)
