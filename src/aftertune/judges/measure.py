"""A judge against people's labels of the same responses."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from aftertune.errors import DataError, StudyError
from aftertune.judges.base import Case, Judge
from aftertune.records import Construct, JudgmentStatus
from aftertune.records.calibration import Agreed, CalibrationGroup, Share
from aftertune.stats import AgreementTable, Coefficient, agreement_table, wilson
from aftertune.stats.agreement import cohen_kappa_interval
from aftertune.stats.agreement_many import gwet_ac1_many


@dataclass(frozen=True, slots=True)
class Labelled:
    """A response with people's word on it; `model` is None where nobody said whose response it is."""

    case: Case
    event: bool
    model: str | None


def calibrate(
    judge: Judge, labelled: Sequence[Labelled], construct: Construct, *, level: float
) -> list[CalibrationGroup]:
    """How the judge did on all labelled responses, then on those of each model by name.

    A judge that is not deterministic is asked once.

    Raises:
        StudyError: the judge does not judge the construct.
        DataError: it gives graded values, which have no sensitivity.
    """
    if construct not in judge.constructs:
        given = ", ".join(judge.constructs)
        raise StudyError(
            f"judge {judge.name!r} does not judge {construct.value!r}", f"it judges {given}: give --construct"
        )
    place = judge.constructs.index(construct)
    judged = [judgments[place] for judgments in judge.judge([one.case for one in labelled])]
    for one in judged:
        if one.value not in (None, 0.0, 1.0):
            raise DataError(
                f"judge {judge.name!r} gives graded values, got {one.value} for {one.response_key}",
                "sensitivity and specificity count yes or no: calibrate a judge of yes or no",
            )
    rows = [(x.model, x.event, j.value, j.status) for x, j in zip(labelled, judged, strict=True)]
    names = sorted({one.model for one in labelled if one.model is not None})
    return [
        _group(judge, name, level, [row[1:] for row in rows if name in (None, row[0])])
        for name in (None, *names)
    ]


def _group(
    judge: Judge,
    model: str | None,
    level: float,
    rows: Sequence[tuple[bool, float | None, JudgmentStatus]],
) -> CalibrationGroup:
    pairs = [(float(event), value) for event, value, _ in rows if value is not None]
    people, said = [p for p, _ in pairs], [v for _, v in pairs]
    missing = Counter(status.value for _, value, status in rows if value is None)
    table = agreement_table(people, said)
    counts = [[2 - int(p + v), int(p + v)] for p, v in pairs]
    return CalibrationGroup(
        judge=judge.name,
        judge_sha256=judge.sha256,
        model=model,
        n_labels=len(rows),
        missing_by_status=dict(sorted(missing.items())),
        n_both=table.n_both,
        n_only_people=table.n_only_a,
        n_only_judge=table.n_only_b,
        n_neither=table.n_neither,
        sensitivity=_share(table.n_both, table.n_both + table.n_only_a, level),
        specificity=_share(table.n_neither, table.n_neither + table.n_only_b, level),
        cohen_kappa=_kappa(table, level),
        gwet_ac1=_agreed(gwet_ac1_many(counts, level=level) if counts else None),
    )


def _share(n_events: int, n: int, level: float) -> Share:
    if n == 0:
        return Share(n_events=0, n=0, estimate=None, ci_low=None, ci_high=None)
    found = wilson(n_events, n, level=level)
    return Share(n_events=n_events, n=n, estimate=found.estimate, ci_low=found.ci_low, ci_high=found.ci_high)


def _kappa(table: AgreementTable, level: float) -> Agreed:
    return _agreed(cohen_kappa_interval(table.counts_ab, level=level))


def _agreed(found: Coefficient | None) -> Agreed:
    if found is None:
        return Agreed(estimate=None, ci_low=None, ci_high=None, method="undefined: one label throughout")
    return Agreed(estimate=found.estimate, ci_low=found.ci_low, ci_high=found.ci_high, method=found.method)
