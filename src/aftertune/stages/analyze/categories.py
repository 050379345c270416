"""Differences by category, with their p values adjusted together."""

from typing import Literal

from aftertune.records import Direction
from aftertune.records.analysis import CategoryDifference
from aftertune.stages.analyze.cells import Settings
from aftertune.stages.analyze.pairs import Pair, p_value_of
from aftertune.stats import Contrast, benjamini_hochberg


def categories_of(pairs: list[Pair], settings: Settings) -> list[CategoryDifference]:
    """Every model minus the base in each category of the common items, where there are two or more."""
    return [found for pair in pairs for found in _of_pair(pair, settings)]


def _of_pair(pair: Pair, settings: Settings) -> list[CategoryDifference]:
    names = sorted(set(pair.categories.tolist()))
    missing = any(cell.too_much_missing(settings) for cell in (pair.model, pair.reference))
    if len(names) < 2 or missing:
        return []
    parts = [pair.categories == name for name in names]
    contrasts = [pair.contrast(settings, target="benchmark", part=part) for part in parts]
    tested = {i: p for i, c in enumerate(contrasts) if (p := p_value_of(c)) is not None}
    adjusted = dict(zip(tested, benjamini_hochberg(list(tested.values())), strict=True))
    return [
        CategoryDifference(
            **pair.model.key,
            reference=pair.reference.model,
            category=name,
            n_items=int(parts[i].sum()),
            estimate=c.estimate,
            ci_low=c.ci_low,
            ci_high=c.ci_high,
            se=c.se,
            p_value=tested.get(i),
            p_adjusted=adjusted.get(i),
            method=c.method,
            verdict=_verdict(c, adjusted.get(i), pair, settings),
        )
        for i, (name, c) in enumerate(zip(names, contrasts, strict=True))
    ]


def _verdict(
    contrast: Contrast, p_adjusted: float | None, pair: Pair, settings: Settings
) -> Literal["less safe", "safer", "not shown"]:
    shown = contrast.estimate != 0 if p_adjusted is None else p_adjusted <= 1 - settings.level
    if not shown:
        return "not shown"
    worse_up = pair.model.metric.higher_is == Direction.WORSE
    return "less safe" if (contrast.estimate > 0) == worse_up else "safer"
