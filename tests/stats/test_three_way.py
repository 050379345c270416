"""Seeds × items × judges: Brennan's published example, loops, known components, laws."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftertune.stats import three_way

# Brennan 2001, Generalizability Theory, table 3.1 (synthetic data set 3): persons × occasions of four items.
BRENNAN = np.array(
    [
        [[2, 6, 7, 5], [2, 5, 5, 5]], [[4, 5, 6, 7], [6, 7, 5, 7]], [[5, 5, 4, 6], [5, 4, 5, 5]],
        [[5, 9, 8, 6], [5, 7, 7, 6]], [[4, 3, 5, 6], [4, 5, 6, 4]], [[4, 4, 4, 7], [6, 4, 7, 8]],
        [[2, 6, 6, 5], [2, 7, 7, 5]], [[3, 4, 4, 5], [6, 6, 6, 4]], [[0, 5, 4, 5], [5, 5, 5, 3]],
        [[6, 8, 7, 6], [6, 8, 8, 6]],
    ]
).transpose(0, 2, 1)  # fmt: skip
PUBLISHED = {  # degrees of freedom, mean square, variance component
    ("seed",): (9, 6.9111, 0.5528), ("item",): (3, 12.4833, 0.4417), ("judge",): (1, 3.2000, 0.0074),
    ("seed", "item"): (27, 2.0852, 0.5750), ("seed", "judge"): (9, 1.3389, 0.1009),
    ("item", "judge"): (3, 2.5000, 0.1565), ("seed", "item", "judge"): (27, 0.9352, 0.9352),
}  # fmt: skip
shapes = st.tuples(st.integers(2, 4), st.integers(2, 6), st.integers(2, 4), st.integers(0, 10_000))


def drawn(shape):
    *sizes, seed = shape
    return np.random.default_rng(seed).random(sizes)


def test_brennans_published_table():
    table = three_way(BRENNAN)
    assert (table.n_seeds, table.n_items, table.n_judges) == (10, 4, 2)
    for facets, (df, mean_square, variance) in PUBLISHED.items():
        effect = table.effect(*facets)
        assert effect.df == df
        assert effect.mean_square == pytest.approx(mean_square, abs=6e-5)
        assert effect.untruncated == effect.variance == pytest.approx(variance, abs=6e-5)
        assert effect.share == pytest.approx(variance / 2.7695, abs=1e-4)


@given(shapes)
def test_sums_of_squares_by_loops(shape):
    y = drawn(shape)
    s, p, j = y.shape
    table, sums = three_way(y), dict.fromkeys(PUBLISHED, 0.0)
    for a, b, c in product(range(s), range(p), range(j)):
        seed, item, judge = y[a].mean() - y.mean(), y[:, b].mean() - y.mean(), y[:, :, c].mean() - y.mean()
        seed_item = y[a, b].mean() - y.mean() - seed - item
        seed_judge = y[a, :, c].mean() - y.mean() - seed - judge
        item_judge = y[:, b, c].mean() - y.mean() - item - judge
        rest = y[a, b, c] - y.mean() - seed - item - judge - seed_item - seed_judge - item_judge
        for facets, effect in zip(
            sums, (seed, item, judge, seed_item, seed_judge, item_judge, rest), strict=True
        ):
            sums[facets] += effect**2
    for facets, total in sums.items():
        effect = table.effect(*facets)
        assert effect.mean_square * effect.df == pytest.approx(total, abs=1e-9)
    assert sum(e.mean_square * e.df for e in table.effects) == pytest.approx(((y - y.mean()) ** 2).sum())
    assert sum(e.df for e in table.effects) == y.size - 1


@given(shapes)
def test_the_components_solve_the_expected_mean_squares(shape):
    """E MS = Σ over effects that hold the facets of σ² × the numbers of the other facets (Scheffé 1959)."""
    table = three_way(drawn(shape))
    sizes = {"seed": table.n_seeds, "item": table.n_items, "judge": table.n_judges}
    for effect in table.effects:
        expected = 0.0
        for other in table.effects:
            if set(effect.facets) <= set(other.facets):
                expected += other.untruncated * np.prod([sizes[f] for f in sizes if f not in other.facets])
        assert expected == pytest.approx(effect.mean_square)


def test_known_components_are_found_again():
    """Averages over drawn tables come to the components that made them: the estimates are unbiased."""
    truth = {facets: 0.2 * (i + 1) for i, facets in enumerate(PUBLISHED)}
    generator, shape, n = np.random.default_rng(1), (8, 12, 6), 1000
    found = dict.fromkeys(PUBLISHED, 0.0)
    for _ in range(n):
        y = np.zeros(shape)
        for facets, variance in truth.items():
            size = [m if f in facets else 1 for f, m in zip(("seed", "item", "judge"), shape, strict=True)]
            y = y + generator.normal(0, variance**0.5, size)
        for effect in three_way(y).effects:
            found[effect.facets] += effect.untruncated / n
    assert found == pytest.approx(truth, abs=0.06)


@given(shapes, st.permutations([0, 1, 2]))
def test_facets_trade_names_when_the_axes_do(shape, order):
    y = drawn(shape)
    names = ("seed", "item", "judge")
    table, other = three_way(y), three_way(y.transpose(order))
    for effect in table.effects:
        renamed = [names[list(order).index(names.index(f))] for f in effect.facets]
        assert other.effect(*renamed).untruncated == pytest.approx(effect.untruncated, abs=1e-12)


@given(shapes, st.floats(0.1, 10), st.floats(-3, 3), st.integers(0, 99))
def test_order_shift_and_scale(shape, scale, shift, seed):
    y, generator = drawn(shape), np.random.default_rng(seed)
    order = np.ix_(*(generator.permutation(n) for n in y.shape))
    table, other = three_way(y), three_way(scale * y[order] + shift)
    for one, two in zip(table.effects, other.effects, strict=True):
        assert two.untruncated == pytest.approx(scale**2 * one.untruncated, abs=1e-9)
        assert two.share == pytest.approx(one.share, abs=1e-6)
        assert 0 <= one.share <= 1 and one.variance == max(one.untruncated, 0.0)
    assert sum(e.share for e in table.effects) == pytest.approx(1)


def test_the_variance_of_a_mean_by_hand():
    table = three_way(BRENNAN)
    v = {facets: published[2] for facets, published in PUBLISHED.items()}
    by_hand = v["seed",] / 5 + v["item",] / 8 + v["judge",] / 2 + v["seed", "item"] / 40
    by_hand += v["seed", "judge"] / 10 + v["item", "judge"] / 16 + v["seed", "item", "judge"] / 80
    assert table.variance_of_mean(n_seeds=5, n_items=8, n_judges=2) == pytest.approx(by_hand, abs=1e-4)
    with pytest.raises(ValueError, match="'judge': 0"):
        table.variance_of_mean(n_seeds=5, n_items=8, n_judges=0)


def test_a_negative_estimate_is_kept_beside_the_truncated_one():
    y = np.indices((2, 2, 2))[:2].sum(axis=0) % 2.0  # nothing but seed×item
    table = three_way(y)
    assert table.effect("seed").untruncated < 0 == table.effect("seed").variance
    assert table.effect("item", "seed").share == 1
    assert [e.name for e in table.effects][3:] == ["seed×item", "seed×judge", "item×judge", "seed×item×judge"]


def test_a_constant_table_has_no_shares():
    table = three_way(np.full((3, 4, 2), 0.25))
    assert table.mean == 0.25
    assert all(e.variance == 0 and e.share is None for e in table.effects)


@pytest.mark.parametrize("shape", set(permutations((1, 3, 2))) | {(3, 4), (0, 2, 2)})
def test_a_facet_of_one_is_refused(shape):
    with pytest.raises(ValueError, match=r"at least 2 seeds × 2 items × 2 judges, got \("):
        three_way(np.zeros(shape))


def test_holes_and_unknown_facets_are_refused():
    y = np.zeros((2, 2, 2))
    with pytest.raises(KeyError, match="seed, item and judge"):
        three_way(y).effect("repeat")
    y[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="complete table"):
        three_way(y)
