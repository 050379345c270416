"""Reliability: Shrout & Fleiss' and Brennan's published tables, definitions, simulation, laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftertune.stats import (
    Draws,
    MeanSquares,
    SeedVariances,
    components,
    generalizability,
    intraclass,
    mean_squares,
    mean_squares_of,
    seed_variances,
    two_way,
)

# Shrout & Fleiss 1979, table 2: six targets, four judges; coefficients in their table 4. The intervals are
# those that psych::ICC (R, help page) and pingouin 0.7 (SF example, ICC(A,·) and ICC(C,·)) print.
SHROUT_FLEISS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
PUBLISHED = {
    "ICC(2,1)": (0.2898, 0.02, 0.76), "ICC(3,1)": (0.7148, 0.34, 0.95),
    "ICC(2,k)": (0.6201, 0.07, 0.93), "ICC(3,k)": (0.9093, 0.68, 0.99),
}  # fmt: skip
# Brennan 2001, table 2.2 (synthetic data set 1): ten persons, twelve items.
BRENNAN = [
    [1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0],
    [1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0], [1, 1, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0],
    [1, 1, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0], [1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 0, 0],
    [1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0, 0],
    [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
]  # fmt: skip
KINDS = tuple(PUBLISHED)
tables = st.tuples(st.integers(3, 8), st.integers(2, 6), st.integers(0, 10_000)).map(
    lambda t: (g := np.random.default_rng(t[2])).normal(size=t[:2]) + g.normal(0, 1, (t[0], 1))
)


def brennan():
    return seed_variances(components(two_way(np.array(BRENNAN, dtype=float))))


def test_shrout_and_fleiss_mean_squares_and_components():
    ms = mean_squares(SHROUT_FLEISS)
    assert (ms.target, ms.rater, ms.residual) == pytest.approx((11.2417, 32.4861, 1.0194), abs=5e-5)
    assert ms.components() == pytest.approx((2.5556, 5.2444, 1.0194), abs=5e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_shrout_and_fleiss_coefficients(kind):
    estimate, low, high = PUBLISHED[kind]
    for ms in (mean_squares(SHROUT_FLEISS), MeanSquares(11.2417, 32.4861, 1.0194, 6, 4)):
        result = intraclass(ms, kind)
        assert result.estimate == pytest.approx(estimate, abs=6e-5)
        assert (result.ci_low, result.ci_high) == pytest.approx((low, high), abs=5e-3)
        assert (result.kind, result.n_targets, result.n_raters, result.level) == (kind, 6, 4, 0.95)


@given(tables)
def test_mean_squares_by_loops_and_from_the_crossed_table(y):
    n_t, n_r = y.shape
    ms, total = mean_squares(y), 0.0
    for t in range(n_t):
        for r in range(n_r):
            total += (y[t, r] - y[t].mean() - y[:, r].mean() + y.mean()) ** 2
    assert ms.residual == pytest.approx(total / ((n_t - 1) * (n_r - 1)))
    assert ms.target == pytest.approx(n_r * sum((row.mean() - y.mean()) ** 2 for row in y) / (n_t - 1))
    table = two_way(y)
    for targets, other in (("seed", y), ("item", y.T)):
        one, two = mean_squares_of(table, targets=targets), mean_squares(other)
        assert one.components() == pytest.approx(two.components(), abs=1e-9)


@given(tables)
def test_icc_3k_is_cronbachs_alpha(y):
    k = y.shape[1]
    alpha = k / (k - 1) * (1 - y.var(axis=0, ddof=1).sum() / y.sum(axis=1).var(ddof=1))
    assert intraclass(mean_squares(y), "ICC(3,k)").estimate == pytest.approx(alpha)


@given(tables)
def test_coefficients_are_ratios_of_the_components(y):
    ms = mean_squares(y)
    target, rater, residual = ms.components()
    k = ms.n_raters
    for kind, noise in (
        ("ICC(2,1)", rater + residual), ("ICC(3,1)", residual),
        ("ICC(2,k)", (rater + residual) / k), ("ICC(3,k)", residual / k),
    ):  # fmt: skip
        result = intraclass(ms, kind)
        if target + noise <= 0:
            assert result is None
        else:
            assert result.estimate == pytest.approx(target / (target + noise))
            assert 0 <= result.ci_low <= result.ci_high <= 1 and result.estimate <= 1


@given(tables, st.integers(0, 99), st.floats(0.1, 10), st.floats(-5, 5), st.sampled_from(KINDS))
def test_order_shift_and_scale_change_nothing(y, seed, scale, shift, kind):
    generator = np.random.default_rng(seed)
    other = scale * y[np.ix_(*(generator.permutation(n) for n in y.shape))] + shift
    one, two = intraclass(mean_squares(y), kind), intraclass(mean_squares(other), kind)
    assert (one is None) == (two is None)
    if one is not None:
        assert two.estimate == pytest.approx(one.estimate, abs=1e-6)
        assert (two.ci_low, two.ci_high) == pytest.approx((one.ci_low, one.ci_high), abs=1e-6)
    # ICC(3,·) does not see the raters' heights, ICC(2,·) does.
    lifted = mean_squares(y + generator.normal(0, 9, (1, y.shape[1])))
    consistency = intraclass(mean_squares(y), "ICC(3,1)").estimate
    assert intraclass(lifted, "ICC(3,1)").estimate == pytest.approx(consistency, abs=1e-6)


@pytest.mark.parametrize("kind", ["ICC(2,1)", "ICC(3,1)", "ICC(3,k)"])
def test_the_intervals_cover(kind):
    generator, n, k = np.random.default_rng(0), 15, 6
    rater_sd = 0.5 if kind == "ICC(2,1)" else 3.0
    noise = {"ICC(2,1)": 1 + rater_sd**2, "ICC(3,1)": 1, "ICC(3,k)": 1 / k}[kind]
    hits = 0
    for _ in range(1500):
        y = (
            generator.normal(size=(n, 1))
            + generator.normal(0, rater_sd, (1, k))
            + generator.normal(size=(n, k))
        )
        result = intraclass(mean_squares(y), kind)
        hits += result.ci_low <= 1 / (1 + noise) <= result.ci_high
    assert hits / 1500 == pytest.approx(0.95, abs=0.02)


def test_full_consistency_has_no_interval_and_equal_targets_no_coefficient():
    y = np.arange(4.0)[:, None] + np.array([0.0, 2.0, 5.0])
    result = intraclass(MeanSquares(5.0, 20.0, 0.0, 4, 3), "ICC(3,1)")
    assert (result.estimate, result.ci_low, result.ci_high) == (1.0, None, None)
    assert intraclass(mean_squares(y), "ICC(3,1)").estimate == pytest.approx(1)
    assert intraclass(MeanSquares(0.0, 2.0, 1.0, 4, 3), "ICC(2,1)") is None
    assert intraclass(mean_squares(np.ones((3, 3))), "ICC(2,k)") is None


def test_a_negative_coefficient_stays_negative():
    result = intraclass(MeanSquares(0.5, 1.0, 1.0, 8, 3), "ICC(3,1)")
    assert result.estimate < 0 == result.ci_low


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: mean_squares([[1, 2, 3]]), r"2 targets × 2 raters, got \(1, 3\)"),
        (lambda: mean_squares([[1], [2]]), r"got \(2, 1\)"),
        (lambda: mean_squares([]), r"got \(0,\)"),
        (lambda: mean_squares([[1, float("nan")], [2, 3]]), "no number"),
        (lambda: mean_squares_of(two_way(np.ones((3, 1))), targets="seed"), "one item"),
        (
            lambda: mean_squares_of(
                two_way(np.eye(3), np.array([[True, True, False], [True, True, True], [True, True, True]])),
                targets="seed",
            ),
            "got 1 filled",
        ),
        (lambda: intraclass(mean_squares(SHROUT_FLEISS), "ICC(1,1)"), r"got 'ICC\(1,1\)'"),
        (lambda: intraclass(mean_squares(SHROUT_FLEISS), "ICC(2,1)", level=95), "got 95"),
    ],
)
def test_bad_tables_are_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_brennans_published_coefficients():
    variances = brennan()
    assert (variances.seed, variances.item, variances.seed_item) == pytest.approx(
        (0.0574, 0.0754, 0.1269), abs=5e-5
    )
    result = generalizability(variances, n_items=12)
    assert result.relative == pytest.approx(0.844, abs=6e-4)
    assert result.dependability == pytest.approx(0.773, abs=6e-4)
    # The same table by Cronbach's alpha: Eρ² of the design at hand is ICC(3,k), Φ is ICC(2,k).
    ms = mean_squares(BRENNAN)
    assert result.relative == pytest.approx(intraclass(ms, "ICC(3,k)").estimate)
    assert result.dependability == pytest.approx(intraclass(ms, "ICC(2,k)").estimate)


@given(st.integers(1, 60))
def test_other_numbers_of_items_follow_spearman_and_brown(n_items):
    one, many = (generalizability(brennan(), n_items=n) for n in (1, n_items))
    for a, b in ((one.relative, many.relative), (one.dependability, many.dependability)):
        assert b == pytest.approx(n_items * a / (1 + (n_items - 1) * a))


components_of_four = st.builds(
    SeedVariances, st.floats(0.001, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)
)


@given(
    components_of_four, st.integers(1, 50), st.integers(1, 9), st.sampled_from(["population", "benchmark"])
)
def test_more_of_anything_is_more_reliable(variances, n_items, n_repeats, target):
    base = generalizability(variances, n_items=n_items, n_repeats=n_repeats, target=target)
    assert 0 <= base.dependability <= base.relative <= 1
    more = generalizability(variances, n_items=n_items, n_repeats=n_repeats + 1, target=target)
    assert more.relative >= base.relative and more.dependability >= base.dependability
    if target == "population":
        wider = generalizability(variances, n_items=n_items + 1, n_repeats=n_repeats)
        assert wider.relative >= base.relative
        fixed = generalizability(variances, n_items=n_items, n_repeats=n_repeats, target="benchmark")
        assert fixed.relative >= base.relative


@pytest.mark.parametrize("target", ["population", "benchmark"])
def test_the_coefficients_are_squared_correlations_with_what_is_told_apart(target):
    """Eρ² by its definition: rates of many seeds against their universe scores."""
    generator, n_seeds, n_items, n_repeats = np.random.default_rng(2), 40_000, 5, 3
    seed = generator.normal(0, 1, (n_seeds, 1))
    interaction = generator.normal(0, 1.2**0.5, (n_seeds, n_items))
    item = generator.normal(0, 3, (1, n_items))
    noise = generator.normal(0, 2**0.5, (n_seeds, n_items, n_repeats)).mean(axis=2)
    rates = (seed + item + interaction + noise).mean(axis=1)
    universe = seed[:, 0] + (interaction.mean(axis=1) if target == "benchmark" else 0.0)
    expected = generalizability(
        SeedVariances(1.0, 9.0, 1.2, 2.0), n_items=n_items, n_repeats=n_repeats, target=target
    )
    assert np.corrcoef(rates, universe)[0, 1] ** 2 == pytest.approx(expected.relative, abs=0.01)


def test_the_components_of_draws_are_taken_as_they_are():
    draws = Draws.of((np.random.default_rng(3).random((6, 40, 3)) < 0.4).astype(float))
    found = components(two_way(draws.means_sp), draws)
    variances = seed_variances(found)
    assert variances.repeat == {c.facet: c.variance for c in found}["repeat"]
    result = generalizability(variances, n_items=40, n_repeats=3, target="benchmark")
    assert result.error_relative == pytest.approx(variances.repeat / 120)


def test_nothing_that_varies_gives_no_coefficient():
    assert generalizability(SeedVariances(0.0, 0.0, 0.0, 0.0), n_items=9) is None
    constant = seed_variances(components(two_way(np.full((3, 4), 0.5))))
    assert generalizability(constant, n_items=4) is None


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: generalizability(brennan(), n_items=0), "got 0 and 1"),
        (lambda: generalizability(brennan(), n_items=12, n_repeats=2), "cannot part repeats"),
        (lambda: generalizability(brennan(), n_items=12, target="benchmark"), "cannot part repeats"),
        (lambda: generalizability(SeedVariances(-0.1, 0, 0, None), n_items=2), "truncate them first"),
        (lambda: seed_variances(components(two_way(np.ones((3, 1))))), r"seed and item, got \[\]"),
    ],
)
def test_designs_that_say_nothing_are_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()
