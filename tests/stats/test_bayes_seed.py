"""Bayes at few seeds, against a second way to the same number."""

import numpy as np
import pytest
from scipy import integrate, stats

from aftertune.stats import half_normal_seed, recipe_arm_of, two_way
from aftertune.stats.bayes_seed import seed_sd_posterior


def table_of(n_seeds, seed=0, seed_sd=0.06, n_items=80):
    generator = np.random.default_rng(seed)
    p = np.clip(
        0.35 + generator.normal(0, seed_sd, (n_seeds, 1)) + generator.normal(0, 0.2, (1, n_items)), 0, 1
    )
    return two_way((generator.random((n_seeds, n_items)) < p).astype(float))


@pytest.mark.parametrize("n_seeds", [2, 3, 4])
@pytest.mark.parametrize("prior_sd", [0.1, 0.2])
def test_the_seed_posterior_equals_adaptive_integration(n_seeds, prior_sd):
    squares, within = 0.004 * (n_seeds - 1), 0.002
    sigma, weights = seed_sd_posterior(squares, n_seeds, within, prior_sd)

    def density(s):
        v = s**2 + within
        return v ** (-(n_seeds - 1) / 2) * np.exp(-squares / (2 * v) - (s / prior_sd) ** 2 / 2)

    total = integrate.quad(density, 0, 2, points=[0.1], limit=200)[0]
    mean = integrate.quad(lambda s: s * density(s), 0, 2, points=[0.1], limit=200)[0] / total
    assert float((weights * sigma).sum()) == pytest.approx(mean, rel=1e-6)


def test_the_bayes_interval_holds_its_probability_by_simulation():
    table = table_of(3)
    result = half_normal_seed(table, prior_sd=0.1)
    p = result.estimate
    h = abs(p - result.ci_low) / np.sqrt(result.ci_low * (1 - result.ci_low)) * np.sqrt(p * (1 - p))
    generator = np.random.default_rng(0)
    squares = table.ms_seed * 2 / table.n_items
    within = table.ms_residual / table.n_items
    sigma = np.abs(generator.normal(0, 0.1, 200_000))
    v = sigma**2 + within
    weight = v**-1.0 * np.exp(-squares / (2 * v))
    mu = generator.normal(0, 1, 200_000) * np.sqrt(v / 3)
    assert float((weight * (np.abs(mu) <= h)).sum() / weight.sum()) == pytest.approx(0.95, abs=0.003)


@pytest.mark.parametrize("n_seeds", [2, 3, 4])
def test_a_wider_prior_gives_a_wider_interval(n_seeds):
    table = table_of(n_seeds, seed=4)
    narrow, wide = (half_normal_seed(table, prior_sd=sd) for sd in (0.1, 0.2))
    assert wide.ci_low <= narrow.ci_low < narrow.estimate < narrow.ci_high <= wide.ci_high


def test_bayes_without_events_is_wilsons_and_a_bad_prior_is_refused():
    table = two_way(np.zeros((2, 40)))
    assert (
        half_normal_seed(table, prior_sd=0.1).ci_high
        == recipe_arm_of(table, "benchmark").interval(0.95).ci_high
    )
    with pytest.raises(ValueError, match="positive"):
        half_normal_seed(table, prior_sd=0.0)


def test_under_a_flat_prior_the_interval_is_students_with_two_degrees_fewer():
    # A flat prior on σ (not on log σ), no noise within seeds: (μ − ȳ)/√(SS/((S−2)S)) is t with S − 2 degrees.
    table = table_of(4, seed=7, seed_sd=0.15, n_items=4000)
    result = half_normal_seed(table, prior_sd=50.0)
    p = result.estimate
    h = abs(p - result.ci_low) / np.sqrt(result.ci_low * (1 - result.ci_low)) * np.sqrt(p * (1 - p))
    se = table.seed_means.std(ddof=1) / 2
    assert h / se == pytest.approx(stats.t.ppf(0.975, 2) * np.sqrt(3 / 2), rel=0.01)
