"""The test for repeats that move all items together."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import cochrans_q

from aftertune.stats.common_shock import common_shock
from aftertune.stats.crossed import two_way


def draws_of(generator, *, centre, shock, n_items=200, n_repeats=3):
    """0/1 draws, items × repeats, with a shift on the logit that the items of a repeat share."""
    item = generator.normal(centre, 1.5, (n_items, 1))
    p = 1 / (1 + np.exp(-(item + generator.normal(0, 1, (1, n_repeats)) * shock)))
    return (generator.random((n_items, n_repeats)) < p).astype(float)


def test_for_one_checkpoint_it_is_cochrans_q():
    draws = draws_of(np.random.default_rng(1), centre=-1, shock=0.2, n_repeats=4)
    found = common_shock([draws])
    expected = cochrans_q(draws)
    assert (found.statistic, found.p_value) == pytest.approx((expected.statistic, expected.pvalue))
    assert (found.df, found.n_checkpoints) == (3, 1)


def test_for_graded_values_it_is_close_to_the_f_test_of_repeats():
    generator = np.random.default_rng(2)
    draws = np.clip(generator.normal(0.5, 0.1, (300, 1)) + generator.normal(0, 0.05, (300, 3)), 0, 1)
    table = two_way(draws.T)
    assert common_shock([draws]).p_value == pytest.approx(table.p_value, abs=0.01)


def test_checkpoints_add_up_and_those_that_say_nothing_are_left_out():
    generator = np.random.default_rng(3)
    one, two = (draws_of(generator, centre=0, shock=0) for _ in range(2))
    both = common_shock([one, two, np.zeros((50, 3)), one[:, :1]])
    assert both.statistic == pytest.approx(common_shock([one]).statistic + common_shock([two]).statistic)
    assert (both.df, both.n_checkpoints) == (4, 2)
    assert both.p_value == pytest.approx(stats.chi2.sf(both.statistic, 4))
    assert common_shock([]) is None and common_shock([np.ones((50, 3))]) is None


@pytest.mark.slow
@pytest.mark.parametrize("centre", [-5.0, -3.0, 0.0, 4.0])  # rates of about .02, .1, .5, .95
@pytest.mark.parametrize(("n_runs", "n_repeats"), [(1, 2), (1, 5), (6, 2), (6, 5)])
def test_independent_streams_seldom_raise_it(centre, n_runs, n_repeats):
    generator = np.random.default_rng(4)
    found = [
        common_shock(draws_of(generator, centre=centre, shock=0, n_repeats=n_repeats) for _ in range(n_runs))
        for _ in range(1000)
    ]
    p = np.array([1.0 if f is None else f.p_value for f in found])
    assert (p < 0.01).mean() < 0.02
    assert (p < 1e-4).mean() < 0.003


@pytest.mark.slow
@pytest.mark.parametrize("centre", [-2.5, 0.0])  # rates of about .15 and .5
def test_a_shared_seed_of_realistic_size_is_found(centre):
    # .3 on the logit moves a rate of .5 by 6 points and one of .15 by 3; six checkpoints, five draws each.
    generator = np.random.default_rng(5)
    found = [
        common_shock(
            draws_of(generator, centre=centre, shock=0.3, n_items=400, n_repeats=5) for _ in range(6)
        ).p_value
        < 1e-4
        for _ in range(100)
    ]
    assert np.mean(found) > 0.95
