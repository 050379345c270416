"""The betting confidence sequence: exact boundaries, time-uniform coverage, laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize

from aftertune.seeds import stream
from aftertune.stats import betting_interval

samples = st.tuples(
    st.integers(1, 80), st.sampled_from([0.0, 0.05, 0.5, 1.0]), st.booleans(), st.integers(0, 9999)
)


def drawn(sample):
    n, rate, graded, seed = sample
    generator = np.random.default_rng(seed)
    x = (generator.random(n) < rate).astype(float)
    return x * generator.random(n) if graded else x


def capitals(x, m, alpha):
    """Both gamblers' capitals after each value, by the paper's formulas, one step at a time."""
    above, under, histories = 0.5, 0.5, []
    centres = []
    for t in range(1, len(x) + 1):
        spread = (0.25 + sum((a - c) ** 2 for a, c in zip(x, centres, strict=False))) / t
        bet = (2 * np.log(2 / alpha) / (spread * t * np.log(t + 1))) ** 0.5
        above *= 1 + min(bet, 0.5 / m) * (x[t - 1] - m)
        under *= 1 - min(bet, 0.5 / (1 - m)) * (x[t - 1] - m)
        centres.append((0.5 + sum(x[:t])) / (t + 1))
        histories.append((above, under))
    return np.array(histories)


@pytest.mark.parametrize("seed", range(3))
def test_the_limits_are_just_outside_the_exact_boundaries(seed):
    x, alpha = np.random.default_rng(seed).beta(1, 2, 120), 0.1
    found = betting_interval(x, level=1 - alpha, n_grid=2000)
    for t in (30, 120):
        # The highest capital so far decides: a mean that is out stays out.
        low = optimize.brentq(
            lambda m, t=t: capitals(x[:t], m, alpha)[:, 0].max() - 1 / alpha, 1e-6, x.mean()
        )
        high = optimize.brentq(
            lambda m, t=t: capitals(x[:t], m, alpha)[:, 1].max() - 1 / alpha, x.mean(), 1 - 1e-6
        )
        assert low - 1 / 2000 <= found.low[t - 1] <= low
        assert high <= found.high[t - 1] <= high + 1 / 2000


def test_the_limits_are_those_of_confseq():
    """Its betting_cs (0.0.11, hedged capital, ½ truncation, 1,000 breaks, bets for α/2, intersected)."""
    x = (np.arange(1, 301) * 37 % 100 < 30).astype(float)
    found = betting_interval(x)
    assert found.low[[49, 99, 299]] == pytest.approx([0.121, 0.158, 0.203], abs=1e-9)
    assert found.high[[49, 99, 299]] == pytest.approx([0.495, 0.440, 0.390], abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "graded"), [(0.1, False), (0.5, False), (0.3, True)])
def test_all_looks_hold_at_once(rate, graded):
    generator, misses = stream(1, "sequence", str(rate)), 0
    for _ in range(500):
        x = (generator.random(250) < rate).astype(float)
        x = generator.beta(3, 7, 250) if graded else x
        found = betting_interval(x, level=0.9, n_grid=200)
        misses += bool(((found.low > rate) | (found.high < rate)).any())
    assert misses / 500 <= 0.1 + 0.025


@pytest.mark.slow
def test_all_looks_hold_at_once_without_replacement():
    generator, misses, narrower = stream(2, "sequence"), 0, 0
    benchmark = (np.arange(200) < 50).astype(float)
    for _ in range(500):
        x = generator.permutation(benchmark)
        found = betting_interval(x, level=0.9, n_total=200, n_grid=200)
        misses += bool(((found.low > 0.25 + 1e-9) | (found.high < 0.25 - 1e-9)).any())
        free = betting_interval(x, level=0.9, n_grid=200)
        narrower += found.high[150] - found.low[150] < free.high[150] - free.low[150]
    assert misses / 500 <= 0.1 + 0.025
    assert narrower > 450


@given(samples, st.sampled_from([0.8, 0.95]))
def test_limits_nest_and_stay_in_bounds(sample, level):
    x = drawn(sample)
    found = betting_interval(x, level=level, n_grid=100)
    assert (np.diff(found.low) >= 0).all() and (np.diff(found.high) <= 0).all()
    assert (found.low >= 0).all() and (found.high <= 1).all() and (found.low < found.high).all()
    wider = betting_interval(x, level=1 - (1 - level) / 4, n_grid=100).last
    assert wider.ci_high - wider.ci_low >= found.last.ci_high - found.last.ci_low - 0.03
    assert found.last.estimate == pytest.approx(x.mean()) and found.last.n_effective == len(x)


@given(samples, st.booleans())
def test_the_rate_of_no_events_mirrors_that_of_events(sample, whole):
    x = drawn(sample)
    n_total = len(x) + 7 if whole else None
    one, two = (betting_interval(values, n_total=n_total, n_grid=100) for values in (x, 1 - x))
    assert two.low == pytest.approx(1 - one.high, abs=0.0101)
    assert two.high == pytest.approx(1 - one.low, abs=0.0101)


@given(samples)
def test_the_first_looks_do_not_depend_on_later_values(sample):
    x = drawn(sample)
    first = (len(x) + 1) // 2
    whole, part = betting_interval(x, n_grid=100), betting_interval(x[:first], n_grid=100)
    assert whole.low[:first] == pytest.approx(part.low) and whole.high[:first] == pytest.approx(part.high)


def test_the_width_shrinks_and_small_spread_shrinks_it_faster():
    generator = np.random.default_rng(0)
    coins = betting_interval((generator.random(1500) < 0.5).astype(float))
    quiet = betting_interval(0.5 + generator.uniform(-0.05, 0.05, 1500))
    widths = [float(coins.high[t] - coins.low[t]) for t in (99, 499, 1499)]
    assert widths[0] > widths[1] > widths[2] and widths[2] < 0.12
    assert quiet.last.ci_high - quiet.last.ci_low < widths[2] / 3
    never = betting_interval(np.zeros(200))
    assert never.last.ci_low == 0 < never.last.ci_high < 0.05


def test_a_benchmark_seen_to_its_end_leaves_no_width():
    x = np.random.default_rng(1).random(60)
    found = betting_interval(x, n_total=60)
    assert found.low[-1] == pytest.approx(x.mean()) == pytest.approx(found.high[-1])
    assert found.low[-2] < found.high[-2] and found.empty_from is None


def test_values_in_no_random_order_are_told():
    x = np.r_[np.ones(200), np.zeros(400)]
    found = betting_interval(x, n_total=600)
    assert found.empty_from is not None and found.empty_from <= 600
    at = found.empty_from - 1
    assert (found.low[at:] == found.low[at - 1]).all() and (found.high[at:] == found.high[at - 1]).all()


def test_the_global_generator_changes_nothing():
    x = drawn((50, 0.5, True, 3))
    before = betting_interval(x).low
    np.random.seed(1)  # noqa: NPY002
    assert (betting_interval(x).low == before).all()


@pytest.mark.parametrize(
    ("arguments", "settings", "match"),
    [
        ([], {}, r"got shape \(0,\)"),
        ([[0.1, 0.2]], {}, r"got shape \(1, 2\)"),
        ([0.1, 1.2], {}, "outside"),
        ([0.1, float("nan")], {}, "outside"),
        ([0.1, 0.2], {"n_total": 1}, "2 values cannot be drawn from n_total = 1"),
        ([0.1], {"level": 95}, "got 95"),
        ([0.1], {"n_grid": 3}, "got 3"),
    ],
)
def test_what_is_no_sequence_is_refused(arguments, settings, match):
    with pytest.raises(ValueError, match=match):
        betting_interval(arguments, **settings)
