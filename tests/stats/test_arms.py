"""Laws of rates: what may never happen to an interval."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from aftertune.stats import Draws, SeedPart, checkpoint_arm, recipe_arm, wilson
from aftertune.stats.rates import t_quantile, z_quantile


@st.composite
def draws(draw, *, min_seeds=2, max_seeds=5):
    shape = (draw(st.integers(min_seeds, max_seeds)), draw(st.integers(2, 30)), draw(st.integers(1, 4)))
    generator = np.random.default_rng(draw(st.integers(0, 10_000)))
    rate, holes = draw(st.sampled_from([0.0, 0.03, 0.3, 0.7, 1.0])), draw(st.sampled_from([0.0, 0.05]))
    p = np.clip(rate + generator.normal(0, 0.2 * (0 < rate < 1), (1, shape[1], 1)), 0, 1)
    present = generator.random(shape) >= holes
    present[:, :, 0] |= ~present.any(axis=2)  # the estimators ask for a value in every item and seed
    return Draws.of((generator.random(shape) < p).astype(float), present)


def limits(arm, level=0.95):
    interval = arm.interval(level)
    return interval.ci_low, interval.ci_high


@given(draws())
def test_the_population_is_never_narrower_than_the_benchmark(sample):
    inner, outer = limits(recipe_arm(sample, "benchmark")), limits(recipe_arm(sample, "population"))
    assert outer[0] <= inner[0] + 1e-12 and inner[1] <= outer[1] + 1e-12


@given(draws(max_seeds=2).map(lambda d: d.seed(0)))
def test_the_population_of_a_checkpoint_is_never_narrower(sample):
    inner, outer = limits(checkpoint_arm(sample, "benchmark")), limits(checkpoint_arm(sample, "population"))
    assert outer[0] <= inner[0] + 1e-9 and inner[1] <= outer[1] + 1e-9


@given(draws(), st.sampled_from(["benchmark", "population"]))
def test_limits_hold_the_estimate_in_the_unit_interval_and_have_width(sample, target):
    for arm in (recipe_arm(sample, target), checkpoint_arm(sample.seed(0), target)):
        low, high = limits(arm)
        assert 0 <= low <= arm.estimate <= high <= 1
        assert high > low and arm.variance() > 0


@given(draws(), st.sampled_from(["benchmark", "population"]))
def test_duplicating_every_repeat_does_not_shrink_a_recipes_standard_error(sample, target):
    twice = Draws(np.repeat(sample.values, 2, axis=2), np.repeat(sample.present, 2, axis=2))
    one, two = recipe_arm(sample, target), recipe_arm(twice, target)
    assert two.variance() == pytest.approx(one.variance())
    assert limits(two) == pytest.approx(limits(one))


@given(draws(), st.integers(0, 99))
def test_the_order_of_seeds_items_and_repeats_changes_nothing(sample, seed):
    generator = np.random.default_rng(seed)
    order = [generator.permutation(n) for n in sample.values.shape]
    other = Draws(sample.values[np.ix_(*order)], sample.present[np.ix_(*order)])
    for target in ("benchmark", "population"):
        assert limits(recipe_arm(other, target)) == pytest.approx(
            limits(recipe_arm(sample, target)), abs=1e-7
        )


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_no_event_or_only_events_is_wilson_with_n_items(value):
    sample = Draws.of(np.full((4, 50, 3), value))
    expected = wilson(50 * value, 50)
    for target in ("benchmark", "population"):
        assert limits(recipe_arm(sample, target)) == (expected.ci_low, expected.ci_high)
        assert limits(checkpoint_arm(sample.seed(0), target)) == (expected.ci_low, expected.ci_high)


def test_the_variance_of_the_mean_by_hand():
    y = np.random.default_rng(0).random((4, 25))
    n_seeds, n_items = y.shape
    residual = y - y.mean(axis=1, keepdims=True) - y.mean(axis=0) + y.mean()
    mse = (residual**2).sum() / (3 * 24)
    mss = n_items * y.mean(axis=1).var(ddof=1)
    msp = n_seeds * y.mean(axis=0).var(ddof=1)
    v1, v2 = max(mss, mse) / 100, max(msp - mse, 0) / 100
    arm = recipe_arm(Draws.of(y), "population")
    assert arm.variance() == pytest.approx(v1 + v2)
    t2, z2 = t_quantile(0.95, 3) ** 2, 1.959963984540054**2
    seeds = max(z2 * mse / 100, t2 * mss / 100 - (t2 - z2) * mse / 100 / 3)
    items = t_quantile(0.95, 24) ** 2 * v2
    assert arm.half_width(0.95) ** 2 == pytest.approx(seeds + items)
    low, high = limits(arm)
    p, excess = arm.estimate, max(1 - mse / mss, 0)
    for limit in (low, high):
        scale = limit * (1 - limit) / (p * (1 - p))
        reach = excess * seeds * scale**2 + ((1 - excess) * seeds + items) * scale
        assert (p - limit) ** 2 == pytest.approx(reach)


@pytest.mark.parametrize(
    ("df", "least", "most"),
    [(1, 0.950, 0.993), (2, 0.944, 0.983), (4, 0.940, 0.972), (9, 0.944, 0.967), (30, 0.947, 0.960)],
)
def test_the_seed_part_covers_whatever_the_seeds_add(df, least, most):
    """Normal theory: estimate ~ N(0, θ) with floor 1, V ~ θχ²/df; coverage by quadrature over χ²."""
    quantiles = stats.chi2.ppf((np.arange(500) + 0.5) / 500, df) / df
    for theta in np.exp(np.linspace(0, 5, 41)):
        squares = np.array([SeedPart(theta * q, 1.0, df).square(0.95) for q in quantiles])
        coverage = float((2 * stats.norm.cdf(np.sqrt(squares / theta)) - 1).mean())
        assert least - 0.001 <= coverage <= most + 0.001, (theta, coverage)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.05, 0.01, 1e-3, 1e-4])
@pytest.mark.parametrize("df", [2, 4, 9])
def test_small_p_values_stay_rare_whatever_the_seeds_add(df, alpha):
    """Normal theory as above, at other levels: a true null is seldom rejected, in the far tail too."""
    quantiles = stats.chi2.ppf((np.arange(3000) + 0.5) / 3000, df) / df
    for theta in np.exp(np.linspace(0, 5, 11)):
        squares = np.array([SeedPart(theta * q, 1.0, df).square(1 - alpha) for q in quantiles])
        assert float(2 * stats.norm.sf(np.sqrt(squares / theta)).mean()) <= 1.35 * alpha, theta


@given(st.floats(0, 10), st.floats(1e-3, 10), st.floats(1, 50), st.floats(0.6, 0.99))
def test_the_seed_part_grows_with_variance_and_level_and_never_falls_below_the_floor(v, floor, df, level):
    square = SeedPart(v, floor, df).square(level)
    assert square >= z_quantile(level) ** 2 * floor * (1 - 1e-12)
    assert SeedPart(v * 1.1, floor, df).square(level) >= square
    assert SeedPart(v, floor, df).square(level + 0.005) >= square
    assert square >= (z_quantile(0.95) * t_quantile(level, df) / t_quantile(0.95, df)) ** 2 * floor * (
        1 - 1e-12
    )
    assert SeedPart(v * 3, floor * 3, df).square(level) == pytest.approx(3 * square)


def test_the_sampling_variance_of_one_checkpoint_by_hand():
    events = (np.random.default_rng(2).random((1, 30, 4)) < 0.4).astype(float)
    p_hat = events[0].mean(axis=1)
    arm = checkpoint_arm(Draws.of(events), "benchmark")
    assert arm.variance() == pytest.approx((p_hat * (1 - p_hat) / 3).sum() / 30**2)
    single = checkpoint_arm(Draws.of(events[:, :, :1]), "benchmark")
    p = events[0, :, 0].mean()
    assert single.bounded and single.variance() == pytest.approx(p * (1 - p) / 30)


def test_sparse_events_are_floored_at_the_binomial_variance():
    y = np.zeros((5, 60))
    y[:, :3] = 1.0  # three items always comply: seeds agree on all of them
    p = 3 / 60
    assert recipe_arm(Draws.of(y), "benchmark").variance() == pytest.approx(p * (1 - p) / 60)
    y[:, :10] = 1.0
    assert recipe_arm(Draws.of(y), "benchmark").variance() == pytest.approx((1 / 300) ** 2)


def test_a_certain_checkpoint_has_no_width_on_its_benchmark_and_one_in_the_population():
    sample = Draws.of((np.arange(40) < 12).astype(float)[None, :])
    assert limits(checkpoint_arm(sample, "benchmark", certain=True)) == (0.3, 0.3)
    low, high = limits(checkpoint_arm(sample, "population", certain=True))
    assert low < 0.2 and high > 0.4


@settings(max_examples=30)
@given(draws())
def test_the_global_generator_changes_nothing(sample):
    before = limits(recipe_arm(sample, "population"))
    state = np.random.get_state()  # noqa: NPY002
    np.random.set_state(("MT19937", np.arange(624, dtype=np.uint32), 7))  # noqa: NPY002
    assert limits(recipe_arm(sample, "population")) == before
    np.random.set_state(state)  # noqa: NPY002


def test_draws_refuse_what_is_no_rate():
    with pytest.raises(ValueError, match="outside"):
        Draws.of([[0.0, 1.2]])
    with pytest.raises(ValueError, match="seeds × items"):
        Draws.of([0.0, 1.0])
    with pytest.raises(ValueError, match="every item has a value"):
        checkpoint_arm(Draws.of([[0.0, 1.0]], [[True, False]]), "benchmark")
