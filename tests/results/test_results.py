"""Results from Python: a run, imported logs and tables, opened, gated, shown and reported."""

import shutil
from pathlib import Path

import pandas as pd
import polars as pl
import pytest

import aftertune
from aftertune.errors import DataError, StoreError
from aftertune.records import OBSERVATION_COLUMNS
from aftertune.results import Imported, Run, Table
from aftertune.study import AnalysisSpec
from stage_runs import study_of

STORED = Path(__file__).parents[1] / "stored_runs" / "v0_1"
PRIMARY = {
    "task": "t",
    "decoding": "unnamed",
    "judge": "unnamed",
    "metric": "harmful_rate",
    "target": "benchmark",
}


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    return Path(shutil.copytree(STORED, tmp_path / "stored"))


def frame(n: int = 40) -> pl.DataFrame:
    rows = [
        {"model": model, "seed": seed, "task": "t", "item": f"i{i}", "value": float((i * 7 + shift) % 10 < 3)}
        for model, seeds, shift in (("base", [None], 0), ("tuned", [1, 2, 3], 1))
        for seed in seeds
        for i in range(n)
    ]
    return pl.DataFrame(rows)


def test_a_run_is_opened_with_all_that_it_holds(stored: Path):
    found = aftertune.open(stored / "run")
    assert isinstance(found, Run)
    assert (found.name, found.study.seeds, found.manifest.root_seed) == ("stored", 3, 3)
    assert [c.label for c in found.checkpoints()] == [
        "base",
        *(f"{m}/{s}" for m in ("chat", "self") for s in (1, 2, 3)),
    ]
    observations = found.observations()
    assert observations.columns == list(OBSERVATION_COLUMNS)
    assert set(observations["variation"]) == {"baseline", "longer", "warmer", "rows-8"}
    assert found.responses().height == observations.height
    assert {"prompt", "text", "value"} <= set(found.responses().columns)
    assert found.gate().outcome == "pass"
    assert found.status().study == "stored"
    assert found.report() == stored / "run" / "report" / "index.html"


def test_imported_logs_are_opened(stored: Path):
    found = aftertune.open(str(stored / "imported"))
    assert isinstance(found, Imported)
    assert found.name == "imported" and len(found.record["sources"]) == 4
    assert found.observations().height == 32
    assert {rate.metric for rate in found.analysis.rates} == {"accuracy"}
    assert found.report().is_file()


@pytest.mark.parametrize("name", ["run", "imported"])
def test_an_analysis_of_other_observations_is_made_again(stored: Path, name: str):
    root = stored / name
    before = aftertune.open(root).analysis
    (root / "analysis.json").write_text(
        before.model_copy(update={"observations_sha256": "0" * 64, "rates": ()}).model_dump_json(), "utf-8"
    )
    found = aftertune.open(root).analysis
    assert len(found.rates) == len(before.rates) > 0
    (root / "analysis.json").unlink()
    assert aftertune.open(root).analysis == found


def test_an_analysis_of_a_newer_version_is_refused(stored: Path):
    root = stored / "run"
    newer = aftertune.open(root).analysis.model_copy(update={"schema_version": 99})
    (root / "analysis.json").write_text(newer.model_dump_json(), "utf-8")
    with pytest.raises(StoreError, match="has schema version 99"):
        _ = aftertune.open(root).analysis
    (root / "analysis.json").write_text('{"rates": 3}', "utf-8")
    with pytest.raises(StoreError, match="is no analysis of this version"):
        _ = aftertune.open(root).analysis


def test_a_table_of_a_file_and_of_a_frame_say_the_same(tmp_path: Path):
    frame().write_parquet(tmp_path / "rows.parquet")
    spec = AnalysisSpec.model_validate({"primary": PRIMARY, "margin": 0.2})
    opened = aftertune.open(tmp_path / "rows.parquet", spec=spec)
    held = Table(frame(), "rows", spec)
    assert isinstance(opened, Table) and opened.analysis == held.analysis
    assert opened.gate() == held.gate()
    assert opened.analysis is opened.analysis
    assert held.observations().height == 160
    assert held.report(tmp_path / "page").read_text("utf-8").count("tuned") > 1


def test_a_pandas_frame_is_analysed_like_a_polars_one():
    rows = pd.DataFrame(frame().to_dicts())
    rows["seed"] = rows["seed"].astype("Int64")
    assert aftertune.analyze(rows).rates == aftertune.analyze(frame()).rates


def test_results_show_themselves_in_a_notebook_with_hostile_names_escaped():
    found = Table(frame().with_columns(model=pl.col("model").replace("tuned", "<img src=x>")))
    assert "<img" in str(found)
    html = found._repr_html_()
    assert html.startswith("<pre>") and "&lt;img src=x&gt;" in html and "<img" not in html


def test_what_is_not_there_or_does_not_fit_is_refused(stored: Path, tmp_path: Path):
    with pytest.raises(DataError, match="there is no "):
        aftertune.open(tmp_path / "nothing")
    with pytest.raises(StoreError, match="is not a run directory"):
        aftertune.open(tmp_path)
    with pytest.raises(DataError, match="spec and columns go with a table"):
        aftertune.open(stored / "run", spec=AnalysisSpec())


def test_a_study_runs_from_a_file_and_as_an_object(tiny_model: Path, tmp_path: Path):
    import yaml

    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(study_of(tiny_model, seeds=1)), encoding="utf-8")
    one = aftertune.run(str(file), str(tmp_path / "one"))
    two = aftertune.run(aftertune.read_study(file), tmp_path / "two")
    assert isinstance(one, Run) and one.analysis.rates == two.analysis.rates
    assert one.study == two.study
    assert aftertune.open(tmp_path / "two") == two
