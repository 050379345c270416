"""Figures of rates: every seed, one checkpoint drawn again, two decodings."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from aftertune.foreign_text import visible
from aftertune.records.analysis import Analysis, Consistency, Rate, SeedRate
from aftertune.report import marks, words
from aftertune.report.figure import Figure, Panel, build, stem
from aftertune.report.select import Headline, key_of, model_colours, panels, same_measure
from aftertune.report.theme import LIGHT

_MOST_CHECKPOINTS = 6  # of repeated measurement; the table has them all


def every_seed(analysis: Analysis, head: Headline) -> Figure:
    """Every checkpoint's rate per model, with both intervals; a panel per task and decoding."""
    keys = panels(analysis, head)
    color_of = model_colours(analysis)
    drawn = {
        key: [r for m in color_of for r in analysis.rates if r.model == m and key_of(r) == key]
        for key in keys
    }
    tops = {  # one axis a metric, so that its panels can be held against each other
        m: marks.top_of([v for k in keys if k[3] == m for r in drawn[k] for v in _extent(r)])
        for m in {key[3] for key in keys}
    }
    level = f"{analysis.level:.0%}"
    bounded = any(rate.estimate is None for rates in drawn.values() for rate in rates)
    return Figure(
        "rates",
        "Every seed, beside the base",
        "A dot is one checkpoint (a recipe trained with one seed). The thick line is the "
        f"{level} interval for these items, the thin line the one for a population of items like these; the "
        "notch is the estimate. The dashes mark the base's rate. In brackets stands the interval for these "
        "items." + (" Dots in a row: the bounds, where too many judgments are missing." if bounded else ""),
        tuple(
            _rates_panel(
                rates,
                color_of,
                base=analysis.base,
                judge="" if key[2] == head.judge else key[2],
                top=tops[key[3]],
            )
            for key, rates in drawn.items()
        ),
        "There are no rates.",
    )


def _rates_panel(
    rates: Sequence[Rate], color_of: dict[str, str], *, base: str | None, judge: str, top: float
) -> Panel:
    layers: marks.Layers = []
    of_base = next((r.estimate for r in rates if r.model == base), None)
    height = 66 * len(rates) - 6
    if of_base is not None and len(rates) > 1:
        bands = [{"x": of_base, "y": 66 * row + 22, "y2": 66 * row + 56} for row in range(len(rates))]
        layers.append(marks.upright(bands, color=LIGHT["base"], strokeDash=[3, 3]))
    for row, rate in enumerate(rates):
        layers += _rate_row(rate, y=66 * row, top=top, color=color_of[rate.model])
    label = "; ".join(f"{visible(r.model)} {words.with_interval(r, 'benchmark')}" for r in rates)
    first = rates[0]
    name = stem("rates", first.metric, first.task, first.decoding, judge)
    title = (words.metric_title(first), f"{first.task}, {first.decoding}" + (f", {judge}" if judge else ""))
    return build(name, title, label, marks.panel(layers, height=height, domain=(0, top)))


def _rate_row(rate: Rate, *, y: float, top: float, color: str) -> marks.Layers:
    layers = marks.header(
        y + 8, name=visible(rate.model), value=words.with_interval(rate, "benchmark"), color=color
    )
    model = visible(rate.model)
    seeds = {_who(rate.model, s): s.estimate for s in rate.per_seed if s.estimate is not None}
    if rate.estimate is None:
        bounds = {
            "x": rate.bounds.low,
            "x2": rate.bounds.high,
            "y": y + 48,
            "said": f"{model}: {_bounds(rate)}",
        }
        layers.append(marks.line([bounds], color=color, width=2, name="bounds", strokeDash=[2, 3]))
    if rate.population is not None:
        thin = {"x": rate.population.ci_low, "x2": rate.population.ci_high, "y": y + 48}
        thin |= {"said": f"{model}, {words.TARGETS['population']}: {words.with_interval(rate, 'population')}"}
        layers.append(marks.line([thin], color=color, width=1.6, name="population"))
    if rate.benchmark is not None:
        thick = {"x": rate.benchmark.ci_low, "x2": rate.benchmark.ci_high, "y": y + 48}
        thick |= {"said": f"{model}, {words.TARGETS['benchmark']}: {words.with_interval(rate, 'benchmark')}"}
        layers.append(marks.line([thick], color=color, width=7, name="benchmark"))
    if rate.estimate is not None and rate.benchmark is not None:
        notch = {"x": rate.estimate, "y": y + 44, "y2": y + 52}
        exact = rate.benchmark.ci_low == rate.benchmark.ci_high  # no thick line to cut a notch into
        layers.append(marks.upright([notch], color=color if exact else LIGHT["card"], width=2.4))
    said = [f"{who}: {words.percent(value)}" for who, value in seeds.items()]
    dots = marks.stacked(list(seeds.values()), y=y + 34, domain=top, said=said)
    layers.append(marks.dots(dots, color=color, name="seeds"))
    return layers


