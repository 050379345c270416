"""What one change does to the same seeds and items: the effect of a variation, and the noise of repeats."""

from collections.abc import Callable
from functools import partial
from math import sqrt

import numpy as np

from aftertune.stats.arms import SeedPart, checkpoint_arm
from aftertune.stats.compare import (
    MARGIN_LEVEL,
    Contrast,
    has_paired_table,
    inverted_p,
    paired_table,
    two_checkpoints,
)
from aftertune.stats.crossed import fill_additive, filled_means, two_way
from aftertune.stats.draws import Draws
from aftertune.stats.rates import z_quantile


def paired_effect(a: Draws, b: Draws, *, level: float = 0.95, certain: bool = False) -> Contrast:
    """The difference a − b on the same seeds and items, for these items and another training seed.

    From S ≥ 2 seeds: D = cell means of a − those of b; the mean of D ± √`SeedPart.square`, with MSs and MSe
    of D's two-way layout (docs/methods.md, Variations). What a seed does to both sides alike, as where they
    are the same checkpoints, cancels in D; where each side was trained anew nothing need cancel. From one
    checkpoint a side: McNemar and Newcombe's paired interval for one 0/1 draw an item each, else both sides'
    own draws.

    Args:
        a: S×P×R draws under the change.
        b: S×P×R' draws without it.
        level: of ci_low and ci_high; the margin's interval is at 90% always.
        certain: nothing was drawn on either side, so that one checkpoint's difference is a fact.

    Raises:
        ValueError: for other shapes, or a seed or an item without a cell that has a value on both sides.
    """
    if a.values.shape[:2] != b.values.shape[:2]:
        raise ValueError(
            f"both sides need the same seeds and items, got {a.values.shape} and {b.values.shape}"
        )
    if a.n_seeds > 1:
        return _over_seeds(a, b, level)
    if has_paired_table(a, b) and not certain:
        return two_checkpoints(paired_table(a, b), target="benchmark", level=level)
    one, two = (checkpoint_arm(draws, "benchmark", certain=certain) for draws in (a, b))
    before, after = paired_rates(a, b)
    estimate, se = after - before, sqrt(one.variance() + two.variance())
    method = "no sampling: greedy under exact numerics" if certain else "own draws of both, normal limits"
    return _contrast(estimate, partial(_normal, se), se, level, method, tested=not certain)


def paired_rates(a: Draws, b: Draws) -> tuple[float, float]:
    """The rates without and with a change, on the same seeds and items: (of b, of a); in [0, 1] both.

    That of b is `point_estimate`. That of a is the mean of b's filled cells + D, where D is a − b on the
    draws that both have, filled like any table: where values agree, missing ones alone make no difference.
    """
    one, two = _on_common_draws(a, b)
    observed = (one.counts_sp > 0) & (two.counts_sp > 0)
    before, change = filled_means(b), one.means_sp - two.means_sp
    if a.n_seeds == 1:
        before, change = b.means_sp[observed][None], change[observed][None]
    elif not observed.all():
        change = 2 * fill_additive((change + 1) / 2, observed) - 1
    return float(before.mean()), float(np.clip(before + change, 0.0, 1.0).mean())


def repeat_noise(a: Draws, b: Draws, *, level: float = 0.95, certain: tuple[bool, bool]) -> float:
    """|difference| of the two means that draws alone stay below with probability `level`.

    Var = Σ s²_sp/R_sp/(SP)² of either side; a cell of one draw counts p̄(1−p̄) of its item over the seeds (of
    the whole side for one seed), which is at most too large. 0 where nothing was drawn.

    Args:
        a: S×P×R draws.
        b: S×P×R' draws.
        level: of the bound.
        certain: of either side, whether nothing was drawn.
    """
    variance = sum(
        0.0 if sure else _draw_variance(draws) for draws, sure in zip((a, b), certain, strict=True)
    )
    return z_quantile(level) * sqrt(variance)


def _over_seeds(a: Draws, b: Draws, level: float) -> Contrast:
    before, after = paired_rates(a, b)
    a, b = _on_common_draws(a, b)
    observed = (a.counts_sp > 0) & (b.counts_sp > 0)
    # Halved and moved into [0, 1], where empty cells are filled; squares of D are four times those.
    table = two_way((a.means_sp - b.means_sp + 1) / 2, observed)
    n_cells = table.n_seeds * table.n_items
    floor = max(4 * (table.ms_residual or 0.0), 1 / n_cells) / n_cells
    seed = SeedPart(4 * table.ms_seed / n_cells, floor, table.df_seed)
    return _contrast(
        after - before,
        lambda at: sqrt(seed.square(at)),
        sqrt(seed.known),
        level,
        "paired by seed and item, two-way",
        tested=True,
    )


def _on_common_draws(a: Draws, b: Draws) -> tuple[Draws, Draws]:
    """Both without the draws that the other lacks; a cell in which they have none in common stays whole."""
    if a.present.shape != b.present.shape:
        return a, b
    common = a.present & b.present
    kept = np.where(common.any(axis=2, keepdims=True), common, True)
    one, two = (Draws(np.where(kept, x.values, 0.0), x.present & kept) for x in (a, b))
    return one, two


def _contrast(
    estimate: float,
    half_width: Callable[[float], float],
    se: float,
    level: float,
    method: str,
    *,
    tested: bool,
) -> Contrast:
    def limits(at: float) -> tuple[float, float]:
        return max(estimate - half_width(at), -1.0), min(estimate + half_width(at), 1.0)

    p_value = inverted_p(limits, estimate) if tested else None
    low, high = limits(level)
    margin_low, margin_high = limits(MARGIN_LEVEL)
    return Contrast(
        "benchmark", estimate, low, high, se, p_value, level, margin_low, margin_high, MARGIN_LEVEL, method
    )


def _normal(se: float, level: float) -> float:
    return z_quantile(level) * se


def _draw_variance(draws: Draws) -> float:
    counts = draws.counts_sp
    n_cells = int((counts > 0).sum())
    there = counts > 0
    pooled = filled_means(draws).mean(axis=0 if draws.n_seeds > 1 else None)
    once = np.broadcast_to(pooled * (1 - pooled), counts.shape)
    own = np.where(counts > 1, draws.within_sp, once) / np.maximum(counts, 1)
    return float(own[there].sum()) / n_cells**2
