"""What a run directory holds for corrections: the judges' versions, a calibration, people's labels."""

from pathlib import Path

import numpy as np
import polars as pl

from aftertune.analysis.judges import Corrections, LabelledSample
from aftertune.judges.calibration import read_calibration
from aftertune.records import LABEL_COLUMNS
from aftertune.records.analysis import Warning
from aftertune.store import RunDirectory

_CELL = ["model", "task", "decoding", "judge", "construct"]


def load_corrections(
    run: RunDirectory, observations: pl.DataFrame, calibration: str | None
) -> tuple[Corrections, list[Warning]]:
    """All that the run's rates can be corrected by, and what is wrong with it.

    Raises:
        DataError: the calibration cannot be read.
    """
    labels = _labels(run)
    found = Corrections(
        versions=run.read_manifest().judges_observed,
        calibration=read_calibration(Path(calibration)) if calibration else None,
        labelled={} if labels.is_empty() else _labelled_samples(observations, labels),
    )
    return found, [*_label_warnings(run, labels), *_stale(labels, observations)]


def _labels(run: RunDirectory) -> pl.DataFrame:
    """People's labels of all constructs; the mean where several people labelled one response."""
    files = sorted(run.labels("x").parent.glob("*.parquet"))
    read = [run.read_table(path).select(list(LABEL_COLUMNS)) for path in files]
    if not read:
        return pl.DataFrame(schema={"response_key": pl.String, "construct": pl.String, "label": pl.Float64})
    known = pl.concat(read).filter(pl.col("label").is_not_null())
    return known.group_by("response_key", "construct").agg(pl.col("label").mean())


def _labelled_samples(
    observations: pl.DataFrame, labels: pl.DataFrame
) -> dict[tuple[str, ...], LabelledSample]:
    """By cell, where two labelled responses and one other were judged."""
    judged = (
        observations.cast(dict.fromkeys((*_CELL, "response_key"), pl.String))
        .filter(pl.col("value").is_not_null())
        .group_by(*_CELL, "response_key")
        .agg(pl.col("value").mean())
        .join(labels, on=["response_key", "construct"], how="left")
        .sort("response_key")
    )
    found: dict[tuple[str, ...], LabelledSample] = {}
    for cell, rows in judged.partition_by(_CELL, as_dict=True, include_key=False).items():
        labelled = rows.filter(pl.col("label").is_not_null())
        if labelled.height:
            others = rows.filter(pl.col("label").is_null())["value"]
            y, f, g = (np.asarray(s, dtype=float) for s in (labelled["label"], labelled["value"], others))
            found[tuple(map(str, cell))] = LabelledSample(y, f, g)
    return found


def _label_warnings(run: RunDirectory, labels: pl.DataFrame) -> list[Warning]:
    """Responses that were drawn and shown to people, and have no label: the labelled are no random part."""
    warnings: list[Warning] = []
    for construct in sorted(set(labels["construct"])):
        table = run.read_table(run.labels(construct))
        blank, n = table["label"].null_count(), table.height
        if blank:
            text = (
                f"people left {blank} of {n} responses without a label of {construct}; if they are not like"
                " the others, the labelled ones are no random part, and PPI++ is off"
            )
            remedy = "label the rest, or draw fewer"
            warnings.append(Warning(code="blank_labels", text=text, remedy=remedy, where=construct))
    return warnings


def _stale(labels: pl.DataFrame, observations: pl.DataFrame) -> list[Warning]:
    there = set(observations["response_key"]) if "response_key" in observations.columns else set[str]()
    n = len(set(labels["response_key"]) - there)
    if not n:
        return []
    text = f"{n} labelled responses are not in this study as it stands, and their labels are not used"
    return [Warning(code="labels_of_other_responses", text=text, remedy="draw and label responses of it")]
