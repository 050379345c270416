"""Tables of variations and single runs: what the analysis holds, in words, and no more."""

import csv
import io
import re
from pathlib import Path

import pytest

from aftertune.records.analysis import Analysis
from aftertune.records.manifest import Manifest
from aftertune.report import single_run_tables, variation_tables, write_report
from aftertune.report.csv_tables import csv_files
from aftertune.report.select import Headline, headline
from aftertune.report.tables import Table, told_once

MEASURE = "compliance with harmful requests (by refusal)"
CSVS = {
    "variation_effects": 8,
    "numerics_checks": 2,
    "survivals": 6,
    "ranking_survivals": 2,
    "single_runs": 3,
    "single_run_rankings": 1,
    "seed_sources": 3,
    "movements": 6,
    "category_consistency": 2,
}


@pytest.fixture
def head(varied: Analysis) -> Headline:
    found = headline(varied)
    assert found is not None
    return found


def titled(tables: list[Table], start: str) -> Table:
    """The one table whose title begins so."""
    (found,) = [t for t in tables if t.title == start or t.title.startswith(f"{start} ·")]
    return found


def test_effects_stand_by_class_with_the_headline_apart(varied: Analysis, head: Headline):
    tables = variation_tables.effects(varied, head)
    assert [(t.title.split(" ·")[0], t.main, len(t.rows)) for t in tables] == [
        ("What changes of procedure do", True, 3),
        ("What changes of procedure do, beside the headline", False, 1),
        ("What changes of numerics do", True, 2),
        ("What changes of design do", True, 2),
    ]
    assert tables[0].title.endswith(f"· {MEASURE} · mini-harm, sampled · refusal-rules")
    assert tables[0].rows[1] == (
        "hotter, chat", "41.7% → 50.9%", "+9.2 [+4.2, +14.2]", "±4.1", "0.004", "0.020", "moves the score",
        "5 × 60",
    )  # fmt: skip
    assert tables[2].rows[0][1:7] == (
        "41.7% → 41.7%", "+0.0, exact", "none", "not given", "not given", "no change",
    )  # fmt: skip
    assert "cover seed and repeat and leave out item and judge" in tables[0].note


def test_an_effect_says_what_it_lacks(varied: Analysis):
    whole = varied.variation_effects[1]
    bare = whole.model_copy(update={"ci_low": None, "ci_high": None, "noise": None})
    assert (variation_tables.effect(bare), variation_tables.noise(bare)) == ("+9.2, no interval", "not given")
    assert variation_tables.effect(bare.model_copy(update={"estimate": None})) == "no conclusion"


def test_survival_is_a_matrix_of_words(base: str, varied: Analysis, head: Headline):
    main, beside = variation_tables.survival(varied, head)
    assert main.columns[1:] == ("baseline", "hotter (procedure)", "rows-8 (numerics)", "more-data (design)")
    assert main.rows == (
        (
            f"chat − {base}", "less safe (+30.0)", "survives: less safe (+37.2)",
            "weakened: not shown (+3.0)", "no conclusion",
        ),
        (
            f"chat-self − {base}", "not shown (+4.0)", "survives: not shown (+1.0)", "not compared",
            "appears: less safe (+12.0)",
        ),
    )  # fmt: skip
    assert beside.title.endswith("mini-harm, greedy, refusal-rules · these items")
    assert beside.rows == ((f"chat − {base}", "less safe (+30.0)", "weakened: not shown (+2.0)"),)


def test_equal_conclusions_of_two_targets_stay_two_rows(base: str, varied: Analysis, head: Headline):
    first = varied.survivals[0]
    both = tuple(
        first.model_copy(update={"decoding": "greedy", "target": t}) for t in ("benchmark", "population")
    )
    (table,) = variation_tables.survival(varied.model_copy(update={"survivals": both}), head)
    assert [row[:2] for row in table.rows] == [
        (f"chat − {base}", "these items"),
        (f"chat − {base}", "requests like these"),
    ]


