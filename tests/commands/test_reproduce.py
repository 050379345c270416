"""`aftertune reproduce`: the same bytes, or the first difference by name; what is refused before any work."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

import stage_runs
from aftertune.cli import app
from aftertune.commands.first_difference import match_runs, parting
from aftertune.commands.reproduce import here_changed, reproduce, reproduction_lines
from aftertune.errors import StoreError, StudyError
from aftertune.records import RESPONSE_COLUMNS
from aftertune.store import RunDirectory, write_shard

VARIATIONS = [
    {"name": "hotter", "class": "procedure", "change": {"decodings.sampled.temperature": 1.5}},
    {"name": "rows-3", "class": "numerics", "change": {"engine.batch_rows": 3}},
]


@pytest.fixture(scope="module")
def out(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = stage_runs.study_of(tiny_model, variations=VARIATIONS)
    return stage_runs.run(study, tmp_path_factory.mktemp("made") / "run")


@pytest.fixture(scope="module")
def again(out: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reproduction of the run, made by the command as a user calls it."""
    target = tmp_path_factory.mktemp("again") / "run"
    result = CliRunner().invoke(app, ["reproduce", str(out), "--out", str(target), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["outcome"], found["reproduced"], found["cells"]) == ("identical", True, [])
    return target


@pytest.fixture
def copies(out: Path, again: Path, tmp_path: Path) -> tuple[RunDirectory, RunDirectory]:
    """The run, and a copy of its reproduction that a test may spoil."""
    return RunDirectory(out), RunDirectory(Path(shutil.copytree(again, tmp_path / "spoilt")))


def with_value(table: pl.DataFrame, column: str, row: int, value: object) -> pl.DataFrame:
    values = table[column].to_list()
    values[row] = value
    return table.with_columns(pl.Series(column, values, table[column].dtype))


def respond(run: RunDirectory, change: Callable[[str], str | None]) -> None:
    """Another text for the study's first request, in a sound shard: as another machine would write."""
    key = pl.read_parquet(run.requests)["key"][0]
    for file in sorted((run.root / "responses").rglob("*.parquet")):
        table = pl.read_parquet(file)
        keys = table["key"].to_list()
        if key in keys:
            row = keys.index(key)
            file.unlink()
            changed = with_value(table, "text", row, change(table["text"][row]))
            write_shard(file.parent, changed.to_dicts(), RESPONSE_COLUMNS)


def judge_first(run: RunDirectory) -> float:
    """Turn the first judgment over; returns what it was."""
    table = pl.read_parquet(run.observations)
    was = table["value"][0]
    with_value(table, "value", 0, 1 - was).write_parquet(run.observations)
    return was


@pytest.mark.slow
def test_it_comes_out_again_to_the_byte(out: Path, again: Path):
    ours = RunDirectory(out)
    matched = match_runs(ours, RunDirectory(again))
    assert matched.first is None and matched.same_judgments
    requests = [out / "requests.parquet", *sorted((out / "variations").glob("*/requests.parquet"))]
    assert matched.n_responses == sum(pl.read_parquet(file).height for file in requests)
    assert matched.n_judgments == pl.read_parquet(ours.observations).height
    assert ours.observations.read_bytes() == (again / "observations.parquet").read_bytes()
    weights = sorted(out.rglob("adapter_model.safetensors"))
    assert len(weights) == 2
    assert all(w.read_bytes() == (again / w.relative_to(out)).read_bytes() for w in weights)


@pytest.mark.slow
def test_a_reproduction_goes_on_where_it_was_interrupted(out: Path, again: Path):
    before = {file: file.stat().st_mtime_ns for file in again.rglob("*.safetensors")}
    found = reproduce(out, again)
    assert found.outcome == "identical"
    assert {file: file.stat().st_mtime_ns for file in before} == before


@pytest.mark.slow
def test_a_changed_text_is_the_first_difference(copies: tuple[RunDirectory, RunDirectory]):
    run, spoilt = copies
    respond(spoilt, lambda text: text[:3] + "\u202e" + text[3:])
    first = match_runs(run, spoilt).first
    assert first is not None and (first.what, first.offset) == ("response", 3)
    asked = pl.read_parquet(run.requests).row(0, named=True)
    assert first.place == {"variation": "baseline"} | {
        name: asked[name] for name in ("checkpoint", "task", "item", "decoding", "repeat")
    }
    assert "\u202e" not in first.in_words() and "part at character 3" in first.in_words()


@pytest.mark.slow
def test_a_text_that_is_gone_is_said_without_one(copies: tuple[RunDirectory, RunDirectory]):
    run, spoilt = copies
    respond(spoilt, lambda _: None)
    first = match_runs(run, spoilt).first
    assert first is not None and first.how.endswith("ok (no text) now")


@pytest.mark.slow
def test_other_weights_come_first(copies: tuple[RunDirectory, RunDirectory]):
    run, spoilt = copies
    respond(spoilt, lambda _: "another")
    entries = json.loads(spoilt.checkpoint_list.read_text())
    entries[1]["sha256"] = "0" * 64
    spoilt.checkpoint_list.write_text(json.dumps(entries))
    matched = match_runs(run, spoilt)
    assert matched.n_same_checkpoints < matched.n_checkpoints
    assert matched.first is not None
    assert matched.first.in_words() == "checkpoint chat/1: other weights"


@pytest.mark.slow
def test_a_judgment_alone_is_found(copies: tuple[RunDirectory, RunDirectory]):
    run, spoilt = copies
    value = judge_first(spoilt)
    matched = match_runs(run, spoilt)
    assert matched.n_same_responses == matched.n_responses
    assert matched.n_same_judgments == matched.n_judgments - 1
    assert matched.first is not None
    assert matched.first.what == "judgment" and f"{value:g} before, {1 - value:g} now" in matched.first.how


@pytest.mark.slow
def test_not_reproduced_is_exit_code_1(out: Path, again: Path, tmp_path: Path):
    """A run that was tampered with after it was made: its study run anew gives what it should have held."""
    tampered = Path(shutil.copytree(out, tmp_path / "run"))
    respond(RunDirectory(tampered), lambda _: "not what the model said")
    judge_first(RunDirectory(tampered))
    target = Path(shutil.copytree(again, tmp_path / "target"))
    mark = json.loads((target / "reproduces.json").read_text()) | {"run": str(tampered)}
    (target / "reproduces.json").write_text(json.dumps(mark))
    result = CliRunner().invoke(app, ["reproduce", str(tampered), "--out", str(target)])
    assert result.exit_code == 1, result.output
    assert "first difference: response" in result.stdout
    assert "the texts part at character" in result.stdout
    assert result.stdout.rstrip().endswith("different: not reproduced")


@pytest.mark.slow
def test_what_made_it_and_is_another_here_is_named(copies: tuple[RunDirectory, RunDirectory]):
    _, spoilt = copies
    assert here_changed(spoilt) == ()
    manifest = spoilt.read_manifest().recorded()
    manifest["versions"]["torch"] = "0.1"
    spoilt.write_json(spoilt.manifest, manifest)
    (other,) = here_changed(spoilt)
    assert (other.key, other.a) == ("versions.torch", "0.1")


@pytest.mark.slow
def test_the_outcome_is_told_in_words(out: Path, again: Path):
    lines = reproduction_lines(reproduce(out, again))
    assert lines[-1] == "identical: reproduced to the byte"
    assert not [line for line in lines if line.startswith("first difference")]


@pytest.mark.parametrize(
    ("a", "b", "n"), [("", "a", 0), ("abc", "abd", 2), ("ab", "abc", 2), ("same", "same", 4)]
)
def test_where_texts_part(a: str, b: str, n: int):
    assert parting(a, b) == n


def test_a_run_without_observations_is_refused(tiny_model: Path, tmp_path: Path):
    run = stage_runs.run(stage_runs.study_of(tiny_model), tmp_path / "run", stages=("tune",))
    with pytest.raises(StoreError, match="has no observations"):
        reproduce(run)


@pytest.mark.slow
def test_a_directory_in_use_is_not_written_to(out: Path, tmp_path: Path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(StoreError, match="is not empty"):
        reproduce(out, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.slow
def test_another_model_at_the_same_place_is_refused_before_any_work(out: Path, tmp_path: Path):
    moved = Path(shutil.copytree(out, tmp_path / "run"))
    manifest = json.loads((moved / "manifest.json").read_text())
    manifest["model"]["sha256"] = "0" * 64
    (moved / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StudyError, match=r"the model is not what .* was made with"):
        reproduce(moved, tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.slow
def test_a_moved_file_is_named(out: Path, tmp_path: Path):
    moved = Path(shutil.copytree(out, tmp_path / "run"))
    study = json.loads((moved / "study.json").read_text())
    study["model"] = str(tmp_path / "gone")
    (moved / "study.json").write_text(json.dumps(study))
    with pytest.raises(StudyError, match=r"model of .* and nothing stands there now"):
        reproduce(moved, tmp_path / "again")
