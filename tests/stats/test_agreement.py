"""Two judges: definitions, statsmodels, and Fleiss' published table."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from statsmodels.stats.inter_rater import cohens_kappa

from aftertune.stats import (
    agreement_table,
    cohen_kappa,
    cohen_kappa_interval,
    gwet_ac1,
    negative_agreement,
    positive_agreement,
)

# Fleiss, Cohen & Everitt 1969 (also Fleiss 1981, table 13.1): κ .676, standard error .088, 100 subjects.
FLEISS = [[75, 1, 4], [5, 4, 1], [0, 0, 10]]
square = st.integers(2, 4).flatmap(
    lambda k: st.lists(st.lists(st.integers(0, 30), min_size=k, max_size=k), min_size=k, max_size=k)
)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_agreement_equals_its_definitions(pairs):
    a, b = (np.array([pair[j] for pair in pairs], dtype=int) for j in (0, 1))
    t = agreement_table(a, b)
    both, neither, n = int((a & b).sum()), int(((1 - a) & (1 - b)).sum()), len(pairs)
    assert (t.n_both, t.n_neither, t.n) == (both, neither, n)
    if a.sum() + b.sum():
        assert positive_agreement(t) == pytest.approx(2 * both / (a.sum() + b.sum()))
    else:
        assert positive_agreement(t) is None
    if a.sum() + b.sum() < 2 * n:
        assert negative_agreement(t) == pytest.approx(2 * neither / (2 * n - a.sum() - b.sum()))
    else:
        assert negative_agreement(t) is None
    kappa = cohen_kappa(t)
    if kappa is None:
        assert len(set(a) | set(b)) == 1
    else:
        expected = cohens_kappa([[t.n_neither, t.n_only_b], [t.n_only_a, t.n_both]], return_results=False)
        assert kappa == pytest.approx(float(expected))
    pi = (a.mean() + b.mean()) / 2
    chance = 2 * pi * (1 - pi)
    assert gwet_ac1(t) == pytest.approx(((a == b).mean() - chance) / (1 - chance))


def test_kappa_gives_the_published_standard_error():
    result = cohen_kappa_interval(FLEISS)
    assert result is not None and result.se is not None and result.n_items == 100
    assert (result.estimate, result.se) == (pytest.approx(0.676, abs=5e-4), pytest.approx(0.088, abs=5e-4))
    assert (result.ci_low, result.ci_high) == pytest.approx(
        (result.estimate - 1.959964 * result.se, result.estimate + 1.959964 * result.se)
    )


@given(square)
def test_kappas_interval_equals_statsmodels(counts):
    table = np.array(counts)
    assume(table.sum() > 0)
    result = cohen_kappa_interval(table)
    if result is None:
        assert np.count_nonzero(table) == 1 and np.trace(table) == table.sum()
        return
    with np.errstate(all="ignore"):  # its test statistic divides by 0 where a judge is constant
        expected = cohens_kappa(table)
    assert result.estimate == pytest.approx(float(expected.kappa))
    assert -1 - 1e-12 <= result.estimate <= 1 + 1e-12
    if result.se is None:
        assert float(expected.var_kappa) == pytest.approx(0, abs=1e-12)
    else:
        assert result.se == pytest.approx(float(expected.std_kappa), rel=1e-6)
        assert result.ci_low is not None and result.ci_high is not None
        assert -1 <= result.ci_low <= result.estimate + 1e-12 and result.estimate <= result.ci_high + 1e-12


@given(square, st.randoms(use_true_random=False), st.integers(2, 5))
def test_kappa_ignores_the_names_of_labels_and_of_judges_and_knows_n(counts, random, times):
    table = np.array(counts)
    order = random.sample(range(len(table)), len(table))
    result, other = cohen_kappa_interval(table), cohen_kappa_interval(table[np.ix_(order, order)].T)
    more = cohen_kappa_interval(times * table)
    assert (result is None) == (other is None) == (more is None)
    if result is None or result.se is None:
        return
    assert other.estimate == pytest.approx(result.estimate) and other.se == pytest.approx(result.se)
    assert more.estimate == pytest.approx(result.estimate)
    assert more.se == pytest.approx(result.se / np.sqrt(times))


def test_kappas_standard_error_is_the_spread_of_redrawn_tables():
    p = np.array(FLEISS).ravel() / 100
    drawn = np.random.default_rng(3).multinomial(400, p, size=4000).reshape(-1, 3, 3)
    kappas = [cohen_kappa_interval(table).estimate for table in drawn]
    assert np.std(kappas) == pytest.approx(cohen_kappa_interval(4 * np.array(FLEISS)).se, rel=0.05)


def test_full_agreement_has_no_standard_error():
    table = agreement_table([0, 1, 1], [0, 1, 1])
    result = cohen_kappa_interval(table.counts_ab)
    assert result is not None and result.estimate == 1
    assert (result.se, result.ci_low, result.ci_high) == (None, None, None)


def test_the_table_gives_the_same_kappa_as_its_counts():
    table = agreement_table([0, 1, 1, 0, 0], [0, 1, 0, 0, 1])
    result = cohen_kappa_interval(table.counts_ab)
    assert result is not None and result.estimate == pytest.approx(cohen_kappa(table))
    assert cohen_kappa_interval([[5, 0], [0, 0]]) is None and cohen_kappa_interval([[0, 0], [0, 0]]) is None


def test_no_responses_give_no_agreement_and_graded_ones_are_refused():
    empty = agreement_table([], [])
    assert (cohen_kappa(empty), gwet_ac1(empty), positive_agreement(empty)) == (None, None, None)
    with pytest.raises(ValueError, match="0/1"):
        agreement_table([0.5], [1])
    with pytest.raises(ValueError, match="one length"):
        agreement_table([0], [1, 1])


@pytest.mark.parametrize(
    ("counts", "match"),
    [
        ([[1, 2, 3]], r"square table.*\(1, 3\)"),
        ([[4]], r"at least 2 labels"),
        ([[1, -1], [0, 2]], "not negative"),
        ([[1, 0.5], [0, 2]], "whole"),
        ([[1, float("nan")], [0, 2]], "whole"),
    ],
)
def test_kappa_refuses_what_is_no_table(counts, match):
    with pytest.raises(ValueError, match=match):
        cohen_kappa_interval(counts)
    with pytest.raises(ValueError, match="got 95"):
        cohen_kappa_interval(FLEISS, level=95)
