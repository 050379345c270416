"""P values of several contrasts, adjusted together; a contrast without one (None) takes no part."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from aftertune.stats.draws import FloatArray


def holm(p_values: Sequence[float | None]) -> tuple[float | None, ...]:
    """Holm's (1979) step-down adjusted p values, in the order given; they control the family-wise error.

    Raises:
        ValueError: for a p outside [0, 1].
    """
    p = _tested(p_values)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return _in_place(stepped, order, p_values)


def benjamini_hochberg(p_values: Sequence[float | None]) -> tuple[float | None, ...]:
    """Benjamini & Hochberg's (1995) step-up adjusted p values, in the order given.

    The adjusted value of the k-th smallest of n is the least of p_(j)·n/j over j ≥ k. Those at most q make a
    set whose expected share of false rejections is at most q, if the p values are independent or positively
    dependent (Benjamini & Yekutieli 2001).

    Raises:
        ValueError: for a p outside [0, 1].
    """
    p = _tested(p_values)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    return _in_place(np.minimum.accumulate(scaled[::-1])[::-1], order, p_values)


def _tested(p_values: Sequence[float | None]) -> FloatArray:
    p = np.asarray([p for p in p_values if p is not None], dtype=float)
    if not bool(np.all((p >= 0) & (p <= 1))):
        raise ValueError(f"p values lie in [0, 1], got {p_values}")
    return p


def _in_place(
    stepped: FloatArray, order: npt.NDArray[np.intp], p_values: Sequence[float | None]
) -> tuple[float | None, ...]:
    """Values of the sorted p, cut at 1, in the places of the p values that were given."""
    adjusted = np.empty(len(stepped))
    adjusted[order] = np.minimum(stepped, 1.0)
    values = iter(adjusted)
    return tuple(None if p is None else float(next(values)) for p in p_values)
