"""Differences: published tables, second implementations, laws."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import confint_proportions_2indep

from aftertune.stats import (
    Draws,
    Paired,
    SeedPart,
    checkpoint_arm,
    equivalence,
    mcnemar_exact,
    newcombe_paired,
    non_inferiority,
    paired_table,
    recipe_arm,
    recipe_difference,
    tuned_minus_base,
)
from aftertune.stats.compare import square_and_add


def sample(seed, rate, shape=(5, 60, 3), seed_sd=0.05):
    generator = np.random.default_rng(seed)
    items = np.random.default_rng(99).normal(0, 0.2, (1, shape[1], 1))
    p = np.clip(rate + items + generator.normal(0, seed_sd, (shape[0], 1, 1)), 0, 1)
    return Draws.of((generator.random(shape) < p).astype(float))


@pytest.mark.parametrize(
    ("counts", "estimate", "low", "high"),
    [((36, 12, 2, 0), 0.20, 0.0569, 0.3404), ((36, 12, 0, 2), 0.24, 0.1144, 0.3735)],
)
def test_newcombe_paired_gives_the_published_limits(counts, estimate, low, high):
    both, gained, lost, neither = counts
    table = Paired(n_neither=neither, n_gained=gained, n_lost=lost, n_both=both)
    assert (gained - lost) / 50 == pytest.approx(estimate)
    assert newcombe_paired(table) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_mcnemar_gives_the_known_p():
    assert mcnemar_exact(150, 86) == pytest.approx(3.716e-5, rel=1e-3)
    assert mcnemar_exact(0, 0) == 1.0


@given(st.integers(0, 80), st.integers(0, 80))
def test_mcnemar_equals_statsmodels_and_a_sum(gained, lost):
    n = gained + lost
    by_sum = min(1.0, 2 * sum(stats.binom.pmf(k, n, 0.5) for k in range(min(gained, lost) + 1))) if n else 1.0
    assert mcnemar_exact(gained, lost) == pytest.approx(by_sum)
    if n:
        assert mcnemar_exact(gained, lost) == pytest.approx(
            mcnemar([[0, gained], [lost, 0]], exact=True).pvalue
        )


@given(st.integers(0, 60), st.integers(1, 60), st.integers(0, 60), st.integers(1, 60))
def test_square_and_add_without_correlation_is_newcombe_for_two_samples(c1, n1, c2, n2):
    from aftertune.stats import wilson

    c1, c2 = min(c1, n1), min(c2, n2)
    a, b = wilson(c1, n1), wilson(c2, n2)
    got = square_and_add((a.estimate, a.ci_low, a.ci_high), (b.estimate, b.ci_low, b.ci_high), 0.0)
    expected = confint_proportions_2indep(c1, n1, c2, n2, method="newcomb", compare="diff")
    assert got == pytest.approx(expected, abs=1e-9)


@settings(deadline=None)
@given(st.tuples(*[st.integers(0, 30)] * 4).filter(lambda t: sum(t) > 0))
def test_newcombe_paired_mirrors_and_has_width(counts):
    neither, gained, lost, both = counts
    low, high = newcombe_paired(Paired(neither, gained, lost, both))
    mirrored = newcombe_paired(Paired(neither, lost, gained, both))
    assert -1 <= low < high <= 1
    assert mirrored == (pytest.approx(-high), pytest.approx(-low))
    assert low <= (gained - lost) / sum(counts) <= high


def test_two_checkpoints_with_one_draw_use_mcnemar_and_newcombe_for_both_targets():
    tuned, base = sample(1, 0.5, (1, 60, 1)), sample(2, 0.3, (1, 60, 1))
    table = paired_table(tuned, base)
    by_loop = dict.fromkeys(product((0, 1), (0, 1)), 0)
    for i in range(60):
        by_loop[int(base.values[0, i, 0]), int(tuned.values[0, i, 0])] += 1
    assert (table.n_neither, table.n_gained, table.n_lost, table.n_both) == tuple(by_loop.values())
    for target in ("benchmark", "population"):
        contrast = tuned_minus_base(tuned, base, target=target)
        assert (contrast.ci_low, contrast.ci_high) == newcombe_paired(table)
        assert contrast.p_value == mcnemar_exact(table.n_gained, table.n_lost)


def test_the_population_contrast_by_hand():
    tuned, base = sample(3, 0.5), sample(4, 0.3, (1, 60, 3))
    a, b = recipe_arm(tuned, "population"), checkpoint_arm(base, "population")
    one, two = a.interval(0.95), b.interval(0.95)
    cov = np.cov(tuned.values.mean(axis=(0, 2)), base.values.mean(axis=(0, 2)))[0, 1]
    t2 = stats.t.ppf(0.975, 59) ** 2
    r = t2 * cov / (60 * a.half_width(0.95) * b.half_width(0.95))
    p1, p2 = a.estimate, b.estimate
    low = (p1 - p2) - np.sqrt(
        (p1 - one.ci_low) ** 2 + (two.ci_high - p2) ** 2 - 2 * r * (p1 - one.ci_low) * (two.ci_high - p2)
    )
    contrast = tuned_minus_base(tuned, base, target="population")
    benchmark = tuned_minus_base(tuned, base, target="benchmark")
    assert contrast.ci_low == pytest.approx(min(low, benchmark.ci_low))
    assert contrast.se**2 == pytest.approx(
        max(a.variance() + b.variance() - 2 * cov / 60, benchmark.se**2), rel=1e-9
    )


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 500), st.sampled_from([0.0, 0.02, 0.3, 0.9]), st.sampled_from([0.0, 0.3, 1.0]),
    st.integers(1, 5), st.integers(1, 4), st.booleans(),
)  # fmt: skip
def test_contrasts_nest_mirror_and_stay_in_bounds(seed, rate_a, rate_b, n_seeds, n_repeats, certain):
    a, b = sample(seed, rate_a, (n_seeds, 25, 1)), sample(seed + 1, rate_b, (1, 25, n_repeats))
    inner, outer = (tuned_minus_base(a, b, target=t, certain=certain) for t in ("benchmark", "population"))
    assert outer.ci_low <= inner.ci_low + 1e-9 and inner.ci_high <= outer.ci_high + 1e-9
    for contrast in (inner, outer):
        assert -1 <= contrast.ci_low <= contrast.estimate <= contrast.ci_high <= 1
        assert (
            contrast.ci_low <= contrast.margin_low + 1e-12
            and contrast.margin_high <= contrast.ci_high + 1e-12
        )
        if not certain:
            assert contrast.ci_high > contrast.ci_low and contrast.se > 0
            assert contrast.p_value is not None and 0 < contrast.p_value <= 1


def test_the_p_value_inverts_the_interval():
    tuned, base = sample(5, 0.42), sample(6, 0.3, (1, 60, 3))
    contrast = tuned_minus_base(tuned, base, target="benchmark")
    assert contrast.p_value is not None and 1e-6 < contrast.p_value < 0.9
    at_edge = tuned_minus_base(tuned, base, target="benchmark", level=1 - contrast.p_value)
    assert min(abs(at_edge.ci_low), abs(at_edge.ci_high)) < 1e-5
    assert (contrast.p_value < 0.05) == (contrast.ci_low > 0 or contrast.ci_high < 0)


def test_recipes_differ_with_their_own_seeds():
    a, b = sample(7, 0.5, (5, 60, 1)), sample(8, 0.3, (3, 60, 1))
    contrast, mirror = (recipe_difference(*pair, target="benchmark") for pair in ((a, b), (b, a)))
    assert (contrast.ci_low, contrast.ci_high) == (
        pytest.approx(-mirror.ci_high),
        pytest.approx(-mirror.ci_low),
    )
    one, two = recipe_arm(a, "benchmark"), recipe_arm(b, "benchmark")
    known = [arm.seed.known for arm in (one, two)]
    welch = sum(known) ** 2 / (known[0] ** 2 / 4 + known[1] ** 2 / 2)
    both = SeedPart(
        one.seed.variance + two.seed.variance, one.seed.floor + two.seed.floor, max(0.8 * welch, 2.0)
    )
    scale = both.square(0.95) / (one.seed.square(0.95) + two.seed.square(0.95))
    assert 0.3 < scale < 1
    first, second = one.interval(0.95, scale=scale), two.interval(0.95, scale=scale)
    low = contrast.estimate - np.hypot(first.estimate - first.ci_low, second.ci_high - second.estimate)
    assert contrast.ci_low == pytest.approx(low)


def test_non_inferiority_takes_the_worse_limit_of_the_90_percent_interval():
    a, b = sample(9, 0.3, (8, 60, 5), seed_sd=0.01), sample(10, 0.3, (8, 60, 5), seed_sd=0.01)
    contrast = recipe_difference(a, b, target="benchmark")
    narrower = recipe_difference(a, b, target="benchmark", level=0.9)
    assert (contrast.margin_low, contrast.margin_high) == (narrower.ci_low, narrower.ci_high)
    assert non_inferiority(contrast, margin=contrast.margin_high + 1e-6, higher_is_worse=True)
    assert not non_inferiority(contrast, margin=contrast.margin_high - 1e-6, higher_is_worse=True)
    assert non_inferiority(contrast, margin=-contrast.margin_low + 1e-6, higher_is_worse=False)
    assert not non_inferiority(contrast, margin=-contrast.margin_low - 1e-6, higher_is_worse=False)


def test_equivalence_is_non_inferiority_both_ways():
    a, b = sample(9, 0.3, (8, 60, 5), seed_sd=0.01), sample(10, 0.3, (8, 60, 5), seed_sd=0.01)
    contrast = recipe_difference(a, b, target="benchmark")
    for margin in (abs(contrast.margin_low), abs(contrast.margin_high)):
        for at in (margin - 1e-6, margin + 1e-6):
            both = [non_inferiority(contrast, margin=at, higher_is_worse=worse) for worse in (True, False)]
            assert equivalence(contrast, margin=at) == all(both)


def test_other_items_are_refused():
    with pytest.raises(ValueError, match="same items"):
        tuned_minus_base(sample(1, 0.5), sample(2, 0.5, (1, 30, 1)), target="benchmark")
