"""`aftertune gate`: pass, fail and insufficient evidence, as words, exit codes, JSON and JUnit."""

import json
import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

from aftertune.analysis import analyze
from aftertune.cli import app
from aftertune.commands.analyze import TableOptions
from aftertune.commands.gate import gate, gate_of
from aftertune.errors import DataError, StudyError
from aftertune.records.analysis import Analysis, Warning
from aftertune.seeds import stream
from aftertune.study import AnalysisSpec
from rows import rows_of

RATES = {"base": 0.20, "same": 0.20, "worse": 0.60, "safer": 0.02}
PRIMARY = "task=t,decoding=d,judge=j,metric=compliance_rate,target=benchmark"


def table(*models: str, seeds: int = 6, n_items: int = 60, missing: float = 0.0) -> pl.DataFrame:
    """A base and models with known rates; `missing` is a share of judgments without a value."""

    def event(model: str, seed: int | None, item: int, repeat: int) -> float:
        rng = stream(7, model, seed or 0, item, repeat)
        return float(rng.random() < RATES[model])

    frame = rows_of(
        event,
        seeds={m: [None] if m == "base" else list(range(1, seeds + 1)) for m in ("base", *models)},
        n_items=n_items,
        n_repeats=4,
    )
    lost = (pl.col("model") != "base") & (pl.int_range(pl.len()) % 100 < 100 * missing)
    return frame.with_columns(pl.when(~lost).then("value").alias("value"))


def gated(*models: str, margin: float = 0.05, **changes: float) -> tuple[str, dict[str, str]]:
    spec = {"primary": dict(pair.split("=") for pair in PRIMARY.split(",")), "margin": margin}
    seeds, n_items = int(changes.pop("seeds", 6)), int(changes.pop("n_items", 60))
    frame = table(*models, seeds=seeds, n_items=n_items, **changes)
    found = gate_of(analyze(frame, study="s", spec=AnalysisSpec.model_validate(spec)))
    assert found.exit_code == {"pass": 0, "fail": 1, "insufficient evidence": 3}[found.outcome]
    return found.outcome, {g.model: g.outcome for g in found.models}


def test_each_outcome_comes_out_of_data_that_deserves_it():
    assert gated("safer") == ("pass", {"safer": "pass"})
    assert gated("same", margin=0.20) == ("pass", {"same": "pass"})
    assert gated("worse") == ("fail", {"worse": "fail"})
    assert gated("same", margin=0.01) == ("insufficient evidence", {"same": "insufficient evidence"})


def test_the_worst_model_decides():
    assert gated("safer", "worse")[0] == "fail"
    assert gated("safer", "same", margin=0.01)[0] == "insufficient evidence"
    assert gated("same", "worse", margin=0.01)[0] == "fail"


def test_a_loss_within_the_agreed_margin_passes():
    outcome, _ = gated("worse", margin=0.60)
    assert outcome == "pass"


def test_missing_judgments_beyond_the_limit_never_pass():
    assert gated("safer", missing=0.04)[0] == "pass"
    assert gated("safer", missing=0.10) == ("insufficient evidence", {"safer": "insufficient evidence"})


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    primary = dict(pair.split("=") for pair in PRIMARY.split(","))
    return analyze(
        table("safer", "worse"), study="<s>", spec=AnalysisSpec.model_validate({"primary": primary})
    )


def test_only_the_models_asked_for_must_pass(analysis: Analysis):
    assert gate_of(analysis, ["safer"]).outcome == "pass"
    with pytest.raises(DataError, match="no primary contrast of a model called 'saver'"):
        gate_of(analysis, ["saver"])


def test_a_half_finished_study_never_passes(analysis: Analysis):
    half = Warning(code="half_finished", text="the study is half finished", remedy="", where="")
    found = gate_of(analysis.model_copy(update={"warnings": (half,)}), ["safer"])
    assert found.outcome == "insufficient evidence" and "half finished" in found.models[0].why
    assert gate_of(analysis.model_copy(update={"warnings": (half,)})).outcome == "fail"


def test_without_a_primary_contrast_there_is_nothing_to_gate(analysis: Analysis):
    with pytest.raises(StudyError, match="has no primary contrast to gate on"):
        gate_of(analysis.model_copy(update={"primary": None, "post_hoc": ()}))


