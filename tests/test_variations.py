"""A study with variations on a tiny model: what is shared is made once, what must agree is drawn anew."""

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import stage_runs
from aftertune.analysis import analyze_run
from aftertune.errors import StoreError
from aftertune.report import report
from aftertune.store import RunDirectory

VARIATIONS = [
    {"name": "hotter", "class": "procedure", "change": {"decodings.sampled.temperature": 1.5}},
    {"name": "rows-3", "class": "numerics", "change": {"engine.batch_rows": 3}},
    {"name": "longer", "class": "design", "change": {"recipes.chat.epochs": 2}},
    {"name": "one-judge", "class": "procedure", "change": {"judges": ["refusal-rules"]}},
]


@pytest.fixture(scope="module")
def study(tiny_model: Path) -> dict[str, Any]:
    return stage_runs.study_of(tiny_model, variations=VARIATIONS)


@pytest.fixture(scope="module")
def out(study: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stage_runs.run(study, tmp_path_factory.mktemp("varied") / "run")


def requests(out: Path, variation: str) -> pl.DataFrame:
    return pl.read_parquet(out / "variations" / variation / "requests.parquet")


@pytest.mark.slow
def test_shared_checkpoints_and_responses_are_made_once(out: Path):
    assert len(list((out / "checkpoints").rglob("adapter_model.safetensors"))) == 2 + 2  # longer trains anew
    base = pl.read_parquet(out / "requests.parquet")
    hotter, longer = requests(out, "hotter"), requests(out, "longer")
    own = set(base["key"])
    greedy = set(hotter.filter(pl.col("decoding") == "greedy")["key"])
    assert greedy < own and not set(hotter.filter(pl.col("decoding") == "sampled")["key"]) & own
    assert set(longer.filter(pl.col("model") == "base")["key"]) < own
    assert not set(longer.filter(pl.col("model") == "chat")["key"]) & own
    drawn = stage_runs.rows(out, "responses")
    assert drawn["key"].n_unique() == drawn.height == len(own | set(hotter["key"]) | set(longer["key"]))


@pytest.mark.slow
def test_numerics_are_drawn_anew_and_agree_to_the_byte(out: Path):
    drawn = stage_runs.rows(out / "variations" / "rows-3", "responses").select("key", "text")
    baseline = stage_runs.rows(out, "responses").select("key", "text")
    both = drawn.join(baseline, on="key", suffix="_baseline")
    assert both.height == drawn.height == pl.read_parquet(out / "requests.parquet")["key"].n_unique()
    assert both["text"].to_list() == both["text_baseline"].to_list()


@pytest.mark.slow
def test_the_observations_hold_every_variation(out: Path):
    table = pl.read_parquet(out / "observations.parquet")
    names = ["baseline", *(v["name"] for v in VARIATIONS)]
    assert table["variation"].unique(maintain_order=True).to_list() == names
    baseline = table.filter(pl.col("variation") == "baseline")
    for name, n_judges in (("hotter", 2), ("rows-3", 2), ("longer", 2), ("one-judge", 1)):
        rows = table.filter(pl.col("variation") == name)
        assert rows.height * 2 == baseline.height * n_judges
    assert set(table.filter(pl.col("variation") == "one-judge")["judge"]) == {"refusal-rules"}


@pytest.mark.slow
def test_the_analysis_says_what_each_variation_did(out: Path):
    found = analyze_run(RunDirectory(out))
    (check,) = found.numerics_checks
    n_requests = pl.read_parquet(out / "requests.parquet").height
    assert (check.variation, check.n_compared, check.n_changed) == ("rows-3", n_requests, 0)
    touched = {(e.variation, e.model, e.decoding) for e in found.variation_effects}
    assert touched == {
        *(("hotter", model, "sampled") for model in ("base", "chat")),
        *(("longer", "chat", decoding) for decoding in ("greedy", "sampled")),
    }
    assert found.single_runs and found.movements
    report(RunDirectory(out))
    written = {path.name for path in (out / "report").iterdir()}
    assert {
        "index.html",
        "checklist.md",
        "methods.md",
        "methods.tex",
        "references.bib",
        "tables.tex",
    } <= written
    assert any(path.name.startswith("moves-chat-") for path in (out / "report" / "figures").iterdir())


@pytest.mark.slow
def test_run_again_it_does_nothing_and_gives_the_same_bytes(out: Path, study: dict[str, Any]):
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.parquet") if p.parent.name == "responses"}
    observations = (out / "observations.parquet").read_bytes()
    told: list[tuple[str, int, int]] = []
    stage_runs.run(study, out, progress=lambda *said: told.append(said))
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert (out / "observations.parquet").read_bytes() == observations
    assert {stage for stage, *_ in told} >= {"tune", "generate", "generate · hotter", "judge · rows-3"}
    assert all(done == total for stage, done, total in told if stage.startswith("generate"))


@pytest.mark.slow
def test_dropped_checkpoints_serve_every_variation_first(study: dict[str, Any], out: Path, tmp_path: Path):
    dropped = stage_runs.run(study | {"keep_checkpoints": "none"}, tmp_path / "run")
    assert not list((dropped / "checkpoints").rglob("*.safetensors"))
    assert stage_runs.texts(dropped) == stage_runs.texts(out)


@pytest.mark.slow
def test_a_half_finished_study_is_taken_as_far_as_it_is_balanced(
    study: dict[str, Any], out: Path, tmp_path: Path
):
    half = tmp_path / "run"
    shutil.copytree(out, half)
    table = pl.read_parquet(half / "requests.parquet")
    lost = table.filter((pl.col("checkpoint") == "chat/2") & (pl.col("decoding") == "greedy"))["key"][0]
    for shard in (half / "responses").glob("*.parquet"):
        rows = pl.read_parquet(shard)
        if lost in rows["key"]:
            shard.unlink()
            gone = set(rows["key"])
    from aftertune.stages.observe import observe

    with pytest.raises(StoreError, match=r"--partial"):
        observe(RunDirectory(half))
    observe(RunDirectory(half), partial=True)
    found = pl.read_parquet(half / "observations.parquet").filter(pl.col("variation") == "baseline")
    block = ["checkpoint", "task", "decoding", "repeat"]
    torn = table.filter(pl.col("key").is_in(gone)).select(block).unique()
    assert found.join(torn, on=block, how="inner").is_empty()
    whole = table.join(torn, on=block, how="anti")
    assert found.height == 2 * whole.height
    left_out = json.loads((half / "manifest.json").read_text())["left_out"]
    of_baseline = [entry for entry in left_out if entry["variation"] == "baseline"]
    assert {entry["n_blocks"] for entry in of_baseline} == {torn.height}
    observe(RunDirectory(out))
    assert json.loads((out / "manifest.json").read_text())["left_out"] == []
