"""A picture of precision against cost: a line for each number of repeats, a dot for each number of seeds."""

from collections.abc import Sequence
from typing import Any

import altair as alt

from aftertune.report.theme import LIGHT, axis, standalone, to_svg

_WIDTH, _HEIGHT = 480, 300


def plan_svg(rows: Sequence[dict[str, Any]], *, cost: str) -> str:
    """Rows of cost, half_width (points), n_seeds and repeats; `cost` names the axis."""
    data = alt.Data(values=list(rows))
    colours = [LIGHT[name] for name in ("m0", "m1", "m2", "m3")]
    look = {"format": ".3~r", "titleColor": LIGHT["muted"], "titleFontWeight": "normal"}
    x = alt.X("cost:Q", axis=axis(title=cost, **look), scale=alt.Scale(zero=True))
    y = alt.Y("half_width:Q", axis=axis(title="± points", **look), scale=alt.Scale(zero=True))
    legend = alt.Legend(title=None, orient="top-right", labelColor=LIGHT["ink"])
    colour = alt.Color("repeats:N", scale=alt.Scale(range=colours), legend=legend)
    base = alt.Chart(data).encode(x=x, y=y, color=colour)
    seeds = base.mark_text(dy=-11, fontSize=11).encode(text="n_seeds:Q")
    chart = alt.layer(base.mark_line(), base.mark_point(filled=True, size=50), seeds)
    chart = chart.properties(width=_WIDTH, height=_HEIGHT, title="Precision against cost, by training seeds")
    said = "; ".join(f"{r['n_seeds']} seeds, {r['repeats']}: ±{r['half_width']:.1f}" for r in rows)
    label = f"Half-width in points against {cost}. {said}"
    return standalone(to_svg(chart, name="plan", label=label, padding={"left": 56, "bottom": 48}))
