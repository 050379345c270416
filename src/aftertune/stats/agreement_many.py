"""Any number of judges of the same responses, or of draws of the same items, with holes."""

from typing import Literal

import krippendorff
import numpy as np
import numpy.typing as npt

from aftertune.stats.agreement import Coefficient
from aftertune.stats.draws import FloatArray


def krippendorff_alpha(
    values_jr: npt.ArrayLike,
    present_jr: npt.ArrayLike | None = None,
    *,
    measurement: Literal["nominal", "interval"] = "nominal",
) -> float | None:
    """Krippendorff's (2004) α of judges × responses; `present_jr` is False at a hole.

    Nominal counts two values as equal or not; interval weighs a disagreement by its square, for graded
    judgments. A response with one judgment says nothing and is left out. None where α is undefined: no
    response with two judgments, or one value throughout.

    Raises:
        ValueError: for another shape, a value that is present and no number, or another measurement.
    """
    values = np.asarray(values_jr, dtype=float)
    present = np.ones(values.shape, dtype=bool) if present_jr is None else np.asarray(present_jr, dtype=bool)
    if values.ndim != 2 or present.shape != values.shape:
        raise ValueError(f"α needs judges × responses, got {values.shape} and a mask of {present.shape}")
    if not bool(np.isfinite(values[present]).all()):
        raise ValueError("α: a value is present and no number; mark holes in `present_jr`")
    if measurement not in ("nominal", "interval"):
        raise ValueError(f"α is computed for nominal or interval judgments, got {measurement!r}")
    kept = present & (present.sum(axis=0) > 1)
    if len(np.unique(values[kept])) < 2:
        return None
    # The library marks a hole by NaN; it never leaves this function.
    return float(krippendorff.alpha(np.where(kept, values, np.nan), level_of_measurement=measurement))


def fleiss_kappa(counts_pc: npt.ArrayLike, *, level: float = 0.95) -> Coefficient | None:
    """Fleiss' (1971) κ of items × labels counts: how many judgments of an item got each label.

    Items may have different numbers of judgments: agreement is averaged over items with two or more, label
    shares over items with one or more (Gwet 2014); with equal numbers this is Fleiss' own. Variance by
    linearisation (Gwet 2021, Educ. Psychol. Meas. 81:781), Student's t with one degree fewer than items:
    items are the sample, judges are taken as they are. None where one label stands throughout, or no item
    has two judgments.

    Raises:
        ValueError: for what is no table of counts.
    """
    counts = _checked(counts_pc)
    shares = _shares(counts)
    if shares is None:
        return None
    label = shares.mean(axis=0)
    chance = float((label**2).sum())
    return None if chance >= 1 - 1e-12 else _corrected(counts, shares @ label, chance, level, "Fleiss")


def gwet_ac1_many(counts_pc: npt.ArrayLike, *, level: float = 0.95) -> Coefficient | None:
    """Gwet's (2008, Br. J. Math. Stat. Psychol. 61:29) AC1 of items × labels counts.

    Chance agreement Σπ(1−π)/(q−1), q the number of labels that a judge could give, used or not: the
    columns. Unequal numbers of judgments and the variance as in `fleiss_kappa`. For two judges and two
    labels it is `gwet_ac1`. None where no item has two judgments.

    Raises:
        ValueError: for what is no table of counts, or fewer than two labels.
    """
    counts = _checked(counts_pc)
    n_labels = counts.shape[1]
    if n_labels < 2:
        raise ValueError(f"AC1 needs at least 2 labels, got {n_labels}")
    shares = _shares(counts)
    if shares is None:
        return None
    label = shares.mean(axis=0)
    chance = float((label * (1 - label)).sum()) / (n_labels - 1)
    return _corrected(counts, shares @ (1 - label) / (n_labels - 1), chance, level, "Gwet AC1")


def _corrected(
    counts: FloatArray, chance_p: FloatArray, chance: float, level: float, method: str
) -> Coefficient:
    """(agreement − chance)/(1 − chance) and its linearised variance; `chance_p` is an item's own part.

    Items that no judge judged are not counted.
    """
    counts = counts[counts.sum(axis=1) > 0]
    n_judgments = counts.sum(axis=1)
    twice, n = n_judgments > 1, len(counts)
    pairs = np.where(twice, n_judgments * (n_judgments - 1), 1)
    agreed = np.where(twice, (counts * (counts - 1)).sum(axis=1) / pairs, 0.0)
    estimate = (float(agreed[twice].mean()) - chance) / (1 - chance)
    own = n / int(twice.sum()) * np.where(twice, agreed - chance, 0.0) / (1 - chance)
    own = own - 2 * (1 - estimate) * (chance_p - chance) / (1 - chance)
    variance = float(((own - estimate) ** 2).sum()) / (n * (n - 1)) if n > 1 else 0.0
    return Coefficient.of(estimate, variance, df=n - 1, level=level, n_items=n, method=method)


def _checked(counts_pc: npt.ArrayLike) -> FloatArray:
    counts = np.asarray(counts_pc, dtype=float)
    if counts.ndim != 2 or counts.shape[1] < 1:
        raise ValueError(f"counts are items × labels, got {counts.shape}")
    if not bool(np.all(np.isfinite(counts) & (counts >= 0) & (counts == np.floor(counts)))):
        raise ValueError("counts of labels are whole and not negative")
    return counts


def _shares(counts: FloatArray) -> FloatArray | None:
    """Each judged item's shares of the labels; None where no item has two judgments."""
    n = counts.sum(axis=1)
    return None if n.max(initial=0) < 2 else counts[n > 0] / n[n > 0][:, None]
