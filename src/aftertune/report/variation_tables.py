"""Tables of what each variation did: effects, numerics checks, and which conclusions survive."""

from collections.abc import Iterable, Sequence

from aftertune.records.analysis import Analysis
from aftertune.records.variations import (
    NumericsCheck,
    RankingSurvival,
    Survival,
    VariationClass,
    VariationEffect,
)
from aftertune.report import words
from aftertune.report.select import Headline, in_headline
from aftertune.report.tables import Table, told_once

CLASSES: dict[VariationClass, str] = {
    "procedure": "changes of procedure",
    "numerics": "changes of numerics",
    "design": "changes of design",
}
_CONCLUSION = ("conclusion", "metric", "task, decoding, judge", "interval for")
_NOT_COMPARED = "not compared"


def tables(analysis: Analysis, head: Headline) -> list[Table]:
    """All of them in the order of the page; none where the study ran no variation."""
    found = (
        *effects(analysis, head),
        *survival(analysis, head),
        ranking_survival(analysis),
        numerics_checks(analysis),
    )
    return [table for table in found if table.rows]


def effects(analysis: Analysis, head: Headline) -> list[Table]:
    """A table of effects per class of variation, the headline's cell apart from the others."""
    columns = (
        "variation, model",
        "metric",
        "task, decoding",
        "judge",
        "baseline → varied",
        f"effect in points, {analysis.level:.0%} interval",
        "noise",
        "p",
        "p, Holm",
        "verdict",
        "seeds × items",
    )
    intro = (
        "Effect is the variation minus the baseline, on the items and seeds that both have. "
        "Noise is what two measurements of the same checkpoints stay below in "
        f"{analysis.level:.0%} of cases although nothing differs but their draws: an effect inside it says "
        "little. Where nothing is drawn there is none."
    )
    note = (
        f"The margin is {words.size(analysis.margin)} points. P values are adjusted over all "
        "effects of the analysis."
    )
    drawn = [
        Table(
            f"What {title} do{'' if main else ', beside the headline'}",
            columns,
            tuple(map(_effect_row, found)),
            " ".join([note, *_reach(found)]),
            main,
            intro,
        )
        for kind, title in CLASSES.items()
        for main in (True, False)
        if (
            found := [
                e for e in analysis.variation_effects if e.kind == kind and in_headline(e, head) == main
            ]
        )
    ]
    return [told_once(table, "metric", "task, decoding", "judge") for table in drawn]


def survival(analysis: Analysis, head: Headline) -> list[Table]:
    """Conclusions by variations, the outcome in words: the headline's cell and target, then all others."""
    parts = {
        "Which conclusions survive a change": [
            s for s in analysis.survivals if in_headline(s, head) and s.target == head.target
        ],
        "Which conclusions survive a change, beside the headline": [
            s for s in analysis.survivals if not (in_headline(s, head) and s.target == head.target)
        ],
    }
    return [
        _matrix(title, found, main=main)
        for (title, found), main in zip(parts.items(), (True, False), strict=True)
        if found
    ]


def numerics_checks(analysis: Analysis) -> Table:
    """Whether a change of numerics left every response as it was."""
    columns = ("variation", "every response the same", "responses compared", "changed", "the first changed")
    intro = (
        "Under exact numerics a variation of this class must change no response. Each response that the "
        "baseline and the variation both asked for is compared, letter by letter."
    )
    rows = tuple(map(_check_row, analysis.numerics_checks))
    return Table("Does numerics change a text?", columns, rows, main=True, intro=intro)


def ranking_survival(analysis: Analysis) -> Table:
    """The order of the models in the baseline and under each variation."""
    columns = ("variation", "metric", "task, decoding, judge", "baseline", "varied", "pairs that swap")
    intro = "The models from the lowest rate to the highest, whether or not their differences are shown."
    rows = tuple(map(_ranking_row, analysis.ranking_survivals))
    table = Table("Does the order of the models survive?", columns, rows, intro=intro)
    return told_once(table, "metric", "task, decoding, judge")


def order(models: Iterable[str]) -> str:
    """Models from the lowest rate to the highest: `base < chat-self < chat`."""
    return " < ".join(models)


