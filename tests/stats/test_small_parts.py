"""Bayes at few seeds, consistency, agreement: each against a second way to the same number."""

from itertools import combinations

import krippendorff
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats
from statsmodels.stats.inter_rater import cohens_kappa

from aftertune.stats import (
    agreement_table,
    all_at_k,
    any_at_k,
    cohen_kappa,
    flip_rate,
    gwet_ac1,
    half_normal_seed,
    negative_agreement,
    pairwise_disagreement,
    positive_agreement,
    recipe_arm_of,
    stability_index,
    summarize,
    two_way,
    unanimous,
)
from aftertune.stats.bayes_seed import seed_sd_posterior


def table_of(n_seeds, seed=0, seed_sd=0.06, n_items=80):
    generator = np.random.default_rng(seed)
    p = np.clip(
        0.35 + generator.normal(0, seed_sd, (n_seeds, 1)) + generator.normal(0, 0.2, (1, n_items)), 0, 1
    )
    return two_way((generator.random((n_seeds, n_items)) < p).astype(float))


@pytest.mark.parametrize("n_seeds", [2, 3, 4])
@pytest.mark.parametrize("prior_sd", [0.1, 0.2])
def test_the_seed_posterior_equals_adaptive_integration(n_seeds, prior_sd):
    squares, within = 0.004 * (n_seeds - 1), 0.002
    sigma, weights = seed_sd_posterior(squares, n_seeds, within, prior_sd)

    def density(s):
        v = s**2 + within
        return v ** (-(n_seeds - 1) / 2) * np.exp(-squares / (2 * v) - (s / prior_sd) ** 2 / 2)

    total = integrate.quad(density, 0, 2, points=[0.1], limit=200)[0]
    mean = integrate.quad(lambda s: s * density(s), 0, 2, points=[0.1], limit=200)[0] / total
    assert float((weights * sigma).sum()) == pytest.approx(mean, rel=1e-6)


def test_the_bayes_interval_holds_its_probability_by_simulation():
    table = table_of(3)
    result = half_normal_seed(table, prior_sd=0.1)
    p = result.estimate
    h = abs(p - result.ci_low) / np.sqrt(result.ci_low * (1 - result.ci_low)) * np.sqrt(p * (1 - p))
    generator = np.random.default_rng(0)
    squares = table.ms_seed * 2 / table.n_items
    within = table.ms_residual / table.n_items
    sigma = np.abs(generator.normal(0, 0.1, 200_000))
    v = sigma**2 + within
    weight = v**-1.0 * np.exp(-squares / (2 * v))
    mu = generator.normal(0, 1, 200_000) * np.sqrt(v / 3)
    assert float((weight * (np.abs(mu) <= h)).sum() / weight.sum()) == pytest.approx(0.95, abs=0.003)


@pytest.mark.parametrize("n_seeds", [2, 3, 4])
def test_a_wider_prior_gives_a_wider_interval(n_seeds):
    table = table_of(n_seeds, seed=4)
    narrow, wide = (half_normal_seed(table, prior_sd=sd) for sd in (0.1, 0.2))
    assert wide.ci_low <= narrow.ci_low < narrow.estimate < narrow.ci_high <= wide.ci_high


def test_bayes_without_events_is_wilsons_and_a_bad_prior_is_refused():
    table = two_way(np.zeros((2, 40)))
    assert (
        half_normal_seed(table, prior_sd=0.1).ci_high
        == recipe_arm_of(table, "benchmark").interval(0.95).ci_high
    )
    with pytest.raises(ValueError, match="positive"):
        half_normal_seed(table, prior_sd=0.0)


def events_of(seed, n_items=40, n_repeats=5):
    generator = np.random.default_rng(seed)
    return (generator.random((n_items, n_repeats)) < generator.beta(0.5, 0.5, (n_items, 1))).astype(int)


