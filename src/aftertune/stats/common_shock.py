"""Whether repeats shift all items of a task together: a decoding seed that all items share."""

from collections.abc import Iterable
from dataclasses import dataclass

from scipy import special

from aftertune.stats.draws import FloatArray

# With fewer items that ever differ between draws the χ² below is too coarse for a small p value.
LEAST_ITEMS = 5


@dataclass(frozen=True, slots=True)
class CommonShock:
    """Cochran's Q summed over checkpoints, its degrees of freedom and its p value."""

    statistic: float
    df: int
    p_value: float
    n_checkpoints: int


def common_shock(runs_pr: Iterable[FloatArray]) -> CommonShock | None:
    """Test that the R draws of each checkpoint differ by chance alone, item by item.

    For one checkpoint's P×R draws, e the draws minus their item's mean and s²_i an item's sample variance:
    Q = Σ_r (Σ_i e_ir)²/Σ_i s²_i. If every response had a stream of its own, an item's draws could be
    exchanged between the repeats; then E(Q) = R − 1 exactly, and Q tends to χ²(R−1). For 0/1 draws it is
    Cochran's Q (Biometrika 1950), and it holds for rates near 0 or 1 too, since items that never differ drop
    out. The F test of repeats in the two-way items × repeats table has the same numerator. Checkpoints are
    independent: their Q add up.

    Args:
        runs_pr: for each checkpoint, complete draws, items × repeats. One with fewer than two repeats, or
            fewer than 5 items whose draws differ, is left out.

    Returns:
        None where no checkpoint is left.
    """
    total, df, n = 0.0, 0, 0
    for draws in runs_pr:
        if draws.shape[1] < 2:
            continue
        apart = draws - draws.mean(axis=1, keepdims=True)
        squares = (apart**2).sum(axis=1)
        if int((squares > 1e-12).sum()) < LEAST_ITEMS:
            continue
        repeats = draws.shape[1]
        total += float((apart.sum(axis=0) ** 2).sum() / squares.sum()) * (repeats - 1)
        df, n = df + repeats - 1, n + 1
    return CommonShock(total, df, float(special.chdtrc(df, total)), n) if n else None