def _effect_row(e: VariationEffect) -> tuple[str, ...]:
    return (
        f"{e.variation}, {e.model}",
        words.metric_title(e),
        f"{e.task}, {e.decoding}",
        e.judge,
        f"{words.percent(e.baseline)} → {words.percent(e.varied)}",
        effect(e),
        noise(e),
        words.p_value(e.p_value),
        words.p_value(e.p_adjusted),
        e.verdict,
        f"{e.n_seeds} × {e.n_items}",
    )


def effect(e: VariationEffect) -> str:
    """An effect in points with its interval, as far as both exist."""
    if e.estimate is None:
        return "no conclusion"
    if e.ci_low is None or e.ci_high is None:
        return f"{words.points(e.estimate)}, no interval"
    if e.ci_low == e.ci_high:
        return f"{words.points(e.estimate)}, exact"
    return f"{words.points(e.estimate)} {words.points_range(e.ci_low, e.ci_high)}"


def noise(e: VariationEffect) -> str:
    """`±3.3`; `none` where nothing is drawn."""
    if e.noise is None:
        return words.ABSENT
    return "none" if e.noise == 0 else f"±{words.size(e.noise)}"


def _reach(found: Sequence[VariationEffect]) -> list[str]:
    kinds = dict.fromkeys((e.covers, e.leaves_out) for e in found if e.ci_low is not None)
    return [
        f"The intervals cover {words.listed(covers)} and leave out {words.listed(leaves_out)}."
        for covers, leaves_out in kinds
    ]


def _matrix(title: str, found: Sequence[Survival], *, main: bool) -> Table:
    variations = {s.variation: s.kind for s in found}
    rows: dict[tuple[str, ...], list[Survival]] = {}
    for s in found:
        rows.setdefault(_conclusion(s), []).append(s)
    intro = (
        "One row a conclusion, one column a variation. “Survives”: the same verdict in the same direction; "
        "“weakened”: shown in the baseline and not under the variation; “appears”: the other way; "
        "“reversed”: shown in both, with opposite signs. Then the verdict under the variation and its "
        "difference in points."
    )
    names = (f"{name} ({kind})" for name, kind in variations.items())
    table = Table(
        title,
        (*_CONCLUSION, "baseline", *names),
        tuple((*name, _baseline(own[0]), *_outcomes(own, variations)) for name, own in rows.items()),
        main=main,
        intro=intro,
    )
    return told_once(table, *_CONCLUSION[1:])


def _conclusion(s: Survival) -> tuple[str, ...]:
    """What a row of the matrix is about, in the columns `_CONCLUSION`."""
    where = (f"{s.task}, {s.decoding}, {s.judge}", words.TARGETS[s.target])
    return (f"{s.model} − {s.reference}", words.metric_title(s), *where)


def _baseline(s: Survival) -> str:
    return f"{words.verdict(s.metric, s.baseline_verdict)} ({words.points(s.baseline_estimate)})"


def _outcomes(own: Sequence[Survival], variations: Iterable[str]) -> list[str]:
    by_name = {s.variation: s for s in own}
    return [_outcome(by_name.get(name)) for name in variations]


def _outcome(s: Survival | None) -> str:
    if s is None:
        return _NOT_COMPARED
    if s.varied_estimate is None:
        return s.outcome
    return f"{s.outcome}: {words.verdict(s.metric, s.varied_verdict)} ({words.points(s.varied_estimate)})"


def _check_row(c: NumericsCheck) -> tuple[str, ...]:
    return (
        c.variation,
        "yes" if c.passed else "no",
        f"{c.n_compared:,}",
        f"{c.n_changed:,}",
        c.first_changed or "none",
    )


def _ranking_row(r: RankingSurvival) -> tuple[str, ...]:
    return (
        f"{r.variation} ({r.kind})",
        words.metric_title(r),
        f"{r.task}, {r.decoding}, {r.judge}",
        order(r.baseline),
        "the same order" if r.baseline == r.varied else order(r.varied),
        f"{r.n_swapped} of {r.n_pairs}",
    )
