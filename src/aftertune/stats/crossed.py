"""The crossed two-way model: seeds × items without replication (METHODS section 2)."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy import special, stats

from aftertune.stats.draws import BoolArray, Draws, FloatArray


@dataclass(frozen=True, eq=False)
class TwoWay:
    """Mean squares of an S×P table of cell means; `n_filled` cells were empty and hold an additive value.

    `ms_item` and `ms_residual` are None for a single item, where they do not exist.
    """

    mean: float
    seed_means: FloatArray
    item_means: FloatArray
    ms_seed: float
    ms_item: float | None
    ms_residual: float | None
    df_seed: int
    df_item: int
    df_residual: int
    n_filled: int

    @property
    def n_seeds(self) -> int:
        """S."""
        return len(self.seed_means)

    @property
    def n_items(self) -> int:
        """P."""
        return len(self.item_means)

    @property
    def f(self) -> float | None:
        """F of the hypothesis that seeds do not differ; None where the residual is 0 or does not exist."""
        return self.ms_seed / self.ms_residual if self.ms_residual else None

    @property
    def p_value(self) -> float | None:
        """P value of `f`, exact under normal residuals and close for a hundred items or more."""
        return None if self.f is None else float(special.fdtrc(self.df_seed, self.df_residual, self.f))


@dataclass(frozen=True, slots=True)
class Component:
    """A variance component; `variance` is truncated at 0, `share` is of the sum of the truncated ones."""

    facet: str
    variance: float
    share: float
    ci_low: float | None
    ci_high: float | None
    f: float | None
    p_value: float | None
    level: float


def fill_additive(y_sp: FloatArray, observed_sp: BoolArray) -> FloatArray:
    """Fill the empty cells of S×P means with the additive (seed + item) least-squares value, kept in [0, 1].

    Healy & Westmacott's iteration (1956): fill, fit the full table, fill again; it converges to the fit of
    the observed cells alone. Departure: values outside [0, 1] are cut off, since they stand for
    proportions.

    Raises:
        ValueError: if a seed or an item has no observed cell at all.
    """
    if not (observed_sp.any(axis=0).all() and observed_sp.any(axis=1).all()):
        raise ValueError("a seed or an item has no value at all: drop it first")
    filled = np.where(observed_sp, y_sp, y_sp[observed_sp].mean())
    if observed_sp.all():
        return filled
    for _ in range(500):
        fit = filled.mean(axis=1, keepdims=True) + filled.mean(axis=0, keepdims=True) - filled.mean()
        step = np.where(observed_sp, y_sp, fit)
        if np.abs(step - filled).max() < 1e-10:
            break
        filled = step
    return np.where(observed_sp, y_sp, np.clip(filled, 0.0, 1.0))


def are_linked(observed_sp: BoolArray) -> bool:
    """Whether each seed shares items with the others, directly or over further seeds.

    Where it does not, the additive value of an empty cell of S×P is not determined: nothing says how the
    seeds compare.
    """
    reached = observed_sp[0]
    while True:
        seeds = (observed_sp & reached).any(axis=1)
        wider = observed_sp[seeds].any(axis=0)
        if (wider == reached).all():
            return bool(seeds.all())
        reached = wider


def filled_means(draws: Draws) -> FloatArray:
    """Cell means, S×P, with a value in every cell: the one way in which a missing cell is filled.

    Over S ≥ 2 seeds an empty cell holds what `fill_additive` gives. One checkpoint has no other seed to say
    what its items give, so nothing is filled: its items without a value are left out.

    Raises:
        ValueError: there is no value at all, or of several seeds one (or an item) has none.
    """
    observed = draws.counts_sp > 0
    if not observed.any():
        raise ValueError("there is no value at all")
    if draws.n_seeds == 1:
        return draws.means_sp[:, observed[0]]
    return fill_additive(draws.means_sp, observed)


def point_estimate(draws: Draws) -> float:
    """The estimate of a rate: the mean of `filled_means`, so the mean of the seeds' rates.

    Raises:
        ValueError: see `filled_means`.
    """
    return float(filled_means(draws).mean())


def two_way(y_sp: FloatArray, observed_sp: BoolArray | None = None) -> TwoWay:
    """Mean squares of S×P cell means (Scheffé 1959, section 4.2); a filled cell costs a residual degree.

    Raises:
        ValueError: for fewer than two seeds: one checkpoint says nothing about the next.
    """
    n_seeds, n_items = y_sp.shape
    if n_seeds < 2 or n_items < 1:
        raise ValueError(f"two_way needs at least 2 seeds and 1 item, got {n_seeds} × {n_items}")
    observed = np.ones(y_sp.shape, dtype=bool) if observed_sp is None else observed_sp
    y = fill_additive(y_sp, observed)
    n_filled = int((~observed).sum())
    mean, seed_means, item_means = float(y.mean()), y.mean(axis=1), y.mean(axis=0)
    ms_seed = n_items * float(((seed_means - mean) ** 2).sum()) / (n_seeds - 1)
    df_residual = max((n_seeds - 1) * (n_items - 1) - n_filled, 1)
    ms_item = ms_residual = None
    if n_items > 1:
        ms_item = n_seeds * float(((item_means - mean) ** 2).sum()) / (n_items - 1)
        residual = y - seed_means[:, None] - item_means[None, :] + mean
        ms_residual = float((residual**2).sum()) / df_residual
    return TwoWay(
        mean,
        seed_means,
        item_means,
        ms_seed,
        ms_item,
        ms_residual,
        n_seeds - 1,
        n_items - 1,
        df_residual,
        n_filled,
    )


def components(table: TwoWay, draws: Draws | None = None, *, level: float = 0.95) -> tuple[Component, ...]:
    """Variance components of one observation, with modified large-sample intervals.

    σ²_seed = (MSs − MSe)/P and σ²_item = (MSp − MSe)/S. Where `draws` has cells of two or more repeats, the
    residual is parted into repeat (mean within-cell variance) and seed×item = MSe − σ²_repeat·mean(1/R).
    Intervals: Ting et al. (1990) for differences of mean squares, as in Burdick & Graybill (1992, section
    3.3); χ² for a single mean square. They assume normal effects. Departure: 0/1 draws are not normal; the
    repeat component's interval is therefore only a guide.
    """
    if table.ms_item is None or table.ms_residual is None:
        return ()
    seed = _difference(
        (table.ms_seed, table.df_seed), (table.ms_residual, table.df_residual), table.n_items, level
    )
    item = _difference(
        (table.ms_item, table.df_item), (table.ms_residual, table.df_residual), table.n_seeds, level
    )
    found = {"seed": seed, "item": item}
    twice = draws.counts_sp > 1 if draws is not None else np.zeros(1, dtype=bool)
    if draws is not None and twice.any():
        repeat, df = float(draws.within_sp[twice].mean()), int((draws.counts_sp[twice] - 1).sum())
        share = float((1 / np.maximum(draws.counts_sp, 1)).mean())
        residual = (table.ms_residual, table.df_residual)
        found["seed×item"] = _difference(residual, (repeat * share, df), 1, level)
        found["repeat"] = (repeat, *_single(repeat, df, level))
    else:
        found["residual"] = (table.ms_residual, *_single(table.ms_residual, table.df_residual, level))
    total = sum(max(variance, 0.0) for variance, _, _ in found.values())
    return tuple(
        Component(
            facet, max(variance, 0.0), max(variance, 0.0) / total if total > 0 else 0.0, low, high,
            table.f if facet == "seed" else None, table.p_value if facet == "seed" else None, level,
        )
        for facet, (variance, low, high) in found.items()
    )  # fmt: skip


def _single(ms: float, df: int, level: float) -> tuple[float | None, float | None]:
    if ms <= 0:
        return None, None
    tail = (1 - level) / 2
    return ms * df / float(stats.chi2.isf(tail, df)), ms * df / float(stats.chi2.ppf(tail, df))


def _difference(
    first: tuple[float, int], second: tuple[float, int], divisor: int, level: float
) -> tuple[float, float | None, float | None]:
    """(MS1 − MS2)/divisor with its interval, limits truncated at 0; no limits where both are 0."""
    (m1, n1), (m2, n2) = first, second
    estimate = (m1 - m2) / divisor
    if m1 <= 0 and m2 <= 0:
        return estimate, None, None
    a = (1 - level) / 2
    g1, h1 = 1 - n1 / float(stats.chi2.isf(a, n1)), n1 / float(stats.chi2.ppf(a, n1)) - 1
    g2, h2 = 1 - n2 / float(stats.chi2.isf(a, n2)), n2 / float(stats.chi2.ppf(a, n2)) - 1
    upper, lower = float(stats.f.isf(a, n1, n2)), float(stats.f.ppf(a, n1, n2))
    g12 = ((upper - 1) ** 2 - (g1 * upper) ** 2 - h2**2) / upper
    h12 = ((1 - lower) ** 2 - (h1 * lower) ** 2 - g2**2) / lower
    v_low = (g1 * m1) ** 2 + (h2 * m2) ** 2 + g12 * m1 * m2
    v_high = (h1 * m1) ** 2 + (g2 * m2) ** 2 + h12 * m1 * m2
    low = estimate - sqrt(max(v_low, 0.0)) / divisor
    high = estimate + sqrt(max(v_high, 0.0)) / divisor
    return estimate, max(low, 0.0), max(high, 0.0)
