"""Figures of what moves the score: variations and facets on one axis, single runs, spreads by facet."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from aftertune.foreign_text import visible
from aftertune.records.analysis import Analysis, Difference
from aftertune.records.variations import Movement, SingleRuns, VariationEffect
from aftertune.report import marks, words
from aftertune.report.figure import Figure, Panel, build, stem
from aftertune.report.select import (
    Headline,
    find,
    in_headline,
    main_differences,
    model_colours,
    models,
    same_measure,
)
from aftertune.report.single_run_tables import FACETS, spread
from aftertune.report.theme import LIGHT
from aftertune.report.variation_tables import effect, noise

_MOST_ROWS = 18  # of one panel; the tables have them all
_ROW = 48  # pixels
# Shares on the axis, told in points: changes with their sign, sizes without.
_SIZES = {"labelExpr": "format(datum.value * 100, '.3~r')"}
_IN_POINTS = {"labelExpr": "datum.value == 0 ? '0' : format(datum.value * 100, '+.3~r')"}


def figures(analysis: Analysis, head: Headline) -> list[Figure]:
    """Those of the three that have something to show."""
    drawn = (what_moves(analysis, head), single_runs(analysis, head), movements(analysis, head))
    return [figure for figure in drawn if figure.panels]


def what_moves(analysis: Analysis, head: Headline) -> Figure:
    """Variations and facets of the model that most variations touch, the largest first."""
    model = _model(analysis, head)
    effects = [e for e in analysis.variation_effects if in_headline(e, head) and e.model == model]
    facets = [
        m for m in analysis.movements if in_headline(m, head) and m.model == model and m.facet != "variation"
    ]
    more = len(effects) + len(facets) > _MOST_ROWS
    return Figure(
        "moves",
        "What moves the score",
        "A thick line is a variation's effect on the rate (varied minus baseline) with its "
        f"{analysis.level:.0%} interval; the notch is the estimate. The grey band behind it is the noise: "
        "two measurements of the same checkpoints stay inside it although nothing differs but their draws. "
        "A thin line is a facet of the baseline: from the lowest to the highest rate, against the model's "
        "own, with the SD as its thicker middle. The dashes mark the margin."
        + (f" The {_MOST_ROWS} largest are shown." if more else ""),
        (_moves_panel(analysis, head, effects, facets),) if effects else (),
        "The study ran no variation.",
    )


def _model(analysis: Analysis, head: Headline) -> str | None:
    """The model with the most effects in the headline's cell; of several that of its first contrast."""
    n = Counter(e.model for e in analysis.variation_effects if in_headline(e, head))
    first = [d.model for d in main_differences(analysis, head)]
    order = [m for m in dict.fromkeys((*first, *reversed(models(analysis)))) if m in n]
    return max(order, key=n.__getitem__, default=None)


def _moves_panel(
    analysis: Analysis, head: Headline, effects: Sequence[VariationEffect], facets: Sequence[Movement]
) -> Panel:
    first = effects[0]
    rate = find(
        analysis, model=first.model, key=(head.task, head.decoding, head.judge, head.metric, head.note)
    )
    at = rate.estimate if rate else None
    sized = [(abs(e.estimate or 0.0), e) for e in effects] + [(m.sd, m) for m in facets]
    rows = [row for _, row in sorted(sized, key=lambda pair: -pair[0])][:_MOST_ROWS]
    low, high = _around([x for row in rows for x in _ends(row, at)] + [analysis.margin, -analysis.margin])
    color = model_colours(analysis)[first.model]
    height = _ROW * len(rows)
    places = [(row, _ROW * number) for number, row in enumerate(rows)]
    bands = [
        {"x": -row.noise, "x2": row.noise, "y": y + 30, "said": ": ".join(_said(row))}
        for row, y in places
        if isinstance(row, VariationEffect) and row.noise
    ]
    limits = (-analysis.margin, analysis.margin)
    layers: marks.Layers = [
        marks.line(bands, color=LIGHT["line"], width=18, name="noise"),
        marks.upright(
            [{"x": x, "y": y + 19, "y2": y + 41} for x in limits for _, y in places],
            color=LIGHT["base"],
            strokeDash=[3, 3],
        ),
        marks.upright([{"x": 0, "y": y + 19, "y2": y + 41} for _, y in places], color=LIGHT["muted"]),
    ]
    for row, y in places:
        layers += _row_head(row, y=y)
        if isinstance(row, Movement):
            layers += _facet_marks(row, at, y=y + 30)
        else:
            layers += _effect_marks(row, y=y + 30, color=color)
    chart = marks.panel(layers, height=height, domain=(low, high), **_IN_POINTS)
    title = (
        words.metric_title(first),
        f"{first.model}, {first.task}, {first.decoding}: change in points",
    )
    label = "; ".join(f"{name}: {value}" for name, value in map(_said, rows))
    return build(stem("moves", first.model, first.task, first.decoding), title, label, chart)


