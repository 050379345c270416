"""How precise a design will be: formulas by hand, and the power that they promise."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.power import TTestPower

from aftertune.stats.planning import (
    TYPICAL,
    AssumedVariances,
    Costs,
    best_split,
    collapse_unseen,
    detectable_difference,
    half_width,
    power_of,
    seeds_needed,
    standard_error,
)

BY_HAND = AssumedVariances(seed=0.0016, seed_item=0.03, repeat=0.06)


def test_the_standard_error_by_hand():
    # (0.03 + 0.06/3) / 100 = 0.0005; (0.0016 + 0.0005) / 5 = 0.00042
    error = standard_error(BY_HAND, n_seeds=5, n_items=100, n_repeats=3)
    assert error == pytest.approx(math.sqrt(0.00042))


def test_intervals_by_hand():
    design = {"n_seeds": 5, "n_items": 100, "n_repeats": 3}
    error = math.sqrt(0.00042)
    # the 97.5% and 95% points of Student's t with 4 degrees of freedom
    assert half_width(BY_HAND, **design) == pytest.approx(2.776445 * error, rel=1e-6)
    assert half_width(BY_HAND, level=0.9, **design) == pytest.approx(2.131847 * error, rel=1e-6)


def test_more_of_anything_is_more_precise():
    few = half_width(TYPICAL, n_seeds=5, n_items=50, n_repeats=1)
    for more in ({"n_seeds": 6}, {"n_items": 60}, {"n_repeats": 2}):
        assert half_width(TYPICAL, **{"n_seeds": 5, "n_items": 50, "n_repeats": 1, **more}) < few


@pytest.mark.parametrize(("n_seeds", "width"), [(3, 0.099), (5, 0.050), (10, 0.029)])
def test_the_seeds_alone_give_the_widths_of_methods(n_seeds, width):
    alone = AssumedVariances(seed=0.04**2, seed_item=0.0, repeat=0.0)
    assert half_width(alone, n_seeds=n_seeds, n_items=1, n_repeats=1) == pytest.approx(width, abs=5e-4)


@pytest.mark.parametrize("n_seeds", [2, 3, 5, 8])
def test_the_difference_is_found_with_the_promised_power(n_seeds: int):
    """80% of studies with this true difference reject no difference: t tests on drawn seed means."""
    design = {"n_seeds": n_seeds, "n_items": 50, "n_repeats": 1}
    truth = detectable_difference(TYPICAL, **design)
    spread = standard_error(TYPICAL, **design) * math.sqrt(n_seeds)
    means = np.random.default_rng(1).normal(truth, spread, (60_000, n_seeds))
    error = means.std(axis=1, ddof=1) / math.sqrt(n_seeds)
    critical = half_width(TYPICAL, **design) / standard_error(TYPICAL, **design)
    assert np.mean(np.abs(means.mean(axis=1)) / error > critical) == pytest.approx(0.8, abs=0.006)


# scipy's nct is NaN at fewer seeds than these and a power of .95; the simulation above has them.
@pytest.mark.parametrize(("n_seeds", "power"), [(3, 0.8), (4, 0.3), (5, 0.95), (10, 0.8), (40, 0.95)])
def test_the_difference_equals_scipys_noncentral_t_and_statsmodels(n_seeds, power):
    design = {"n_seeds": n_seeds, "n_items": 50, "n_repeats": 2}
    shift = detectable_difference(TYPICAL, power=power, **design) / standard_error(TYPICAL, **design)
    t = stats.t.ppf(0.975, n_seeds - 1)
    by_nct = stats.nct.sf(t, n_seeds - 1, shift) + stats.nct.cdf(-t, n_seeds - 1, shift)
    assert by_nct == pytest.approx(power, abs=1e-6)
    by_statsmodels = TTestPower().power(shift / math.sqrt(n_seeds), n_seeds, 0.05)
    assert float(by_statsmodels) == pytest.approx(power, abs=1e-6)


@given(st.floats(0, 0.3), st.integers(2, 30), st.integers(1, 400), st.sampled_from([0.8, 0.95]))
def test_power_is_the_inverse_of_the_detectable_difference(difference, n_seeds, n_items, level):
    design = {"n_seeds": n_seeds, "n_items": n_items, "n_repeats": 1, "level": level}
    power = power_of(difference, TYPICAL, **design)
    assert 1 - level - 1e-6 <= power <= 1 + 1e-12
    assert power_of(-difference, TYPICAL, **design) == power
    assert power_of(0.0, TYPICAL, **design) == pytest.approx(1 - level, abs=1e-5)
    if 1 - level + 1e-4 < power < 1 - 1e-6:
        found = detectable_difference(TYPICAL, power=power, **design)
        assert found == pytest.approx(difference, rel=1e-3)


def test_the_published_allocation():
    # METHODS section 8: σ_seed .04, σ²_si = σ²_repeat = .03, 450 items, 600 s a training, .5 s a generation.
    assert best_split(TYPICAL, n_items=450, costs=Costs(600, 0.5), budget=10 * 825).n_repeats == 1


@given(
    st.builds(AssumedVariances, st.floats(0, 0.01), st.floats(0, 0.1), st.floats(0, 0.2)),
    st.integers(1, 60), st.builds(Costs, st.integers(0, 200), st.integers(1, 5)), st.integers(2, 40),
)  # fmt: skip
def test_the_best_split_is_the_best_of_all(variances, n_items, costs, times):
    budget = times * (costs.train + n_items * costs.generate)
    split = best_split(variances, n_items=n_items, costs=costs, budget=budget)
    assert split.cost <= budget and split.n_seeds >= 2
    design = {"n_seeds": split.n_seeds, "n_items": n_items, "n_repeats": split.n_repeats}
    assert split.half_width == pytest.approx(half_width(variances, **design))
    for n_seeds in range(2, times + 1):
        n_repeats = 1
        while n_seeds * (costs.train + n_items * n_repeats * costs.generate) <= budget:
            other = half_width(variances, n_seeds=n_seeds, n_items=n_items, n_repeats=n_repeats)
            assert split.half_width <= other + 1e-12
            n_repeats += 1


def test_cheap_training_buys_seeds_and_dear_training_repeats():
    noisy = AssumedVariances(seed=1e-4, seed_item=0.0, repeat=0.2)
    cheap = best_split(noisy, n_items=20, costs=Costs(0.1, 1), budget=20_100)
    dear = best_split(noisy, n_items=20, costs=Costs(2000, 1), budget=20_000)
    assert cheap.n_repeats == 1 and cheap.n_seeds == 1000
    assert dear.n_repeats > 1 and dear.n_seeds < 9


@given(st.floats(0.005, 0.3), st.integers(1, 200), st.integers(1, 5))
def test_the_seeds_needed_are_the_fewest(wanted, n_items, n_repeats):
    n = seeds_needed(TYPICAL, wanted=wanted, n_items=n_items, n_repeats=n_repeats)
    design = {"n_items": n_items, "n_repeats": n_repeats}
    assert half_width(TYPICAL, n_seeds=n, **design) <= wanted + 1e-12
    assert n == 2 or half_width(TYPICAL, n_seeds=n - 1, **design) > wanted - 1e-12


def test_a_rare_collapse_stays_unseen_as_methods_says():
    assert collapse_unseen(0.2, 5) == pytest.approx(0.33, abs=0.005)
    assert collapse_unseen(0.2, 14) == pytest.approx(0.04, abs=0.005)


@pytest.mark.parametrize("function", [half_width, detectable_difference])
def test_one_seed_has_no_interval(function):
    with pytest.raises(ValueError, match="at least 2 seeds, got 1"):
        function(TYPICAL, n_seeds=1, n_items=10, n_repeats=1)


DESIGN = {"n_seeds": 5, "n_items": 10, "n_repeats": 1}
NOTHING = AssumedVariances(0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: AssumedVariances(-0.1, 0, 0), "not negative, got"),
        (lambda: AssumedVariances(float("nan"), 0, 0), "not negative, got"),
        (lambda: Costs(1, 0), "generate > 0, got"),
        (lambda: half_width(TYPICAL, n_seeds=3, n_items=0, n_repeats=1), "got 3, 0 and 1"),
        (lambda: half_width(TYPICAL, level=95, **DESIGN), "got 95"),
        (lambda: detectable_difference(TYPICAL, power=0.04, **DESIGN), "= 0.05 and 1, got 0.04"),
        (lambda: detectable_difference(TYPICAL, power=1.0, **DESIGN), "got 1.0"),
        (lambda: power_of(0.1, NOTHING, **DESIGN), "all 0"),
        (lambda: best_split(TYPICAL, n_items=10, costs=Costs(5, 1), budget=29), "cost 30, more than .* 29"),
        (lambda: best_split(TYPICAL, n_items=0, costs=Costs(5, 1), budget=29), "got 0"),
        (lambda: seeds_needed(TYPICAL, wanted=0.0, n_items=5), "positive, got 0.0"),
        (lambda: seeds_needed(TYPICAL, wanted=1e-7, n_items=5), "more than a million"),
        (lambda: collapse_unseen(1.2, 5), "got 1.2 and 5"),
    ],
)
def test_impossible_designs_are_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()