def _who(model: str, one: SeedRate) -> str:
    return visible(one.checkpoint if one.seed is None else f"{model}, seed {one.seed}")


def _bounds(rate: Rate) -> str:
    return f"between {words.percent(rate.bounds.low)} and {words.percent(rate.bounds.high)}"


def repeated(analysis: Analysis, head: Headline) -> Figure:
    """The rate of each draw from one checkpoint, their min–max, and the checkpoint's interval."""
    found = [c for c in analysis.consistency if same_measure(c, head) and c.n_repeats > 1]
    groups: dict[tuple[str, str], list[Consistency]] = defaultdict(list)
    for one in sorted(found, key=lambda c: (-c.n_repeats, c.seed or 0)):  # the most often drawn first
        groups[one.task, one.decoding].append(one)
    more = any(len(group) > _MOST_CHECKPOINTS for group in groups.values())
    return Figure(
        "repeated",
        "The same checkpoint, measured again",
        "A dot is one draw of the whole task from one checkpoint. The bracket is the min–max of the draws: a "
        "further draw falls inside it only with the probability written there. The thick line is the "
        f"{analysis.level:.0%} interval of this checkpoint's rate on these items. Neither says anything "
        "about another training seed."
        + (f" The {_MOST_CHECKPOINTS} most drawn checkpoints are shown." if more else ""),
        tuple(
            _repeated_panel(group[:_MOST_CHECKPOINTS], model_colours(analysis)) for group in groups.values()
        ),
        "No checkpoint was drawn more than once on the same items (repeats: 2 or more gives this figure).",
    )


def _repeated_panel(group: Sequence[Consistency], color_of: dict[str, str]) -> Panel:
    top = marks.top_of([v for c in group for v in (c.maximum, c.interval.ci_high)])
    layers: marks.Layers = []
    said: list[str] = []
    for row, one in enumerate(group):
        y, color = 112 * row, color_of[one.model]
        reach = f"{words.percent_span(one.minimum, one.maximum)} in {one.n_repeats} draws"
        new_run = f"min–max: a new run falls inside with probability {one.new_run_in_range:.0%}"
        interval = words.percent_range(one.interval.ci_low, one.interval.ci_high)
        level = f"interval, this checkpoint on these items: {interval}"
        said.append(f"{visible(one.checkpoint)}: {reach}; {new_run}; {level}")
        layers += marks.header(y + 8, name=visible(one.checkpoint), value=reach, color=color)
        draws = [f"draw {n}: {words.percent(value)}" for n, value in enumerate(one.per_repeat, start=1)]
        ends = [{"x": x, "y": y + 42, "y2": y + 50} for x in (one.minimum, one.maximum)]
        layers += [
            marks.dots(
                marks.stacked(one.per_repeat, y=y + 34, domain=top, said=draws), color=color, name="draws"
            ),
            marks.line(
                [{"x": one.minimum, "x2": one.maximum, "y": y + 46, "said": f"{reach}; {new_run}"}],
                color=color,
                width=1.6,
                name="range",
            ),
            marks.upright(ends, color=color, width=1.6),
            marks.line(
                [{"x": one.interval.ci_low, "x2": one.interval.ci_high, "y": y + 60, "said": level}],
                color=color,
                width=7,
                name="interval",
            ),
            marks.upright([{"x": one.estimate, "y": y + 56, "y2": y + 64}], color=LIGHT["card"], width=2.4),
            marks.text(
                [{"px": 0, "y": y + 76, "text": new_run}, {"px": 0, "y": y + 92, "text": level}],
                fontSize=12,
                color=LIGHT["muted"],
            ),
        ]
    first = group[0]
    title = (words.metric_title(first), f"{first.task}, {first.decoding}")
    name = stem("repeated", first.task, first.decoding)
    return build(
        name, title, "; ".join(said), marks.panel(layers, height=112 * len(group) - 10, domain=(0, top))
    )