def test_numerics_and_rankings(base: str, varied: Analysis):
    checks = variation_tables.numerics_checks(varied)
    assert checks.rows == (
        ("rows-8", "yes", "1,200", "0", "none"),
        ("float32", "no", "1,200", "3", "chat/1 · mini-harm · i7 · sampled · 0"),
    )
    ranking = variation_tables.ranking_survival(varied)
    assert ranking.rows == (
        ("hotter (procedure)", f"{base} < chat-self < chat", f"chat-self < {base} < chat", "1 of 3"),
        ("rows-8 (numerics)", f"{base} < chat-self < chat", "the same order", "0 of 3"),
    )


def test_what_one_run_would_have_said(base: str, varied: Analysis, head: Headline):
    tables = single_run_tables.tables(varied, head)
    assert titled(tables, "What one run would have said").rows[1] == (
        f"chat-self − {base}", "not shown", "24.0% of 50 single runs", "24.0%", "0.0%", "76.0%",
        "−5.0 to +10.0 points",
    )  # fmt: skip
    assert single_run_tables.sentences(varied, head) == [
        f"chat against {base}: one run would have said otherwise in 6.0% of 50 single runs.",
        f"chat-self against {base}: one run would have said otherwise in 24.0% of 50 single runs.",
    ]
    assert titled(tables, "Would one run rank the models alike?").rows == (
        (f"{base} < chat-self < chat", "31.8%", "1,000"),
    )
    assert titled(tables, "How far each facet moves the rate").rows[0] == (
        "training seed", "chat", "5.8 points", "5", "33.6%–51.0%",
    )  # fmt: skip
    assert titled(tables, "What in a seed moves the rate").rows[1:] == (
        ("chat, adapter's initialisation", "only-init", "5", "62.0%", "0.0013", "[0.000433, 0.0104]"),
        ("chat, order of the data", "only-order", "5", "not given", "0.0009", "not given"),
    )
    assert titled(tables, "Consistency by category").rows[1] == ("malware", base, "31.0%", "1 × 10 × 5")


def test_a_column_is_told_once_only_where_it_says_the_same():
    table = Table("T", ("name", "task", "metric"), (("a", "x", "m"), ("b", "y", "m")))
    assert told_once(table, "task", "metric") == Table("T · m", ("name", "task"), (("a", "x"), ("b", "y")))
    assert told_once(Table("T", ("name", "task"), ()), "task").rows == ()


@pytest.mark.parametrize("name", CSVS)
def test_csv_holds_the_numbers_in_full(varied: Analysis, name: str):
    rows = list(csv.DictReader(io.StringIO(csv_files(varied)[name])))
    records = getattr(varied, name)
    assert len(rows) == CSVS[name]
    for row, record in zip(rows, records, strict=True):
        assert set(row) == set(type(record).model_fields)
        for field, value in record.model_dump().items():
            shown = ";".join(map(str, value)) if isinstance(value, tuple) else value
            assert row[field] == ("" if shown is None else str(shown)), field


def test_the_page_has_both_sections_and_each_table_says_how_to_read_it(varied: Analysis, tmp_path: Path):
    write_report(varied, examples=None, manifest=Manifest(), out=tmp_path)
    page = (tmp_path / "index.html").read_text("utf-8")
    markdown = (tmp_path / "report.md").read_text("utf-8")
    assert page.count('id="variations"') == page.count('id="single-runs"') == 1
    assert '<a href="#variations">' in page and '<a href="#single-runs">' in page
    head = headline(varied)
    assert head is not None
    for table in (*variation_tables.tables(varied, head), *single_run_tables.tables(varied, head)):
        assert table.intro, table.title
        title = table.title.replace("'", "&#39;")
        assert title in page
        intro = table.intro.split("“")[0].replace("'", "&#39;")
        assert intro in page and table.intro.split("“")[0] in markdown
    for block in re.findall(r"(?:^\|.*\n)+", markdown, flags=re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_without_variations_nothing_of_them_is_shown(analysis: Analysis, tmp_path: Path):
    write_report(analysis, examples=None, manifest=Manifest(), out=tmp_path)
    page = (tmp_path / "index.html").read_text("utf-8")
    assert 'id="variations"' not in page and 'id="single-runs"' not in page
    assert "What moves the score" not in page and "would have said" not in page
