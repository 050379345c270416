"""Looking at a rate while its items come in: a confidence sequence that holds at every look at once."""

from dataclasses import dataclass
from math import log

import numpy as np
import numpy.typing as npt

from aftertune.stats.draws import FloatArray
from aftertune.stats.rates import RateInterval, check_level


@dataclass(frozen=True, eq=False)
class ConfidenceSequence:
    """Limits after 1, 2, … T values; with probability `level` all of them hold the mean at once.

    `means` are the running means. `empty_from` is the number of values after which no mean is left, None
    as it should be: then the values did not come in random order, or the event of probability 1 − level
    happened. The limits stay as they were before it.
    """

    low: FloatArray
    high: FloatArray
    means: FloatArray
    level: float
    n_total: int | None
    empty_from: int | None

    @property
    def last(self) -> RateInterval:
        """The interval after all values; it may be read at any look, and looking again costs nothing."""
        n = len(self.means)
        return RateInterval(
            float(self.means[-1]), float(self.low[-1]), float(self.high[-1]), self.level, float(n),
            "betting confidence sequence",
        )  # fmt: skip


def betting_interval(
    values: npt.ArrayLike, *, level: float = 0.95, n_total: int | None = None, n_grid: int = 1000
) -> ConfidenceSequence:
    """Hedged-capital confidence sequence of a mean (Waudby-Smith & Ramdas 2024, JRSS B 86:1).

    arXiv 2010.09686, theorem 3; section 5 with `n_total`. For each mean m of a grid two gamblers start with
    ½ and bet on values above and below m: K⁺ = ½Π(1 + min(λ_t, ½/m)(x_t − m)) and
    K⁻ = ½Π(1 − min(λ_t, ½/(1−m))(x_t − m)); m is out for good once either has 1/α. The bets
    λ_t = √(2 log(2/α)/(σ̂²_{t−1}·t·log(t+1))) use earlier values only: μ̂_t = (½ + Σx)/(t+1) and
    σ̂²_t = (¼ + Σ(x_i − μ̂_i)²)/(t+1). Both capitals are monotone in m, so the limits are the outermost means
    that are out: never narrower than the exact set.

    `values` are of one checkpoint, one for each item, in an order drawn at random before any was seen.
    Without `n_total` they count as independent draws from a population of items; with it, as drawn without
    replacement from that many items, and the mean is that of the benchmark's values (then m is replaced by
    the mean of what is left, (n_total·m − Σx)/(n_total − t + 1), and all values leave no width). It says
    nothing about another training seed.

    Raises:
        ValueError: for no value, one outside [0, 1], more values than `n_total`, or a grid below 10.
    """
    x = np.asarray(values, dtype=float)
    _check(x, level, n_total, n_grid)
    grid = np.linspace(0.0, 1.0, n_grid + 1)
    bets, enough = _bets(x, 1 - level), log(2 / (1 - level))
    up, down, low, high, seen = np.zeros(n_grid + 1), np.zeros(n_grid + 1), 0.0, 1.0, 0.0
    lows, highs, empty_from = np.empty(len(x)), np.empty(len(x)), None
    for t, value in enumerate(x):
        m = grid if n_total is None else (n_total * grid - seen) / (n_total - t)
        up, down = _after_bet(up, down, m, value=float(value), bet=float(bets[t]))
        seen += float(value)
        if empty_from is None:
            # Grid points that are out are themselves the limits: the exact ones lie further in.
            below, above = grid[up >= enough], grid[down >= enough]
            new_low = max(low, float(below.max(initial=0.0)))
            new_high = min(high, float(above.min(initial=1.0)))
            if n_total is not None:
                # What is left can add 0 to t values' sum at the least, and 1 each at the most.
                new_low = max(new_low, seen / n_total)
                new_high = min(new_high, (seen + n_total - t - 1) / n_total)
            if new_low > new_high + 1e-12:
                empty_from = t + 1
            else:
                low, high = new_low, max(new_high, new_low)
        lows[t], highs[t] = low, high
    means = np.cumsum(x) / np.arange(1, len(x) + 1)
    return ConfidenceSequence(lows, highs, means, level, n_total, empty_from)


def _bets(x: FloatArray, alpha: float) -> FloatArray:
    """λ_1 … λ_T; each from the values before it."""
    t = np.arange(1, len(x) + 1)
    centre = (0.5 + np.cumsum(x)) / (t + 1)
    spread = (0.25 + np.cumsum((x - centre) ** 2)) / (t + 1)
    before = np.concatenate([[0.25], spread[:-1]])
    return np.sqrt(2 * log(2 / alpha) / (before * t * np.log(t + 1)))


def _after_bet(
    up: FloatArray, down: FloatArray, m: FloatArray, *, value: float, bet: float
) -> tuple[FloatArray, FloatArray]:
    """Log capitals of both gamblers after one more value; a mean of the rest outside [0, 1] ends the game."""
    inside = np.clip(m, 0.0, 1.0)
    # A bet of ½/m at most: half the capital is the most that can be lost at once.
    above = np.minimum(bet, 0.5 / np.maximum(inside, 1e-300))
    under = np.minimum(bet, 0.5 / np.maximum(1 - inside, 1e-300))
    up = np.where(m < -1e-12, np.inf, up + np.log1p(above * (value - inside)))
    down = np.where(m > 1 + 1e-12, np.inf, down + np.log1p(-under * (value - inside)))
    return up, down


def _check(x: FloatArray, level: float, n_total: int | None, n_grid: int) -> None:
    check_level(level)
    if x.ndim != 1 or len(x) == 0:
        raise ValueError(f"a sequence is a list of at least one value, got shape {x.shape}")
    if not bool(np.all((x >= 0) & (x <= 1))):
        raise ValueError("a value lies outside [0, 1] or is not a number")
    if n_total is not None and n_total < len(x):
        raise ValueError(f"{len(x)} values cannot be drawn from n_total = {n_total} items")
    if n_grid < 10:
        raise ValueError(f"the grid of means needs 10 steps or more, got {n_grid}")