def test_consistency_equals_loops_over_pairs():
    events = events_of(0)
    whole = summarize(events)
    pairs = [np.mean([a != b for a, b in combinations(row, 2)]) for row in events]
    assert whole.pairwise_disagreement == pytest.approx(np.mean(pairs))
    assert whole.flip_rate == pytest.approx(np.mean([len(set(row)) > 1 for row in events]))
    assert whole.unanimous == pytest.approx(1 - whole.flip_rate)
    assert whole.stability_index == pytest.approx(
        np.mean([max(row.sum(), 5 - row.sum()) / 5 for row in events])
    )
    assert whole.any_event == pytest.approx(np.mean(events.any(axis=1)))
    assert whole.all_event == pytest.approx(np.mean(events.all(axis=1)))


@pytest.mark.parametrize("k", [2, 3, 4])
def test_rescaling_to_k_equals_all_subsets(k):
    events = events_of(1)
    harm = events.sum(axis=1)
    counts = np.stack([5 - harm, harm], axis=1)
    subsets = [events[:, list(c)] for c in combinations(range(5), k)]
    assert flip_rate(counts, k=k) == pytest.approx(
        np.mean([(s.min(axis=1) != s.max(axis=1)).mean() for s in subsets])
    )
    assert unanimous(counts, k=k) == pytest.approx(1 - flip_rate(counts, k=k))
    assert any_at_k(harm, 5, k) == pytest.approx(np.mean([s.any(axis=1).mean() for s in subsets]))
    assert all_at_k(harm, 5, k) == pytest.approx(np.mean([s.all(axis=1).mean() for s in subsets]))


def test_only_pairwise_disagreement_is_free_of_the_number_of_repeats():
    events = events_of(2, n_items=4000, n_repeats=10)
    few, many = summarize(events[:, :3]), summarize(events)
    assert few.pairwise_disagreement == pytest.approx(many.pairwise_disagreement, abs=0.01)
    assert many.flip_rate > few.flip_rate + 0.05
    counts = np.array([[3, 0], [2, 1]])
    assert pairwise_disagreement(counts) == pytest.approx(1 / 3)
    assert stability_index(counts) == pytest.approx((1 + 2 / 3) / 2)


def test_consistency_refuses_one_draw_and_graded_values():
    with pytest.raises(ValueError, match="at least 2 draws"):
        summarize([[1], [0]])
    with pytest.raises(ValueError, match="0 or 1"):
        summarize([[0.5, 1]])


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


def test_kappa_comes_near_krippendorffs_alpha_on_many_responses():
    generator = np.random.default_rng(0)
    a = (generator.random(4000) < 0.3).astype(int)
    b = np.where(generator.random(4000) < 0.85, a, 1 - a)
    alpha = krippendorff.alpha(reliability_data=np.stack([a, b]), level_of_measurement="nominal")
    assert cohen_kappa(agreement_table(a, b)) == pytest.approx(alpha, abs=0.02)


def test_no_responses_give_no_agreement_and_graded_ones_are_refused():
    empty = agreement_table([], [])
    assert (cohen_kappa(empty), gwet_ac1(empty), positive_agreement(empty)) == (None, None, None)
    with pytest.raises(ValueError, match="0/1"):
        agreement_table([0.5], [1])


def test_under_a_flat_prior_the_interval_is_students_with_two_degrees_fewer():
    # A flat prior on σ (not on log σ), no noise within seeds: (μ − ȳ)/√(SS/((S−2)S)) is t with S − 2 degrees.
    table = table_of(4, seed=7, seed_sd=0.15, n_items=4000)
    result = half_normal_seed(table, prior_sd=50.0)
    p = result.estimate
    h = abs(p - result.ci_low) / np.sqrt(result.ci_low * (1 - result.ci_low)) * np.sqrt(p * (1 - p))
    se = table.seed_means.std(ddof=1) / 2
    assert h / se == pytest.approx(stats.t.ppf(0.975, 2) * np.sqrt(3 / 2), rel=0.01)
