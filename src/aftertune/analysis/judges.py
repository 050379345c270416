"""Rates corrected for their judge's errors, and where judges of one construct disagree."""

from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import polars as pl

from aftertune.analysis.cells import MetricCells, ModelCell, Settings
from aftertune.records.analysis import (
    Agreement,
    Corrected,
    Difference,
    Interval,
    JudgeSplit,
    RankFlip,
    Rate,
    SplitItem,
    Warning,
)
from aftertune.records.calibration import Calibration, CalibrationGroup
from aftertune.stats import (
    CorrectedRate,
    FloatArray,
    JudgeError,
    Target,
    agreement_table,
    checkpoint_arm,
    cohen_kappa,
    gwet_ac1,
    krippendorff_alpha,
    negative_agreement,
    positive_agreement,
    ppi_mean,
    recipe_arm,
    rogan_gladen,
)
from aftertune.stats.rates import z_quantile

_TOP = 10


def measure_agreement(frame: pl.DataFrame) -> list[Agreement]:
    """Every pair of judges that gave one construct on the same responses, where both values are 0 or 1."""
    key = ["model", "seed", "checkpoint", "task", "item", "decoding", "repeat", "construct"]
    first = frame["judge_repeat"].min()
    graded = frame.select(*key, "judge", "value", "judge_repeat").filter(
        pl.col("value").is_in([0.0, 1.0]), pl.col("judge_repeat") == first
    )
    found: list[Agreement] = []
    groups = graded.partition_by(["task", "construct"], as_dict=True)
    for task, construct in sorted(groups):
        group = groups[task, construct]
        for a, b in combinations(sorted(group["judge"].unique()), 2):
            one, other = (group.filter(pl.col("judge") == judge).drop("judge_repeat") for judge in (a, b))
            both = one.join(other, on=key, nulls_equal=True)
            if both.is_empty():
                continue
            values = both.select("value", "value_right").to_numpy().T
            table = agreement_table(*values)
            found.append(
                Agreement(
                    task=task,
                    construct=construct,
                    judge_a=a,
                    judge_b=b,
                    n=table.n,
                    positive_agreement=positive_agreement(table),
                    negative_agreement=negative_agreement(table),
                    cohen_kappa=cohen_kappa(table),
                    gwet_ac1=gwet_ac1(table),
                    krippendorff_alpha=krippendorff_alpha(values),
                )
            )
    return found


def find_rank_flips(rates: list[Rate], differences: list[Difference]) -> list[RankFlip]:
    """Pairs of models that two judges order differently by one metric, mirror images left out.

    Equal rates are no order. That two judges differ is a fact about these responses; whether either
    difference is more than chance, its own interval says, where there is one.
    """
    shown = {
        (*_place(d), d.judge, frozenset((d.model, d.reference))): d.ci_low > 0 or d.ci_high < 0
        for d in differences
        if d.target == "benchmark" and d.ci_low is not None and d.ci_high is not None
    }
    found: list[RankFlip] = []
    for place, judges in _by_place(rates).items():
        for a, b in combinations(sorted(judges), 2):
            models = sorted(judges[a].keys() & judges[b].keys())
            for model, other in combinations(models, 2):
                one = judges[a][model] - judges[a][other]
                two = judges[b][model] - judges[b][other]
                if one * two < 0:
                    pair = frozenset((model, other))
                    found.append(
                        RankFlip(
                            task=place[0], decoding=place[1], metric=place[2], note=place[3],
                            judge_a=a, judge_b=b, model=model, other=other,
                            model_a=judges[a][model], other_a=judges[a][other],
                            model_b=judges[b][model], other_b=judges[b][other],
                            shown_a=shown.get((*place, a, pair)), shown_b=shown.get((*place, b, pair)),
                        )
                    )  # fmt: skip
    return found