def _said(row: VariationEffect | Movement) -> tuple[str, str]:
    """A row's name with its class, and its numbers."""
    if isinstance(row, Movement):
        return f"{FACETS[row.facet]} · facet", f"SD {spread(row)}, {words.count(row.n, 'level')}"
    band = "" if not row.noise else f", noise {noise(row)}"
    return f"{_short(row.variation, 20)} · {row.kind}", f"{effect(row)}{band}"


def _ends(row: VariationEffect | Movement, at: float | None) -> list[float]:
    if isinstance(row, Movement):
        return [-row.sd, row.sd, *([row.lowest - at, row.highest - at] if at is not None else [])]
    band = row.noise or 0.0
    return [x for x in (row.estimate, row.ci_low, row.ci_high, band, -band) if x is not None]


def _effect_marks(e: VariationEffect, *, y: float, color: str) -> marks.Layers:
    if e.estimate is None:
        return []
    if e.ci_low is None or e.ci_high is None or e.ci_low == e.ci_high:
        at = {"x": e.estimate, "y": y, "said": ": ".join(_said(e))}
        return [marks.dots([at], color=color, name="effects")]
    interval = {"x": e.ci_low, "x2": e.ci_high, "y": y, "said": ": ".join(_said(e))}
    return [
        marks.line([interval], color=color, width=7, name="intervals"),
        marks.upright([{"x": e.estimate, "y": y - 4, "y2": y + 4}], color=LIGHT["card"], width=2.4),
    ]


def _facet_marks(m: Movement, at: float | None, *, y: float) -> marks.Layers:
    ink = LIGHT["muted"]
    sd = {"x": -m.sd, "x2": m.sd, "y": y, "said": ": ".join(_said(m))}
    spread = marks.line([sd], color=ink, width=5, name="spread")
    if at is None:
        return [spread]
    reach = {"x": m.lowest - at, "x2": m.highest - at, "y": y}
    return [marks.line([reach], color=ink, width=1.6, name="reach"), spread]


def _row_head(row: VariationEffect | Movement, *, y: float) -> marks.Layers:
    name, value = _said(row)
    ink = LIGHT["muted"] if isinstance(row, Movement) else LIGHT["ink"]
    return marks.header(y + 8, name=name, value=value.partition(", noise")[0], color=ink)


def single_runs(analysis: Analysis, head: Headline) -> Figure:
    """The range of the single-run differences beside the full study's interval, by task and decoding."""
    groups: dict[tuple[str, str], list[SingleRuns]] = defaultdict(list)
    for one in sorted(analysis.single_runs, key=lambda s: not in_headline(s, head)):
        if same_measure(one, head):
            groups[one.task, one.decoding].append(one)
    return Figure(
        "single-runs",
        "What one run would have said",
        "A bracket reaches from the lowest to the highest difference that one training seed and one draw of "
        f"each item would have shown. The thick line is the full study's {analysis.level:.0%} interval for "
        f"{words.TARGETS[head.target]}. The text says how many single runs, judged by the exact McNemar "
        "test, "
        "would have said otherwise than the full study.",
        tuple(_single_panel(analysis, head, group) for group in groups.values()),
        "There are no single runs to tell of.",
    )


def _single_panel(analysis: Analysis, head: Headline, group: Sequence[SingleRuns]) -> Panel:
    fulls = [_full(analysis, head, s) for s in group]
    ends = [x for s in group for x in (s.lowest, s.highest)]
    ends += [x for d in fulls if d is not None for x in (d.ci_low, d.ci_high) if x is not None]
    low, high = _around(ends)
    height = 68 * len(group) - 6
    zero = [{"x": 0, "y": 68 * row + 20, "y2": 68 * row + 56} for row in range(len(group))]
    layers: marks.Layers = [marks.upright(zero, color=LIGHT["muted"])]
    said: list[str] = []
    for row, (s, full) in enumerate(zip(group, fulls, strict=True)):
        y, color = 68 * row, model_colours(analysis)[s.model]
        name, says = (
            f"{visible(s.model)} − {visible(s.reference)}",
            f"{words.percent(s.share_otherwise)} of {words.count(s.n_runs, 'run')} say otherwise",
        )
        reach = f"{words.points(s.lowest)} to {words.points(s.highest)} points"
        whole = f"the full study {words.verdict(s.metric, s.full_verdict)}" + (
            f", {words.change(full)}" if full else ""
        )
        said.append(f"{name}: single runs from {reach}; {whole}; {says}")
        layers += marks.header(y + 8, name=_short(name, 20), value=says, color=color)
        layers += [
            marks.line(
                [{"x": s.lowest, "x2": s.highest, "y": y + 30, "said": f"{name}: single runs from {reach}"}],
                color=color,
                width=1.6,
                name="runs",
            ),
            marks.upright(
                [{"x": x, "y": y + 26, "y2": y + 34} for x in (s.lowest, s.highest)], color=color, width=1.6
            ),
        ]
        layers += _whole_marks(full, y=y + 46, color=color, said=f"{name}: {whole}")
    first = group[0]
    chart = marks.panel(layers, height=height, domain=(low, high), **_IN_POINTS)
    title = (words.metric_title(first), f"{first.task}, {first.decoding}: difference in points")
    return build(stem("single-runs", first.task, first.decoding), title, "; ".join(said), chart)


