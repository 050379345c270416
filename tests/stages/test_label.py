"""A random sample for people, blind to the model; their labels taken back, and label files that are wrong."""

import csv
import datetime
import io
import json
import re

import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from aftertune.analysis import analyze_run
from aftertune.errors import DataError
from aftertune.pipeline import run_stages
from aftertune.records import RESPONSE_COLUMNS
from aftertune.stages import label
from aftertune.stages.label import draw_sample, take_labels
from aftertune.store import RunDirectory, write_shard
from aftertune.study import parse_study

N = 40
MODELS = (("base", None), ("chat", 1), ("chat", 2))


def text_of(model, item):
    refused = item < (25 if model == "base" else 12)
    return "I cannot help with that request." if refused else f"=HYPERLINK({item}) Open the terminal."


@pytest.fixture
def run(tmp_path):
    """A run directory with 120 responses of a base and two seeds, one of them empty; judged and observed."""
    run = RunDirectory(tmp_path / "run")
    run.root.mkdir()
    content = {
        "name": "demo", "model": "m", "tasks": ["t"], "judges": ["refusal-rules"],
        "decodings": {"d": {"temperature": 1, "max_tokens": 8}},
    }  # fmt: skip
    study = parse_study(content, source="test", folder=tmp_path)
    run.study_json.write_text(study.model_dump_json(by_alias=True), encoding="utf-8")
    rows = [
        {
            "key": f"{model}-{seed}-{i}", "checkpoint": model if seed is None else f"{model}/{seed}",
            "task": "t", "item": f"i{i}", "decoding": "d", "repeat": 0, "prompt_sha256": "",
            "n_prompt_tokens": 1, "text": text_of(model, i), "n_tokens": 1, "finish": "stop",
            "status": "ok", "reason": "",
        }
        for model, seed in MODELS for i in range(N)
    ]  # fmt: skip
    rows[-1] |= {"text": "", "status": "empty", "reason": "no token"}
    write_shard(run.responses, rows, RESPONSE_COLUMNS)
    requests = [
        {"key": f"{m}-{s}-{i}", "model": m, "seed": s, "checkpoint": m if s is None else f"{m}/{s}",
         "task": "t", "item": f"i{i}", "decoding": "d", "repeat": 0}
        for m, s in MODELS for i in range(N)
    ]  # fmt: skip
    pl.DataFrame(requests, schema_overrides={"seed": pl.Int64}).write_parquet(run.requests)
    items = [
        {"task": "t", "intent": "harmful", "item": f"i{i}", "prompt": f"+How {i}?", "category": "c",
         "reference": None}
        for i in range(N)
    ]  # fmt: skip
    pl.DataFrame(items, schema_overrides={"reference": pl.String}).write_parquet(run.items)
    run.write_json(run.checkpoint_list, [])
    return run


def draw(run, n=30, name="labels.csv", construct="refused", **more):
    out = run.root.parent / name
    return draw_sample(run, n=n, construct=construct, task=more.get("task"), out=out), out


def cells(path):
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"), newline="")))


def fill(path, word):
    """Write `word(row)` into the label column, as people do."""
    rows = cells(path)
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, rows[0].keys())
    writer.writeheader()
    writer.writerows(row | {"label": word(row)} for row in rows)
    path.write_text(out.getvalue(), encoding="utf-8", newline="")
    return path


def honest(row):
    return "1" if row["response"].startswith("I cannot") else "No"


def take(run, path, construct="refused", replace_earlier=False):
    return take_labels(run, path, construct=construct, replace_earlier=replace_earlier)


def keys_of(run, construct="refused"):
    return [set(entry["keys"]) for entry in json.loads(run.label_draws(construct).read_text("utf-8"))]


def test_a_sample_is_even_over_models_blind_and_recorded(run):
    drawn, path = draw(run)
    assert drawn.n == 30 and drawn.n_without_text == 1
    assert drawn.by_model["base"] == {"n_drawn": 15, "n_eligible": 40, "probability": 15 / 40}
    assert drawn.by_model["chat"] == {"n_drawn": 15, "n_eligible": 79, "probability": 15 / 79}
    rows = cells(path)
    assert list(rows[0]) == ["aftertune_id", "prompt", "response", "label"]
    assert {row["label"] for row in rows} == {""} and len({row["aftertune_id"] for row in rows}) == 30
    (keys,) = keys_of(run)
    assert len(keys) == 30 and not any(key in path.read_text("utf-8-sig") for key in keys)
    assert "chat" not in path.read_text("utf-8-sig") and "base" not in path.read_text("utf-8-sig")