def _by_place(rates: list[Rate]) -> dict[tuple[str, str, str, str], dict[str, dict[str, float]]]:
    """Place → judge → model → rate."""
    found: dict[tuple[str, str, str, str], dict[str, dict[str, float]]] = {}
    by_refusal = {(*_place(rate)[:2], rate.judge) for rate in rates if rate.note == "by refusal"}
    for rate in rates:
        mirror = rate.metric == "refusal_rate" and (*_place(rate)[:2], rate.judge) in by_refusal
        if rate.estimate is not None and not mirror:
            found.setdefault(_place(rate), {}).setdefault(rate.judge, {})[rate.model] = rate.estimate
    return found


def _place(cell: Rate | Difference) -> tuple[str, str, str, str]:
    return (cell.task, cell.decoding, cell.metric, cell.note)


def find_splits(frame: pl.DataFrame) -> list[JudgeSplit]:
    """By task and construct with several judges: responses with 0/1 values that are not all equal.

    Judge repeats beyond the first are left out, as in `measure_agreement`. Items stand by the share of their
    responses that split the judges; only their ids are kept.
    """
    key = ["model", "seed", "checkpoint", "item", "decoding", "repeat"]
    first = frame["judge_repeat"].min()
    graded = frame.select(*key, "task", "construct", "judge", "value", "judge_repeat").filter(
        pl.col("value").is_in([0.0, 1.0]), pl.col("judge_repeat") == first
    )
    groups = graded.partition_by(["task", "construct"], as_dict=True)
    found: list[JudgeSplit] = []
    for task, construct in sorted(groups):
        group = groups[task, construct]
        responses = (
            group.group_by(key)
            .agg(pl.col("judge").n_unique().alias("n"), (pl.col("value").n_unique() > 1).alias("split"))
            .filter(pl.col("n") > 1)
        )
        if responses.is_empty():
            continue
        items = (
            responses.group_by("item")
            .agg(pl.len().alias("n"), pl.col("split").sum().cast(pl.Int64))
            .cast({"item": pl.String})
            .sort(-pl.col("split") / pl.col("n"), -pl.col("split"), "item")
        )
        split = items.filter(pl.col("split") > 0)
        found.append(
            JudgeSplit(
                task=task,
                construct=construct,
                judges=tuple(sorted(group["judge"].unique())),
                n_responses=responses.height,
                n_split=int(responses["split"].sum()),
                n_items=items.height,
                n_items_split=split.height,
                items=tuple(
                    SplitItem(item=item, n_responses=n, n_split=k)
                    for item, n, k in split.head(_TOP).select("item", "n", "split").iter_rows()
                ),
            )
        )
    return found


_TARGETS: tuple[Target, ...] = ("benchmark", "population")
_CERTAIN_N = 1e12  # responses that were not drawn: the sampling term of Lee's interval vanishes
_ROGAN_GLADEN = "Rogan–Gladen"
_NOT_BINARY = "its judgments are graded: sensitivity and specificity count yes or no"


@dataclass(frozen=True)
class LabelledSample:
    """People's labels of a random part of one cell's responses, and the judgments of all of it."""

    labels: FloatArray
    judged: FloatArray
    judged_unlabelled: FloatArray


@dataclass(frozen=True)
class Corrections:
    """What rates are corrected by; `versions` are the judges' hashes at the time of the observations.

    `labelled` is by (model, task, decoding, judge, construct).
    """

    versions: dict[str, str] = field(default_factory=dict[str, str])
    calibration: Calibration | None = None
    labelled: dict[tuple[str, ...], LabelledSample] = field(
        default_factory=dict[tuple[str, ...], LabelledSample]
    )


def correct_rates(
    group: MetricCells, rates: dict[str, Rate], corrections: Corrections, settings: Settings
) -> list[Corrected]:
    """Every rate of a group that there are labels for; one with too much missing has nothing to correct."""
    found: list[Corrected] = []
    for name, cell in group.cells.items():
        rate = rates[name]
        if rate.estimate is None:
            continue
        calibrated = _group_for(cell, corrections)
        if calibrated is not None:
            found += [_by_calibration(cell, rate, calibrated, target, settings) for target in _TARGETS]
        sample = corrections.labelled.get(
            (cell.model, cell.task, cell.decoding, cell.judge, cell.metric.construct.value)
        )
        if sample is not None:
            found.append(_by_labels(cell, rate, sample, settings))
    return [one for one in found if one.target == "benchmark" or one.raw_ci_low is not None]


