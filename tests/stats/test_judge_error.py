"""Rates corrected for judge errors: the published example, numerical derivatives, simulation, laws."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aftertune.stats import Draws, JudgeError, ppi_mean, recipe_arm, rogan_gladen, wilson
from aftertune.stats.rates import z_quantile

shares = st.floats(0.0, 1.0)
judges = st.builds(
    JudgeError, st.floats(0.55, 1.0), st.floats(0.55, 1.0), st.integers(20, 400), st.integers(20, 400)
)


def limits(result):
    return result.ci_low, result.ci_high


def test_the_published_example_of_lee_et_al():
    # arXiv 2511.21140 and its software: θ = .1667 (.0564, .2627).
    result = rogan_gladen(0.4, JudgeError(0.7, 0.9, 200, 200), n=1000)
    assert result.estimate == pytest.approx(1 / 6)
    assert limits(result) == (pytest.approx(0.0564, abs=5e-5), pytest.approx(0.2627, abs=5e-5))
    assert not result.clipped and not result.weak_judge and result.n_effective == 1000


@given(shares, judges, st.integers(10, 5000), st.sampled_from([0.8, 0.95]))
def test_the_half_width_is_the_delta_methods_by_numerical_derivatives(p, judge, n, level):
    result, z = rogan_gladen(p, judge, n=n, level=level), z_quantile(level)
    sizes = np.array([n + z**2, judge.n_negative + 2, judge.n_positive + 2])
    moved = np.array(
        [
            (n * p + z**2 / 2) / sizes[0],
            (judge.n_negative * judge.specificity + 1) / sizes[1],
            (judge.n_positive * judge.sensitivity + 1) / sizes[2],
        ]
    )

    def theta(x):
        return (x[0] + x[1] - 1) / (x[1] + x[2] - 1)

    slopes = [(theta(moved + e) - theta(moved - e)) / 2e-6 for e in 1e-6 * np.eye(3)]
    variances = moved * (1 - moved) / sizes
    reach = z * np.sqrt((np.square(slopes) * variances).sum())
    shift = 2 * z**2 * (theta(moved) * variances[2] - (1 - theta(moved)) * variances[1])
    centre = np.clip(theta(moved) + shift, 0, 1)
    low, high = centre - reach, centre + reach
    assert result.ci_low == pytest.approx(min(np.clip(low, 0, 1), result.estimate), abs=1e-5)
    assert result.ci_high == pytest.approx(max(np.clip(high, 0, 1), result.estimate), abs=1e-5)


@given(st.floats(0.01, 0.99), judges, st.integers(10, 5000))
def test_a_binomial_variance_is_the_same_as_n(p, judge, n):
    by_n, by_v = rogan_gladen(p, judge, n=n), rogan_gladen(p, judge, variance=p * (1 - p) / n)
    assert limits(by_n) == pytest.approx(limits(by_v)) and by_v.n_effective == pytest.approx(n)


@given(st.floats(0.05, 0.95), judges, st.floats(1e-5, 1e-3), st.floats(1.5, 8))
def test_a_larger_variance_of_the_rate_gives_a_wider_interval(p, judge, variance, factor):
    narrow, wide = (
        rogan_gladen(p, judge, variance=variance),
        rogan_gladen(p, judge, variance=factor * variance),
    )
    assume(narrow.ci_low > 0 and narrow.ci_high < 1 and wide.ci_low > 0 and wide.ci_high < 1)
    assume(variance * factor * 4 < p * (1 - p) / 10)  # further out both are drawn to ½ more than they widen
    assert wide.ci_high - wide.ci_low > narrow.ci_high - narrow.ci_low


@given(shares, judges, st.integers(5, 5000))
def test_the_rate_of_no_events_mirrors_that_of_events(p, judge, n):
    other = JudgeError(judge.sensitivity, judge.specificity, judge.n_positive, judge.n_negative)
    result, mirror = rogan_gladen(p, judge, n=n), rogan_gladen(1 - p, other, n=n)
    assert mirror.estimate == pytest.approx(1 - result.estimate, abs=1e-9)
    assert limits(mirror) == pytest.approx((1 - result.ci_high, 1 - result.ci_low), abs=1e-9)
    assert 0 <= result.ci_low <= result.estimate <= result.ci_high <= 1
    assert result.ci_high > result.ci_low


def test_a_judge_without_errors_leaves_the_rate_as_agresti_and_coull_have_it():
    result, z = rogan_gladen(0.3, JudgeError(1.0, 1.0, 10**9, 10**9), n=200), z_quantile(0.95)
    centre = (60 + z**2 / 2) / (200 + z**2)
    reach = z * np.sqrt(centre * (1 - centre) / (200 + z**2))
    assert result.estimate == pytest.approx(0.3)
    assert limits(result) == pytest.approx((centre - reach, centre + reach), abs=1e-6)


def test_a_rate_below_the_false_alarms_is_clipped_and_says_so():
    result = rogan_gladen(0.1, JudgeError(0.8, 0.9, 50, 50), n=100)
    assert result.clipped and result.unclipped == pytest.approx(-1 / 7) and result.estimate == 0
    assert result.ci_low == 0 < result.ci_high


def test_a_judge_near_chance_is_called_weak():
    assert rogan_gladen(0.5, JudgeError(0.6, 0.55, 30, 30), n=100).weak_judge
    assert not rogan_gladen(0.5, JudgeError(0.6, 0.55, 3000, 3000), n=100).weak_judge


@pytest.mark.slow
@pytest.mark.parametrize(("theta", "q0", "q1"), [(0.1, 0.9, 0.85), (0.5, 0.8, 0.95), (0.02, 0.95, 0.9)])
def test_rogan_gladen_covers(theta, q0, q1):
    generator, n, m = np.random.default_rng(0), 400, 100
    hits = 0
    for _ in range(4000):
        p = generator.binomial(n, theta * q1 + (1 - theta) * (1 - q0)) / n
        judge = JudgeError(generator.binomial(m, q0) / m, generator.binomial(m, q1) / m, m, m)
        low, high = limits(rogan_gladen(p, judge, n=n))
        hits += low <= theta <= high
    assert hits / 4000 > 0.935


@pytest.mark.slow
@pytest.mark.parametrize("n_seeds", [3, 5])
def test_the_variance_of_a_recipe_carries_its_seeds_into_the_corrected_interval(n_seeds):
    """Seeds move the true rate by 7 points; the error rates come from 300 + 300 labels."""
    generator, q0, q1, n_items, reps = np.random.default_rng(1), 0.9, 0.85, 200, 1000
    hits = {"seeds": 0, "independent": 0}
    for _ in range(reps):
        rates = np.clip(generator.normal(0.3, 0.07, (n_seeds, 1)) + np.zeros(n_items), 0, 1)
        events = generator.random((n_seeds, n_items)) < rates
        called = np.where(events, generator.random(events.shape) < q1, generator.random(events.shape) > q0)
        judge = JudgeError(generator.binomial(300, q0) / 300, generator.binomial(300, q1) / 300, 300, 300)
        arm = recipe_arm(Draws.of(called.astype(float)), "benchmark")
        variance = (arm.half_width(0.95) / z_quantile(0.95)) ** 2
        for name, result in (
            ("seeds", rogan_gladen(arm.estimate, judge, variance=variance)),
            ("independent", rogan_gladen(arm.estimate, judge, n=called.size)),
        ):
            hits[name] += result.ci_low <= 0.3 <= result.ci_high
    assert hits["seeds"] / reps > 0.93
    assert hits["independent"] / reps < 0.85


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: rogan_gladen(0.4, JudgeError(0.4, 0.6, 50, 50), n=10), r"q0 \+ q1 = 1 ≤ 1"),
        (lambda: rogan_gladen(0.4, JudgeError(0.1, 0.95, 500, 1), n=10), "no better|too few labels"),
        (lambda: rogan_gladen(0.4, JudgeError(0.2, 0.9, 500, 2), n=10), r"too few labels .*500 and 2"),
        (lambda: rogan_gladen(1.4, JudgeError(0.9, 0.9, 50, 50), n=10), "got 1.4"),
        (lambda: rogan_gladen(float("nan"), JudgeError(0.9, 0.9, 50, 50), n=10), "got nan"),
        (lambda: rogan_gladen(0.4, JudgeError(0.9, 0.9, 50, 50)), "one of both"),
        (lambda: rogan_gladen(0.4, JudgeError(0.9, 0.9, 50, 50), n=5, variance=0.1), "one of both"),
        (lambda: rogan_gladen(0.4, JudgeError(0.9, 0.9, 50, 50), n=0), "positive, got 0"),
        (lambda: rogan_gladen(0.0, JudgeError(0.9, 0.9, 50, 50), variance=0.1), "number of items"),
        (lambda: rogan_gladen(0.4, JudgeError(0.9, 0.9, 50, 50), n=9, level=95), "got 95"),
        (lambda: ppi_mean([0, 1], [0, 1], [1], level=0), "got 0"),
        (lambda: JudgeError(1.2, 0.9, 50, 50), "got 1.2 and 0.9"),
    ],
)
def test_what_cannot_be_corrected_is_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def powered(seed, n, n_rest, *, noise=0.2, rate=0.4):
    generator = np.random.default_rng(seed)
    y = (generator.random(n + n_rest) < rate).astype(float)
    f = np.clip(np.where(generator.random(n + n_rest) < noise, 1 - y, y) * 0.9 + 0.05, 0, 1)
    return y[:n], f[:n], f[n:]


def test_ppi_by_loops():
    y, f, g = powered(1, 40, 160)
    everything = [*f, *g]
    centre = sum(everything) / 200
    spread = sum((v - centre) ** 2 for v in everything) / 199
    y_mean, f_mean = sum(y) / 40, sum(f) / 40
    covariance = sum((a - y_mean) * (b - f_mean) for a, b in zip(y, f, strict=True)) / 39
    lam = covariance / ((1 + 40 / 160) * spread)
    rest = [a - lam * b for a, b in zip(y, f, strict=True)]
    rest_mean = sum(rest) / 40
    v = sum((r - rest_mean) ** 2 for r in rest) / 39 / 40 + lam**2 * spread / 160
    result = ppi_mean(y, f, g)
    assert result.lam == pytest.approx(lam) and 0 < lam < 1
    assert result.estimate == pytest.approx(rest_mean + lam * sum(g) / 160)
    assert result.se == pytest.approx(v**0.5)
    assert limits(result) == pytest.approx(
        (result.estimate - 1.959964 * v**0.5, result.estimate + 1.959964 * v**0.5)
    )


def test_the_weight_of_the_judgments_is_the_best_one():
    y, f, g = powered(2, 3000, 9000)
    result = ppi_mean(y, f, g)
    errors = {}
    for lam in np.linspace(0, 1, 101):
        errors[lam] = (y - lam * f).var() / 3000 + lam**2 * np.concatenate([f, g]).var() / 9000
    assert result.lam == pytest.approx(min(errors, key=errors.get), abs=0.03)


@given(st.integers(0, 10_000), st.integers(5, 60), st.integers(1, 200), st.sampled_from([0.0, 0.1, 0.5, 0.9]))
def test_ppi_stays_in_bounds_and_is_hardly_wider_than_the_labels(seed, n, n_rest, noise):
    y, f, g = powered(seed, n, n_rest, noise=noise)
    result = ppi_mean(y, f, g)
    assert 0 <= result.ci_low <= result.estimate <= result.ci_high <= 1 and result.se > 0
    assert 0 <= result.lam <= 1
    if y.min() < y.max():
        assert result.se <= 1.5 * y.std(ddof=1) / np.sqrt(n)
    generator = np.random.default_rng(seed)
    order, rest = generator.permutation(n), generator.permutation(n_rest)
    again = ppi_mean(y[order], f[order], g[rest])
    assert limits(again) == pytest.approx(limits(result))
    other = ppi_mean(1 - y, 1 - f, 1 - g)
    assert limits(other) == pytest.approx((1 - result.ci_high, 1 - result.ci_low))


def test_ppi_is_never_wider_than_the_labels_on_many_responses():
    for noise in (0.05, 0.3, 0.5):
        y, f, g = powered(3, 4000, 40_000, noise=noise)
        assert ppi_mean(y, f, g).se <= y.std(ddof=1) / np.sqrt(4000) * 1.0005
    y, f, g = powered(3, 4000, 40_000, noise=0.05)
    assert ppi_mean(y, f, g).se < 0.55 * y.std(ddof=1) / np.sqrt(4000)


@pytest.mark.slow
@pytest.mark.parametrize(("noise", "rate"), [(0.1, 0.3), (0.4, 0.5), (0.2, 0.1)])
def test_ppi_covers_and_is_not_biased(noise, rate):
    found = [ppi_mean(*powered(s, 100, 500, noise=noise, rate=rate)) for s in range(3000)]
    assert np.mean([r.estimate for r in found]) == pytest.approx(rate, abs=0.003)
    assert np.mean([r.ci_low <= rate <= r.ci_high for r in found]) > 0.92


def test_a_constant_judge_adds_nothing():
    y = powered(4, 50, 10)[0]
    result = ppi_mean(y, np.full(50, 0.3), np.full(10, 0.3))
    assert result.lam == 0 and result.estimate == pytest.approx(y.mean())
    assert result.se == pytest.approx(y.std(ddof=1) / np.sqrt(50))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_labels_that_are_all_equal_give_wilsons_interval(value):
    result = ppi_mean(np.full(30, value), np.full(30, 0.5), [0.2, 0.7])
    expected = wilson(30 * value, 30)
    assert limits(result) == limits(expected) and result.lam == 0 and result.se > 0
    assert "Wilson" in result.method


def test_chance_cannot_make_the_width_zero():
    # The judge is right on every label, and all others got the same judgment.
    result = ppi_mean([0, 1, 0, 1], [0, 1, 0, 1], np.zeros(40))
    assert result.se > 0 and result.ci_high > result.ci_low


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (([0, 1], [0.5], [0.1]), "one length"),
        (([0], [0.5], [0.1]), "got 1 and 1"),
        (([0, 1], [0.5, 0.2], []), "got 2 and 0"),
        (([0, 1.5], [0.5, 0.2], [0.1]), "labels: a value lies outside"),
        (([0, 1], [0.5, float("nan")], [0.1]), "judged: a value lies outside"),
        (([0, 1], [0.5, 0.2], [-0.1]), "judged_unlabelled: a value"),
        (([0.5, 0.5], [0.5, 0.2], [0.1]), "all labels are 0.5"),
    ],
)
def test_ppi_refuses_what_it_cannot_use(arguments, match):
    with pytest.raises(ValueError, match=match):
        ppi_mean(*arguments)
