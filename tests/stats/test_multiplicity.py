"""Adjusted p values: the published example, definitions, and statsmodels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import fdrcorrection, multipletests

from aftertune.stats import benjamini_hochberg, holm

# Benjamini & Hochberg 1995, section 3.2.
BH1995 = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719]
BH1995 += [0.6528, 0.7590, 1.0]
SHUFFLED = [BH1995[j] for j in (3, 0, 14, 7, 1, 2, 5, 4, 6, 13, 8, 9, 12, 10, 11)]
P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=20)


def test_of_the_published_fifteen_four_are_rejected_and_holm_and_bonferroni_reject_three():
    assert [p <= 0.05 for p in benjamini_hochberg(BH1995)] == [True] * 4 + [False] * 11
    assert sum(p <= 0.05 for p in holm(BH1995)) == 3
    assert sum(p * 15 <= 0.05 for p in BH1995) == 3


def test_adjusted_values_equal_statsmodels():
    # Once only: multipletests collects the garbage of the whole process at each call.
    for adjust, name in ((benjamini_hochberg, "fdr_bh"), (holm, "holm")):
        assert adjust(SHUFFLED) == pytest.approx(tuple(multipletests(SHUFFLED, method=name)[1]))


@given(P_VALUES)
def test_holm_equals_its_definition(p_values):
    ranked, n = sorted(p_values), len(p_values)
    for p, adjusted in zip(p_values, holm(p_values), strict=True):
        steps = [(n - j) * q for j, q in enumerate(ranked) if j <= ranked.index(p)]
        assert adjusted == pytest.approx(min(1.0, max(steps)))


@given(P_VALUES)
def test_benjamini_hochberg_equals_its_definition_and_statsmodels(p_values):
    ranked, n = sorted(p_values), len(p_values)
    adjusted = benjamini_hochberg(p_values)
    for p, got in zip(p_values, adjusted, strict=True):
        steps = [q * n / k for k, q in enumerate(ranked, 1) if k > ranked.index(p)]
        assert got == pytest.approx(min(1.0, *steps))
    assert adjusted == pytest.approx(tuple(fdrcorrection(p_values)[1]))


@given(P_VALUES, st.floats(0.001, 0.999))
def test_the_rejected_are_those_of_the_step_up_rule(p_values, q):
    ranked, n = sorted(p_values), len(p_values)
    limit = max((p for k, p in enumerate(ranked, 1) if p * n / k <= q), default=-1.0)
    assert [p <= q for p in benjamini_hochberg(p_values)] == [p <= limit for p in p_values]


@given(P_VALUES)
def test_they_lie_between_the_p_value_and_holms(p_values):
    adjusted = np.array(benjamini_hochberg(p_values))
    assert (adjusted >= np.array(p_values) * (1 - 1e-12)).all()
    assert (adjusted <= np.array(holm(p_values)) + 1e-12).all()


def test_what_is_no_p_value_is_refused_and_nothing_gives_nothing():
    for adjust in (holm, benjamini_hochberg):
        with pytest.raises(ValueError, match="lie in"):
            adjust([0.2, float("nan")])
        assert adjust([]) == ()
