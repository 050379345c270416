"""Reading observations: every bad input is named."""

import polars as pl
import pytest

from aftertune.analysis import analyze, analyze_file, read_observations
from aftertune.errors import DataError
from aftertune.records import OBSERVATION_COLUMNS
from aftertune.sources.columns import UNNAMED, TableSpec
from aftertune.study import analysis_spec

GOOD = "model,seed,item,value\nbase,,a,0\nbase,,b,1\nchat,1,a,1\nchat,1,b,1\nchat,2,a,\nchat,2,b,0.5\n"

_SEEDS = [("base", "", "a", 0), ("base", "", "b", 1)]
_SEEDS += [("chat", seed, item, 1) for seed in (1, 2) for item in ("a", "b")]


def written(folder, text, name="table.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_and_parquet_give_one_table(tmp_path):
    from_csv = read_observations(written(tmp_path, GOOD))
    assert from_csv.columns == list(OBSERVATION_COLUMNS)
    assert from_csv["seed"].to_list() == [None, None, 1, 1, 2, 2]
    assert from_csv["value"].to_list() == [0, 1, 1, 1, None, 0.5]
    assert from_csv["status"].to_list() == ["ok"] * 4 + ["missing", "ok"]
    assert from_csv["checkpoint"].to_list() == ["base", "base", "chat/1", "chat/1", "chat/2", "chat/2"]
    from_csv.write_parquet(tmp_path / "table.parquet")
    assert read_observations(tmp_path / "table.parquet").equals(from_csv)


def test_a_table_is_analysed_into_a_file(tmp_path):
    analysis = analyze_file(written(tmp_path, GOOD), tmp_path / "analysis.json")
    assert analysis.study == "table"
    assert (tmp_path / "analysis.json").read_text().startswith('{\n  "schema_version": 1')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modell,item,value\nbase,a,1\n", "lacks the column model.*rename 'modell' to 'model'"),
        ("a,b\n1,2\n", "lacks the columns model, item, value; it has a, b"),
        ("", "is empty"),
        ("model,item,value\n", "has no rows"),
        ("model,item,value\nbase,a,high\n", "'value' holds 'high' in row 1; it takes numbers"),
        ("model,item,value\nbase,a,1\nbase,b,1.5\n", "outside \\[0, 1\\] in 1 rows, first in row 2: 1.5"),
        ("model,item,value,value\nbase,a,1,0\n", "has the column 'value' more than once"),
        ("model,item,value\nNA,a,1\n", "'model' holds an empty name"),
        ("model,item,value,seed\nchat,a,1,first\n", "'seed' holds 'first' in row 1; it takes whole numbers"),
        ("model,item,value,seed\nchat,a,1,1.5\n", "'seed' holds '1.5'"),
        ("model,item,value\nbase,a,1\nbase,a,0\n", "2 rows share their cell.*column `repeat`"),
        ("model,item,value,intent\nbase,a,1,harmfull\n", "'intent' holds 'harmfull'.*did you mean 'harmful'"),
        ("model,item,value,construct\nbase,a,1,zzz\n", "'construct' holds 'zzz'.*known: complied"),
        ("model,item,value\nbase,a,\"1,5\"\n", "'value' holds '1.5'|outside \\[0, 1\\]"),
        ("model,item,value,status\nbase,a,1,done\n", "'status' holds another status than ok beside a value"),
        ("model,item,value\n,a,1\n", "'model' holds an empty name"),
        ("model,item,value,intent\nbase,a,1,harmful\nbase,b,1,benign\n", "more than one intent: benign, h"),
    ],
)  # fmt: skip
def test_bad_tables_are_refused_with_the_column_the_value_and_the_remedy(tmp_path, text, message):
    with pytest.raises(DataError, match=f"(?s){message}"):
        read_observations(written(tmp_path, text))


def test_files_that_are_no_tables_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot tell the format"):
        read_observations(tmp_path / "x.xlsx")
    with pytest.raises(DataError, match="cannot read"):
        read_observations(tmp_path / "none.csv")
    with pytest.raises(DataError, match="not Parquet"):
        read_observations(written(tmp_path, "no parquet at all", "x.parquet"))


def test_a_column_of_another_kind_is_refused():
    frame = pl.DataFrame({"model": ["base"], "item": ["a"], "value": [[1.0]]})
    with pytest.raises(DataError, match="'value' holds List"):
        analyze(frame, study="x")


def test_truth_values_are_numbers():
    frame = pl.DataFrame({"model": ["base"] * 2, "item": ["a", "b"], "value": [True, False]})
    assert analyze(frame, study="x").rates[0].estimate == 0.5


@pytest.mark.parametrize("first", ["", "sep=;\n"])
@pytest.mark.parametrize(("separator", "name"), [(";", "t.csv"), ("\t", "t.csv"), ("\t", "t.tsv")])
def test_cells_separated_as_spreadsheets_do_are_read(tmp_path, first, separator, name):
    rows = [
        "model,item,value",
        *(f"{m},{i},{v}" for m, v in (("base", "TRUE"), ("a", "FALSE")) for i in "xy"),
    ]
    text = "\n".join(rows).replace(",", separator)
    path = tmp_path / name
    path.write_bytes(b"\xef\xbb\xbf" + (first.replace(";", separator) + text).encode())
    frame = read_observations(path)
    assert frame["value"].to_list() == [1.0, 1.0, 0.0, 0.0]
    assert frame["item"].cast(pl.String).to_list() == ["x", "y", "x", "y"]


def test_a_table_without_any_value_is_no_analysis(tmp_path):
    table = written(tmp_path, "model,item,value\nbase,a,\nchat,a,\n")
    with pytest.raises(DataError, match="none of its 2 rows has a value"):
        analyze_file(table, tmp_path / "analysis.json")
    assert not (tmp_path / "analysis.json").exists()


@pytest.mark.parametrize(
    ("column", "given", "assumed"),
    [
        ("", {}, ["assumed_construct", "assumed_intent"]),
        (",refused", {}, ["assumed_intent"]),
        (",refused", {"intent": "benign"}, []),
        (",", {}, ["assumed_construct", "assumed_intent"]),
        (",", {"construct": "refused", "intent": "benign"}, []),
    ],
)
def test_what_is_assumed_of_a_table_is_said(tmp_path, column, given, assumed):
    head = "model,item,value" + ",construct" * bool(column)
    table = written(tmp_path, f"{head}\nbase,a,1{column}\nchat,a,0{column}\n")
    analysis = analyze_file(table, tmp_path / "analysis.json", columns=TableSpec(**given))
    found = [warning.code for warning in analysis.warnings if warning.code.startswith("assumed")]
    assert found == assumed


def test_the_only_task_decoding_and_judge_need_no_name(tmp_path):
    rows = "".join(f"{m},{s},{i},j,t,{v}\n" for m, s, i, v in _SEEDS)
    table = written(tmp_path, "model,seed,item,judge,task,value\n" + rows)
    primary = {"task": UNNAMED, "decoding": UNNAMED, "judge": UNNAMED, "metric": "harmful_rate"}
    spec = analysis_spec({"primary": primary | {"target": "benchmark"}})
    found = analyze_file(table, tmp_path / "analysis.json", spec=spec).primary
    assert found is not None and (found.task, found.decoding, found.judge) == ("t", UNNAMED, "j")
    two = written(
        tmp_path, "model,seed,item,judge,task,value\n" + rows + rows.replace(",j,", ",k,"), "two.csv"
    )
    with pytest.raises(DataError, match="the primary contrast's judge is 'unnamed'"):
        analyze_file(two, tmp_path / "analysis.json", spec=spec)
