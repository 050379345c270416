"""Many judges: Krippendorff's, Fleiss' and Gwet's published examples, loops, laws."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from statsmodels.stats import inter_rater

from aftertune.stats import (
    agreement_table,
    cohen_kappa,
    fleiss_kappa,
    gwet_ac1,
    gwet_ac1_many,
    krippendorff_alpha,
)

# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C (0 is a hole): α nominal .743,
# interval .849. Gwet's irrCAC (R, vignette "overview", cac.raw4raters) prints for the same table
# AC1 .77544 (SE .14295, from .461) and Fleiss .76117 (SE .15302, from .424).
RATINGS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
        [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
    ]
)
# Fourteen raters, ten subjects, five labels, the worked example of Fleiss' kappa on Wikipedia: κ .210.
FOURTEEN = np.array(
    [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]
)  # fmt: skip
tables = st.tuples(st.integers(2, 12), st.integers(2, 4), st.integers(0, 10_000)).map(
    lambda t: np.random.default_rng(t[2]).integers(0, 4, (t[0], t[1]))
)


def counts_of(ratings_jr, labels=range(1, 6)):
    return np.stack([(ratings_jr == label).sum(axis=0) for label in labels], axis=1)


def alpha_by_pairs(values, present, distance):
    """Krippendorff's definition: mean distance within responses over mean distance between all values."""
    units = [values[present[:, u], u] for u in range(values.shape[1])]
    units = [u for u in units if len(u) > 1]
    pool = np.concatenate(units)
    within = sum(sum(distance(a, b) for a in u for b in u) / (len(u) - 1) for u in units) / len(pool)
    between = sum(distance(a, b) for a in pool for b in pool) / (len(pool) * (len(pool) - 1))
    return 1 - within / between


def test_alpha_gives_krippendorffs_published_values():
    assert krippendorff_alpha(RATINGS, RATINGS > 0) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(RATINGS, RATINGS > 0, measurement="interval") == pytest.approx(0.849, abs=5e-4)


@given(st.tuples(st.integers(2, 5), st.integers(1, 12), st.integers(0, 10_000)), st.sampled_from([0, 0.3]))
def test_alpha_equals_its_definition_by_pairs(shape, holes):
    n_judges, n_responses, seed = shape
    generator = np.random.default_rng(seed)
    values = generator.integers(0, 3, (n_judges, n_responses)) / 2
    present = generator.random(values.shape) >= holes
    kept = values[present & (present.sum(axis=0) > 1)]
    for measurement, distance in (
        ("nominal", lambda a, b: float(a != b)),
        ("interval", lambda a, b: (a - b) ** 2),
    ):
        alpha = krippendorff_alpha(values, present, measurement=measurement)
        if len(set(kept)) < 2:
            assert alpha is None
        else:
            assert alpha == pytest.approx(alpha_by_pairs(values, present, distance), abs=1e-9)
            assert alpha <= 1


@given(tables, st.integers(0, 99), st.floats(0.1, 9), st.floats(-5, 5))
def test_alpha_ignores_order_and_the_scale_of_graded_judgments(values, seed, scale, shift):
    generator = np.random.default_rng(seed)
    rows, columns = (generator.permutation(n) for n in values.shape)
    alpha = krippendorff_alpha(values, measurement="interval")
    other = krippendorff_alpha(scale * values[np.ix_(rows, columns)] + shift, measurement="interval")
    assert (alpha is None) == (other is None)
    if alpha is not None:
        assert other == pytest.approx(alpha, abs=1e-9)


def test_what_stands_in_a_hole_changes_nothing():
    other = np.where(RATINGS > 0, RATINGS, 77)
    assert krippendorff_alpha(other, RATINGS > 0) == krippendorff_alpha(RATINGS, RATINGS > 0)
    with_nan = np.where(RATINGS > 0, RATINGS, np.nan)
    assert krippendorff_alpha(with_nan, RATINGS > 0) == krippendorff_alpha(RATINGS, RATINGS > 0)


@pytest.mark.parametrize(
    "values", [[[1, 1], [1, 1]], [[0.2, 0.7]], np.zeros((2, 0))], ids=["one value", "one judge", "empty"]
)
def test_an_undefined_alpha_is_none(values):
    assert krippendorff_alpha(values) is None


def test_alpha_refuses_what_it_cannot_read():
    with pytest.raises(ValueError, match="no number; mark holes"):
        krippendorff_alpha([[1.0, float("nan")], [1.0, 0.0]])
    with pytest.raises(ValueError, match=r"mask of \(1, 2\)"):
        krippendorff_alpha([[1, 0], [1, 0]], [[True, True]])
    with pytest.raises(ValueError, match="'ordinal'"):
        krippendorff_alpha([[1, 0], [1, 0]], measurement="ordinal")


