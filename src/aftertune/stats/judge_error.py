"""A rate corrected for its judge's errors: with human labels from elsewhere, or on a random part of it."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from aftertune.stats.draws import FloatArray
from aftertune.stats.rates import check_level, wilson, z_quantile


@dataclass(frozen=True, slots=True)
class JudgeError:
    """How a judge did on human labels: specificity q0 of `n_negative`, sensitivity q1 of `n_positive`."""

    specificity: float
    sensitivity: float
    n_negative: int
    n_positive: int

    def __post_init__(self) -> None:
        """Refuse what is no pair of shares with their counts."""
        if not (0 <= self.specificity <= 1 and 0 <= self.sensitivity <= 1):
            raise ValueError(f"q0 and q1 lie in [0, 1], got {self.specificity} and {self.sensitivity}")
        if min(self.n_negative, self.n_positive) < 1:
            raise ValueError(
                "both specificity and sensitivity need human labels, got"
                f" {self.n_negative} without and {self.n_positive} with the event: label more"
            )


@dataclass(frozen=True, slots=True)
class CorrectedRate:
    """A rate freed of its judge's errors.

    `estimate` lies in [0, 1]; `unclipped` is what the formula gave, and `clipped` says that they differ.
    `weak_judge`: q0 + q1 − 1 is within two standard errors of 0, where the interval is not to be trusted.
    """

    estimate: float
    unclipped: float
    ci_low: float
    ci_high: float
    level: float
    n_effective: float
    clipped: bool
    weak_judge: bool
    method: str


@dataclass(frozen=True, slots=True)
class PredictionPowered:
    """A rate from labels and judgments; `lam` is the weight of the judgments, 0 for the labels alone."""

    estimate: float
    unclipped: float
    se: float
    ci_low: float
    ci_high: float
    level: float
    lam: float
    n_labelled: int
    n_unlabelled: int
    method: str


def rogan_gladen(
    p: float,
    error: JudgeError,
    *,
    n: float | None = None,
    variance: float | None = None,
    level: float = 0.95,
) -> CorrectedRate:
    """θ = (p + q0 − 1)/(q0 + q1 − 1) (Rogan & Gladen 1978) with the interval of Lee et al. 2025.

    arXiv 2511.21140, its adjusted interval: p, q0 and q1 are moved towards ½ as in Agresti & Coull
    (p̃ = (np + z²/2)/(n + z²), q̃ = (mq + 1)/(m + 2)), θ̃ is moved by
    2z²(θ̃·q̃1(1−q̃1)/m̃1 − (1−θ̃)·q̃0(1−q̃0)/m̃0), and the half-width is z times
    √(p̃(1−p̃)/ñ + (1−θ̃)²q̃0(1−q̃0)/m̃0 + θ̃²q̃1(1−q̃1)/m̃1)/(q̃0 + q̃1 − 1).

    Departures: a centre outside [0, 1] is moved to its nearer end, since limits that are only cut off there
    would leave no width; limits hold the estimate. Responses of a recipe are no independent trials: give
    their sampling `variance` V in place of `n`, and n = p(1−p)/V, the effective sample size. Where V's own
    degrees of freedom matter, give (half-width/z)², which carries Student's quantile into that term.

    Args:
        p: the share that the judge called an event.
        error: the judge's errors on human labels.
        n: the number of independent responses behind p; or
        variance: the sampling variance of p, one of both.
        level: the confidence level.

    Raises:
        ValueError: for a judge no better than chance (q0 + q1 ≤ 1, as given or moved towards ½), both or
            none of n and V, p outside [0, 1], or V with p of 0 or 1: there n is the number of items.
    """
    check_level(level)
    n_effective, youden = _sample_size(p, n, variance), error.specificity + error.sensitivity - 1
    if youden <= 0:
        raise ValueError(
            f"the judge is no better than chance: q0 + q1 = {youden + 1:.4g} ≤ 1. No correction is possible:"
            " use another judge"
        )
    raw = (p + error.specificity - 1) / youden
    estimate = min(max(raw, 0.0), 1.0)
    centre, reach, weak = _lee(p, error, n_effective, z_quantile(level))
    centre = min(max(centre, 0.0), 1.0)
    low, high = min(max(centre - reach, 0.0), estimate), max(min(centre + reach, 1.0), estimate)
    method = "Rogan–Gladen, Lee et al. interval"
    return CorrectedRate(estimate, raw, low, high, level, n_effective, estimate != raw, weak, method)


def ppi_mean(
    labels: npt.ArrayLike,
    judged: npt.ArrayLike,
    judged_unlabelled: npt.ArrayLike,
    *,
    level: float = 0.95,
) -> PredictionPowered:
    """Mean label by PPI++ (Angelopoulos, Duchi & Zrnic 2023, arXiv 2311.01453, section 6 for λ).

    `labels` Y and `judged` f stand for n responses drawn at random from all n + N, `judged_unlabelled` for
    the other N; all lie in [0, 1]. θ = mean Y + λ(mean f of the N − mean f of the n), with variance
    Var(Y − λf)/n + λ²Var f/N and normal quantiles. λ* = Cov(Y, f)/[(1 + n/N)·Var f] makes it no larger than
    that of the labels alone, up to the estimation of λ; the judge may be wrong in any way. Random: which
    responses were labelled; responses count as independent (repeats and seeds of one item are not).

    Departures: sample variances divide by one less than the number; λ is kept in [0, 1], as their software
    does; Var f is over all n + N in both places, so that no chance can make it 0 where λ is not; estimate
    and limits are kept in [0, 1]. Labels that are all 0, or all 1, have a variance of 0: Wilson's interval
    of the labels stands in, with λ = 0. With few labelled events it covers less than its level: .93 for 95%
    at 100 labels and 500 without, a rate of .1 and a judge wrong once in five (3,000 simulations).

    Raises:
        ValueError: for fewer than two labels, no unlabelled judgment, unequal lengths, a value outside
            [0, 1], or labels that are all one graded value.
    """
    y, f, g = (np.asarray(values, dtype=float) for values in (labels, judged, judged_unlabelled))
    _check_powered(y, f, g)
    check_level(level)
    n, big = len(y), len(g)
    if y.min() == y.max():
        return _labels_alone(y, big, level)
    spread = float(np.concatenate([f, g]).var(ddof=1))
    covariance = float(np.cov(y, f)[0, 1])
    lam = min(max(covariance / ((1 + n / big) * spread), 0.0), 1.0) if spread > 0 else 0.0
    raw = float(y.mean() + lam * (g.mean() - f.mean()))
    se = sqrt(float((y - lam * f).var(ddof=1)) / n + lam**2 * spread / big)
    estimate, reach = min(max(raw, 0.0), 1.0), z_quantile(level) * se
    low, high = min(max(raw - reach, 0.0), estimate), max(min(raw + reach, 1.0), estimate)
    return PredictionPowered(estimate, raw, se, low, high, level, lam, n, big, "PPI++")


def _lee(p: float, error: JudgeError, n: float, z: float) -> tuple[float, float, bool]:
    """Centre and half-width of Lee et al.'s interval, and whether the judge is near chance."""
    n_plus, m0, m1 = n + z**2, error.n_negative + 2, error.n_positive + 2
    pm = (n * p + z**2 / 2) / n_plus
    q0, q1 = (error.specificity * (m0 - 2) + 1) / m0, (error.sensitivity * (m1 - 2) + 1) / m1
    youden, v0, v1 = q0 + q1 - 1, q0 * (1 - q0) / m0, q1 * (1 - q1) / m1
    if youden <= 0:
        raise ValueError(
            f"too few labels to tell the judge from chance ({error.n_negative} and {error.n_positive}):"
            " label more responses"
        )
    theta = (pm + q0 - 1) / youden
    centre = theta + 2 * z**2 * (theta * v1 - (1 - theta) * v0)
    spread = pm * (1 - pm) / n_plus + (1 - theta) ** 2 * v0 + theta**2 * v1
    return centre, z * sqrt(spread) / youden, youden < 2 * sqrt(v0 + v1)