def correction_warnings(corrected: list[Corrected], corrections: Corrections) -> list[Warning]:
    """What a reader must know of where the judge's errors were measured."""
    calibration = corrections.calibration
    if calibration is None:
        return []
    warnings: list[Warning] = []
    elsewhere: dict[str, dict[str, None]] = {}
    for one in corrected:
        if one.error_of == "all models elsewhere":
            elsewhere.setdefault(one.judge, {})[one.model] = None
    for judge, models in elsewhere.items():
        text = (
            f"the rates of {', '.join(models)} by {judge} are corrected with errors that it made on other"
            f" models' responses ({calibration.labels}); a judge's errors change with the model judged"
        )
        remedy = "label some responses of these very models: aftertune label DIR"
        warnings.append(Warning(code="calibration_from_elsewhere", text=text, remedy=remedy, where=judge))
    return [*warnings, *_unused(calibration, corrections.versions)]


def _unused(calibration: Calibration, versions: dict[str, str]) -> list[Warning]:
    if not versions:
        text = "the run does not say which versions of its judges judged it, so nothing is corrected"
        remedy = "observe it again: aftertune observe DIR"
        return [Warning(code="calibration_not_used", text=text, remedy=remedy)]
    measured: dict[str, set[str]] = {}
    for group in calibration.groups:
        measured.setdefault(group.judge, set()).add(group.judge_sha256)
    known = [judge for judge in measured if judge in versions]
    warnings = [
        Warning(
            code="calibration_of_another_version",
            text=f"the calibration measured another version of {judge} than the one that judged this run,"
            " so its rates are not corrected",
            remedy="calibrate again, or judge and observe again with the version that was measured",
            where=judge,
        )
        for judge in known
        if versions[judge] not in measured[judge]
    ]
    if not known:
        text = (
            f"the calibration measured {', '.join(measured) or 'no judge'}, and none of them judged this run"
        )
        remedy = "calibrate a judge of this run, under the name that the study gives it"
        warnings.append(Warning(code="calibration_of_other_judges", text=text, remedy=remedy))
    return warnings


def _group_for(cell: ModelCell, corrections: Corrections) -> CalibrationGroup | None:
    """The judge's errors on this model's responses where both kinds were labelled, or else on all."""
    calibration = corrections.calibration
    if calibration is None or calibration.construct_ != cell.metric.construct.value:
        return None
    version = corrections.versions.get(cell.judge)
    mine = {g.model: g for g in calibration.groups if (g.judge, g.judge_sha256) == (cell.judge, version)}
    own = mine.get(cell.model)
    return own if own and own.sensitivity.n and own.specificity.n else mine.get(None)


def _by_calibration(
    cell: ModelCell, rate: Rate, group: CalibrationGroup, target: Target, settings: Settings
) -> Corrected:
    own: Interval | None = getattr(rate, target)
    q1, q0 = group.sensitivity, group.specificity
    whole: dict[str, Any] = {
        **cell.key,
        "target": target,
        "raw": rate.estimate,
        "raw_ci_low": own.ci_low if own else None,
        "raw_ci_high": own.ci_high if own else None,
        "error_of": "all models elsewhere" if group.model is None else "this model elsewhere",
        "n_positive": q1.n,
        "n_negative": q0.n,
        "sensitivity": q1.estimate,
        "specificity": q0.estimate,
        "n_unlabelled": None,
        "judgments_weight": None,
    }
    if not cell.draws.binary:
        return _nothing(whole, _ROGAN_GLADEN, _NOT_BINARY)
    try:
        # With no interval of its own, the rate has one sample of seeds, and a size would be a guess.
        found = _rogan_gladen(cell, rate, group, target, settings)
    except ValueError as error:
        return _nothing(whole, _ROGAN_GLADEN, str(error))
    limits = (found.ci_low, found.ci_high) if own else (None, None)
    return Corrected(
        **whole,
        method=found.method,
        estimate=found.estimate,
        unclipped=found.unclipped,
        ci_low=limits[0],
        ci_high=limits[1],
        weak_judge=found.weak_judge,
        covers=(*own.covers, "labels of the judge's errors") if own else (),
        leaves_out=tuple(f for f in own.leaves_out if f != "judge") if own else (),
        why="" if own else rate.why_no_interval,
    )