def decodings(analysis: Analysis, head: Headline) -> Figure:
    """Each checkpoint's rate under two decodings."""
    drawn: list[Panel] = []
    for task in dict.fromkeys(r.task for r in analysis.rates if same_measure(r, head)):
        rates = [r for r in analysis.rates if same_measure(r, head) and r.task == task]
        names = sorted(dict.fromkeys(r.decoding for r in rates), key=lambda name: name != "greedy")
        drawn += [_decodings_panel(rates, names[0], other, model_colours(analysis)) for other in names[1:]]
    return Figure(
        "decodings",
        "Greedy against sampled",
        "One line per checkpoint: its rate under the first decoding (hollow) and under the second (filled). "
        "The same weights on the same items; only the way of drawing the text differs.",
        tuple(drawn),
        "Only one decoding was run.",
    )


def _decodings_panel(rates: Sequence[Rate], first: str, second: str, color_of: dict[str, str]) -> Panel:
    pairs = {m: [_of(rates, m, name) for name in (first, second)] for m in color_of}
    top = marks.top_of([s.estimate for r in rates for s in r.per_seed])
    layers: marks.Layers = []
    said: list[str] = []
    y = 0.0
    for model, (a, b) in pairs.items():
        if a is None or b is None:
            continue
        value = f"{words.percent(a.estimate)} → {words.percent(b.estimate)}"
        said.append(f"{visible(model)}: {first} {value} {second}")
        layers += marks.header(y + 8, name=visible(model), value=value, color=color_of[model])
        rows = _joined(a, b, y=y + 28)
        layers += _dumbbells(rows, color=color_of[model])
        y += 30 + 13 * len(rows)
    title = (words.metric_title(rates[0]), f"{rates[0].task}: {first} (hollow) → {second} (filled)")
    name = stem("decodings", rates[0].task, first, second)
    return build(name, title, "; ".join(said), marks.panel(layers, height=max(y - 4, 20), domain=(0, top)))


def _joined(a: Rate, b: Rate, *, y: float) -> list[dict[str, Any]]:
    """Checkpoints with a rate under both decodings, a line each."""
    second = {s.checkpoint: s.estimate for s in b.per_seed}
    both = [(_who(a.model, s), s.estimate, second.get(s.checkpoint)) for s in a.per_seed]
    kept = [(who, x, x2) for who, x, x2 in both if x is not None and x2 is not None]
    return [
        {
            "x": x,
            "x2": x2,
            "y": y + 13 * row,
            "said": visible(f"{who}: {a.decoding} {words.percent(x)} → {words.percent(x2)} {b.decoding}"),
        }
        for row, (who, x, x2) in enumerate(kept)
    ]


def _dumbbells(rows: Sequence[dict[str, Any]], *, color: str) -> marks.Layers:
    ends = [{"x": row["x2"], "y": row["y"], "said": row["said"]} for row in rows]
    return [
        marks.line(rows, color=color, width=1.6, name="pairs"),
        marks.dots(rows, color=color, name="first", filled=False),
        marks.dots(ends, color=color, name="second"),
    ]


def _extent(rate: Rate) -> list[float | None]:
    ends = [interval.ci_high for interval in (rate.benchmark, rate.population) if interval is not None]
    bounds = [rate.bounds.high] if rate.estimate is None else []
    return [*ends, *bounds, *(s.estimate for s in rate.per_seed)]


def _of(rates: Sequence[Rate], model: str, decoding: str) -> Rate | None:
    return next((r for r in rates if (r.model, r.decoding) == (model, decoding)), None)