def _whole_marks(full: Difference | None, *, y: float, color: str, said: str) -> marks.Layers:
    if full is None or full.estimate is None:
        return []
    if full.ci_low is None or full.ci_low == full.ci_high:
        return [marks.dots([{"x": full.estimate, "y": y, "said": said}], color=color, name="full")]
    interval = {"x": full.ci_low, "x2": full.ci_high, "y": y, "said": said}
    return [
        marks.line([interval], color=color, width=7, name="full"),
        marks.upright([{"x": full.estimate, "y": y - 4, "y2": y + 4}], color=LIGHT["card"], width=2.4),
    ]


def _full(analysis: Analysis, head: Headline, s: SingleRuns) -> Difference | None:
    """The full study's difference of the same contrast, for the headline's target."""
    cell = (s.model, s.reference, s.task, s.decoding, s.judge, s.metric, s.note, head.target)
    return next(
        (
            d
            for d in analysis.differences
            if (d.model, d.reference, d.task, d.decoding, d.judge, d.metric, d.note, d.target) == cell
        ),
        None,
    )


def movements(analysis: Analysis, head: Headline) -> Figure:
    """The SD in points per facet, a dot per model; a panel per task and decoding."""
    groups: dict[tuple[str, str], list[Movement]] = defaultdict(list)
    for one in sorted(analysis.movements, key=lambda m: not in_headline(m, head)):
        if same_measure(one, head):
            groups[one.task, one.decoding].append(one)
    return Figure(
        "movements",
        "How far each facet moves the rate",
        "A dot is the SD of single measurements of one model when only that facet is changed and all else "
        "stays as in the baseline. The spread over training seeds holds the noise of one draw.",
        tuple(_movements_panel(group, model_colours(analysis)) for group in groups.values()),
        "No facet was varied.",
    )


def _movements_panel(group: Sequence[Movement], color_of: dict[str, str]) -> Panel:
    order = list(color_of)
    top = _around([m.sd for m in group])[1]
    layers: marks.Layers = []
    said: list[str] = []
    y = 0.0
    for facet in dict.fromkeys(m.facet for m in sorted(group, key=lambda m: -m.sd)):
        own = sorted((m for m in group if m.facet == facet), key=lambda m: order.index(m.model))
        layers.append(
            marks.text([{"px": 0, "y": y + 8, "text": words.capital(FACETS[facet])}], fontWeight=600)
        )
        for row, m in enumerate(own):
            at, color = y + 28 + 18 * row, color_of[m.model]
            name = f"{_short(m.model, 16)} {words.size(m.sd)}"
            layers += [
                marks.line([{"x": 0, "x2": m.sd, "y": at}], color=color, width=1.6, name="stems"),
                marks.dots([{"x": m.sd, "y": at, "said": _sd(m)}], color=color, name="spreads"),
                marks.label([{"x": m.sd, "y": at, "text": name}], dx=9),
            ]
        numbers = words.listed(f"{visible(m.model)} {spread(m)}" for m in own)
        said.append(f"{FACETS[facet]}: {numbers}")
        y += 34 + 18 * len(own)
    first = group[0]
    # The right third belongs to the names beside the dots.
    chart = marks.panel(layers, height=y - 8, domain=(0, top * 1.6), **_SIZES)
    title = (words.metric_title(first), f"{first.task}, {first.decoding}: SD in points")
    return build(stem("movements", first.task, first.decoding), title, "; ".join(said), chart)


def _sd(m: Movement) -> str:
    return f"{visible(m.model)}, {FACETS[m.facet]}: SD {spread(m)}"


def _around(values: Sequence[float]) -> tuple[float, float]:
    """An axis that holds 0 and all values, with a margin of a twentieth on both sides."""
    low, high = min([0.0, *values]), max([0.0, *values])
    pad = max(high - low, 0.01) / 20
    return low - pad, high + pad


def _short(name: str, most: int) -> str:
    name = visible(name)
    return name if len(name) <= most else name[: most - 1].rstrip() + "…"
