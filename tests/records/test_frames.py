"""Every table of an analysis is a polars frame, with one schema whether it holds records or not."""

from pathlib import Path

import polars as pl
import pytest

from aftertune.errors import DataError
from aftertune.records.analysis import Analysis

STORED = sorted((Path(__file__).parents[1] / "stored_runs").rglob("analysis.json"))
TABLES = [
    name
    for name, field in Analysis.model_fields.items()
    if str(field.annotation).startswith("tuple[") and name != "post_hoc"
]


@pytest.fixture(scope="module", params=STORED, ids=lambda path: path.parent.name)
def analysis(request: pytest.FixtureRequest) -> Analysis:
    return Analysis.model_validate_json(request.param.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", TABLES)
def test_every_table_is_a_frame_of_one_schema(analysis: Analysis, name: str):
    frame = analysis.to_frame(name)
    records = getattr(analysis, name)
    assert frame.height == len(records)
    assert frame.width >= 4
    empty = analysis.model_copy(update={name: ()}).to_frame(name)
    assert empty.schema == frame.schema and empty.height == 0


def test_values_are_those_of_the_records_and_absent_is_null(analysis: Analysis):
    frame = analysis.to_frame("rates")
    for row, rate in zip(frame.iter_rows(named=True), analysis.rates, strict=True):
        assert (row["model"], row["estimate"], row["n_seeds"]) == (rate.model, rate.estimate, rate.n_seeds)
        low = None if rate.benchmark is None else rate.benchmark.ci_low
        assert row["benchmark.ci_low"] == low
        assert row["missing.n"] == rate.missing.n
        assert [one["estimate"] for one in row["per_seed"]] == [one.estimate for one in rate.per_seed]
        assert {one["key"]: one["value"] for one in row["missing.by_status"]} == rate.missing.by_status
    assert frame.schema["benchmark.covers"] == pl.List(pl.String)


def test_an_unknown_table_names_the_nearest(analysis: Analysis):
    with pytest.raises(DataError, match="no table 'rate'") as error:
        analysis.to_frame("rate")
    assert "rates" in error.value.remedy
