"""One palette for page and figures, and the way from a chart to an SVG that follows the reader's theme.

The models' colours are Okabe and Ito's ("Color Universal Design", 2008), apart for colour-blind readers; each
has a lighter twin for dark pages. A figure is drawn in the light colours, and a style rule per colour swaps
them.
"""

import re
from collections.abc import Sequence
from typing import Any

import altair as alt
import vl_convert

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
VL_VERSION = "6.4"

LIGHT = {
    "page": "#f6f7f8",
    "card": "#ffffff",
    "ink": "#1c2127",
    "muted": "#58616c",
    "line": "#d9dde2",
    "grid": "#e8ebee",
    "base": "#6e7681",
    "m0": "#0072b2",
    "m1": "#d55e00",
    "m2": "#00795a",
    "m3": "#b4578f",
    "m4": "#8a6d00",
}
DARK = {
    "page": "#101316",
    "card": "#181c20",
    "ink": "#e8eaed",
    "muted": "#a3acb6",
    "line": "#343b43",
    "grid": "#2a3037",
    "base": "#9aa3ad",
    "m0": "#56b4e9",
    "m1": "#ff9147",
    "m2": "#2fc79b",
    "m3": "#e293c2",
    "m4": "#e2c044",
}


def colours(models: Sequence[str], base: str | None) -> dict[str, str]:
    """Each model's colour, in their order: grey for the base, one of five for a recipe.

    Args:
        models: in the order of the page; explorer.js gives the same colours by the same rule.
        base: the model that the others are compared with, whatever its name; None where there is none.
    """
    recipes = [name for name in models if name != base]
    return {name: LIGHT["base"] if name == base else LIGHT[f"m{recipes.index(name) % 5}"] for name in models}


def variables(palette: dict[str, str]) -> str:
    """The palette as CSS custom properties."""
    return " ".join(f"--{name}: {value};" for name, value in palette.items())


def dark_rules() -> str:
    """CSS that swaps a figure's light colours for the dark ones, inside a media query of the caller's."""
    return "\n".join(
        f'svg [{part}="{LIGHT[name]}"] {{ {part}: {DARK[name]} }}'
        for name in LIGHT
        if name != "page"
        for part in ("fill", "stroke")
    )


def to_svg(chart: Any, *, name: str, label: str, padding: dict[str, int] | None = None) -> str:
    """An SVG for the inside of a page: `label` says in words what it shows.

    Args:
        chart: an altair layer chart, its colours from `LIGHT`.
        name: makes the ids of this figure its own on a page with others; letters, digits and dashes.
        label: the alternative text.
        padding: pixels around the plot (left, right, top, bottom), where axes need more than a panel's.
    """
    look = {
        "background": LIGHT["card"],
        # A fixed frame: no size then depends on the fonts of the machine that draws.
        "autosize": {"type": "none"},
        "padding": {"left": 6, "right": 14, "top": 48, "bottom": 26} | (padding or {}),
        "config": {"font": FONT, "aria": False, "view": {"stroke": None}},
    }
    # Set on the dictionary, since each of altair's configure methods copies the whole chart. Not validated:
    # that takes as long as all the drawing, and a test validates what is drawn here.
    spec = chart.to_dict(validate=False) | look
    svg = vl_convert.vegalite_to_svg(spec, vl_version=VL_VERSION)
    svg = re.sub(r'(id="|url\(#)', rf"\g<1>{name}-", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{_attribute(label)}" ', 1)


def standalone(svg: str) -> str:
    """The SVG as a file of its own, following the reader's theme."""
    style = f"<style>@media (prefers-color-scheme: dark) {{\n{dark_rules()}\n}}</style>"
    head, rest = svg.split(">", 1)
    return f"{head}>{style}{rest}\n"


def axis(**changes: Any) -> alt.Axis:
    """The one look of an axis: light grid, no domain line, quiet labels."""
    look: dict[str, Any] = {
        "format": ".0%",
        "tickCount": 5,
        "title": None,
        "domain": False,
        "ticks": False,
        "gridColor": LIGHT["grid"],
        "labelColor": LIGHT["muted"],
        "labelFontSize": 12,
        "labelPadding": 6,
        "labelFlush": True,
    }
    return alt.Axis(**(look | changes))


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
