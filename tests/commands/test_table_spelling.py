"""A table as people write it gives the same observations at both doors, `analyze` and `import`."""

from pathlib import Path

import polars as pl
import pytest

from aftertune.analysis import read_observations
from aftertune.commands.import_logs import import_logs
from aftertune.commands.import_options import ImportOptions
from aftertune.errors import DataError
from aftertune.sources.columns import TableSpec

_COMPARED = ["model", "seed", "item", "value", "status", "reason", "intent", "construct"]
_HEAD = "model,seed,item,intent,construct,status,reason,value"
_PLAIN = f"{_HEAD}\nbase,,a,harmful,refused,ok,,0.25\nchat,1,a,harmful,refused,ok,,1\n"


def both(folder: Path, text: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    table = folder / "table.csv"
    table.write_text(text, encoding="utf-8")
    import_logs([table], folder / "imported", ImportOptions())
    imported = read_observations(folder / "imported" / "observations.parquet")
    return tuple(
        found.select(_COMPARED)
        .cast({"seed": pl.Int64} | dict.fromkeys(_COMPARED[4:], pl.String))
        .sort("model")
        for found in (read_observations(table), imported)
    )


@pytest.mark.parametrize(
    "change",
    [
        (_HEAD, _HEAD.title()),
        (_HEAD, " Model,SEED,Item ,Intent,Construct,Status,Reason,Value"),
        (",harmful,", ",Harmful,"),
        (",refused,", ",REFUSED ,"),
        (",ok,", ",OK,"),
        (",ok,,1", ",ok,,TRUE"),
        (",ok,,1", ",ok,,yes"),
        (",ok,,1", ",ok,,1.0 "),
        ("0.25", '"0,25"'),
        ("base,,", "base,NA,"),
        ("base,,", "base,NULL,"),
        ("chat,1,a", "chat\u00a0,1, a"),
        (",ok,", ", ,"),
        ("\nchat", "\n\n,,,,,,,\nchat"),
        ("\n", ",,\n"),
    ],
    ids=repr,
)
def test_another_spelling_is_the_same_table(tmp_path: Path, change: tuple[str, str]):
    (tmp_path / "plain").mkdir()
    expected, _ = both(tmp_path / "plain", _PLAIN)
    assert expected["value"].to_list() == [0.25, 1]
    for found in both(tmp_path, _PLAIN.replace(*change)):
        assert found.equals(expected)


def test_semicolons_and_decimal_commas(tmp_path: Path):
    expected, _ = both(tmp_path, _PLAIN)
    (tmp_path / "excel").mkdir()
    for found in both(tmp_path / "excel", _PLAIN.replace(",", ";").replace("0.25", "0,25")):
        assert found.equals(expected)


@pytest.mark.parametrize(
    ("written", "status", "reason"),
    [
        ("failed,,1", "failed", "the status is failed, and the value 1 beside it was not taken"),
        ("Failed,no answer,1", "failed", "no answer"),
        ("ok,,", "missing", "the status is ok, and no value stands beside it"),
        ("truncated,,", "truncated", ""),
        (",,", "missing", ""),
    ],
)
def test_one_rule_of_statuses(tmp_path: Path, written: str, status: str, reason: str):
    for found in both(tmp_path, _PLAIN + f"chat,2,a,harmful,refused,{written}\n"):
        (row,) = found.filter(seed=2).rows(named=True)
        assert (row["value"], row["status"], row["reason"]) == (None, status, reason)


@pytest.mark.parametrize("word", ["NA", "NULL", "nan", "None", "<NA>", "#N/A", "\\N", " n/a "])
def test_a_word_for_nothing_is_no_value(tmp_path: Path, word: str):
    for found in both(tmp_path, _PLAIN + f"chat,2,a,harmful,refused,,,{word}\n"):
        (row,) = found.filter(seed=2).rows(named=True)
        assert (row["value"], row["status"]) == (None, "missing")
        assert row["reason"] == f"the table says {word} in place of a value"


def test_nan_of_parquet_is_no_value(tmp_path: Path):
    table = tmp_path / "table.parquet"
    pl.DataFrame({"model": ["base"] * 2, "item": ["a", "b"], "value": [1.0, float("nan")]}).write_parquet(
        table
    )
    assert read_observations(table)["value"].to_list() == [1, None]


def test_an_option_names_a_column_in_any_case(tmp_path: Path):
    table = tmp_path / "table.csv"
    table.write_text("model,item,value,Status\nbase,a,1,completed\n", encoding="utf-8")
    with pytest.raises(DataError, match="--ignore status"):
        read_observations(table)
    assert read_observations(table, TableSpec(ignore=["status"]))["status"].to_list() == ["ok"]


def test_names_of_our_own_tables_stay_as_they_are(tmp_path: Path):
    table = tmp_path / "table.csv"
    table.write_text("model,item,value,response_key\nbase,a ,1,x\nbase,a,0,y\n", encoding="utf-8")
    assert read_observations(table)["item"].to_list() == ["a ", "a"]


def test_two_columns_of_one_name_are_not_guessed(tmp_path: Path):
    table = tmp_path / "table.csv"
    table.write_text("Model,MODEL,item,value\nbase,chat,a,1\n")
    with pytest.raises(DataError, match="lacks the column model"):
        read_observations(table)
