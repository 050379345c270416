"""The same hard content at every door for others' files: big integers, long cells, cut characters."""

import csv
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aftertune.analysis import read_observations
from aftertune.commands.calibrate import LabelOptions, calibrate_labels
from aftertune.commands.export import export
from aftertune.commands.import_logs import import_logs
from aftertune.commands.import_options import ImportOptions
from aftertune.errors import DataError
from aftertune.sources.table import MAX_CELL, read_table
from aftertune.study import JudgeSpec

TWINS = (2**53, 2**53 + 1)  # one number as floats
LARGEST = 2**63 - 1
HALF = "\\ud83d"  # as JSON writes it and as we do


def observed(out: Path) -> pl.DataFrame:
    return pl.read_parquet(out / "observations.parquet")


def imported(path: Path, out: Path, **options: Any) -> tuple[dict[str, Any], pl.DataFrame]:
    given = {"construct": ["harmful"], "intent": ["harmful"]} | options
    return import_logs([path], out, ImportOptions(**given)).record, observed(out)


def table(path: Path, columns: dict[str, list[Any]]) -> Path:
    """A tidy table as CSV, or as Parquet with the columns' own types."""
    if path.suffix == ".parquet":
        pl.DataFrame(columns, strict=False).write_parquet(path)
        return path
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def rows(column: str, numbers: Any, **more: Any) -> dict[str, Any]:
    n = len(numbers)
    given = {"model": ["chat"] * n, "item": ["q"] * n, "value": [0.0, 1.0] * (n // 2), column: numbers}
    return given | more


@pytest.mark.parametrize("column", ["seed", "repeat", "judge_repeat"])
@pytest.mark.parametrize("numbers", [TWINS, (LARGEST, LARGEST - 1), (-LARGEST - 1, -LARGEST)])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_big_integers_are_kept_apart_and_come_back(
    tmp_path: Path, column: str, numbers: tuple[int, int], ending: str
):
    path = table(tmp_path / f"t.{ending}", rows(column, numbers))
    _, found = imported(path, tmp_path / "i")
    assert sorted(found[column]) == sorted(numbers)
    assert sorted(read_observations(path)[column]) == sorted(numbers)
    for to in ("csv", "parquet"):
        export(tmp_path / "i", to, tmp_path / f"out.{to}")
        _, again = imported(tmp_path / f"out.{to}", tmp_path / f"again-{to}", construct=None, intent=None)
        assert again.sort(column).equals(found.sort(column))
        assert sorted(read_observations(tmp_path / f"out.{to}")[column]) == sorted(numbers)


@pytest.mark.parametrize(
    "seeds",
    [
        pl.Series(TWINS, dtype=pl.UInt64),
        pl.Series([Decimal(seed) for seed in TWINS], dtype=pl.Decimal(38, 0)),
        pl.Series([str(seed) for seed in TWINS]),
    ],
    ids=lambda seeds: str(seeds.dtype),
)
def test_a_column_of_any_exact_type_keeps_big_seeds(tmp_path: Path, seeds: pl.Series):
    path = table(tmp_path / "t.parquet", rows("seed", seeds))
    assert sorted(imported(path, tmp_path / "i")[1]["seed"]) == list(TWINS)
    assert sorted(read_observations(path)["seed"]) == list(TWINS)


@pytest.mark.parametrize(
    ("seed", "message"),
    [
        (str(2**63), "needs more than 64 bits with a sign"),
        (str(2**64 - 1), "needs more than 64 bits with a sign"),
        (str(-(2**63) - 1), "needs more than 64 bits with a sign"),
        ("9007199254740992.0", r"without a point or exponent: such a number has lost digits"),
        ("9.007199254740993e15", "has lost digits"),
        ("1e400", "write a whole number"),
        ("inf", "write a whole number"),
    ],
)
@pytest.mark.parametrize("column", ["seed", "repeat", "judge_repeat"])
def test_a_number_that_cannot_be_kept_is_refused_with_its_line(
    tmp_path: Path, column: str, seed: str, message: str
):
    path = table(tmp_path / "t.csv", rows(column, ["1", seed]))
    with pytest.raises(DataError, match=rf"t\.csv, line 3: the {column} (is )?'?{seed}[\s\S]*{message}"):
        imported(path, tmp_path / "i")
    with pytest.raises(DataError, match=rf"column '{column}' holds '{seed}' in row 2"):
        read_observations(path)


def test_a_seed_is_one_however_it_is_written_and_ids_stay_as_they_are(tmp_path: Path):
    ids = ["1e5", "007", "1.0", "-3", "100000", "9007199254740993", "TRUE", "12E34"]
    columns = {"model": ["m"] * 8, "item": ids, "value": ["TRUE", "false", "1", "0.0"] * 2}
    columns |= {"seed": ["1", "1.0", "01", "1e0", "+1", " 1", "1", "1"]}
    path = table(tmp_path / "t.csv", columns)
    _, found = imported(path, tmp_path / "i")
    assert set(found["item"]) == set(ids) and set(found["seed"]) == {1} and set(found["repeat"]) == {1}
    assert dict(found.select("item", "value").iter_rows())["1e5"] == 1.0


def test_seeds_and_repeats_beyond_64_bits_that_no_table_holds(tmp_path: Path):
    path = table(tmp_path / "t.csv", rows("repeat", [LARGEST, 1], checkpoint=["c", "c"]))
    with pytest.raises(DataError, match="the seed needs more than 64 bits"):
        imported(path, tmp_path / "i", model=[f"chat/{2**64 - 1}={path}"])
    other = table(tmp_path / "u.csv", rows("repeat", [LARGEST, 2]))
    with pytest.raises(DataError, match="its repeats go on from those of other logs"):
        import_logs([path, other], tmp_path / "i", ImportOptions())


def test_a_judgment_that_failed_has_no_value_whatever_stands_beside_it(tmp_path: Path):
    path = table(tmp_path / "t.csv", rows("seed", [1, 2], status=["failed", "ok"]))
    _, found = imported(path, tmp_path / "i")
    assert found.sort("seed").select("value", "status").rows() == [(None, "failed"), (1.0, "ok")]
    assert "the value 0.0 beside it was not taken" in found.sort("seed")["reason"][0]
    table(path, rows("seed", [1, 2], status=["crashed", "ok"]))
    with pytest.raises(DataError, match=r"line 2: the status is 'crashed' beside the value 0.0"):
        imported(path, tmp_path / "j")


LONG = "I cannot " + "a" * 200_000


def test_long_cells_are_read_at_every_door(tmp_path: Path):
    limit = csv.field_size_limit()
    tidy = table(tmp_path / "t.csv", rows("seed", [1, 2], text=[LONG, LONG]))
    imported(tidy, tmp_path / "i")
    export(tmp_path / "i", "csv", tmp_path / "out.csv")
    imported(tmp_path / "out.csv", tmp_path / "again")
    assert pl.read_parquet(tmp_path / "again" / "responses.parquet")["text"].to_list() == [LONG, LONG]
    attempts = table(tmp_path / "a.csv", {"question": ["q"], "answer": [LONG], "label": [1]})
    _, found = imported(attempts, tmp_path / "j", model=[f"m={attempts}"])
    assert found["value"].to_list() == [1.0]
    labels = table(tmp_path / "l.csv", {"question": ["q"], "response": [LONG], "label": ["TRUE"]})
    (group, _) = calibrated(labels)
    assert (group.n_labels, group.n_both) == (1, 1)
    assert csv.field_size_limit() == limit


def calibrated(path: Path) -> Any:
    found = calibrate_labels(
        path, [JudgeSpec(name="refusal-rules")], path.with_suffix(".cal"), LabelOptions()
    )
    return (*found.groups, None)


def test_a_cell_of_more_than_the_limit_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("aftertune.sources.table.MAX_CELL", 1000)
    with pytest.raises(DataError, match=r"t\.csv, line 3: not CSV: a cell of more than 1,000 characters\n"):
        read_table(b"a,b\n1,2\n1," + b"x" * 1001 + b"\n", "t.csv")
    assert MAX_CELL > 60_000_000


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_other_separators_are_read_at_every_door(tmp_path: Path, separator: str, mark: str):
    tidy = tmp_path / "t.csv"
    tidy.write_text(f"{mark}model;item;value;text\nm;q,1;1;a, b\n".replace(";", separator))
    _, found = imported(tidy, tmp_path / "i")
    assert found["item"].to_list() == ["q,1"]
    attempts = tmp_path / "a.csv"
    attempts.write_text(f"{mark}question;answer;label\nq, w;a, b;1\n".replace(";", separator))
    assert imported(attempts, tmp_path / "j", model=[f"m={attempts}"])[1]["value"].to_list() == [1.0]
    excel = f"sep={separator}\nmodel;item;value\nm;q;1\n".replace(";", separator)
    tidy.write_text(excel)
    assert imported(tidy, tmp_path / "k")[1]["item"].to_list() == ["q"]


def test_a_line_that_says_the_separator_counts_as_a_line():
    assert [row.line for row in read_table(b"sep=;\r\na;b\r\n1;2\r\n", "t.csv").rows] == [3]
    # A comma inside quotes is none of the header's, and one column stays one column.
    assert read_table(b'"a, b";c\n1;2\n', "t.csv").columns == ("a, b", "c")
    assert read_table(b"prompt\none; two\n", "t.csv").rows[0].values == {"prompt": "one; two"}


def halves(path: Path, content: str) -> Path:
    """The content with half of a pair as the bytes that a careless writer makes of it."""
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    return path


def test_halves_of_surrogate_pairs_are_escaped_at_every_door(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    cut = "cut \ud83d"
    escaped = f"cut {HALF}"

    tidy = halves(tmp_path / "t.csv", f"model,item,value,prompt,text\nm,{cut},1,{cut},{cut}\nm,b,0,p,t\n")
    record, found = imported(tidy, tmp_path / "tidy")
    assert found["item"].to_list() == [escaped, "b"]
    assert pl.read_parquet(tmp_path / "tidy" / "responses.parquet")["text"].to_list() == [escaped, "t"]
    assert "1 rows hold half of a surrogate pair" in record["sources"][0]["notes"][0]

    attempts = halves(tmp_path / "a.csv", f"question,answer,label\nq {cut},{cut},1\n")
    verdicts = tmp_path / "v.json"
    verdicts.write_text(json.dumps({f"judge {cut}": {"preds": [True]}}))
    both = import_logs([], tmp_path / "attempts", ImportOptions(model=[f"m={attempts},{verdicts}"]))
    assert {j["judge"] for j in both.record["judges"]} == {"label", f"judge {escaped}"}

    sample = {"doc_id": 0, "doc": {cut: cut}, "resps": [[cut]], "target": cut, f"acc {cut}": 1.0}
    log = tmp_path / "samples_t.jsonl"
    log.write_text(json.dumps(sample) + "\n" + json.dumps(sample | {"doc_id": 1, "resps": [["x"]]}) + "\n")
    record, found = imported(log, tmp_path / "lm", model=[f"m={log}"], construct=["correct"])
    assert found["judge"].to_list() == [f"acc {escaped}"] * 2
    assert pl.read_parquet(tmp_path / "lm" / "responses.parquet")["text"].to_list() == [escaped, "x"]
    assert any("2 samples hold half" in note for note in record["sources"][0]["notes"])

    labels = tmp_path / "l.jsonl"
    labels.write_text(json.dumps({"question": "q", "response": f"I cannot {cut}", "label": "1"}) + "\n")
    with caplog.at_level("WARNING"):
        assert calibrated(labels)[0].n_both == 1
    assert "1 rows hold half of a surrogate pair" in caplog.text


def test_both_halves_side_by_side_are_one_character(tmp_path: Path):
    tidy = halves(tmp_path / "t.csv", "model,item,value\nm,\ud83d\ude00,1\nm,\ud83d,1\n")
    assert imported(tidy, tmp_path / "i")[1]["item"].to_list() == ["😀", HALF]
