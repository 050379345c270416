"""The tables beside the differences, and what is said of settings that nobody fixed before."""

import csv
import io
from pathlib import Path

from aftertune.records.analysis import Analysis
from aftertune.records.manifest import Manifest
from aftertune.report import summary, write_report
from aftertune.report.contrast_tables import categories, controls, design, signs


def test_they_show_what_the_analysis_holds_and_compute_nothing(base: str, analysis: Analysis):
    row = categories(analysis).rows[0]
    assert row[:5] == (
        f"chat − {base}, sampled",
        "compliance with harmful requests (by refusal)",
        "mini-harm, refusal-rules",
        "fraud",
        "10",
    )
    assert row[5:] == ("+30.0 points [+10.0, +50.0]", "0.001", "0.006", "less safe")
    assert signs(analysis).rows[0][3:] == ("2", "2 : 0", "1", "0", "0")
    assert controls(analysis).rows[0][3:] == (
        "1, 3, 5 against 2, 4, 6", "+2.0 points [−10.0, +14.0]", "0.600", "0.900", "yes",
    )  # fmt: skip
    assert design(analysis).note == "Found: grid: 3 models."


def test_they_stand_folded_in_the_page_and_as_csv(analysis: Analysis, tmp_path: Path):
    write_report(analysis, examples=None, manifest=Manifest(), out=tmp_path)
    page = (tmp_path / "index.html").read_text("utf-8")
    for title in (
        "Differences by category", "Do benchmarks and judges agree?", "A/A controls",
        "The design that was found",
    ):  # fmt: skip
        assert f"<summary>{title}</summary>" in page
        assert f"## {title}" in (tmp_path / "report.md").read_text("utf-8")
    for name, n in (("categories", 12), ("signs", 2), ("controls", 2)):
        text = (tmp_path / "tables" / f"{name}.csv").read_text("utf-8")
        assert len(list(csv.DictReader(io.StringIO(text)))) == n
    assert "post hoc" not in page


def test_without_rows_they_are_absent(analysis: Analysis, tmp_path: Path):
    names = ("categories", "signs", "controls")
    bare = analysis.model_copy(update=dict.fromkeys(names, ()) | {"design": None})
    write_report(bare, examples=None, manifest=Manifest(), out=tmp_path)
    page = (tmp_path / "index.html").read_text("utf-8")
    assert "A/A controls" not in page and "The design that was found" not in page


def test_what_was_chosen_after_the_run_is_called_so(analysis: Analysis, tmp_path: Path):
    late = analysis.model_copy(update={"post_hoc": ("margin", "primary")})
    write_report(late, examples=None, manifest=Manifest(), out=tmp_path)
    for name in ("index.html", "report.md"):
        text = (tmp_path / name).read_text("utf-8")
        assert "The margin is 5.0 points, chosen after the run (post hoc)" in text
        assert "This contrast was chosen with the analysis, and not before the run (post hoc)" in text
    assert "Post hoc, given with the analysis: margin and primary" in summary(late, in_full=True)


def test_the_full_summary_tells_design_and_warnings(analysis: Analysis):
    short, full = summary(analysis), summary(analysis, in_full=True)
    assert full.startswith(
        "Design found: grid: 3 models\n  chat, chat-self (mini-harm · sampled · refusal-rules): a recipe"
    )
    assert short.removesuffix("1 warning: see the report.") in full
    assert "few_seeds: chat, mini-harm, sampled: 5 seeds" in full and "→ Raise `seeds`" in full
    many = analysis.model_copy(update={"warnings": analysis.warnings * 5})
    assert "  … 2 more of few_seeds in analysis.json\n    → Raise" in summary(many, in_full=True)
