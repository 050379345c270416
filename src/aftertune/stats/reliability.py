"""How reliably a table tells its rows apart: intraclass correlations and generalizability coefficients."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from aftertune.stats.arms import Target
from aftertune.stats.crossed import Component, TwoWay
from aftertune.stats.rates import check_level

IccKind = Literal["ICC(2,1)", "ICC(3,1)", "ICC(2,k)", "ICC(3,k)"]


@dataclass(frozen=True, slots=True)
class MeanSquares:
    """Of a complete targets × raters table: what is to be told apart, and what tells it."""

    target: float
    rater: float
    residual: float
    n_targets: int
    n_raters: int

    def components(self) -> tuple[float, float, float]:
        """Variances of targets, raters and the residual; not truncated, so they may be negative."""
        return (
            (self.target - self.residual) / self.n_raters,
            (self.rater - self.residual) / self.n_targets,
            self.residual,
        )


@dataclass(frozen=True, slots=True)
class Intraclass:
    """An intraclass correlation.

    The estimate is negative where targets differ less than chance would have it; the limits lie in [0, 1],
    as the correlation itself does, and are None where the residual is 0.
    """

    kind: IccKind
    estimate: float
    ci_low: float | None
    ci_high: float | None
    level: float
    n_targets: int
    n_raters: int


@dataclass(frozen=True, slots=True)
class SeedVariances:
    """Variance components of one draw, seeds × items with repeats in the cells, none below 0.

    `repeat` is None where each cell has one draw: then `seed_item` holds both.
    """

    seed: float
    item: float
    seed_item: float
    repeat: float | None


@dataclass(frozen=True, slots=True)
class Generalizability:
    """How far a rate over `n_items` items and `n_repeats` repeats tells seeds (or models) apart.

    `relative` is Eρ², for their order; `dependability` is Φ, for the rate's own height.
    """

    relative: float
    dependability: float
    error_relative: float
    error_absolute: float
    n_items: int
    n_repeats: int
    target: Target


def mean_squares(y_tr: npt.ArrayLike) -> MeanSquares:
    """Of targets × raters values, complete and without replication.

    Raises:
        ValueError: for fewer than two targets or raters, or a value that is no number.
    """
    y = np.asarray(y_tr, dtype=float)
    if y.ndim != 2 or min(y.shape) < 2:
        raise ValueError(f"reliability needs at least 2 targets × 2 raters, got {y.shape}")
    if not bool(np.isfinite(y).all()):
        raise ValueError("reliability needs a complete table: a value is no number")
    n_t, n_r = y.shape
    rows, columns, mean = y.mean(axis=1), y.mean(axis=0), y.mean()
    residual = y - rows[:, None] - columns[None, :] + mean
    return MeanSquares(
        n_r * float(rows.var(ddof=1)), n_t * float(columns.var(ddof=1)),
        float((residual**2).sum()) / ((n_t - 1) * (n_r - 1)), n_t, n_r,
    )  # fmt: skip


def mean_squares_of(table: TwoWay, *, targets: Literal["seed", "item"]) -> MeanSquares:
    """From a seeds × items table: tell seeds apart by items, or items by seeds.

    Raises:
        ValueError: for a table of a single item, or one in which cells were filled.
    """
    if table.ms_item is None or table.ms_residual is None:
        raise ValueError("one item tells nothing apart: reliability needs at least 2")
    if table.n_filled:
        raise ValueError(f"reliability needs a complete table, got {table.n_filled} filled cells")
    if targets == "seed":
        return MeanSquares(table.ms_seed, table.ms_item, table.ms_residual, table.n_seeds, table.n_items)
    return MeanSquares(table.ms_item, table.ms_seed, table.ms_residual, table.n_items, table.n_seeds)


def intraclass(ms: MeanSquares, kind: IccKind, *, level: float = 0.95) -> Intraclass | None:
    """Shrout & Fleiss' (1979, Psychol. Bull. 86:420) coefficients with their F intervals.

    ICC(2,·): raters are a random sample and their heights count; ICC(3,·): these raters, and only the order
    counts. (·,1) is one rater's reliability, (·,k) that of the mean over all raters. The interval of
    ICC(2,·) approximates its degrees of freedom after Satterthwaite and is rough below some ten targets
    (McGraw & Wong 1996, Psychol. Methods 1:30). Departure: limits are cut off at 0. None where targets do
    not differ at all, or the estimated whole variance is not positive.

    Raises:
        ValueError: for another kind.
    """
    check_level(level)
    if kind not in ("ICC(2,1)", "ICC(3,1)", "ICC(2,k)", "ICC(3,k)"):
        raise ValueError(f"kind is one of ICC(2,1), ICC(3,1), ICC(2,k), ICC(3,k), got {kind!r}")
    k, single, agreement = ms.n_raters, kind.endswith("1)"), kind.startswith("ICC(2")
    heights = (ms.rater - ms.residual) / ms.n_targets if agreement else 0.0
    whole = ms.target + ((k - 1) * ms.residual + k * heights if single else heights)
    if ms.target <= 0 or whole <= 0:
        return None
    estimate, low, high = (ms.target - ms.residual) / whole, None, None
    if ms.residual > 0:
        limits = _agreement_limits(ms, level) if agreement else _limits(ms, level)
        low, high = (min(max(limit, 0.0), 1.0) for limit in limits)
    if not single and low is not None and high is not None:
        low, high = (k * limit / (1 + (k - 1) * limit) for limit in (low, high))
    return Intraclass(kind, estimate, low, high, level, ms.n_targets, k)


def _limits(ms: MeanSquares, level: float) -> tuple[float, float]:
    """Of ICC(3,1): F/F_tail − 1 over F/F_tail + k − 1."""
    k, df = ms.n_raters, (ms.n_targets - 1, (ms.n_targets - 1) * (ms.n_raters - 1))
    f, tail = ms.target / ms.residual, (1 - level) / 2
    low = f / float(special.fdtri(*df, 1 - tail))
    high = f / float(special.fdtri(*df, tail))
    return (low - 1) / (low + k - 1), (high - 1) / (high + k - 1)


def _agreement_limits(ms: MeanSquares, level: float) -> tuple[float, float]:
    """Of ICC(2,1): Satterthwaite's degrees of freedom for raters and residual; a negative ICC counts as 0."""
    n, k, tail = ms.n_targets, ms.n_raters, (1 - level) / 2
    spread = ms.target + (k - 1) * ms.residual + k * (ms.rater - ms.residual) / n
    icc = max((ms.target - ms.residual) / spread, 0.0)
    a, b = k * icc / (n * (1 - icc)), 1 + k * icc * (n - 1) / (n * (1 - icc))
    mix = a * ms.rater + b * ms.residual
    df = mix**2 / ((a * ms.rater) ** 2 / (k - 1) + (b * ms.residual) ** 2 / ((n - 1) * (k - 1)))
    upper, lower = float(special.fdtri(n - 1, df, 1 - tail)), float(special.fdtri(df, n - 1, 1 - tail))
    rest = k * ms.rater + (k * n - k - n) * ms.residual
    return (
        n * (ms.target - upper * ms.residual) / (upper * rest + n * ms.target),
        n * (lower * ms.target - ms.residual) / (rest + n * lower * ms.target),
    )


