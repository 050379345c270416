"""Runs and imports that earlier versions stored: they open, report, gate and continue."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aftertune.cli import app
from aftertune.records.analysis import Analysis
from aftertune.store import RunDirectory

STORED = Path(__file__).parent / "stored_runs"
VERSIONS = sorted(folder.name for folder in STORED.iterdir() if folder.is_dir())


@pytest.fixture(params=VERSIONS)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of what a version stored: study.yaml, its model `tiny`, its `run`, and `imported` logs."""
    return Path(shutil.copytree(STORED / request.param, tmp_path / "stored"))


def call(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result.stdout


def read(directory: Path) -> Analysis:
    return Analysis.model_validate_json((directory / "analysis.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["run", "imported"])
def test_the_stored_analysis_is_made_again_from_the_stored_observations(stored: Path, name: str):
    before = read(stored / name)
    call("analyze", stored / name)
    after = read(stored / name)
    cells = [(r.model, r.task, r.decoding, r.judge, r.metric) for r in before.rates]
    assert [(r.model, r.task, r.decoding, r.judge, r.metric) for r in after.rates] == cells
    for one, two in zip(before.rates, after.rates, strict=True):
        assert two.estimate == pytest.approx(one.estimate)
    assert len(after.differences) == len(before.differences) >= 1
    for one, two in zip(before.differences, after.differences, strict=True):
        assert (two.model, two.task, two.metric) == (one.model, one.task, one.metric)
        assert two.verdict == one.verdict
        assert [two.estimate, two.ci_low, two.ci_high] == pytest.approx(
            [one.estimate, one.ci_low, one.ci_high]
        )
    assert [w.code for w in after.warnings] == [w.code for w in before.warnings]


@pytest.mark.parametrize("name", ["run", "imported"])
def test_a_stored_directory_reports(stored: Path, name: str):
    call("report", stored / name)
    page = (stored / name / "report" / "index.html").read_text(encoding="utf-8")
    assert {rate.model for rate in read(stored / name).rates if rate.model not in page} == set()


def test_a_stored_run_says_its_status_and_gates(stored: Path):
    status = json.loads(call("status", stored / "run", "--json"))
    assert {name for name, there in status["written"].items() if not there} == {"report"}
    # Judgments of another revision of a judge are not this one's.
    made = [part for part in status["parts"] if part["stage"] != "judge"]
    assert all(part["wanted"] == part["done"] > 0 for part in made)
    assert call("gate", stored / "run").splitlines()[-1] == "pass"


def test_a_stored_run_continues_and_keeps_what_is_stored(stored: Path):
    run = RunDirectory(stored / "run")
    weights = {file: file.read_bytes() for file in run.root.rglob("*.safetensors")}
    before, engine = read(run.root), run.read_manifest().recorded()["engine"]
    call("run", stored / "study.yaml", "--out", run.root)
    assert {file: file.read_bytes() for file in weights} == weights
    after = read(run.root)
    cells = [(rate.model, rate.task, rate.decoding, rate.judge, rate.metric) for rate in before.rates]
    assert [(r.model, r.task, r.decoding, r.judge, r.metric) for r in after.rates] == cells
    assert [rate.missing.n for rate in after.rates] == [0] * len(cells)
    if run.read_manifest().recorded()["engine"] == engine:  # else other bytes, and all is made again
        assert set(run.root.rglob("*.safetensors")) == set(weights)
        assert [rate.estimate for rate in after.rates] == [rate.estimate for rate in before.rates]
