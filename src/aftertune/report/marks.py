"""The marks that all figures share.

A dot is a seed or a draw, a thick line an interval for these items, a thin line one for items like these.
Rows are placed by pixel from the top, shares by a common axis.
"""

from collections.abc import Callable, Sequence
from typing import Any

import altair as alt

from aftertune.report import words
from aftertune.report.theme import LIGHT, axis

WIDTH = 400  # pixels; the page shows a panel at 300 to 560

Layers = list[alt.Chart]


def text(rows: Sequence[dict[str, Any]], **look: Any) -> alt.Chart:
    """Words at pixel positions: rows of px, y, text."""
    look = {"align": "left", "baseline": "middle", "fontSize": 13, "color": LIGHT["ink"]} | look
    return (
        _chart(rows)
        .mark_text(**look)
        .encode(x=alt.X("px:Q", scale=None), y=alt.Y("y:Q", scale=None), text="text:N")
    )


def label(x_rows: Sequence[dict[str, Any]], **look: Any) -> alt.Chart:
    """Words at a share on the axis: rows of x, y, text."""
    look = {"align": "left", "baseline": "middle", "fontSize": 12, "color": LIGHT["muted"]} | look
    return _chart(x_rows).mark_text(**look).encode(x=_x("x"), y=_y(), text="text:N")


def header(y: float, *, name: str, value: str, color: str) -> Layers:
    """A row's head: its name in its colour at the left, its numbers at the right."""
    return [
        text([{"px": 0, "y": y, "text": name}], fontWeight=600, color=color),
        text([{"px": WIDTH, "y": y, "text": value}], align="right"),
    ]


def dots(rows: Sequence[dict[str, Any]], *, color: str, name: str, filled: bool = True) -> alt.Chart:
    """A dot per row of x, y (and said); a thin rim in the card's colour keeps neighbours apart."""
    look: dict[str, Any] = {
        "filled": True,
        "size": 62,
        "opacity": 1,
        "stroke": LIGHT["card"],
        "strokeWidth": 1,
    }
    look |= {"fill": color} if filled else {"fill": LIGHT["card"], "stroke": color, "strokeWidth": 1.8}
    return _telling(
        rows, lambda chart, **aria: chart.mark_point(**look, **aria), x=_x("x"), y=_y(), name=name
    )


def line(rows: Sequence[dict[str, Any]], *, color: str, width: float, name: str, **look: Any) -> alt.Chart:
    """A level line per row of x, x2, y (and said)."""
    look |= {"color": color, "strokeWidth": width, "strokeCap": look.pop("cap", "butt")}
    return _telling(
        rows, lambda chart, **aria: chart.mark_rule(**look, **aria), x=_x("x"), x2="x2", y=_y(), name=name
    )


def upright(rows: Sequence[dict[str, Any]], *, color: str, width: float = 1, **look: Any) -> alt.Chart:
    """An upright line per row of x, y, y2."""
    return _chart(rows).mark_rule(color=color, strokeWidth=width, **look).encode(x=_x("x"), y=_y(), y2="y2")


def bars(rows: Sequence[dict[str, Any]], *, color: str, name: str, opacity: float = 1) -> alt.Chart:
    """A level bar of 13 px per row of x, x2, y (and said)."""
    return line(rows, color=color, width=13, name=name, opacity=opacity)


def panel(layers: Layers, *, height: float, domain: tuple[float, float], **axis_look: Any) -> Any:
    """The layers on one share axis over `domain`, at the panel's one width."""
    scale = alt.Scale(domain=list(domain), nice=False, zero=False)
    frame = _chart([{"x": domain[0], "y": 0}]).mark_point(opacity=0, size=0)
    drawn = frame.encode(x=alt.X("x:Q", scale=scale, axis=axis(**axis_look)), y=_y())
    for number, one in enumerate(
        layers
    ):  # Vega wants every name once; the number keeps the rows' marks apart
        one.name = f"{one.name if isinstance(one.name, str) else 'words'}-{number}"
    return alt.layer(drawn, *layers, width=WIDTH, height=height)


def titled(chart: Any, head: str, under: str) -> Any:
    """The chart, with two lines above it: what is measured, and where."""
    chart.title = alt.TitleParams(
        text=words.capital(head),
        subtitle=under,
        frame="group",
        anchor="start",
        offset=12,
        fontSize=14,
        fontWeight=600,
        color=LIGHT["ink"],
        subtitleFontSize=12,
        subtitleColor=LIGHT["muted"],
        subtitlePadding=4,
    )
    return chart


def top_of(values: Sequence[float | None]) -> float:
    """Where a share axis ends: the next tenth above all that is drawn, at most 1."""
    highest = max([value for value in values if value is not None], default=1.0)
    tenths = int(highest * 10 - 1e-9) + 1
    return min(max(tenths, 1), 10) / 10


def stacked(
    values: Sequence[float], *, y: float, domain: float, said: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Dots at `values` on the line `y`, each lifted a step where it would cover one already placed.

    `said` is what each says when pointed at.
    """
    near = domain * 9 / WIDTH
    placed: list[tuple[float, int]] = []
    rows: list[dict[str, Any]] = []
    for value, text in sorted(zip(values, said or [""] * len(values), strict=True)):
        taken = {level for x, level in placed if value - x < near}
        level = next(step for step in range(len(placed) + 1) if step not in taken)
        placed.append((value, level))
        rows.append({"x": value, "y": y - 5 * min(level, 3)} | ({"said": text} if text else {}))
    return rows


def _chart(rows: Sequence[dict[str, Any]]) -> alt.Chart:
    return alt.Chart(alt.Data(values=list(rows)))


def _telling(
    rows: Sequence[dict[str, Any]], mark: Callable[..., alt.Chart], *, name: str, **places: Any
) -> alt.Chart:
    """The rows as marks; each that has words (`said`) says them to who points at it or listens."""
    if all("said" in row for row in rows) and rows:
        return mark(_chart(rows), aria=True).encode(**places, description="said:N").properties(name=name)
    return mark(_chart(rows)).encode(**places).properties(name=name)


def _x(field: str) -> alt.X:
    return alt.X(f"{field}:Q")


def _y() -> alt.Y:
    return alt.Y("y:Q", scale=None, axis=None)
