"""Consistency of repeats: loops over pairs and subsets, the worked pass@k, laws, refusals."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from aftertune.stats import (
    all_at_k,
    any_at_k,
    entropy,
    fleiss_kappa,
    flip_rate,
    pairwise_disagreement,
    stability_index,
    summarize,
    unanimous,
)


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
    assert whole.entropy == pytest.approx(
        np.mean([stats.entropy([5 - row.sum(), row.sum()], base=2) for row in events])
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


def test_items_with_different_numbers_of_draws_are_rescaled_one_by_one():
    counts = np.array([[4, 1], [2, 1], [0, 6], [1, 1]])
    for k in (2,):
        each = [flip_rate(row[None, :], k=k) for row in counts]
        assert flip_rate(counts, k=k) == pytest.approx(np.mean(each))
    harm, n = counts[:, 1], counts.sum(axis=1)
    for at_k in (any_at_k, all_at_k):
        each = [at_k(harm[i : i + 1], int(n[i]), 2) for i in range(4)]
        assert at_k(harm, n, 2) == pytest.approx(np.mean(each))
    by_draws = [np.repeat([0, 1], row) for row in counts]
    pairs = [[set(pair) for pair in combinations(row, 2)] for row in by_draws]
    assert any_at_k(harm, n, 2) == pytest.approx(np.mean([np.mean([1 in p for p in item]) for item in pairs]))
    assert all_at_k(harm, n, 2) == pytest.approx(
        np.mean([np.mean([p == {1} for p in item]) for item in pairs])
    )


def test_at_two_draws_the_flip_rate_is_the_pairwise_disagreement():
    counts = np.array([[4, 1, 0], [2, 1, 3], [0, 6, 0], [1, 1, 0]])
    assert flip_rate(counts, k=2) == pytest.approx(pairwise_disagreement(counts))


def test_any_at_k_is_pass_at_k_as_published():
    # Chen et al. 2021 (arXiv 2107.03374), figure 3: the numerically stable product 1 − Π(1 − k/(n−c+1…n)).
    n, k = 200, 10
    for c in (0, 1, 7, 195, 200):
        expected = 1.0 if n - c < k else 1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1))
        assert any_at_k(np.array([c]), n, k) == pytest.approx(expected)


def test_repeats_that_are_noise_agree_as_chance_does():
    events = (np.random.default_rng(4).random((5000, 5)) < 0.3).astype(int)
    whole = summarize(events)
    assert whole.fleiss_kappa == pytest.approx(0.0, abs=0.02)
    assert whole.pairwise_disagreement == pytest.approx(2 * 0.3 * 0.7, abs=0.01)
    assert summarize(np.zeros((6, 3))).fleiss_kappa is None
    assert summarize([[1, 1], [0, 0]]).fleiss_kappa == pytest.approx(1.0)


tables = st.tuples(st.integers(1, 15), st.integers(2, 4), st.integers(0, 10_000)).map(
    lambda t: np.random.default_rng(t[2]).multinomial(5, np.ones(t[1]) / t[1], size=t[0])
)


@given(tables, st.integers(0, 99), st.integers(2, 3))
def test_order_and_copies_of_items_change_nothing_and_all_lie_in_their_bounds(counts, seed, times):
    generator = np.random.default_rng(seed)
    rows, columns = (generator.permutation(n) for n in counts.shape)
    other = np.repeat(counts[np.ix_(rows, columns)], times, axis=0)
    n_labels = counts.shape[1]
    for measure, least, most in (
        (pairwise_disagreement, 0, 1), (flip_rate, 0, 1), (unanimous, 0, 1),
        (lambda c: flip_rate(c, k=3), 0, 1), (stability_index, 1 / n_labels, 1),
        (entropy, 0, np.log2(n_labels)),
    ):  # fmt: skip
        value = measure(counts)
        assert measure(other) == pytest.approx(value)
        assert least - 1e-12 <= value <= most + 1e-12


@given(tables)
def test_more_draws_find_more(counts):
    rates = [flip_rate(counts, k=k) for k in (2, 3, 4, 5)]
    harm = counts[:, 0]
    found, held = ([at_k(harm, 5, k) for k in range(1, 6)] for at_k in (any_at_k, all_at_k))
    assert all(a <= b + 1e-12 for a, b in pairwise(rates))
    assert all(a <= b + 1e-12 for a, b in pairwise(found))
    assert all(a >= b - 1e-12 for a, b in pairwise(held))
    assert found[0] == pytest.approx(held[0]) and found[0] == pytest.approx((harm / 5).mean())
    kappa = fleiss_kappa(counts)
    if kappa is not None:
        p = counts.sum(axis=0) / counts.sum()
        assert kappa.estimate == pytest.approx(1 - pairwise_disagreement(counts) / (1 - (p**2).sum()))


def test_consistency_refuses_one_draw_and_graded_values():
    with pytest.raises(ValueError, match="at least 2 draws"):
        summarize([[1], [0]])
    with pytest.raises(ValueError, match="0 or 1"):
        summarize([[0.5, 1]])


@pytest.mark.parametrize("measure", [flip_rate, unanimous])
def test_a_k_beyond_an_items_draws_is_refused_with_its_value(measure):
    with pytest.raises(ValueError, match=r"\(3 at the fewest\), got 4"):
        measure(np.array([[3, 2], [2, 1]]), k=4)
    with pytest.raises(ValueError, match=r"between 2 and .* got 1"):
        measure(np.array([[3, 2], [2, 1]]), k=1)
    with pytest.raises(ValueError, match=r"at least 2 draw\(s\), got one with 1"):
        measure(np.array([[3, 2], [0, 1]]))


@pytest.mark.parametrize("at_k", [any_at_k, all_at_k])
def test_events_at_k_refuse_impossible_counts(at_k):
    with pytest.raises(ValueError, match=r"\(3 at the fewest\), got 4"):
        at_k(np.array([1, 2]), np.array([3, 5]), 4)
    with pytest.raises(ValueError, match="between 1 and"):
        at_k(np.array([1, 2]), 3, 0)
    with pytest.raises(ValueError, match="0 ≤ c ≤ n"):
        at_k(np.array([1, 4]), 3, 2)
    with pytest.raises(ValueError, match="at least one item"):
        at_k(np.array([], dtype=int), 3, 2)


@pytest.mark.parametrize("measure", [stability_index, entropy])
def test_an_item_without_draws_is_refused(measure):
    with pytest.raises(ValueError, match=r"at least 1 draw\(s\), got one with 0"):
        measure(np.array([[1, 1], [0, 0]]))
    with pytest.raises(ValueError, match=r"at least one item, got \(0, 2\)"):
        measure(np.zeros((0, 2), dtype=int))


def test_no_pair_gives_no_disagreement():
    with pytest.raises(ValueError, match="at least two draws"):
        pairwise_disagreement(np.array([[1, 0], [0, 1]]))
