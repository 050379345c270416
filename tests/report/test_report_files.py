import csv
import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import altair
import jsonschema
import pytest
from variation_results import with_variations

from aftertune.records.analysis import Analysis
from aftertune.records.manifest import Manifest
from aftertune.report import summary, theme, write_report
from aftertune.report.examples import choose
from aftertune.report.figures import figures
from aftertune.report.marks import WIDTH, stacked, top_of
from aftertune.report.select import headline
from conftest import build, with_base

COUNTS = {
    "rates": 24,
    "per_seed": 88,
    "differences": 8,
    "components": 8,
    "consistency": 1,
    "flips": 28,
    "warnings": 1,
}


@pytest.fixture(scope="module")
def out(analysis: Analysis, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(
        analysis, examples=None, manifest=Manifest(), out=tmp_path_factory.mktemp("report")
    ).parent


def table(out: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((out / "tables" / f"{name}.csv").read_text(encoding="utf-8"))))


@pytest.mark.parametrize("name", COUNTS)
def test_csv_tables_have_a_row_each(out: Path, name: str):
    assert len(table(out, name)) == COUNTS[name]


def test_csv_numbers_are_the_analysis_numbers(out: Path, analysis: Analysis):
    for row, rate in zip(table(out, "rates"), analysis.rates, strict=True):
        assert float(row["estimate"]) == rate.estimate
        assert rate.benchmark is not None and float(row["benchmark_ci_low"]) == rate.benchmark.ci_low
        assert row["spread_sd"] == ("" if rate.spread is None else "0.045")
    first = table(out, "differences")[0]
    assert (first["covers"], first["primary"], first["table_n_lost"]) == ("seed;repeat", "False", "")
    assert table(out, "per_seed")[2]["checkpoint"] == "chat/1"
    assert table(out, "consistency")[0]["per_repeat"] == "0.1;0.117;0.117;0.083;0.167"


def test_markdown_tables_are_square(base: str, out: Path):
    text = (out / "report.md").read_text(encoding="utf-8")
    assert text.startswith("# demo: what the tune changed\n")
    assert f"**chat: less safe than {base}** (+30.0 points [+21.0, +40.0], 95% interval)" in text
    blocks = re.findall(r"(?:^\|.*\n)+", text, flags=re.M)
    assert len(blocks) >= 8
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1
    for image in re.findall(r"!\[[^]]*\]\(([^)]*)\)", text):
        assert (out / image).is_file()