def test_a_margin_is_enough_where_a_table_has_one_contrast_alone(tmp_path: Path):
    frame = table("worse")
    one, two = tmp_path / "one.parquet", tmp_path / "two.parquet"
    frame.write_parquet(one)
    pl.concat([frame, frame.with_columns(task=pl.lit("other"))]).write_parquet(two)
    code, said = aftertune(one, "--margin", "0.05")
    assert code == 1
    assert (
        "compliance_rate on t, d, by j, benchmark; margin 5 points (chosen after the run: margin, primary)"
        in said
    )
    assert aftertune(one, "--primary", PRIMARY, "--margin", "0.05")[0] == 1
    with pytest.raises(StudyError, match="no primary contrast to gate on"):
        gate(one)
    with pytest.raises(StudyError, match="no primary contrast to gate on, and 2 to choose from"):
        gate(two, options=TableOptions(margin=0.05))


def test_a_margin_given_for_a_run_is_post_hoc_and_changes_nothing_that_is_stored(tmp_path: Path):
    stored = Path(__file__).parents[1] / "stored_runs" / "v0_1" / "run"
    run = Path(shutil.copytree(stored, tmp_path / "run"))
    before = (run / "analysis.json").read_bytes()
    assert "margin 5 points\n" in aftertune(run)[1]
    code, said = aftertune(run, "--margin", "0.01", "--json")
    found = json.loads(said)
    assert (code, found["margin"], found["post_hoc"]) == (0, 0.01, ["margin"])
    assert (run / "analysis.json").read_bytes() == before
    with pytest.raises(DataError, match="--base, --margin with a run directory"):
        gate(run, options=TableOptions(margin=0.01, base="chat"))


def aftertune(*words: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["gate", *map(str, words)])
    return result.exit_code, result.stdout


def test_exit_codes_json_and_junit_of_a_table(tmp_path: Path):
    file, junit = tmp_path / "t.parquet", tmp_path / "out" / "gate.xml"
    table("safer", "worse").write_parquet(file)
    given = (file, "--primary", PRIMARY, "--margin", "0.05")
    code, said = aftertune(*given, "--junit", junit)
    assert code == 1 and said.rstrip().endswith("fail")
    assert "chosen after the run: margin" in said
    suite = ET.parse(junit).getroot()
    assert (suite.attrib["tests"], suite.attrib["failures"], suite.attrib["errors"]) == ("2", "1", "0")
    states = {case.attrib["name"].split()[0]: [child.tag for child in case] for case in suite}
    assert states == {"safer": [], "worse": ["failure"]}
    code, said = aftertune(*given, "--model", "safer", "--json")
    written = json.loads(said)
    assert (code, written["outcome"], written["exit_code"]) == (0, "pass", 0)
    assert set(written["post_hoc"]) >= {"margin", "primary"}
    code, _ = aftertune(file, "--primary", PRIMARY, "--margin", "0.0001", "--model", "safer")
    assert code == 0  # safer is safer, whatever the margin


def test_insufficient_evidence_is_exit_code_3_and_an_error_in_junit(tmp_path: Path):
    file, junit = tmp_path / "t.csv", tmp_path / "gate.xml"
    table("same").write_csv(file)
    code, said = aftertune(file, "--primary", PRIMARY, "--margin", "0.01", "--junit", junit)
    assert code == 3 and said.rstrip().endswith("insufficient evidence")
    assert [child.tag for case in ET.parse(junit).getroot() for child in case] == ["error"]


def test_the_workflow_in_the_docs_is_yaml_and_calls_commands_that_exist():
    page = (Path(__file__).parents[2] / "docs" / "gate.md").read_text("utf-8")
    (workflow,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.S)
    steps = yaml.safe_load(workflow)["jobs"]["gate"]["steps"]
    called = [step["run"].split()[1:] for step in steps if step.get("run", "").startswith("aftertune")]
    assert [words[0] for words in called] == ["check", "run", "gate"]
    known = CliRunner().invoke(app, ["gate", "--help"], env={"COLUMNS": "200"}).stdout
    assert all(word in known for word in called[-1] if word.startswith("--"))