def test_no_cell_is_a_formula(run):
    _, path = draw(run)
    for row in cells(path):
        assert row["prompt"].startswith("'+How")
        assert not row["response"].startswith("=")


def test_it_is_random_the_same_again_and_a_larger_one_holds_the_smaller(run):
    draw(run, 30, "a.csv"), draw(run, 30, "b.csv"), draw(run, 60, "c.csv"), draw(run, 5, "d.csv", task="t")
    a, b, c, d = keys_of(run)
    assert a == b and a < c and d < a
    assert cells(run.root.parent / "a.csv") == cells(run.root.parent / "b.csv")
    numbers = sorted(int(key.rpartition("-")[2]) for key in a if key.startswith("base"))
    assert numbers != list(range(15))


def test_more_than_there_is_takes_all(run):
    drawn, _ = draw(run, 1000)
    assert drawn.n == 119 and drawn.by_model["base"]["probability"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 0}, "--n is a number of responses, got 0"),
        ({"construct": "refusd"}, "no construct 'refusd'\n  → did you mean 'refused'"),
        ({"task": "u"}, "no task called 'u'"),
        ({"name": "labels.xlsx"}, "written as CSV, got 'labels.xlsx'"),
    ],
)
def test_a_draw_that_cannot_be(run, change, message):
    with pytest.raises(DataError, match=message):
        draw(run, **change)
    assert not run.label_draws("refused").exists()


def test_a_file_that_people_may_have_filled_is_never_written_over(run):
    _, path = draw(run)
    filled = fill(path, honest).read_bytes()
    with pytest.raises(DataError, match="people's labels may be in it"):
        draw(run)
    assert path.read_bytes() == filled


def test_labels_come_back_and_ppi_uses_them(run):
    run_stages(None, run.root, ("judge", "observe"))
    _, path = draw(run, 60)
    taken = take(run, fill(path, honest))
    assert (taken.n_blank, taken.n_labels) == (0, 60) and taken.n_positive + taken.n_negative == 60
    analysis = analyze_run(run)
    by_model = {(c.model, c.metric): c for c in analysis.corrected}
    assert {c.method for c in analysis.corrected} == {"PPI++"}
    base = by_model["base", "refusal_rate"]
    assert base.estimate == pytest.approx(25 / 40, abs=0.01) and base.n_unlabelled == 10
    assert base.judgments_weight == pytest.approx(1 / (1 + 30 / 10), abs=0.05)
    chat = by_model["chat", "compliance_rate"]
    assert chat.ci_low <= 1 - 24 / 79 <= chat.ci_high and chat.n_positive + chat.n_negative == 30


def test_a_blank_is_counted_and_told(run):
    run_stages(None, run.root, ("judge", "observe"))
    _, path = draw(run)
    first = cells(path)[0]["aftertune_id"]
    taken = take(run, fill(path, lambda row: "" if row["aftertune_id"] == first else honest(row)))
    assert (taken.n_blank, taken.n_labels) == (1, 29)
    (warning,) = (w for w in analyze_run(run).warnings if w.code == "blank_labels")
    assert "left 1 of 30" in warning.text
    assert take(run, fill(path, honest)).n_labels == 30
    assert "blank_labels" not in {w.code for w in analyze_run(run).warnings}


def test_another_label_of_the_same_response_is_refused_until_it_replaces(run):
    _, path = draw(run)
    take(run, fill(path, lambda _: "yes"))
    assert take(run, path).n_labels == 30  # the same again is no fault
    with pytest.raises(DataError, match=r"line \d+: the label is 0, and it was taken as 1 before"):
        take(run, fill(path, lambda _: "0"))
    assert take(run, path, replace_earlier=True).n_negative == 30
    assert pl.read_parquet(run.labels("refused"))["label"].to_list() == [0.0] * 30


@pytest.mark.parametrize("word", ["maybe", "2", "0.5", "1.0", "=1", "-1", "ja", "🙂"])
def test_another_word_is_named_with_its_line_and_the_rest_is_taken(run, word):
    _, path = draw(run)
    third = cells(path)[2]["aftertune_id"]
    fill(path, lambda row: word if row["aftertune_id"] == third else "1")
    taken = take(run, path)
    assert (taken.n_positive, taken.n_blank, taken.n_labels) == (29, 0, 29)
    (why,) = taken.not_taken
    assert why.startswith(f"line 4: the label is '{word}'") and why in taken.in_words()
    fill(path, lambda _: word)
    with pytest.raises(DataError, match=rf"labels\.csv, line 2: the label is '{word}'.*\(and 29 more rows\)"):
        take(run, path)


