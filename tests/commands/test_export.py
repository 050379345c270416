"""`aftertune export`: tidy tables that analyze to the same numbers, the hub's results, a model card."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from huggingface_hub import EvalResultEntry
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

import stage_runs
from aftertune.analysis import analyze_file
from aftertune.cli import app
from aftertune.commands.export import export
from aftertune.commands.model_card import model_card
from aftertune.errors import DataError, StoreError
from aftertune.formats.inspect_logs import has_inspect
from aftertune.records import OBSERVATION_COLUMNS
from aftertune.records.analysis import Analysis
from aftertune.report.markdown import plain
from aftertune.study import AnalysisSpec
from tiny import make_tiny_model


def call(*words: Any) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    return result.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    study = stage_runs.study_of(make_tiny_model(folder / "tiny"))
    study["variations"] = [
        {"name": "hotter", "class": "procedure", "change": {"decodings.sampled.temperature": 1.2}},
        {"name": "rows-4", "class": "numerics", "change": {"engine.batch_rows": 4}},
    ]
    study["analysis"] = {
        "primary": {
            "task": "mini-harm",
            "decoding": "sampled",
            "judge": "refusal-rules",
            "metric": "compliance_rate",
            "target": "benchmark",
        }
    }
    return stage_runs.run(study, folder / "run", stages=(*stage_runs.STAGES, "analyze"))


def analyze_observations(run: Path) -> Analysis:
    return Analysis.model_validate_json((run / "analysis.json").read_text("utf-8"))


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_tidy_table_analyzes_to_the_same_numbers(run: Path, tmp_path: Path, kind: str):
    file = tmp_path / f"table.{kind}"
    before = pl.read_parquet(run / "observations.parquet")
    assert f"{kind}: 1 file, {before.height} judgments" in call("export", run, "--to", kind, "--out", file)
    read = pl.read_parquet(file) if kind == "parquet" else pl.read_csv(file, infer_schema=False)
    table = read.cast(dict(before.schema))
    assert_frame_equal(table.select(list(OBSERVATION_COLUMNS)), before)
    assert table["prompt"].null_count() == table["text"].null_count() == 0
    texts = stage_runs.texts(run)
    base = table.filter(pl.col("variation") == "baseline")
    assert dict(base.select("response_key", "text").iter_rows()) == {
        key: texts[key] for key in base["response_key"]
    }
    again = analyze_file(file, tmp_path / "analysis.json", spec=AnalysisSpec())
    was = analyze_observations(run)
    estimates = [(r.model, r.task, r.decoding, r.judge, r.metric, r.estimate) for r in was.rates]
    assert estimates == [(r.model, r.task, r.decoding, r.judge, r.metric, r.estimate) for r in again.rates]
    sampled = [[r.benchmark for r in a.rates if r.decoding == "sampled"] for a in (was, again)]
    assert sampled[0] == sampled[1]


def test_hub_results_hold_the_analysis_s_value_with_its_interval(run: Path, tmp_path: Path):
    file = tmp_path / "mini.yaml"
    there = ("--dataset", "mini-harm=me/mini-harm:harm@0123abc")
    call("export", run, "--to", "hub", "--out", file, *there)
    (entry,) = yaml.safe_load(file.read_text("utf-8"))
    rate = next(
        r for r in analyze_observations(run).rates
        if (r.model, r.task, r.decoding, r.judge, r.metric)
        == ("chat", "mini-harm", "sampled", "refusal-rules", "compliance_rate")
    )  # fmt: skip
    assert entry["dataset"] == {"id": "me/mini-harm", "task_id": "harm", "revision": "0123abc"}
    assert entry["value"] == rate.estimate and rate.benchmark is not None
    for part in (
        f"95% interval {rate.benchmark.ci_low:.4f} to {rate.benchmark.ci_high:.4f} for these items",
        "2 training seeds, 6 items",
        "decoding sampled, judge refusal-rules",
        "compliance_rate (by refusal), a share; higher is worse",
    ):
        assert part in entry["notes"]


def test_huggingface_hub_reads_the_results(run: Path, tmp_path: Path):
    from huggingface_hub import parse_eval_result_entries

    file = tmp_path / "mini.yaml"
    both = ("mini-harm=me/mini-harm", "mini-lookalikes=me/looks:x")
    export(run, "hub", file, datasets=both)
    found = parse_eval_result_entries(yaml.safe_load(file.read_text("utf-8")))
    assert all(isinstance(entry, EvalResultEntry) for entry in found)
    # The primary's cell alone on its task; the other task has no compliance, so all of its rates.
    assert [e.task_id for e in found][:2] == ["default", "x"] and len(found) > 2
    assert len({e.notes for e in found}) == len(found)


def test_a_model_card_has_the_sentences_and_numbers_of_the_analysis(run: Path, tmp_path: Path):
    file = tmp_path / "card.md"
    call("export", run, "--to", "model-card", "--out", file)
    card, analysis = file.read_text("utf-8"), analyze_observations(run)
    assert card.startswith("## Safety evaluation\n")
    primary = next(d for d in analysis.differences if d.primary)
    assert plain(primary.sentence) in card
    assert "covers" in card and "leaves out" in card
    assert "| base | compliance with harmful requests (by refusal); higher is less safe |" in card
    assert "What to know about these numbers" in card
    only = model_card(analysis, ["base"])
    assert "| chat |" not in only


def test_foreign_names_are_escaped_in_a_card(run: Path):
    nasty = "x | <img src=a onerror=b> [a](javascript:b) `c`\n# big \u202e"
    text = (run / "analysis.json").read_text("utf-8").replace('"chat"', json.dumps(nasty))
    card = model_card(Analysis.model_validate_json(text))
    assert "<img" not in card and "](javascript" not in card and "\u202e" not in card
    assert "\n# big" not in card
    rows = [line for line in card.splitlines() if line.startswith("| x")]
    assert rows and all(row.replace("\\|", "").count("|") == 9 for row in rows)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "inspct", "--out", "x"], r"--to holds 'inspct'\n  → did you mean 'inspect'"),
        (["--to", "csv", "--out", "x.parquet"], r"--out x.parquet with --to csv\n  → give a file.*\.csv"),
        (["--to", "csv", "--out", "x.csv", "--model", "chat"], "--model with --to csv"),
        (["--to", "model-card", "--out", "x.md", "--dataset", "a=b/c"], "--dataset with --to model-card"),
        (
            ["--to", "model-card", "--out", "x.md", "--model", "chta"],
            r"no model 'chta'\n  → did you mean 'chat'",
        ),
        (["--to", "hub", "--out", "x.yaml"], r"'chat' has no rate.*\n  → name the hub's data set.*--dataset"),
        (
            ["--to", "hub", "--out", "x.yaml", "--dataset", "mini-harm"],
            r"--dataset holds 'mini-harm'\n  → write",
        ),
        (
            ["--to", "hub", "--out", "x.yaml", "--dataset", "no=a/b"],
            r"the task 'no'\n  → the run has mini-harm",
        ),
        (["--to", "hub", "--out", "x.yaml", "--model", "no"], r"of one model's repository.*\n  → choose one"),
    ],
)
def test_wrong_calls_say_what_to_do(run: Path, words: list[str], message: str, tmp_path: Path,
                                    monkeypatch: pytest.MonkeyPatch):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["export", str(run), *words])
    assert isinstance(result.exception, DataError), result.output
    with pytest.raises(DataError, match=message):
        raise result.exception
    assert list(tmp_path.iterdir()) == []


def test_numbers_come_from_a_finished_analysis_of_these_observations(run: Path, tmp_path: Path):
    with pytest.raises(StoreError, match="is neither a run directory nor an import"):
        export(tmp_path, "csv", tmp_path / "x.csv")
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("study.json", "observations.parquet"):
        (copy / name).write_bytes((run / name).read_bytes())
    with pytest.raises(StoreError, match=r"analysis.json is missing\n  → run `aftertune analyze"):
        export(copy, "model-card", tmp_path / "x.md")
    (copy / "analysis.json").write_bytes((run / "analysis.json").read_bytes())
    export(copy, "model-card", tmp_path / "x.md")
    pl.read_parquet(run / "observations.parquet").head(9).write_parquet(copy / "observations.parquet")
    with pytest.raises(StoreError, match=r"analysis.json is of other observations"):
        export(copy, "model-card", tmp_path / "x.md")


@pytest.mark.skipif(has_inspect(), reason="inspect_ai is installed")
def test_without_inspect_ai_it_says_what_to_install(run: Path, tmp_path: Path):
    with pytest.raises(DataError, match=r"export --to inspect needs the package inspect_ai"):
        export(run, "inspect", tmp_path / "logs")


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_tidy_table_is_imported_as_it_was(run: Path, tmp_path: Path, kind: str):
    export(run, kind, tmp_path / f"table.{kind}")
    call("import", tmp_path / f"table.{kind}", "--out", tmp_path / "i")
    order = ["variation", "checkpoint", "task", "decoding", "item", "repeat", "judge", "construct"]
    before = pl.read_parquet(run / "observations.parquet").sort(order)
    assert_frame_equal(pl.read_parquet(tmp_path / "i" / "observations.parquet").sort(order), before)
    call("analyze", tmp_path / "i")
    call("report", tmp_path / "i")
