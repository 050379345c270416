"""Seeds × items × judges, fully crossed, one judgment a cell: where the variance of a judgment comes from."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from aftertune.stats.draws import FloatArray

FACETS: tuple[str, str, str] = ("seed", "item", "judge")


@dataclass(frozen=True, slots=True)
class Effect:
    """A facet or an interaction of facets.

    `untruncated` is the unbiased estimate, which may be negative; `variance` is cut off at 0 and `share` is
    of the sum of those, None where all are 0. The last interaction holds the residual too.
    """

    facets: tuple[str, ...]
    df: int
    mean_square: float
    untruncated: float
    variance: float
    share: float | None

    @property
    def name(self) -> str:
        """The facets joined, such as seed×item."""
        return "×".join(self.facets)


@dataclass(frozen=True, slots=True)
class ThreeWay:
    """The analysis of variance; seven effects, in the order s, p, j, sp, sj, pj, spj."""

    mean: float
    n_seeds: int
    n_items: int
    n_judges: int
    effects: tuple[Effect, ...]

    def effect(self, *facets: str) -> Effect:
        """One effect by its facets, in any order.

        Raises:
            KeyError: for facets that are not of the design.
        """
        for found in self.effects:
            if set(found.facets) == set(facets):
                return found
        raise KeyError(f"no effect of {facets}: facets are seed, item and judge")

    def variance_of_mean(self, *, n_seeds: int, n_items: int, n_judges: int) -> float:
        """Variance of the mean over another random draw of so many seeds, items and judges.

        Σ σ²/(product of the numbers of the effect's facets), from the truncated components.

        Raises:
            ValueError: for a number below 1.
        """
        sizes = dict(zip(FACETS, (n_seeds, n_items, n_judges), strict=True))
        if min(sizes.values()) < 1:
            raise ValueError(f"a design has at least 1 seed, item and judge, got {sizes}")
        return float(sum(e.variance / np.prod([sizes[f] for f in e.facets]) for e in self.effects))


def three_way(y_spj: npt.ArrayLike) -> ThreeWay:
    """Random-effects analysis of variance of S×P×J values (seeds, items, judges), without replication.

    Scheffé (1959, section 7.4); components after Brennan (2001, section 3.4): with MS(α) the mean square of
    an effect α, σ²(α) = Σ over effects β ⊇ α of (−1)^(|β|−|α|)·MS(β), over the product of the numbers of
    the facets that are not in α. All three facets count as random samples. The three-way interaction and
    the residual cannot be told apart; they are one.

    Raises:
        ValueError: for fewer than two seeds, items or judges, or a value that is no number (average repeats
            and leave out incomplete items first).
    """
    y = np.asarray(y_spj, dtype=float)
    if y.ndim != 3 or min(y.shape) < 2:
        raise ValueError(f"three_way needs at least 2 seeds × 2 items × 2 judges, got {y.shape}")
    if not bool(np.isfinite(y).all()):
        raise ValueError("three_way needs a complete table: a value is no number")
    subsets = [axes for size in (1, 2, 3) for axes in combinations(range(3), size)]
    df = {axes: int(np.prod([y.shape[axis] - 1 for axis in axes])) for axes in subsets}
    ms = {axes: _sum_of_squares(y, axes) / df[axes] for axes in subsets}
    raw = {axes: _component(ms, y.shape, axes) for axes in subsets}
    total = sum(max(value, 0.0) for value in raw.values())
    effects = tuple(
        Effect(
            tuple(FACETS[axis] for axis in axes), df[axes], ms[axes], raw[axes], max(raw[axes], 0.0),
            max(raw[axes], 0.0) / total if total > 0 else None,
        )
        for axes in subsets
    )  # fmt: skip
    n_seeds, n_items, n_judges = y.shape
    return ThreeWay(float(y.mean()), n_seeds, n_items, n_judges, effects)


def _sum_of_squares(y: FloatArray, axes: tuple[int, ...]) -> float:
    """Of an effect: marginal means, alternately subtracted, squared and summed over all cells."""
    effect = np.zeros_like(y)
    for size in range(len(axes) + 1):
        for kept in combinations(axes, size):
            over = tuple(axis for axis in range(3) if axis not in kept)
            effect = effect + (-1) ** (len(axes) - size) * y.mean(axis=over, keepdims=True)
    return float((effect**2).sum())


def _component(ms: dict[tuple[int, ...], float], shape: tuple[int, ...], axes: tuple[int, ...]) -> float:
    above = [other for other in ms if set(axes) <= set(other)]
    signed = sum((-1) ** (len(other) - len(axes)) * ms[other] for other in above)
    return signed / float(np.prod([shape[axis] for axis in range(3) if axis not in axes]))