def test_fleiss_and_ac1_give_gwets_published_values():
    fleiss, ac1 = fleiss_kappa(counts_of(RATINGS)), gwet_ac1_many(counts_of(RATINGS))
    assert fleiss is not None and ac1 is not None
    for got, estimate, se, low in ((fleiss, 0.76117, 0.15302, 0.424), (ac1, 0.77544, 0.14295, 0.461)):
        assert (got.estimate, got.se) == (pytest.approx(estimate, abs=5e-6), pytest.approx(se, abs=5e-6))
        assert (got.ci_low, got.ci_high) == (pytest.approx(low, abs=5e-4), 1.0)
        assert got.n_items == 12


def test_fleiss_kappa_of_fourteen_raters_is_the_published_one():
    assert fleiss_kappa(FOURTEEN).estimate == pytest.approx(0.210, abs=5e-4)


@given(tables)
def test_fleiss_equals_statsmodels_on_equal_numbers_of_judgments(values):
    counts = counts_of(values, range(4))
    assume((counts.sum(axis=0) > 0).sum() > 1)
    assert fleiss_kappa(counts).estimate == pytest.approx(float(inter_rater.fleiss_kappa(counts)), abs=1e-9)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_two_judges_give_the_coefficients_of_the_two_by_two_table(pairs):
    ratings = np.array(pairs, dtype=int).T
    counts, table = counts_of(ratings, (0, 1)), agreement_table(*ratings)
    assert gwet_ac1_many(counts).estimate == pytest.approx(gwet_ac1(table))
    if ratings[0].mean() == ratings[1].mean() and 0 < ratings.mean() < 1:
        # Judges with the same margin: Fleiss' chance agreement is Cohen's.
        assert fleiss_kappa(counts).estimate == pytest.approx(cohen_kappa(table))


@given(tables, st.integers(0, 99), st.integers(2, 4))
def test_order_names_and_duplication(values, seed, times):
    counts = counts_of(values, range(4))
    generator = np.random.default_rng(seed)
    other = counts[np.ix_(generator.permutation(len(counts)), generator.permutation(4))]
    for coefficient in (fleiss_kappa, gwet_ac1_many):
        one, two = coefficient(counts), coefficient(other)
        more = coefficient(np.repeat(counts, times, axis=0))
        assert (one is None) == (two is None) == (more is None)
        if one is None:
            continue
        assert two.estimate == pytest.approx(one.estimate) and two.se == pytest.approx(one.se)
        assert -1 <= one.estimate <= 1 + 1e-12 and more.estimate == pytest.approx(one.estimate)
        if one.se is not None:
            n = len(counts)
            assert more.se == pytest.approx(one.se * np.sqrt((n - 1) / (times * n - 1)))
            assert -1 <= one.ci_low <= one.estimate <= one.ci_high <= 1


@pytest.mark.parametrize("coefficient", [fleiss_kappa, gwet_ac1_many])
def test_the_standard_error_is_the_jackknifes(coefficient):
    generator = np.random.default_rng(5)
    p = generator.beta(1, 2, (150, 1))
    n_judgments = generator.integers(1, 6, (150, 1))
    harm = generator.binomial(n_judgments, p)
    counts = np.hstack([n_judgments - harm, harm])
    left_out = [coefficient(np.delete(counts, i, axis=0)).estimate for i in range(150)]
    jackknife = np.sqrt(149**2 / 150 * np.var(left_out, ddof=1))
    assert coefficient(counts).se == pytest.approx(jackknife, rel=0.03)


def test_undefined_coefficients_are_none_and_full_agreement_has_no_error():
    assert fleiss_kappa([[2, 0], [3, 0]]) is None  # one label throughout
    assert fleiss_kappa([[1, 0], [0, 1]]) is None and gwet_ac1_many([[1, 0], [0, 1]]) is None
    assert fleiss_kappa(np.zeros((0, 2))) is None
    full = fleiss_kappa([[3, 0], [0, 3], [0, 3]])
    assert (full.estimate, full.se, full.ci_low) == (pytest.approx(1.0), None, None)
    single = gwet_ac1_many([[2, 1]])
    assert single.n_items == 1 and single.se is None


def test_an_item_that_nobody_judged_is_not_counted():
    assert fleiss_kappa([[2, 1], [0, 0], [0, 3]]) == fleiss_kappa([[2, 1], [0, 3]])


def test_what_is_no_count_is_refused():
    for coefficient in (fleiss_kappa, gwet_ac1_many):
        with pytest.raises(ValueError, match="whole and not negative"):
            coefficient([[0.5, 1.5]])
        with pytest.raises(ValueError, match=r"items × labels, got \(2,\)"):
            coefficient([1, 2])
    with pytest.raises(ValueError, match="at least 2 labels, got 1"):
        gwet_ac1_many([[3], [2]])
