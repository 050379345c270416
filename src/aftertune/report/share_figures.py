"""Figures of shares and counts: variance components, and items that changed by category."""

from collections import defaultdict
from collections.abc import Sequence

from aftertune.foreign_text import visible
from aftertune.records.analysis import Analysis, Component, Flip
from aftertune.report import marks, words
from aftertune.report.figure import Figure, Panel, build, stem
from aftertune.report.select import Headline, in_headline, model_colours, same_measure
from aftertune.report.theme import LIGHT

_FACETS = {"seed": "training seed", "item": "item", "seed×item": "seed × item", "repeat": "repeated draw"}


def components(analysis: Analysis, head: Headline) -> Figure:
    """Each source's share of the variance, a group of bars per recipe."""
    found = [c for c in analysis.components if same_measure(c, head)]
    groups: dict[tuple[str, str], list[Component]] = defaultdict(list)
    for one in found:
        groups[one.task, one.decoding].append(one)
    return Figure(
        "components",
        "Where the variance comes from",
        "The share of each source in the variance of one judgment. The training seed is drawn solid: it is "
        "what a single run cannot see, and what more items or more draws do not average away.",
        tuple(_components_panel(group, model_colours(analysis)) for group in groups.values()),
        "Variance components need a recipe with at least two seeds.",
    )


def _components_panel(group: Sequence[Component], color_of: dict[str, str]) -> Panel:
    layers: marks.Layers = []
    said: list[str] = []
    y = 0.0
    for model in [m for m in color_of if any(c.model == m for c in group)]:
        color = color_of[model]
        own = [c for c in group if c.model == model]
        layers.append(
            marks.text([{"px": 0, "y": y + 8, "text": visible(model)}], fontWeight=600, color=color)
        )
        rows = [
            {"x": 0, "x2": c.share, "y": y + 28 + 20 * row, "said": f"{visible(model)}: {_share(c)}"}
            for row, c in enumerate(own)
        ]
        solid = [row for row, c in zip(rows, own, strict=True) if c.facet == "seed"]
        tinted = [row for row, c in zip(rows, own, strict=True) if c.facet != "seed"]
        layers += [
            marks.bars(solid, color=color, name="seed"),
            marks.bars(tinted, color=color, name="others", opacity=0.4),
            marks.label(
                [row | {"x": c.share, "text": _share(c)} for row, c in zip(rows, own, strict=True)], dx=6
            ),
        ]
        said.append(f"{visible(model)}: {words.listed(_share(c) for c in own)}")
        y += 34 + 20 * len(own)
    first = group[0]
    title = (words.metric_title(first), f"{first.task}, {first.decoding}")
    chart = marks.panel(layers, height=y - 8, domain=(0, 1.3), values=[0, 0.25, 0.5, 0.75, 1])
    return build(stem("components", first.task, first.decoding), title, "; ".join(said), chart)


def _share(component: Component) -> str:
    return f"{_FACETS.get(component.facet, component.facet)} {words.percent(component.share)}"


def flips(analysis: Analysis, head: Headline) -> Figure:
    """Items that changed against the base, both ways, by category; a panel per recipe."""
    found = [f for f in analysis.flips if in_headline(f, head)]
    to_event, to_no_event = words.changes(head.metric)
    reach = [
        max((getattr(f, side) for f in found if f.category), default=0.0)
        for side in ("to_event", "to_no_event")
    ]
    color_of = model_colours(analysis)
    groups: dict[str, list[Flip]] = defaultdict(list)
    for one in found:
        groups[one.model].append(one)
    return Figure(
        "flips",
        f"{_flips_title((to_event, to_no_event))}, by category",
        f"Items per checkpoint, on average over seeds and draws, against the base. Right, solid: {to_event}. "
        f"Left, tinted: {to_no_event}. In brackets the number of items of the category.",
        tuple(
            _flips_panel(group, (to_event, to_no_event), (reach[0], reach[1]), color_of[model])
            for model, group in groups.items()
        ),
        "There is no recipe to hold against the base.",
    )


def _flips_panel(
    group: Sequence[Flip], names: tuple[str, str], reach: tuple[float, float], color: str
) -> Panel:
    right, left = max(reach[0], 0.5), max(reach[1], 0.5)
    # Half of the panel, at the left, belongs to the categories' names, a margin at both ends to the numbers.
    unit = (right + left) / 0.42
    domain = (-left - 0.49 * unit, right + 0.09 * unit)
    rows = sorted(
        [f for f in group if f.category is not None], key=lambda f: (-f.to_event, f.to_no_event, f.category)
    )
    total = next((f for f in group if f.category is None), None)
    sums = f"{total.to_event:.1f} {names[0]}, {total.to_no_event:.1f} {names[1]}" if total else ""
    places = [(flip, 46 + 20 * row) for row, flip in enumerate(rows)]
    layers = [
        *marks.header(8, name=visible(group[0].model), value=sums, color=color),
        marks.label([{"x": 0, "y": 28, "text": f"{names[0]} →"}], dx=4),
        marks.label([{"x": 0, "y": 28, "text": f"← {names[1]}"}], dx=-4, align="right"),
        marks.bars(
            [{"x": 0, "x2": f.to_event, "y": y, "said": _changed(f, names)} for f, y in places],
            color=color,
            name="to_event",
        ),
        marks.bars(
            [{"x": -f.to_no_event, "x2": 0, "y": y, "said": _changed(f, names)} for f, y in places],
            color=color,
            name="to_no_event",
            opacity=0.4,
        ),
        marks.upright([{"x": 0, "y": 36, "y2": 46 + 20 * len(rows) - 8}], color=LIGHT["muted"]),
        marks.text([{"px": 0, "y": y, "text": _category(f)} for f, y in places], fontSize=12),
        marks.label([{"x": f.to_event, "y": y, "text": f"{f.to_event:.1f}"} for f, y in places], dx=4),
        marks.label(
            [
                {"x": -f.to_no_event, "y": y, "text": f"{f.to_no_event:.1f}"}
                for f, y in places
                if f.to_no_event
            ],
            dx=-4,
            align="right",
        ),
    ]
    first = group[0]
    label = f"{sums}; " + "; ".join(_changed(f, names) for f in rows)
    chart = marks.panel(layers, height=40 + 20 * len(rows), domain=domain, labels=False, grid=False)
    title = (_flips_title(names), f"{first.model} against {first.reference}; {first.task}, {first.decoding}")
    return build(stem("flips", first.model, first.task, first.decoding), title, label, chart)


def _flips_title(names: tuple[str, str]) -> str:
    return f"{names[0].capitalize()} and {names[1].split()[-1]}"


def _changed(flip: Flip, names: tuple[str, str]) -> str:
    name = visible(flip.category or "all items")
    return f"{name} ({flip.n_items}): {flip.to_event:.1f} {names[0]}, {flip.to_no_event:.1f} {names[1]}"


def _category(flip: Flip) -> str:
    name = visible(flip.category or "all items")
    return f"{name if len(name) <= 18 else name[:17].rstrip() + '…'} ({flip.n_items})"
