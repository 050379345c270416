"""Wilson's interval and its form with an effective n."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from aftertune.stats import wilson
from aftertune.stats.rates import score_limits, t_quantile, two_part_limits, z_quantile


@pytest.mark.parametrize(("n_events", "n", "low", "high"), [(81, 263, 0.2553, 0.3662), (0, 20, 0.0, 0.1611)])
def test_wilson_gives_newcombes_published_limits(n_events, n, low, high):
    # Newcombe 1998, Statist. Med. 17:857, table I, method 3.
    result = wilson(n_events, n)
    assert (result.ci_low, result.ci_high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(
    st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.sampled_from([0.8, 0.95, 0.99]),
)
def test_wilson_equals_statsmodels(table, level):
    n_events, n = table
    low, high = proportion_confint(n_events, n, alpha=1 - level, method="wilson")
    result = wilson(n_events, n, level=level)
    assert result.ci_low == pytest.approx(max(low, 0), abs=1e-12)
    assert result.ci_high == pytest.approx(min(high, 1), abs=1e-12)


@given(st.floats(0, 1), st.floats(1e-6, 100), st.floats(1.01, 10))
def test_score_limits_are_nested_and_lie_in_the_unit_interval(p, kappa, factor):
    low, high = score_limits(p, kappa)
    wider = score_limits(p, kappa * factor)
    slack = 1e-12
    assert 0 <= wider[0] <= low + slack and high <= wider[1] + slack and wider[1] <= 1
    assert low <= p + slack and p <= high + slack
    assert high > low


def test_score_limits_solve_their_equation():
    low, high = score_limits(0.3, 0.04)
    for limit in (low, high):
        assert (0.3 - limit) ** 2 == pytest.approx(0.04 * limit * (1 - limit))


@given(st.floats(0.001, 0.999), st.floats(1e-9, 0.2), st.floats(1e-9, 0.2))
def test_two_part_limits_are_the_roots_of_their_quartic(p, proportional, binomial):
    g = p * (1 - p)
    variance = np.polynomial.Polynomial([0, 1, -1]) / g  # g(π)/g(p)
    equation = np.polynomial.Polynomial([p, -1]) ** 2 - proportional * variance**2 - binomial * variance
    real = [root.real for root in equation.roots() if abs(root.imag) < 1e-7]
    low, high = two_part_limits(p, proportional, binomial)
    assert 0 <= low < p < high <= 1
    assert low == pytest.approx(max(x for x in real if x < p), abs=1e-6)
    assert high == pytest.approx(min(x for x in real if x > p), abs=1e-6)


@given(st.floats(0.01, 0.99), st.floats(0, 0.1), st.floats(1e-6, 0.1))
def test_two_part_limits_mirror_and_hold_the_smaller_ones(p, proportional, binomial):
    low, high = two_part_limits(p, proportional, binomial)
    assert two_part_limits(1 - p, proportional, binomial) == pytest.approx((1 - high, 1 - low), abs=1e-9)
    wider = two_part_limits(p, proportional + 0.01, binomial)
    assert wider[0] <= low and high <= wider[1]
    if proportional == 0:
        assert (low, high) == score_limits(p, binomial / (p * (1 - p)))


def test_quantiles_equal_printed_tables():
    assert t_quantile(0.95, 4) == pytest.approx(2.776, abs=5e-4)
    assert z_quantile(0.9) == pytest.approx(1.6449, abs=5e-5)


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="got 3 of 2"):
        wilson(3, 2)