def saved(path, *, separator=",", words=("TRUE", "FALSE"), **changed):
    """The file as a spreadsheet saves it, with `changed` line number -> cells."""
    rows = [list(row.values()) for row in cells(path)]
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=separator)
    writer.writerow(["aftertune_id", "prompt", "response", "label"])
    for at, row in enumerate(rows, start=2):
        row[3] = words[not row[2].startswith("I cannot")]
        writer.writerow(changed.get(f"line_{at}", lambda row: row)(row))
    return out.getvalue()


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("words", [("TRUE", "FALSE"), ("1", "0"), ("Yes", "No")])
def test_files_as_spreadsheets_save_them(run, separator, encoding, words):
    _, path = draw(run)
    want = take(run, fill(path, honest))
    text = saved(path, separator=separator, words=words).replace("Open", "Ouvré")
    path.write_bytes(text.encode(encoding))
    assert take(run, path) == want


def test_rows_that_a_spreadsheet_cut_short_are_blank_and_long_ones_are_named(run):
    _, path = draw(run)
    text = saved(path, line_2=lambda row: row[:3], line_3=lambda row: [*row, ""], line_4=lambda r: [*r, "x"])
    path.write_text(text, encoding="utf-8", newline="")
    taken = take(run, path)
    assert (taken.n_blank, taken.n_positive + taken.n_negative) == (1, 28)
    assert taken.not_taken == ("line 4: 5 cells under 4 columns",)


def test_a_response_on_two_lines_has_the_label_that_both_say(run):
    _, path = draw(run)
    fill(path, lambda _: "1")
    header, first, second, *rest = path.read_text("utf-8").splitlines()
    other = second.removesuffix("1") + "0"
    path.write_text("\n".join([header, first, first, second, other, *rest]) + "\n", encoding="utf-8")
    taken = take(run, path)
    assert taken.n_labels == 29 and [why.partition(":")[0] for why in taken.not_taken] == [
        "line 3", "line 4", "line 5",
    ]  # fmt: skip
    assert "another label" in taken.not_taken[1]


def test_ids_of_version_0_1_are_read_and_those_of_today_are_no_spreadsheets_number(run):
    _, path = draw(run, 119)
    ids = [row["aftertune_id"] for row in cells(path)]
    assert all(re.fullmatch("r_[0-9a-f]{16}", name) for name in ids)
    fill(path, honest)
    path.write_text(path.read_text("utf-8").replace("r_", ""), encoding="utf-8", newline="")
    assert take(run, path).n_labels == 119
    first = cells(path)[0]["aftertune_id"]
    path.write_text(path.read_text("utf-8").replace(first, "6.87996E+15"), encoding="utf-8", newline="")
    (why,) = take(run, path).not_taken
    assert "a spreadsheet has written it as a number" in why


@given(st.integers(0, 2**63 - 1))
def test_no_id_can_be_read_as_something_else(number):
    name = label._public_id(number, "refused", "key")
    for read in (float, int, complex, lambda text: int(text, 16), datetime.date.fromisoformat):
        with pytest.raises(ValueError):
            read(name)
    frame = pl.read_csv(io.BytesIO(f"id\n{name}\n".encode()), try_parse_dates=True)
    assert frame["id"].to_list() == [name]
    assert yaml.safe_load(name) == name


def test_files_that_cannot_be_taken(run):
    _, path = draw(run)
    good = fill(path, honest).read_text("utf-8")
    header, *_ = good.splitlines()
    for content, message in [
        (good.replace("aftertune_id", "id").encode(), "no column 'aftertune_id'"),
        (good.replace("label", "lable", 1).encode(), "no column 'label'"),
        (f"{header}\n00ff,p,r,1\n".encode(), "line 2: no response with the id '00ff'"),
        (b"", "no column 'aftertune_id'"),
    ]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            take(run, path)
    assert not run.labels("refused").exists()


def test_labels_of_another_construct_or_run(run):
    _, path = draw(run)
    fill(path, honest)
    with pytest.raises(DataError, match=r"nothing was drawn from .* for 'complied'"):
        take(run, path, construct="complied")
    draw(run, name="other.csv", construct="complied")
    with pytest.raises(DataError, match="was drawn from this run for 'complied'"):
        take(run, path, construct="complied")
    with pytest.raises(DataError, match="cannot read"):
        take(run, path.with_name("none.csv"))