def seed_variances(found: Sequence[Component]) -> SeedVariances:
    """From `components` of a seeds × items table, truncated at 0 as they are.

    Raises:
        ValueError: where seed or item is missing, as for a single item.
    """
    by_facet = {component.facet: component.variance for component in found}
    if not {"seed", "item"} <= by_facet.keys():
        raise ValueError(f"generalizability needs the facets seed and item, got {sorted(by_facet)}")
    rest = by_facet["seed×item"] if "repeat" in by_facet else by_facet["residual"]
    return SeedVariances(by_facet["seed"], by_facet["item"], rest, by_facet.get("repeat"))


def generalizability(
    variances: SeedVariances, *, n_items: int, n_repeats: int = 1, target: Target = "population"
) -> Generalizability | None:
    """Eρ² and Φ of a seed's (or a model's) rate in a design with other numbers (Brennan 2001, chapter 4).

    Seeds are the objects of measurement, items are crossed with them, repeats nested in the cells.
    Population: items are a random facet, relative error σ²_si/P' + σ²_r/(P'R'), absolute error σ²_i/P'
    more. Benchmark: the items are fixed, so σ²_si/P' belongs to what is told apart (P' is then the P that
    the components come from), the item's height to none, and both errors are σ²_r/(P'R'). None where
    nothing varies.

    Raises:
        ValueError: for numbers below 1, a negative variance, or components without repeats where the design
            asks for other than one, or for the benchmark target.
    """
    if min(n_items, n_repeats) < 1:
        raise ValueError(f"a design has at least 1 item and 1 repeat, got {n_items} and {n_repeats}")
    repeat = variances.repeat
    if min(variances.seed, variances.item, variances.seed_item, repeat or 0.0) < 0:
        raise ValueError(f"variances are not negative: truncate them first, got {variances}")
    if repeat is None and (n_repeats > 1 or target == "benchmark"):
        raise ValueError(
            "one draw a cell cannot part repeats from the interaction: sample 2 repeats or more, or ask for"
            " 1 repeat and the population target"
        )
    interaction, noise = variances.seed_item / n_items, (repeat or 0.0) / (n_items * n_repeats)
    if target == "benchmark":
        told, relative, absolute = variances.seed + interaction, noise, noise
    else:
        told, relative = variances.seed, interaction + noise
        absolute = relative + variances.item / n_items
    if told + relative <= 0 or told + absolute <= 0:
        return None
    return Generalizability(
        told / (told + relative), told / (told + absolute), relative, absolute, n_items, n_repeats, target
    )