def test_what_is_drawn_is_valid_vega_lite(
    analysis: Analysis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    drawn: list[dict[str, Any]] = []

    def draw(spec: dict[str, Any], **options: str) -> str:
        drawn.append(spec)
        return vegalite_to_svg(spec, **options)

    vegalite_to_svg = theme.vl_convert.vegalite_to_svg
    monkeypatch.setattr(theme.vl_convert, "vegalite_to_svg", draw)
    write_report(analysis, examples=None, manifest=Manifest(), out=tmp_path)
    assert len(drawn) > 5
    validator = jsonschema.Draft7Validator(altair.load_schema())
    assert [error.message for spec in drawn for error in validator.iter_errors(spec)] == []


def test_figures_are_svg_of_their_own(out: Path):
    names = sorted(p.stem for p in (out / "figures").iterdir())
    assert names == [
        "components-mini-harm-sampled",
        "decodings-mini-harm-greedy-sampled",
        "flips-chat-mini-harm-sampled",
        "flips-chat-self-mini-harm-sampled",
        "rates-compliance_rate-mini-harm-greedy",
        "rates-compliance_rate-mini-harm-sampled",
        "rates-over_refusal_rate-mini-lookalikes-greedy",
        "rates-over_refusal_rate-mini-lookalikes-sampled",
        "repeated-mini-harm-sampled",
    ]
    for path in (out / "figures").iterdir():
        text = path.read_text(encoding="utf-8")
        assert ET.fromstring(text).attrib["role"] == "img"
        assert "prefers-color-scheme: dark" in text
        assert not re.search(r"(?:href|src)=|url\((?!#)", text)


def marks_of(svg: str, name: str) -> list[ET.Element]:
    """The drawn elements of the marks called `name`, over all rows."""
    groups = [
        g for g in ET.fromstring(svg).iter() if re.search(rf"\b{name}_\d+_marks", g.attrib.get("class", ""))
    ]
    return [child for group in groups for child in group]


def where(element: ET.Element) -> float:
    """The x of a mark, in pixels from the left of the plot."""
    return float(re.findall(r"translate\(([-\d.]+)", element.attrib["transform"])[0])


def test_figures_hold_the_numbers(analysis: Analysis):
    head = headline(analysis)
    assert head is not None
    panels = {p.name: p for figure in figures(analysis, head) for p in figure.panels}
    rates = panels["rates-compliance_rate-mini-harm-sampled"]
    assert "chat 41.7% [36.2%, 47.2%]" in rates.label
    seeds = [0.117, 0.367, 0.367, 0.4, 0.45, 0.5, 0.117, 0.133, 0.15, 0.183, 0.2]
    drawn = [where(mark) / WIDTH * 0.6 for mark in marks_of(rates.svg, "seeds")]
    assert drawn == pytest.approx(seeds, abs=1e-6)
    thick = marks_of(rates.svg, "benchmark")
    assert [where(line) / WIDTH * 0.6 for line in thick] == pytest.approx([0.062, 0.3618, 0.1016], abs=1e-6)
    assert {line.attrib["stroke-width"] for line in thick} == {"7"}
    assert {line.attrib["stroke-width"] for line in marks_of(rates.svg, "population")} == {"1.6"}
    repeated = panels["repeated-mini-harm-sampled"]
    assert "8.3%–16.7% in 5 draws" in repeated.svg and "with probability 67%" in repeated.svg
    assert len(marks_of(repeated.svg, "draws")) == 5
    assert "16.8 refusals lost, 1.2 refusals gained" in panels["flips-chat-mini-harm-sampled"].svg
    assert len(marks_of(panels["flips-chat-mini-harm-sampled"].svg, "to_event")) == 6
    assert "training seed 2.4%" in panels["components-mini-harm-sampled"].svg
    assert len(marks_of(panels["decodings-mini-harm-greedy-sampled"].svg, "pairs")) == 11


def test_equal_dots_do_not_cover_each_other():
    rows = stacked([0.4, 0.2, 0.4, 0.4], y=34, domain=0.6)
    assert sorted(row["x"] for row in rows) == [0.2, 0.4, 0.4, 0.4]
    assert len({(row["x"], row["y"]) for row in rows}) == 4


@pytest.mark.parametrize(
    ("values", "top"), [([0.527], 0.6), ([0.5], 0.5), ([0.0], 0.1), ([1.0], 1.0), ([None], 1.0)]
)
def test_axes_end_at_the_next_tenth(values: list[float | None], top: float):
    assert top_of(values) == pytest.approx(top)


def test_the_summary_is_short_plain_and_complete(base: str, analysis: Analysis):
    many = analysis.model_copy(update={"rates": analysis.rates * 3, "differences": analysis.differences * 3})
    for one in (analysis, many):
        lines = summary(one).splitlines()
        assert len(lines) <= 30
        assert max(map(len, lines)) <= 110
    text = summary(analysis)
    assert f"chat − {base}: +30.0 points [+21.0, +40.0]: less safe than {base}" in text
    assert "mini-harm, sampled        chat       41.7% [36.2%, 47.2%]" in text
    assert text.endswith("1 warning: see the report.")
    assert "\x1b" not in text


def test_examples_are_the_items_that_changed(base: str, analysis: Analysis, examples, make_examples):
    head = headline(analysis)
    assert head is not None
    chosen = choose(examples, head, base=base)
    assert {e.base for e in chosen} == {base}
    assert [(e.change, e.checkpoint, e.item) for e in chosen] == [
        ("refusals lost", "chat/1", "i0"),
        ("refusals lost", "chat/1", "i2"),
        ("refusals gained", "chat/1", "i1"),
    ]
    assert chosen[0].before == "I'm sorry, but I can't help with that."
    many = choose(make_examples({f"prompt {n}": "x" * 2000 for n in range(30)}), head, base=base)
    assert len(many) == 4
    assert len({e.category for e in many[:3]}) == 3
    assert many[0].after.endswith("…\n[800 more characters]")
    assert choose(examples.clear(), head, base=base) == []


def test_the_base_is_grey_and_its_rate_is_dashed_whatever_its_name():
    drawn: dict[str, dict[str, list[str]]] = {}
    for base in ("base", "llama"):
        # A recipe that is called "base" beside another base is a recipe.
        renamed = with_base(with_variations(build()), base).model_dump_json()
        if base == "llama":
            renamed = renamed.replace('"chat-self"', '"base"')
        one = Analysis.model_validate_json(renamed)
        head = headline(one)
        assert head is not None
        panels = [p for figure in figures(one, head) for p in figure.panels]
        assert len(panels) > 10
        rates = next(p for p in panels if p.name == "rates-compliance_rate-mini-harm-sampled")
        grey = [
            line for line in ET.fromstring(rates.svg).iter() if line.attrib.get("stroke-dasharray") == "3,3"
        ]
        assert {line.attrib["stroke"] for line in grey} == {theme.LIGHT["base"]}
        assert [where(line) / WIDTH * 0.6 for line in grey] == pytest.approx([0.117] * 3, abs=1e-6)
        drawn[base] = {
            re.sub("-base(-[0-9a-f]{6})?", "-chat-self", p.name): sorted(re.findall(r"#[0-9a-f]{6}", p.svg))
            for p in panels
        }
    assert drawn["base"] == drawn["llama"]


def test_without_a_base_no_model_is_grey_and_nothing_is_dashed(analysis: Analysis):
    loose = analysis.model_copy(update={"base": None, "differences": (), "flips": (), "primary": None})
    head = headline(loose)
    assert head is not None
    for figure in figures(loose, head):
        for panel in figure.panels:
            assert theme.LIGHT["base"] not in panel.svg
