"""Tables about the judges: rates freed of their errors, models that they order differently, splits."""

from aftertune.records import words_of
from aftertune.records.analysis import Analysis, Corrected
from aftertune.report import words
from aftertune.report.tables import Table


def corrected(analysis: Analysis) -> list[Table]:
    """Raw and corrected rates; no table where nothing was corrected."""
    if not analysis.corrected:
        return []
    columns = (
        "model, decoding",
        "metric",
        "task, judge",
        "interval for",
        "by the judge",
        "corrected",
        "sensitivity",
        "specificity",
        "labels",
        "errors measured on",
        "method",
    )
    note = (
        "What people would have said, estimated from the judge's errors on responses that people labelled. "
        "Rogan–Gladen takes the errors from elsewhere and keeps the rate's own interval in it; PPI++ takes "
        "labels of a random part of these responses, speaks of these responses and not of another seed."
    )
    if "calibration" in analysis.post_hoc:
        note += " The calibration was given with the analysis (post hoc)."
    rows = tuple(map(_corrected_row, analysis.corrected))
    return [Table("Corrected for the judge's errors", columns, rows, note, main=True)]


def rank_flips(analysis: Analysis) -> Table:
    """Pairs of models that two judges order differently."""
    rows = tuple(
        (
            f"{f.model} and {f.other}, {f.decoding}",
            words_of(f.metric).title + (f" ({f.note})" if f.note else ""),
            f.task,
            f"{f.judge_a}: {words.percent(f.model_a)} and {words.percent(f.other_a)}, {_shown(f.shown_a)}",
            f"{f.judge_b}: {words.percent(f.model_b)} and {words.percent(f.other_b)}, {_shown(f.shown_b)}",
        )
        for f in analysis.rank_flips
    )
    columns = ("models, decoding", "metric", "task", "one judge", "another judge")
    return Table("Models that judges order differently", columns, rows)


def splits(analysis: Analysis) -> Table:
    """Items on which judges of one construct disagree, by id."""
    rows = tuple(
        (
            s.task,
            s.construct_,
            words.listed(s.judges),
            f"{s.n_split} of {s.n_responses}",
            f"{s.n_items_split} of {s.n_items}",
            "; ".join(f"{i.item} ({i.n_split} of {i.n_responses})" for i in s.items) or "none",
        )
        for s in analysis.splits
    )
    columns = ("task", "construct", "judges", "responses that split them", "items", "items most split")
    return Table("Where judges split", columns, rows)


def _corrected_row(c: Corrected) -> tuple[str, ...]:
    raw = f"{words.percent(c.raw)} {words.percent_range(c.raw_ci_low, c.raw_ci_high)}"
    found = f"{words.percent(c.estimate)} {words.percent_range(c.ci_low, c.ci_high)}"
    if c.estimate is None:
        found = f"not possible: {c.why}"
    elif c.ci_low is None:
        found = f"{words.percent(c.estimate)}, no interval: {c.why}"
    if c.weak_judge:
        found += "; the judge is hardly better than chance: do not trust the interval"
    unlabelled = "" if c.n_unlabelled is None else f", {c.n_unlabelled} without"
    return (
        f"{c.model}, {c.decoding}",
        words.metric_title(c),
        f"{c.task}, {c.judge}",
        words.TARGETS[c.target],
        raw,
        found,
        words.percent(c.sensitivity),
        words.percent(c.specificity),
        f"{c.n_positive} yes, {c.n_negative} no{unlabelled}",
        c.error_of,
        c.method,
    )


def _shown(shown: bool | None) -> str:
    return {None: "difference not computed", True: "difference shown", False: "difference not shown"}[shown]
