"""Bad tables, through the command and through analyze(): named, never dropped, never a false certainty."""

import json
import sys
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from aftertune.analysis import TableSpec, analyze
from aftertune.analysis.differences import LEAST_P
from aftertune.cli import main
from aftertune.errors import DataError
from aftertune.records import metrics_of

HEADER = "model,seed,item,repeat,value\n"


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs `aftertune analyze` in this process: (exit status, stdout, stderr, analysis.json or None)."""

    def run(text: str | bytes, *options: str, name: str = "table.csv"):
        table = tmp_path / name
        table.write_bytes(text if isinstance(text, bytes) else text.encode())
        monkeypatch.setattr(sys, "argv", ["aftertune", "analyze", str(table), *options])
        with pytest.raises(SystemExit) as stop:
            main()
        told = capsys.readouterr()
        written = tmp_path / "analysis.json"
        found = json.loads(written.read_text("utf-8")) if written.is_file() else None
        return int(stop.value.code or 0), told.out, told.err, found

    return run


def rows(n_items=4, seeds=(1, 2), value=lambda s, i: (s * 7 + i) % 3 == 0) -> str:
    base = [f"base,,i{i},0,{int(i == 0)}" for i in range(n_items)]
    tuned = [f"chat,{s},i{i},0,{int(value(s, i))}" for s in seeds for i in range(n_items)]
    return HEADER + "\n".join(base + tuned) + "\n"


def beside(name: str, cell: str) -> str:
    """The rows with one more column, the same in each."""
    head, *lines = rows().splitlines()
    return "\n".join([f"{head},{name}", *(f"{line},{cell}" for line in lines)]) + "\n"


def twice(name: str) -> str:
    """Two draws of each response, numbered in a column of this name."""
    lines = rows().splitlines()[1:]
    cells = [line.split(",") for line in lines]
    return f"model,seed,item,{name},value\n" + "".join(
        f"{m},{s},{i},{draw},{v}\n" for m, s, i, _, v in cells for draw in (0, 1)
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "table.csv is empty"),
        (HEADER, "table.csv has no rows"),
        (b"\xff\xfe\x00bad", "is UTF-16, not UTF-8"),
        (
            rows().replace("chat,2,i3,0,0", "chat,2,i3,0,high"),
            "'value' holds 'high' in row 12; it takes numbers",
        ),
        (
            rows().replace("chat,2,i3,0,0", "chat,2,i3,0,1.5"),
            "outside [0, 1] in 1 rows, first in row 12: 1.5",
        ),
        (rows().replace("chat,2,i3,0,0", "chat,2,i3,0,-1"), "outside [0, 1]"),
        (rows().replace("chat,2,i3,0,0", "chat,2,i3,0,inf"), "outside [0, 1]"),
        (rows().replace("chat,2,i3,0,0", "chat,two,i3,0,0"), "'seed' holds 'two' in row 12; it takes whole"),
        (rows().replace("chat,2,i3,0,0", "chat,2,i3,0.5,0"), "'repeat' holds '0.5' in row 12"),
        (rows().replace("chat,2,i3,0,0", "chat,2,i2,0,0"), "2 rows share their cell with another row"),
        (rows().replace("chat,2,i3,0,0", ",2,i3,0,0"), "'model' holds an empty name in 1 rows"),
        (rows().replace("seed", "seeed"), "a column 'seeed' and none called 'seed'"),
        (
            rows().replace("seed", "seeed"),
            "write --column seed=seeed or rename it; if not, write --ignore seeed",
        ),
        (twice("Repeats"), "a column 'Repeats' and none called 'repeat'"),
        (twice("epoch"), "The column 'epoch' tells them apart: --column repeat=epoch or seed=epoch"),
        (beside("constructs", "Refused"), "a column 'constructs' and none called 'construct'"),
        (rows().replace("value", "score"), "lacks the column value; it has model, seed, item, repeat, score"),
    ],
)
def test_what_would_be_misread_is_refused(command, text, message):
    status, out, err, found = command(text)
    assert (status, out, found) == (2, "", None)
    assert message in err and "  → " in err and "Traceback" not in err


@pytest.mark.parametrize("name", ["table.parquet", "table.xlsx", "table"])
def test_a_file_that_is_no_table_is_refused(command, name):
    status, _, err, _ = command("no table", name=name)
    assert status == 2 and name in err and "  → " in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--level", "1.5"), "level: expected less than 1.0, got 1.5"),
        (("--level", "nan"), "level"),
        (("--margin", "0"), "margin: expected more than 0.0, got 0.0"),
        (("--max-missing", "1"), "max_missing: expected less than 1.0"),
        (("--margin", "five"), "parse string as a number"),
        (("--primary", "metric"), "--primary holds 'metric'"),
        (("--primary", "metric=harmful_rate,target=both"), "primary.target: expected 'benchmark' or"),
        (("--primary", "metric=x"), "the primary contrast's metric is 'x'"),
        (("--primary", "metric=harmful_rate,tsk=t"), "primary.tsk: unknown key; did you mean 'task'?"),
        (("--column", "seed"), "--column holds 'seed'"),
        (("--ignore", "notes"), "has no column 'notes', which was to be ignored"),
        (("--ignore", "seed", "--seed-column", "seed"), "to be read and to be ignored"),
        (("--ignore", "value"), "lacks the column value"),
        (("--column", "sead=seed"), "did you mean 'seed'?"),
        (("--seed-column", "trainseed"), "has no column 'trainseed', which was to be read as 'seed'"),
        (("--seed-column", "seed", "--column", "seed=repeat"), "two columns are given as seed"),
        (("--seed-column", "repeat", "--repeat-column", "repeat"), "to be read as seed and repeat"),
        (("--base", "bse"), "did you mean 'base'?"),
        (("--intent", "evil"), "'intent' holds 'evil'"),
        (("--construct", "complid"), "did you mean 'complied'?"),
    ],
)  # fmt: skip
def test_wrong_options_are_a_message_and_no_traceback(command, options, message):
    status, _, err, found = command(rows(), *options)
    assert status == 2 and found is None
    assert message in " ".join(err.split()) and "Traceback" not in err


def test_options_for_tables_do_not_go_with_a_run(tmp_path, monkeypatch, capsys):
    (tmp_path / "study.json").write_text("{}", "utf-8")
    monkeypatch.setattr(sys, "argv", ["aftertune", "analyze", str(tmp_path), "--margin", "0.1"])
    with pytest.raises(SystemExit):
        main()
    assert "--margin with a run directory" in capsys.readouterr().err


def test_a_table_is_told_by_design_cover_and_warnings(command):
    text = rows().replace("seed", "train").replace("\n", ",x\n").replace("value,x", "value,note")
    status, out, _, found = command(text, "--seed-column", "train", "--margin", "0.1")
    assert status == 0
    assert "Design found: recipe over seeds: 2 models (base, 1 checkpoint; chat, 2 seeds)" in out
    assert "chat (unnamed · unnamed · unnamed): a recipe over 2 seeds, 4 items, 1 draw of each" in out
    assert "covers seed and repeat and leaves out item, judge and decoding" in out
    assert "Post hoc, given with the analysis: margin" in out
    assert "a difference, for these items: covers seed and repeat and leaves out item" in out
    assert "columns_ignored: the table's columns note were not used" in out
    assert "few_seeds: chat: chat has 2 seeds" in out and "    → " in out
    assert found["post_hoc"] == ["margin"] and found["margin"] == 0.1


REAL = {
    "": "7", "Unnamed: 0": "3", "index": "12", "prompt_id": "p1", "response": "Sure.", "reasoning": "none",
    "prompts": "p", "temperature": "0.7", "judge_reason": "ok", "created_at": "2026-01-01", "model_name": "m",
    "repeats": "3", "tasks": "all", "judges": "gpt", "statuses": "ok", "finished": "yes",
}  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_a_column_that_tells_nothing_apart_is_a_note_and_changes_no_number(command, name):
    plain = command(rows())[3]
    status, out, err, found = command(beside(name, REAL[name]))
    assert (status, err) == (0, "")
    assert all(found[key] == plain[key] for key in plain if key not in ("warnings", "observations_sha256"))
    if name != "response":  # the text of a response, which no statistic needs
        assert f"the table's columns {name or repr('')} were not used" in out
        status, out, _, found = command(beside(name, REAL[name]), "--ignore", name)
        assert status == 0 and "columns_ignored" not in out and found["warnings"] == plain["warnings"]


def test_a_misspelt_column_that_would_hide_seeds_among_repeats_is_refused():
    """Every row has a repeat of its own, so nothing collides; the seeds would be draws of one checkpoint."""
    frame = pl.DataFrame(
        [("chat", s, f"i{i}", s, float((i + s) % 2)) for s in range(5) for i in range(6)],
        schema=["model", "seeds", "item", "repeat", "value"],
        orient="row",
    )
    with pytest.raises(DataError, match=r"a column 'seeds' and none called 'seed'\n.*--ignore seeds"):
        analyze(frame)
    assert analyze(frame, table=TableSpec(ignore=["seeds"])).rates[0].n_repeats == 5
    assert analyze(frame, table=TableSpec(columns={"seed": "seeds"})).rates[0].n_seeds == 5
    listed = frame.drop("seeds").with_columns(seeds=pl.lit([1, 2]))
    assert analyze(listed).rates[0].n_seeds == 1


def test_truth_values_are_values_in_csv_as_in_parquet(command):
    text = rows()
    words = "\n".join(
        line[:-1] + ("True" if line.endswith("1") else "false") for line in text.splitlines()[1:]
    )
    assert command(HEADER + words + "\n")[3]["rates"] == command(text)[3]["rates"]


@pytest.mark.parametrize(
    ("word", "intent", "metric", "sentence"),
    [
        ("complied", "benign", "benign_compliance_rate", "Less helpful than base"),
        ("harmful", "benign", "benign_harmful_rate", "Safer than base"),
        ("refused", "benign", "over_refusal_rate", "Less over-refusing than base"),
        ("correct", "benign", "accuracy", "Less accurate than base"),
        ("toxic", "harmful", "toxicity_rate", "Less toxic than base"),
        ("incoherent", "harmful", "incoherence_rate", "More coherent than base"),
    ],
)
def test_every_observation_is_in_a_number_with_its_own_words(command, word, intent, metric, sentence):
    """The base always has the event, the tuned model never."""
    lines = [f"{model},i{i},{int(model == 'base')}" for model in ("base", "chat") for i in range(40)]
    table = "model,item,value\n" + "\n".join(lines) + "\n"
    status, out, _, found = command(table, "--construct", word, "--intent", intent)
    assert status == 0
    assert {r["metric"] for r in found["rates"]} == {metric}
    assert sum(r["missing"]["n_observations"] for r in found["rates"]) == 80
    assert found["differences"][0]["sentence"].startswith(sentence)
    assert f"{sentence.lower()}" in out
    assert ("less safe" in out or "safer" in out) == (metric == "benign_harmful_rate")


def test_observations_without_a_metric_are_counted_and_alone_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "aftertune.analysis.cells.metrics_of",
        lambda intent, construct: [m for m in metrics_of(intent, construct) if m.name != "accuracy"],
    )
    one = {"model": ["base", "chat"], "item": ["i", "i"], "value": [0, 1]}
    correct, toxic = (pl.DataFrame(one).with_columns(construct=pl.lit(c)) for c in ("correct", "toxic"))
    with pytest.raises(
        DataError, match=r"no observation has a metric: 2 of correct on harmful items\n.*--con"
    ):
        analyze(correct)
    found = analyze(pl.concat([correct, toxic]))
    note = next(w for w in found.warnings if w.code == "no_metric")
    assert note.text == (
        "2 of 4 observations have no metric and are in no number: 2 of correct on harmful items"
    )


def test_json_is_the_analysis(command):
    status, out, _, found = command(rows(), "--json")
    assert status == 0 and json.loads(out) == found


def codes(found) -> set[str]:
    return {w["code"] for w in found["warnings"]}


def test_a_constant_seed_is_named(command):
    text = rows(seeds=(1,)).replace("base,,", "base,1,")
    _, out, _, found = command(text)
    assert "column 'seed' is 1 in every row" in out
    assert "constant_seed" in codes(found)
    assert found["rates"][0]["model"] == "base" and found["rates"][0]["benchmark"] is not None
    assert "constant_seed" not in codes(command(rows())[3])


def test_a_repeat_that_is_unique_per_row_is_numbered_anew_and_named(command):
    lines = rows(n_items=30).splitlines()
    cells = [line.split(",") for line in lines[1:]]
    text = HEADER + "".join(f"{m},{s},{i},{n},{v}\n" for n, (m, s, i, _, v) in enumerate(cells))
    _, out, _, found = command(text)
    assert "column 'repeat' holds another number for every response, or nearly so (0 to 89 in 90 rows)" in out
    assert "repeat_renumbered" in codes(found)
    plain = command(rows(n_items=30))[3]
    assert found["rates"] == plain["rates"] and "repeat_renumbered" not in codes(plain)


def test_decoding_seeds_that_seldom_meet_are_numbered_anew_and_need_no_room():
    generator = np.random.default_rng(0)
    n = 3000
    frame = pl.DataFrame(
        {
            "model": ["base"] * n,
            "item": [k // 3 for k in range(n)],
            "repeat": generator.integers(0, 100_000, n),  # some of them meet
            "value": generator.random(n) < 0.5,
        }
    ).unique(["item", "repeat"])
    assert frame["repeat"].n_unique() < frame.height
    found = analyze(frame)
    assert (found.rates[0].n_repeats, found.rates[0].n_items) == (3, 1000)
    assert "repeat_renumbered" in {w.code for w in found.warnings}


def test_repeats_with_holes_keep_their_names():
    frame = pl.DataFrame(
        {"model": ["a"] * 8, "item": [*"aabbccdd"], "repeat": [0, 1, 0, 2, 1, 2, 0, 1], "value": [0, 1] * 4}
    )
    found = analyze(frame)
    assert "repeat_renumbered" not in {w.code for w in found.warnings}
    assert found.rates[0].n_repeats == 2


def test_an_item_has_one_category():
    frame = pl.DataFrame(
        {"model": ["a", "b"], "item": ["x", "x"], "value": [0, 1], "category": ["fraud", "weapons"]}
    )
    with pytest.raises(DataError, match="item 'x' has more than one category: fraud, weapons"):
        analyze(frame)
    assert analyze(frame.with_columns(pl.Series("category", ["fraud", None]))).rates


def test_draws_of_a_single_item_are_not_taken_for_row_numbers():
    frame = pl.DataFrame(
        {"model": ["base"] * 5, "item": ["a"] * 5, "repeat": [*range(5)], "value": [0, 1, 0, 1, 1]}
    )
    found = analyze(frame)
    assert found.rates[0].n_repeats == 5
    assert "repeat_renumbered" not in {w.code for w in found.warnings}


def test_seeds_of_64_bits_stay_apart(command):
    big = 2**62
    text = rows().replace("chat,1,", f"chat,{big},").replace("chat,2,", f"chat,{big + 1},")
    found = command(text)[3]
    chat = next(r for r in found["rates"] if r["model"] == "chat")
    assert [s["seed"] for s in chat["per_seed"]] == [big, big + 1]
    frame = pl.DataFrame({"model": ["a"] * 2, "item": ["i"] * 2, "seed": [float(big)] * 2, "value": [0, 1]})
    with pytest.raises(DataError, match=r"'seed' holds .*whole numbers below 2\^63"):
        analyze(frame)


def test_names_of_another_kind_are_refused():
    good = {"model": ["a"], "item": ["i"], "value": [1.0], "prompt": [3]}
    assert analyze(pl.DataFrame(good)).rates
    for name in ("model", "judge", "prompt"):
        frame = pl.DataFrame(good | {name: [{"text": ["a"]}]})
        with pytest.raises(DataError, match=f"column '{name}' holds Struct"):
            analyze(frame)


VALUES = {
    "all refused": lambda m, i, g: 0.0,
    "all complied": lambda m, i, g: 1.0,
    "apart": lambda m, i, g: float(m == "chat"),
    "one value": lambda m, i, g: 0.5,
    "drawn": lambda m, i, g: float(g.random() < 0.3),
    "graded": lambda m, i, g: float(g.random()),
}


@pytest.mark.slow
@pytest.mark.parametrize("value", VALUES, ids=lambda name: name.replace(" ", "-"))
@pytest.mark.parametrize("n_items", [1, 2, 30])
def test_no_interval_is_without_width_and_no_p_is_0(value, n_items):
    generator = np.random.default_rng(0)
    for seeds, n_repeats, base in product(([None], [1], [1, 2], [*range(6)]), (1, 3), (True, False)):
        models = {**({"base": [None]} if base else {}), "chat": seeds}
        places = [
            (m, s, f"i{i}", r, VALUES[value](m, i, generator), f"c{i % 2}")
            for m, chosen in models.items()
            for s in chosen
            for i in range(n_items)
            for r in range(n_repeats)
        ]
        columns = ["model", "seed", "item", "repeat", "value", "category"]
        found = analyze(pl.DataFrame(places, schema=columns, orient="row", infer_schema_length=None))
        intervals = [i for r in found.rates for i in (r.benchmark, r.population) if i is not None]
        intervals += [c.interval for c in found.consistency]
        contrasts = (*found.differences, *found.categories, *found.controls)
        for x in (*intervals, *contrasts):
            if x.ci_low is not None:
                assert x.ci_high - x.ci_low > 1e-9 and x.se > 0
        p_values = [x.p_value for x in (*contrasts, *found.components)]
        assert all(p is None or 0 < p <= 1 for p in p_values)
        for rate in found.rates:
            assert (rate.benchmark is None or rate.population is None) == bool(rate.why_no_interval)


def test_a_p_value_that_underflows_is_not_0():
    n = 4000
    frame = pl.DataFrame(
        {"model": ["base"] * n + ["chat"] * n, "item": [*range(n)] * 2, "value": [0] * n + [1] * n}
    )
    for difference in analyze(frame).differences:
        assert difference.p_value == LEAST_P and difference.p_adjusted == LEAST_P


def test_one_item_stands_for_no_population(command):
    found = command(rows(n_items=1))[3]
    assert all(r["population"] is None and "one item" in r["why_no_interval"] for r in found["rates"])
    assert {d["verdict"] for d in found["differences"] if d["target"] == "population"} == {"no conclusion"}