def _sample_size(p: float, n: float | None, variance: float | None) -> float:
    if not 0 <= p <= 1:
        raise ValueError(f"p lies in [0, 1], got {p}")
    if (n is None) == (variance is None):
        raise ValueError(f"give n or variance, one of both, got n={n} and variance={variance}")
    if n is not None:
        if not n > 0:
            raise ValueError(f"n must be positive, got {n}")
        return float(n)
    if variance is None or not variance > 0 or not 0 < p < 1:
        raise ValueError(
            f"a variance gives an effective n for 0 < p < 1 and V > 0, got p={p}, V={variance}:"
            " give n, the number of items"
        )
    return p * (1 - p) / variance


def _labels_alone(y: FloatArray, n_unlabelled: int, level: float) -> PredictionPowered:
    if y[0] not in (0.0, 1.0):
        raise ValueError(f"all labels are {y[0]}: there is no spread to base an interval on")
    interval = wilson(float(y.sum()), len(y), level=level)
    se = (interval.ci_high - interval.ci_low) / (2 * z_quantile(level))
    return PredictionPowered(
        interval.estimate, interval.estimate, se, interval.ci_low, interval.ci_high, level, 0.0, len(y),
        n_unlabelled, "Wilson on the labels alone: all are equal",
    )  # fmt: skip


def _check_powered(y: FloatArray, f: FloatArray, g: FloatArray) -> None:
    if y.ndim != 1 or y.shape != f.shape or g.ndim != 1:
        raise ValueError(f"labels and judged are one list each, of one length, got {y.shape} and {f.shape}")
    if len(y) < 2 or len(g) < 1:
        raise ValueError(f"needs 2 labels and 1 unlabelled judgment at least, got {len(y)} and {len(g)}")
    for name, values in (("labels", y), ("judged", f), ("judged_unlabelled", g)):
        if not bool(np.all((values >= 0) & (values <= 1))):
            raise ValueError(f"{name}: a value lies outside [0, 1] or is not a number")
