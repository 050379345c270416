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
from aftertune.stats.crossed import two_way
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
        ValueError: for other shapes, or a seed or an item without any value on both sides.
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
    estimate, se = one.estimate - two.estimate, sqrt(one.variance() + two.variance())
    method = "no sampling: greedy under exact numerics" if certain else "own draws of both, normal limits"
    return _contrast(estimate, partial(_normal, se), se, level, method, tested=not certain)


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
    observed = (a.counts_sp > 0) & (b.counts_sp > 0)
    # Halved and moved into [0, 1], where empty cells are filled; squares of D are four times those.
    table = two_way((a.means_sp - b.means_sp + 1) / 2, observed)
    n_cells = table.n_seeds * table.n_items
    floor = max(4 * (table.ms_residual or 0.0), 1 / n_cells) / n_cells
    seed = SeedPart(4 * table.ms_seed / n_cells, floor, table.df_seed)
    return _contrast(
        2 * table.mean - 1,
        lambda at: sqrt(seed.square(at)),
        sqrt(seed.known),
        level,
        "paired by seed and item, two-way",
        tested=True,
    )


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
    counts, means = draws.counts_sp, draws.means_sp
    n_cells = int((counts > 0).sum())
    there = counts > 0
    pooled = means.mean(axis=0) if draws.n_seeds > 1 else np.full(draws.n_items, means[there].mean())
    once = np.broadcast_to(pooled * (1 - pooled), counts.shape)
    own = np.where(counts > 1, draws.within_sp, once) / np.maximum(counts, 1)
    return float(own[there].sum()) / n_cells**2
