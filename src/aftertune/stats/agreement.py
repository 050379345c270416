"""Two judges of the same responses; `agreement_many` takes any number of them."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from aftertune.stats.rates import check_level, t_quantile, z_quantile


@dataclass(frozen=True, slots=True)
class AgreementTable:
    """Counts of responses by the two judges' events."""

    n_both: int
    n_only_a: int
    n_only_b: int
    n_neither: int

    @property
    def n(self) -> int:
        """Responses that both judged."""
        return self.n_both + self.n_only_a + self.n_only_b + self.n_neither

    @property
    def counts_ab(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Labels of judge a × labels of judge b, no event first."""
        return (self.n_neither, self.n_only_b), (self.n_only_a, self.n_both)


@dataclass(frozen=True, slots=True)
class Coefficient:
    """A coefficient of agreement, 1 where all agree and 0 where chance would do as well.

    `se` and the limits are None where the closed form says nothing: a single item, or a linearised variance
    of 0 (full agreement, for instance), which would claim certainty.
    """

    estimate: float
    se: float | None
    ci_low: float | None
    ci_high: float | None
    level: float
    n_items: int
    method: str

    @classmethod
    def of(
        cls, estimate: float, variance: float, *, df: int | None, level: float, n_items: int, method: str
    ) -> "Coefficient":
        """With limits estimate ± quantile·√variance, cut off at −1 and 1; normal where `df` is None."""
        check_level(level)
        if variance <= 1e-15 or (df is not None and df < 1):
            return cls(estimate, None, None, None, level, n_items, method)
        se = sqrt(variance)
        reach = se * (z_quantile(level) if df is None else t_quantile(level, df))
        low, high = max(estimate - reach, -1.0), min(estimate + reach, 1.0)
        return cls(estimate, se, low, high, level, n_items, method)


def agreement_table(a: npt.ArrayLike, b: npt.ArrayLike) -> AgreementTable:
    """Count two equally long lists of 0/1 judgments.

    Raises:
        ValueError: for unequal lengths or values other than 0 and 1.
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"agreement needs two lists of one length, got {x.shape} and {y.shape}")
    if not bool(np.all(((x == 0) | (x == 1)) & ((y == 0) | (y == 1)))):
        raise ValueError("agreement counts 0/1 judgments")
    both, only_a, only_b = int((x * y).sum()), int((x * (1 - y)).sum()), int(((1 - x) * y).sum())
    return AgreementTable(both, only_a, only_b, len(x) - both - only_a - only_b)


def positive_agreement(t: AgreementTable) -> float | None:
    """2a/(2a+b+c) (Cicchetti & Feinstein 1990); None where no judge saw an event."""
    whole = 2 * t.n_both + t.n_only_a + t.n_only_b
    return 2 * t.n_both / whole if whole else None


def negative_agreement(t: AgreementTable) -> float | None:
    """2d/(2d+b+c); None where both judges saw an event everywhere."""
    whole = 2 * t.n_neither + t.n_only_a + t.n_only_b
    return 2 * t.n_neither / whole if whole else None


def cohen_kappa(t: AgreementTable) -> float | None:
    """Cohen's (1960) κ; None where chance alone explains full agreement (both judges constant and equal)."""
    if t.n == 0:
        return None
    observed = (t.n_both + t.n_neither) / t.n
    a, b = (t.n_both + t.n_only_a) / t.n, (t.n_both + t.n_only_b) / t.n
    chance = a * b + (1 - a) * (1 - b)
    return None if chance >= 1 else (observed - chance) / (1 - chance)


def gwet_ac1(t: AgreementTable) -> float | None:
    """Gwet's (2008) AC1 for two judges and two labels: chance agreement 2π(1−π), π the mean event rate."""
    if t.n == 0:
        return None
    observed = (t.n_both + t.n_neither) / t.n
    event = (2 * t.n_both + t.n_only_a + t.n_only_b) / (2 * t.n)
    chance = 2 * event * (1 - event)
    return (observed - chance) / (1 - chance)


def cohen_kappa_interval(counts_ab: npt.ArrayLike, *, level: float = 0.95) -> Coefficient | None:
    """Cohen's κ with the standard error of Fleiss, Cohen & Everitt (1969, Psychol. Bull. 72:323).

    `counts_ab` is labels of one judge × labels of the other, any number of labels (`AgreementTable` has it
    as `counts_ab`). The interval is normal and takes responses as independent; it is rough below some 50
    of them. None where κ is (no response, or one label throughout).

    Raises:
        ValueError: for a table that is not square, has one label only, or holds what is no count.
    """
    counts = np.asarray(counts_ab, dtype=float)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.shape[0] < 2:
        raise ValueError(f"κ needs a square table of at least 2 labels, got {counts.shape}")
    if not bool(np.all((counts >= 0) & (counts == np.floor(counts)) & np.isfinite(counts))):
        raise ValueError(f"κ needs counts, whole and not negative, got {counts.tolist()}")
    n = float(counts.sum())
    if n == 0:
        return None
    p, a, b = counts / n, counts.sum(axis=1) / n, counts.sum(axis=0) / n
    chance, observed = float(a @ b), float(np.trace(p))
    if chance >= 1:
        return None
    kappa = (observed - chance) / (1 - chance)
    margins_sq = (b[:, None] + a[None, :]) ** 2
    off = float((p * margins_sq).sum() - (np.diag(p) * np.diag(margins_sq)).sum())
    on = float((np.diag(p) * (1 - (a + b) * (1 - kappa)) ** 2).sum())
    inner = on + (1 - kappa) ** 2 * off - (kappa - chance * (1 - kappa)) ** 2
    variance = inner / (n * (1 - chance) ** 2)
    return Coefficient.of(
        kappa, variance, df=None, level=level, n_items=int(n), method="Cohen, Fleiss–Cohen–Everitt"
    )