def _rogan_gladen(
    cell: ModelCell, rate: Rate, group: CalibrationGroup, target: Target, settings: Settings
) -> CorrectedRate:
    q1, q0 = group.sensitivity, group.specificity
    if q1.estimate is None or q0.estimate is None:
        raise ValueError(
            f"both specificity and sensitivity need human labels, got {q0.n} without and {q1.n} with the"
            " event: label more"
        )
    error = JudgeError(q0.estimate, q1.estimate, q0.n, q1.n)
    if cell.metric.complement:  # the metric's event is that the construct is absent
        error = JudgeError(q1.estimate, q0.estimate, q1.n, q0.n)
    p = min(max(rate.estimate or 0.0, 0.0), 1.0)
    size = _size(cell, target, p, settings)
    return rogan_gladen(p, error, level=settings.level, **size)


def _size(cell: ModelCell, target: Target, p: float, settings: Settings) -> dict[str, float]:
    """The sampling term: V of the rate, with Student's quantile in it; the items where p is 0 or 1."""
    draws = cell.usable
    certain = cell.certain(settings)
    if target == "population" and draws.n_items < 2:
        target = "benchmark"
    arm = recipe_arm(draws, target) if draws.n_seeds > 1 else checkpoint_arm(draws, target, certain=certain)
    if arm.certain:
        return {"n": _CERTAIN_N}
    if p in (0.0, 1.0):
        return {"n": float(draws.n_items)}
    return {"variance": (arm.half_width(settings.level) / z_quantile(settings.level)) ** 2}


def _by_labels(cell: ModelCell, rate: Rate, sample: LabelledSample, settings: Settings) -> Corrected:
    """PPI++; the metric's complement is taken of labels and judgments alike."""
    own = rate.benchmark
    y = sample.labels
    whole: dict[str, Any] = {
        **cell.key,
        "target": "benchmark",
        "raw": rate.estimate,
        "raw_ci_low": own.ci_low if own else None,
        "raw_ci_high": own.ci_high if own else None,
        "error_of": "these responses",
        "n_positive": int((y >= 0.5).sum()),
        "n_negative": int((y < 0.5).sum()),
        "sensitivity": _share(sample, event=True),
        "specificity": _share(sample, event=False),
        "n_unlabelled": len(sample.judged_unlabelled),
    }
    arrays = (sample.labels, sample.judged, sample.judged_unlabelled)
    if cell.metric.complement:
        arrays = tuple(1 - values for values in arrays)
    try:
        found = ppi_mean(*arrays, level=settings.level)
    except ValueError as error:
        return _nothing(whole | {"judgments_weight": None}, "PPI++", str(error))
    return Corrected(
        **whole,
        method=found.method,
        estimate=found.estimate,
        unclipped=found.unclipped,
        ci_low=found.ci_low,
        ci_high=found.ci_high,
        judgments_weight=found.lam,
        weak_judge=False,
        covers=("which responses were labelled", "responses, as if independent"),
        leaves_out=("seed", "item", "decoding"),
        why="",
    )


def _share(sample: LabelledSample, *, event: bool) -> float | None:
    """The judge's right verdicts among the labelled of one kind; None without any, or for graded ones."""
    y, f = sample.labels, sample.judged
    there = y == (1.0 if event else 0.0)
    if not there.any() or not bool(((f == 0) | (f == 1)).all()):
        return None
    return float((f[there] == y[there]).mean())


def _nothing(whole: dict[str, Any], method: str, why: str) -> Corrected:
    return Corrected(
        **whole, method=method, estimate=None, unclipped=None, ci_low=None, ci_high=None,
        weak_judge=False, covers=(), leaves_out=(), why=why,
    )  # fmt: skip
