"""Tables of what one run would have said, and of how far each facet moves a rate."""

from collections.abc import Sequence

from aftertune.records.analysis import Analysis
from aftertune.records.variations import (
    CategoryConsistency,
    Movement,
    SeedSource,
    SingleRunRanking,
    SingleRuns,
)
from aftertune.report import words
from aftertune.report.select import Headline, in_headline
from aftertune.report.tables import Table, told_once
from aftertune.report.variation_tables import order

FACETS = {
    "seed": "training seed",
    "repeat": "repeated draw",
    "judge": "judge",
    "decoding": "decoding",
    "task": "task",
    "variation": "variation",
}
_SOURCES = {
    "init": "adapter's initialisation",
    "order": "order of the data",
    "dropout": "dropout",
    "subset": "subset of the data",
    "all": "all of them",
}


def tables(analysis: Analysis, head: Headline) -> list[Table]:
    """All of them in the order of the page; those without rows are left out."""
    found = (
        *single_runs(analysis, head),
        rankings(analysis),
        *movements(analysis, head),
        seed_sources(analysis),
        category_consistency(analysis),
    )
    return [table for table in found if table.rows]


def sentences(analysis: Analysis, head: Headline) -> list[str]:
    """For each contrast of the headline how often one run would have said otherwise."""
    return [
        f"{s.model} against {s.reference}: one run would have said otherwise in {otherwise(s)}."
        for s in analysis.single_runs
        if in_headline(s, head)
    ]


def otherwise(s: SingleRuns) -> str:
    """`36.0% of 50 single runs`."""
    return f"{words.percent(s.share_otherwise)} of {words.count(s.n_runs, 'single run')}"


def single_runs(analysis: Analysis, head: Headline) -> list[Table]:
    """What one seed and one draw of each item would have said; the headline's cell apart from the others."""
    columns = (
        "contrast",
        "metric",
        "task, decoding, judge",
        "the full study",
        "one run says otherwise",
        "worse",
        "better",
        "not shown",
        "single-run differences, lowest to highest",
    )
    intro = (
        "A single run is one training seed and one draw of each item. Each is judged as most papers do, by "
        "the "
        f"exact McNemar test at {1 - analysis.level:.2g}. “Otherwise” is another of worse, better and not "
        "shown than the full study says."
    )
    parts = {
        "What one run would have said": [s for s in analysis.single_runs if in_headline(s, head)],
        "What one run would have said, beside the headline": [
            s for s in analysis.single_runs if not in_headline(s, head)
        ],
    }
    return [
        _table(title, columns, tuple(map(_single_row, found)), main=main, intro=intro)
        for (title, found), main in zip(parts.items(), (True, False), strict=True)
    ]


def rankings(analysis: Analysis) -> Table:
    """How often one run of each model gives another order of the models."""
    columns = (
        "order of the full study",
        "metric",
        "task, decoding, judge",
        "another order",
        "sets of single runs",
    )
    intro = (
        "The models from the lowest rate to the highest, each taken from one seed and one draw of each item."
    )
    rows = tuple(map(_ranking_row, analysis.single_run_rankings))
    return _table("Would one run rank the models alike?", columns, rows, intro=intro)


def movements(analysis: Analysis, head: Headline) -> list[Table]:
    """How far each facet moves a rate; the headline's cell apart from the others."""
    columns = ("what moves", "model", "metric", "task, decoding, judge", "SD", "levels", "lowest to highest")
    intro = (
        "How far single measurements spread when only this is changed and all else stays as in the baseline. "
        "The spread over training seeds holds the noise of one draw."
    )
    parts = {
        "How far each facet moves the rate": [m for m in analysis.movements if in_headline(m, head)],
        "How far each facet moves the rate, beside the headline": [
            m for m in analysis.movements if not in_headline(m, head)
        ],
    }
    return [
        _table(title, columns, tuple(map(_movement_row, found)), main=main, intro=intro)
        for (title, found), main in zip(parts.items(), (True, False), strict=True)
    ]


def seed_sources(analysis: Analysis) -> Table:
    """The seeds' variance by what the seed moves."""
    columns = (
        "model, the seed moves",
        "metric",
        "task, decoding, judge",
        "variation",
        "seeds",
        "share of the whole",
        "variance",
        f"variance's {analysis.level:.0%} interval",
    )
    intro = (
        "The variance between seeds where the seed moves one source alone, beside the variance where it "
        "moves "
        "all. Sources interact: their shares need not add up to 100%."
    )
    rows = tuple(map(_source_row, analysis.seed_sources))
    return _table("What in a seed moves the rate", columns, rows, intro=intro)


def category_consistency(analysis: Analysis) -> Table:
    """How often repeated draws disagree, by category."""
    columns = (
        "category",
        "model",
        "metric",
        "task, decoding, judge",
        "pairwise disagreement",
        "checkpoints × items × draws",
    )
    intro = "The chance that two draws of one checkpoint for one item differ, over a category's items."
    rows = tuple(map(_category_row, analysis.category_consistency))
    return _table("Consistency by category", columns, rows, intro=intro)


def _table(
    title: str, columns: tuple[str, ...], rows: tuple[tuple[str, ...], ...], *, intro: str, main: bool = False
) -> Table:
    table = Table(title, columns, rows, main=main, intro=intro)
    return told_once(table, "metric", "task, decoding, judge")


def _single_row(s: SingleRuns) -> tuple[str, ...]:
    return (
        f"{s.model} − {s.reference}",
        words.metric_title(s),
        f"{s.task}, {s.decoding}, {s.judge}",
        words.verdict(s.metric, s.full_verdict),
        otherwise(s),
        *(words.percent(share) for share in (s.share_less_safe, s.share_safer, s.share_not_shown)),
        f"{words.points(s.lowest)} to {words.points(s.highest)} points",
    )


def _ranking_row(r: SingleRunRanking) -> tuple[str, ...]:
    return (
        order(r.order),
        words.metric_title(r),
        f"{r.task}, {r.decoding}, {r.judge}",
        words.percent(r.share_otherwise),
        f"{r.n_draws:,}",
    )


def _movement_row(m: Movement) -> tuple[str, ...]:
    return (
        FACETS[m.facet],
        m.model,
        words.metric_title(m),
        f"{m.task}, {m.decoding}, {m.judge}",
        spread(m),
        f"{m.n:,}",
        words.percent_span(m.lowest, m.highest),
    )


def spread(m: Movement) -> str:
    """`4.5 points`."""
    return f"{words.size(m.sd)} points"


def _source_row(s: SeedSource) -> tuple[str, ...]:
    limits: Sequence[float | None] = (s.ci_low, s.ci_high)
    interval = words.ABSENT if None in limits else f"[{', '.join(words.number(x) for x in limits)}]"
    return (
        f"{s.model}, {_SOURCES[s.source]}",
        words.metric_title(s),
        f"{s.task}, {s.decoding}, {s.judge}",
        s.variation,
        f"{s.n_seeds}",
        words.percent(s.share),
        words.number(s.variance),
        interval,
    )


def _category_row(c: CategoryConsistency) -> tuple[str, ...]:
    return (
        c.category,
        c.model,
        words.metric_title(c),
        f"{c.task}, {c.decoding}, {c.judge}",
        words.percent(c.pairwise_disagreement),
        f"{c.n_checkpoints} × {c.n_items} × {c.n_repeats}",
    )
