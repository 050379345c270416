"""P values of several contrasts."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from aftertune.stats.draws import FloatArray


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's (1979) step-down adjusted p values, in the order given; they control the family-wise error.

    Raises:
        ValueError: for a p outside [0, 1].
    """
    p = _checked(p_values)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return _in_place(stepped, order)


def benjamini_hochberg(p_values: Sequence[float]) -> tuple[float, ...]:
    """Benjamini & Hochberg's (1995) step-up adjusted p values, in the order given.

    The adjusted value of the k-th smallest of n is the least of p_(j)·n/j over j ≥ k. Those at most q make a
    set whose expected share of false rejections is at most q, if the p values are independent or positively
    dependent (Benjamini & Yekutieli 2001).

    Raises:
        ValueError: for a p outside [0, 1].
    """
    p = _checked(p_values)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    return _in_place(np.minimum.accumulate(scaled[::-1])[::-1], order)


def _checked(p_values: Sequence[float]) -> FloatArray:
    p = np.asarray(p_values, dtype=float)
    if not bool(np.all((p >= 0) & (p <= 1))):
        raise ValueError(f"p values lie in [0, 1], got {p_values}")
    return p


def _in_place(stepped: FloatArray, order: npt.NDArray[np.intp]) -> tuple[float, ...]:
    """Values of the sorted p, cut at 1, back in the order that was given."""
    adjusted = np.empty(len(stepped))
    adjusted[order] = np.minimum(stepped, 1.0)
    return tuple(float(x) for x in adjusted)
