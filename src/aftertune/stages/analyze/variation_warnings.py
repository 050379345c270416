"""What a reader must know of the variations as such."""

from collections.abc import Sequence

import polars as pl

from aftertune.records.analysis import Warning
from aftertune.stages.analyze.variations import VariedCells, numerics_of


def variation_warnings(
    found: Sequence[VariedCells], frame: pl.DataFrame, n_checkpoints: int
) -> list[Warning]:
    """What a reader must know of the variations as such."""
    warnings = [
        Warning(
            code="variation_changed_nothing",
            text=f"variation {cells.varied.name} ({cells.varied.kind}) changed no value at all",
            remedy="look whether its key reaches what it was to change",
            where=cells.varied.name,
        )
        for cells in found
        if cells.pairs and cells.unchanged and cells.varied.kind != "numerics"
    ]
    warnings += [
        Warning(
            code="numerics_changed",
            text=f"variation {check.variation} changed {check.n_changed} of {check.n_compared} responses, "
            f"the first is {check.first_changed}",
            remedy="numerics must change nothing: use `numerics: exact`, or count this among the noise",
            where=check.variation,
        )
        for check in numerics_of(found)
        if check.n_changed
    ]
    warnings += _twins(found, frame)
    for cells in found:
        n = max((len(c.checkpoints) for _, other in cells.pairs for c in other.cells.values()), default=0)
        if 0 < n < n_checkpoints:
            text = f"variation {cells.varied.name} has {n} of {n_checkpoints} seeds: it is compared on these"
            remedy = "fewer seeds find less; their baseline is cut to the same"
            warnings.append(
                Warning(code="variation_fewer_seeds", text=text, remedy=remedy, where=cells.varied.name)
            )
        if not cells.pairs:
            text = f"variation {cells.varied.name} has no cell of the baseline: other models, tasks or judges"
            remedy = "keep their names, and change what they stand for"
            warnings.append(
                Warning(code="variation_not_comparable", text=text, remedy=remedy, where=cells.varied.name)
            )
    return warnings


def _twins(found: Sequence[VariedCells], frame: pl.DataFrame) -> list[Warning]:
    """One for each pair of variations whose observations are the same."""
    key = ["model", "seed", "task", "item", "decoding", "repeat", "judge", "judge_repeat", "construct"]
    seen: dict[tuple[int, int], str] = {}
    warnings: list[Warning] = []
    for cells in found:
        if cells.unchanged:
            continue  # said already, or what a numerics variation is for
        rows = frame.filter(pl.col("variation").cast(pl.String) == cells.varied.name)
        print_ = (rows.height, int(rows.select(*key, "value").hash_rows(seed=0).cast(pl.UInt64).sum() or 0))
        twin = seen.setdefault(print_, cells.varied.name)
        if twin != cells.varied.name:
            text = f"variations {twin} and {cells.varied.name} have the same observations"
            remedy = "are they the same change twice?"
            warnings.append(
                Warning(code="same_variation_twice", text=text, remedy=remedy, where=cells.varied.name)
            )
    return warnings
