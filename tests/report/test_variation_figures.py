"""Figures of variations and single runs: marks at the analysis's numbers, which the text says too."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import altair
import jsonschema
import pytest

from aftertune.records.analysis import Analysis
from aftertune.records.manifest import Manifest
from aftertune.report import theme, write_report
from aftertune.report.figure import Figure, Panel
from aftertune.report.marks import WIDTH
from aftertune.report.select import headline
from aftertune.report.variation_figures import figures


def drawn(analysis: Analysis) -> list[Figure]:
    head = headline(analysis)
    assert head is not None
    return figures(analysis, head)


@pytest.fixture(scope="module")
def panels(varied: Analysis) -> dict[str, Panel]:
    return {p.name: p for figure in drawn(varied) for p in figure.panels}


def lines_of(svg: str, name: str) -> list[tuple[float, float]]:
    """From and to of the level lines of a mark, in pixels from the left of the plot."""
    found: list[tuple[float, float]] = []
    for group in ET.fromstring(svg).iter():
        if re.search(rf"\b{name}_\d+_marks", group.attrib.get("class", "")):
            for mark in group:
                (x,) = re.findall(r"translate\(([-\d.]+)", mark.attrib["transform"])
                found.append((float(x), float(x) + float(mark.attrib["x2"])))
    return found


def on_axis(low: float, high: float, values: list[float]) -> list[float]:
    pad = (high - low) / 20
    return [(value - low + pad) / (high - low + 2 * pad) * WIDTH for value in values]


def test_the_figures_and_their_files(varied: Analysis, analysis: Analysis, panels: dict[str, Panel]):
    assert [figure.title for figure in drawn(varied)] == [
        "What moves the score",
        "What one run would have said",
        "How far each facet moves the rate",
    ]
    assert list(panels) == [
        "moves-chat-mini-harm-sampled",
        "single-runs-mini-harm-sampled",
        "single-runs-mini-harm-greedy",
        "movements-mini-harm-sampled",
    ]
    assert drawn(analysis) == []


def test_what_moves_the_score_is_sorted_and_drawn_to_scale(panels: dict[str, Panel]):
    panel = panels["moves-chat-mini-harm-sampled"]
    names = [
        "more-data · design", "hotter · procedure", "training seed · facet", "repeated draw · facet",
        "decoding · facet", "rows-8 · numerics",
    ]  # fmt: skip
    places = [panel.label.index(name) for name in names]
    assert places == sorted(places)
    assert "more-data · design: −12.0 [−20.0, −4.0], noise ±4.1" in panel.label
    assert "variation · facet" not in panel.label and "chat-self" not in panel.label
    for name in names:
        assert name in panel.svg
    low, high = -0.2, 0.142
    spans = on_axis(low, high, [-0.2, -0.04, 0.042, 0.142])
    assert [x for line in lines_of(panel.svg, "intervals") for x in line] == pytest.approx(spans, abs=0.01)
    band = on_axis(low, high, [-0.041, 0.041])
    assert [list(line) for line in lines_of(panel.svg, "noise")] == [pytest.approx(band, abs=0.01)] * 2
    spread = on_axis(low, high, [-0.058, 0.058])
    assert list(lines_of(panel.svg, "spread")[0]) == pytest.approx(spread, abs=0.01)


def test_the_noise_lies_behind_the_intervals(panels: dict[str, Panel]):
    order = re.findall(r"\b(noise|intervals)_\d+_marks", panels["moves-chat-mini-harm-sampled"].svg)
    assert order[0] == "noise" and "noise" not in order[1:] and order.count("intervals") == 2


def test_single_runs_beside_the_full_study(base: str, varied: Analysis, panels: dict[str, Panel]):
    panel = panels["single-runs-mini-harm-sampled"]
    assert (
        f"chat − {base}: single runs from +16.7 to +41.7 points; the full study less safe, "
        "+30.0 points [+21.0, +40.0]; 6.0% of 50 runs say otherwise"
    ) in panel.label
    assert "24.0% of 50 runs say otherwise" in panel.svg
    low = min(d.ci_low for d in varied.differences if d.decoding == "sampled" and d.ci_low is not None)
    ends = on_axis(low, 0.417, [0.167, 0.417, -0.05, 0.1])
    assert [x for line in lines_of(panel.svg, "runs") for x in line] == pytest.approx(ends, abs=0.01)
    assert len(lines_of(panel.svg, "full")) == 2


def test_movements_name_the_model_beside_each_dot(base: str, panels: dict[str, Panel]):
    panel = panels["movements-mini-harm-sampled"]
    assert "training seed: chat 5.8 points and chat-self 3.3 points" in panel.label
    for text in ("Training seed", "chat 5.8", "chat-self 3.3", f"{base} 2.7", "Decoding"):
        assert f">{text}</text>" in panel.svg


def test_what_is_absent_leaves_its_mark_out(varied: Analysis):
    absent = dict.fromkeys(("estimate", "ci_low", "ci_high", "noise"))
    effects = tuple(e.model_copy(update=absent) for e in varied.variation_effects)
    bare = varied.model_copy(update={"variation_effects": effects, "differences": (), "movements": ()})
    moves, runs = drawn(bare)
    assert "hotter · procedure: no conclusion" in moves.panels[0].label
    assert lines_of(moves.panels[0].svg, "intervals") == []
    assert lines_of(runs.panels[0].svg, "full") == []
    assert "the full study less safe; " in runs.panels[0].label


def test_many_rows_are_cut_and_that_is_said(varied: Analysis):
    one = varied.variation_effects[1]
    many = tuple(
        one.model_copy(update={"variation": f"v{i}", "estimate": i / 100, "ci_low": 0.0, "ci_high": 0.4})
        for i in range(30)
    )
    figure = drawn(varied.model_copy(update={"variation_effects": many, "movements": ()}))[0]
    assert "The 18 largest are shown." in figure.caption
    assert "v29 · procedure" in figure.panels[0].svg and "v3 · procedure" not in figure.panels[0].svg


def test_they_are_valid_vega_lite_and_have_an_alternative_text(
    varied: Analysis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    specs: list[dict[str, Any]] = []
    vegalite_to_svg = theme.vl_convert.vegalite_to_svg

    def draw(spec: dict[str, Any], **options: str) -> str:
        specs.append(spec)
        return vegalite_to_svg(spec, **options)

    monkeypatch.setattr(theme.vl_convert, "vegalite_to_svg", draw)
    write_report(varied, examples=None, manifest=Manifest(), out=tmp_path)
    validator = jsonschema.Draft7Validator(altair.load_schema())
    assert [error.message for spec in specs[-4:] for error in validator.iter_errors(spec)] == []
    for name in ("moves-chat-mini-harm-sampled", "movements-mini-harm-sampled"):
        svg = ET.fromstring((tmp_path / "figures" / f"{name}.svg").read_text("utf-8"))
        assert svg.attrib["role"] == "img" and "points" in svg.attrib["aria-label"]
