"""The tables beside the differences: by category, the agreement of signs, the A/A controls, the design."""

from aftertune.records import words_of
from aftertune.records.analysis import Analysis, CategoryDifference, Control, SignAgreement
from aftertune.report import words
from aftertune.report.tables import Table


def beside(analysis: Analysis) -> list[Table]:
    """Those of the tables that have rows."""
    found = (categories(analysis), signs(analysis), controls(analysis))
    return [table for table in found if table.rows]


def categories(analysis: Analysis) -> Table:
    """Every category's difference from the base."""
    columns = (
        "contrast, decoding",
        "metric",
        "task, judge",
        "category",
        "items",
        f"difference, {analysis.level:.0%} interval",
        "p",
        "p, Benjamini–Hochberg",
        "verdict",
    )
    note = (
        "For these items. P values are adjusted over the categories of one model, task, decoding and judge; "
        "a category is named worse or better, in its metric's words, where its adjusted p is at most "
        f"{1 - analysis.level:.2g}."
    )
    rows = tuple(map(_category_row, analysis.categories))
    return Table("Differences by category", columns, rows, note)


def signs(analysis: Analysis) -> Table:
    """In how many cells a model differs from the base, and which way."""
    columns = (
        "contrast",
        "metric",
        "interval for",
        "cells",
        "worse : better",
        "shown worse",
        "shown better",
        "no conclusion",
    )
    note = (
        "A cell is a task, a decoding and a judge. Worse and better are the signs of the estimates; shown "
        "means that the whole interval lies on that side of 0. Cells share checkpoints and responses: count "
        "them, and do not pool them."
    )
    return Table("Do benchmarks and judges agree?", columns, tuple(map(_sign_row, analysis.signs)), note)


def controls(analysis: Analysis) -> Table:
    """Each recipe's seeds in two halves."""
    columns = (
        "recipe, decoding",
        "metric",
        "task, judge",
        "seeds",
        f"difference, {analysis.level:.0%} interval",
        "p",
        "p, Holm",
        "no difference shown",
    )
    note = (
        "One recipe against itself: a difference here is chance, or something that the halves do not share. "
        "P values are adjusted over all controls."
    )
    return Table("A/A controls", columns, tuple(map(_control_row, analysis.controls)), note)


def design(analysis: Analysis) -> Table:
    """Which design was found, and what each model's intervals can cover."""
    found = analysis.design
    rows = () if found is None else tuple((m.model, "; ".join(m.where), m.text) for m in found.models)
    note = "" if found is None else f"Found: {found.text}."
    if analysis.post_hoc:
        given = words.listed(word.replace("_", " ") for word in analysis.post_hoc)
        note += f" Given with the analysis and not fixed before the run (post hoc): {given}."
    return Table("The design that was found", ("model", "where", "what it is and covers"), rows, note)


def _category_row(c: CategoryDifference) -> tuple[str, ...]:
    return (
        f"{c.model} − {c.reference}, {c.decoding}",
        words.metric_title(c),
        f"{c.task}, {c.judge}",
        c.category,
        f"{c.n_items}",
        f"{words.points(c.estimate)} points {words.points_range(c.ci_low, c.ci_high)}",
        words.p_value(c.p_value),
        words.p_value(c.p_adjusted),
        words.verdict(c.metric, c.verdict),
    )


def _sign_row(s: SignAgreement) -> tuple[str, ...]:
    return (
        f"{s.model} − {s.reference}",
        words_of(s.metric).title,
        words.TARGETS[s.target],
        f"{s.n_cells}",
        f"{s.n_worse} : {s.n_better}",
        f"{s.n_shown_worse}",
        f"{s.n_shown_better}",
        f"{s.n_no_conclusion}",
    )


def _control_row(c: Control) -> tuple[str, ...]:
    first, second = (", ".join(map(str, half)) for half in (c.first, c.second))
    return (
        f"{c.model}, {c.decoding}",
        words.metric_title(c),
        f"{c.task}, {c.judge}",
        f"{first} against {second}",
        f"{words.points(c.estimate)} points {words.points_range(c.ci_low, c.ci_high)}",
        words.p_value(c.p_value),
        words.p_value(c.p_adjusted),
        "yes" if c.passed else "no",
    )
