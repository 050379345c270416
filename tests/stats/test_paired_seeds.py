"""The effect of a change on the same seeds and items: its coverage, its limits, and the noise of repeats."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from aftertune.seeds import stream
from aftertune.stats import Draws, FloatArray, paired_effect, paired_table, repeat_noise
from aftertune.stats.compare import two_checkpoints

P = 40


def draws(rng: np.random.Generator, p_sp: FloatArray, n_repeats: int) -> Draws:
    return Draws.of((rng.random((*p_sp.shape, n_repeats)) < p_sp[:, :, None]).astype(float))


def covered(n_seeds: int, n_repeats: int, *, shared: bool) -> float:
    """Coverage where a change adds .8 to the logits; `shared`: the same checkpoints, else trained anew."""
    rng = stream(11, "paired seeds", n_seeds, n_repeats, int(shared))
    n, hits = 400, 0
    item = rng.normal(-0.5, 1.5, P)
    for _ in range(n):
        mine, theirs = rng.normal(0, 0.4, (2, n_seeds, 1))
        if shared:
            theirs = mine
        a, b = (1 / (1 + np.exp(-(item + x))) for x in (mine + 0.8, theirs))
        c = paired_effect(draws(rng, a, n_repeats), draws(rng, b, n_repeats))
        hits += c.ci_low <= truth(item) <= c.ci_high
    return hits / n


def truth(item: FloatArray) -> float:
    """The mean difference over all seeds, by quadrature."""
    x, w = np.polynomial.hermite_e.hermegauss(40)
    seed = 0.4 * x[:, None]
    p = [1 / (1 + np.exp(-(item + seed + shift))) for shift in (0.8, 0.0)]
    return float((w[:, None] * (p[0] - p[1])).sum() / w.sum() / len(item))


@pytest.mark.slow
@pytest.mark.parametrize("n_seeds", [3, 5, 8])
@pytest.mark.parametrize("shared", [True, False])
def test_it_covers_what_another_seed_would_give(n_seeds: int, *, shared: bool):
    # 400 replications: .95 ± .022 (two standard errors); at 3 seeds it is wide where seeds hardly differ.
    assert 0.92 <= covered(n_seeds, 1, shared=shared) <= 1.0
    assert 0.92 <= covered(n_seeds, 3, shared=shared) <= 0.995


def test_it_is_students_t_where_the_seeds_differ_much():
    rng = stream(3, "t")
    shift = np.array([0.0, 0.1, 0.5, 0.9, 1.0])[:, None]
    a = Draws.of((rng.random((5, 200)) < shift).astype(float))
    b = Draws.of(np.zeros((5, 200)))
    c = paired_effect(a, b)
    means = a.means_sp.mean(axis=1)
    half = scipy_stats.t.ppf(0.975, 4) * means.std(ddof=1) / np.sqrt(5)
    assert c.estimate == pytest.approx(means.mean())
    assert c.estimate - c.ci_low == pytest.approx(half, rel=0.01)  # the upper limit ends at 1


def test_what_both_sides_share_cancels():
    rng = stream(4, "shared")
    p = rng.random((6, 60))
    values = (rng.random((6, 60, 4)) < p[:, :, None]).astype(float)
    same = paired_effect(Draws.of(values), Draws.of(values))
    assert same.estimate == 0 and same.p_value == 1.0
    assert 0 < same.ci_high == -same.ci_low < 0.01  # seeds that agree do not prove that the next one will


def test_a_single_draw_of_two_checkpoints_is_mcnemars_table():
    rng = stream(5, "one")
    a, b = (Draws.of((rng.random((1, 50)) < p).astype(float)) for p in (0.6, 0.3))
    expected = two_checkpoints(paired_table(a, b), target="benchmark")
    assert paired_effect(a, b) == expected
    sure = paired_effect(a, b, certain=True)
    assert sure.p_value is None and sure.ci_low == sure.estimate == sure.ci_high


def test_missing_cells_cost_width_and_shift_nothing():
    rng = stream(6, "holes")
    p = np.clip(rng.random((5, 80)), 0.1, 0.9)
    a, b = draws(rng, p, 2), draws(rng, p, 2)
    holes = rng.random((5, 80)) < 0.05
    torn = Draws(np.where(holes[:, :, None], 0.0, a.values), a.present & ~holes[:, :, None])
    assert paired_effect(torn, b).estimate == pytest.approx(paired_effect(a, b).estimate, abs=0.02)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="same seeds and items"):
        paired_effect(Draws.of(np.zeros((2, 3))), Draws.of(np.zeros((2, 4))))


def test_repeats_of_one_checkpoint_stay_within_their_noise():
    rng = stream(7, "noise")
    p = rng.random((4, 60))
    pairs = [(draws(rng, p, 3), draws(rng, p, 3)) for _ in range(400)]
    apart = [abs(a.means_sp.mean() - b.means_sp.mean()) for a, b in pairs]
    noise = [repeat_noise(a, b, certain=(False, False)) for a, b in pairs]
    assert 0.92 <= np.mean(np.array(apart) <= np.array(noise)) <= 0.98
    assert repeat_noise(*pairs[0], certain=(True, True)) == 0
    half = repeat_noise(*pairs[0], certain=(True, False))
    assert half == pytest.approx(noise[0] / np.sqrt(2), rel=0.1)


def test_one_draw_an_item_bounds_the_noise():
    rng = stream(8, "bound")
    p = rng.random((4, 60))
    exact = 1.96 * np.sqrt(2 * (p * (1 - p)).sum()) / p.size
    once = [repeat_noise(draws(rng, p, 1), draws(rng, p, 1), certain=(False, False)) for _ in range(200)]
    assert exact < np.mean(once) < 2 * exact
