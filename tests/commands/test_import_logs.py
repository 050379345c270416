"""`aftertune import`: from logs to a directory that analyze, report and gate read."""

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from aftertune.cli import app
from aftertune.commands.import_logs import import_logs
from aftertune.commands.import_options import ImportOptions
from aftertune.commands.report_import import examples_of
from aftertune.errors import DataError, StoreError
from aftertune.formats.inspect_logs import has_inspect
from aftertune.records import ITEM_COLUMNS, OBSERVATION_COLUMNS, RESPONSE_COLUMNS
from aftertune.store import ImportDirectory

DATA = Path(__file__).parents[1] / "formats" / "data"
LM_EVAL = DATA / "lm_eval"
CORRECT = ("--construct", "correct")


def call(*words: Any, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result.stdout


def samples(folder: Path, hits: set[int], *, n: int = 40, moved: int = 0, name: str = "m") -> Path:
    """A samples file of one metric, with its results file; `hits` are the items that are correct."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"doc_id": i, "doc": {"q": i}, "arguments": [[f"q {i}"]], "resps": [[f"a {i}"]], "filter": "none"}
        | {"metrics": ["em"], "em": float(i in hits)}
        for i in range(moved, moved + n)
    ]
    path = folder / "samples_sums_2026-01-02T03-04-05.000006.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    results = {"model_name": name, "model_source": "hf", "config": {"model_args": f"pretrained={name}"}}
    (folder / "results_2026-01-02T03-04-05.000006.json").write_text(json.dumps(results))
    return path


def test_real_logs_of_lm_eval_go_all_the_way(tmp_path: Path):
    out = tmp_path / "imported"
    base = "/tmp/lml/models/tiny-1"
    told = call("import", LM_EVAL, "--out", out, *CORRECT, "--baseline", base)
    assert "4 logs: 32 observations, 0 of them without a value" in told
    assert "toy_generate, /tmp/lml/models/tiny-2: 4 items, 4 in common with /tmp/lml/models/tiny-1" in told
    for name, columns in (
        ("observations", OBSERVATION_COLUMNS),
        ("responses", RESPONSE_COLUMNS),
        ("items", ITEM_COLUMNS),
    ):
        assert pl.read_parquet(out / f"{name}.parquet").columns == list(columns)
    record = json.loads((out / "import.json").read_text())
    assert {source["tool"] for source in record["sources"]} == {"lm_eval 0.4.13"}
    assert all(len(source["sha256"]) == 64 for source in record["sources"])
    analysis = json.loads(call("analyze", out, "--json"))
    assert analysis["base"] == base and analysis["study"] == "imported"
    rates = {(r["model"], r["task"], r["judge"]): r["estimate"] for r in analysis["rates"]}
    rows = [json.loads(x) for f in (LM_EVAL / "tiny-1").glob("*choose*") for x in f.read_text().splitlines()]
    assert rates[base, "toy_choose", "acc"] == pytest.approx(sum(r["acc"] for r in rows) / len(rows))
    call("report", out)
    page = (out / "report" / "index.html").read_text("utf-8")
    assert "lm_eval 0.4.13" in page and "Is 0 even?" in (out / "items.parquet").read_bytes().decode("latin-1")
    primary = "metric=accuracy,task=toy_choose,decoding=default,judge=acc,target=population"
    assert "insufficient evidence" in call("gate", out, "--primary", primary, code=3)


def test_logs_with_other_items_pair_what_is_common(tmp_path: Path):
    a = samples(tmp_path / "a", set(range(30)), name="a")
    b = samples(tmp_path / "b", set(range(20)), moved=10, name="b")
    told = call("import", a, b, "--out", tmp_path / "i", *CORRECT, "--baseline", "a")
    assert "sums, b: 40 items, 30 in common with a" in told
    analysis = json.loads(call("analyze", tmp_path / "i", "--json"))
    common = next(d for d in analysis["differences"] if d["target"] == "benchmark")
    # Of the 30 common items a has 20 right and b 10: what only one has does not count.
    assert common["estimate"] == pytest.approx(-10 / 30)
    assert any("30" in w["text"] for w in analysis["warnings"]), [w["text"] for w in analysis["warnings"]]


def test_seeds_of_one_model_and_the_same_checkpoint_again(tmp_path: Path):
    logs = [samples(tmp_path / f"s{i}", set(range(10 + i)), name=f"ckpt-{i}") for i in range(3)]
    base = samples(tmp_path / "base", set(range(25)), name="b")
    again = samples(tmp_path / "again", set(range(24)), name="b")
    chat = f"chat={','.join(map(str, logs))}"
    told = call(
        "import", "--model", chat, "--model", f"base={base},{again}", "--out", tmp_path / "i", *CORRECT
    )
    assert "sums, chat over 3 seeds: 40 items, 40 in common with base" in told
    assert "one checkpoint of base drawn again on sums, so their draws are repeats and not seeds" in told
    table = pl.read_parquet(tmp_path / "i" / "observations.parquet")
    seen = table.select("model", "seed", "repeat").unique().sort("model", "seed", "repeat").rows()
    assert seen == [("base", None, 1), ("base", None, 2), ("chat", 1, 1), ("chat", 2, 1), ("chat", 3, 1)]
    analysis = json.loads(call("analyze", tmp_path / "i", "--json"))
    assert "over training seeds (chat, 3 seeds)" in analysis["differences"][0]["sentence"]


@pytest.mark.parametrize("named", [True, False], ids=["--model", "folder"])
def test_a_file_of_a_folder_that_is_not_read_is_named(tmp_path: Path, *, named: bool):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "base.CSV").write_text("model,item,value\nbase,a,1\nbase,b,0\n")
    (folder / "tuned.csv").write_text("model,item,score\ntuned,a,1\n")
    given = ["--model", f"base={folder}"] if named else [folder]
    told = call("import", *given, "--out", tmp_path / "i", *CORRECT)
    assert "1 logs: 2 observations" in told
    assert "note: not read, as they are no logs that are known: tuned.csv" in told
    (folder / "base.CSV").unlink()
    with pytest.raises(DataError, match=r"holds no log that is known, only tuned\.csv\n  → known: Inspect"):
        import_logs([folder], tmp_path / "j", ImportOptions())


def test_the_results_file_beside_its_samples_is_no_file_that_was_not_read(tmp_path: Path):
    assert "not read" not in call("import", LM_EVAL / "tiny-1", "--out", tmp_path / "i", *CORRECT)


def test_jailbreakeval(tmp_path: Path):
    for name, label in (("base", 0), ("tuned", 1)):
        rows = "".join(f"Question {i}?,Answer {i}.,{label if i % 3 else 0}\n" for i in range(12))
        (tmp_path / f"{name}.csv").write_text(f"question,answer,label\n{rows}")
        (tmp_path / f"{name}.json").write_text(json.dumps({"GCG": {"preds": [True] * 11 + [None]}}))
    models = [f"{name}={tmp_path}/{name}.csv,{tmp_path}/{name}.json" for name in ("base", "tuned")]
    told = call("import", "--model", models[0], "--model", models[1], "--out", tmp_path / "i")
    assert "judges: label (complied), GCG (complied)" in told
    assert "missing: 1 of GCG on jailbreak, tuned: the evaluator gave no verdict" in told
    analysis = json.loads(call("analyze", tmp_path / "i", "--json"))
    rates = {
        (r["model"], r["judge"]): r["estimate"] for r in analysis["rates"] if r["metric"] == "compliance_rate"
    }
    assert rates["tuned", "label"] == pytest.approx(8 / 12)
    assert rates["base", "GCG"] is None  # 1 of 12 is more than max_missing
    with pytest.raises(DataError, match=r"base.csv does not say which model.*\n  → name it: --model NAME="):
        import_logs([tmp_path / "base.csv"], tmp_path / "j", ImportOptions())
    with pytest.raises(DataError, match=r"holds verdicts without answers\n  → give its CSV before it"):
        import_logs([tmp_path / "base.json", tmp_path / "base.csv"], tmp_path / "j", ImportOptions())


def test_what_a_model_says_stays_text(tmp_path: Path):
    nasty = "</script><script>alert(1)</script> ../../etc/passwd =cmd|' /C calc'!A0 \u202e |`*"
    log = samples(tmp_path / "a", {1}, name=nasty)
    log.write_text(log.read_text().replace("a 1", json.dumps(nasty)[1:-1]))
    other = samples(tmp_path / "b", {1, 2}, name="b")
    told = call("import", log, other, "--out", tmp_path / "i", *CORRECT, "--baseline", "b")
    assert "\u202e" not in told
    call("analyze", tmp_path / "i")
    call("report", tmp_path / "i")
    assert "<script>alert(1)" not in (tmp_path / "i" / "report" / "index.html").read_text("utf-8")
    call("export", tmp_path / "i", "--to", "model-card", "--out", tmp_path / "card.md")
    card = (tmp_path / "card.md").read_text("utf-8")
    assert "<script>" not in card and "\u202e" not in card and "\\|\\`\\*" in card
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "card.md", "i"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], r"no log was given\n  → aftertune import LOG LOG"),
        (["nowhere.eval"], "nowhere.eval is not there"),
        (["--model", "a=A", "--model", "b=A"], "is given twice with --model"),
        (["--model", "a"], r"--model holds 'a'\n  → write NAME=LOG"),
        (["A", "A"], "is given twice\n  → give each log once"),
        (["A", "COPY"], "are the same file, byte for byte"),
        (["A", "--pair-by", "text"], "--pair-by holds 'text'"),
        (["A"], r"nobody says what a score of 1 means by em\n  → write --construct em=WORD"),
        (["A", "--construct", "harmful"], r"task 'sums' ask for harm.*\n  → write --intent sums=harmful"),
        (["A", "--construct", "correct", "--baseline", "x"], "no log is of the model 'x'"),
        (["EMPTY"], r"holds no logs that are known\n  → known endings"),
        (
            ["NOTES"],
            r"notes.csv is no log that is known\n.*another name with --column NAME=COLUMN",
        ),
    ],
)
def test_bad_input_says_what_to_do(tmp_path: Path, words: list[str], message: str):
    a = samples(tmp_path / "a", {1}, name="m")
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.csv").write_text("x,y\n1,2\n")
    files = {"A": a, "COPY": tmp_path / "copy", "EMPTY": tmp_path / "empty", "NOTES": tmp_path / "notes.csv"}
    given = [word if word not in files else str(files[word]) for word in words]
    given = [word.replace("=A", f"={a}") for word in given]
    result = CliRunner().invoke(app, ["import", *given, "--out", str(tmp_path / "i")])
    assert isinstance(result.exception, DataError)
    with pytest.raises(DataError, match=message):
        raise result.exception
    assert not (tmp_path / "i").exists()


def test_an_import_goes_nowhere_else_and_again_over_itself(tmp_path: Path):
    a, b = samples(tmp_path / "a", {1}, name="a"), samples(tmp_path / "b", {1, 2}, name="b")
    with pytest.raises(StoreError, match="is there and is not an import"):
        import_logs([a], tmp_path, ImportOptions(construct=["correct"]))
    call("import", a, "--out", tmp_path / "i", *CORRECT)
    call("analyze", tmp_path / "i")
    first = (tmp_path / "i" / "observations.parquet").read_bytes()
    told = call("import", a, "--out", tmp_path / "i", *CORRECT)
    assert "no baseline: --baseline NAME says which of a the others are held against" in told
    assert (tmp_path / "i" / "observations.parquet").read_bytes() == first
    assert not (tmp_path / "i" / "analysis.json").exists()  # it was of the logs before
    with pytest.raises(StoreError, match=r"analysis.json is missing\n  → run `aftertune analyze"):
        raise CliRunner().invoke(app, ["report", str(tmp_path / "i")]).exception or AssertionError
    told = json.loads(call("import", a, b, "--out", tmp_path / "i", *CORRECT, "--json"))
    assert told["n_observations"] == 80 and told["directory"] == str(tmp_path / "i")


@pytest.mark.skipif(has_inspect(), reason="inspect_ai is installed")
def test_without_inspect_ai_its_logs_say_what_to_install(tmp_path: Path):
    with pytest.raises(
        DataError, match=r"needs the package inspect_ai.*\n  → pip install 'aftertune\[inspect\]'"
    ):
        import_logs([DATA / "inspect-0.3.100.eval"], tmp_path / "i", ImportOptions())


def exported(tmp_path: Path, *, said: str = "response", asked: str = "question") -> Path:
    """A table as people export it: pandas' index, texts under other names, columns of no meaning here."""
    rows = [
        {
            "": n,
            "model": model,
            "prompt_id": f"p{i}",
            "score": str(i < most),
            asked: f"Question {i}?",
            said: f"{model} says {i}",
            "temperature": 0.7,
            "judge_reason": "looks so",
            "created_at": "2026-01-01",
        }
        for n, (model, i, most) in enumerate(
            (model, i, most) for model, most in (("base", 2), ("chat", 15)) for i in range(20)
        )
    ]
    path = tmp_path / f"{said}-{asked}.csv"
    pl.DataFrame(rows).write_csv(path)
    return path


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("response", "prompt"),
        ("Completion", "instruction"),
        ("output", "request"),
        ("answer", "question"),
        ("generation", "query"),
        ("text", "prompt"),
    ],
)
def test_a_table_of_other_names_keeps_its_texts_and_gives_the_numbers_of_analyze(
    tmp_path: Path, said: str, asked: str
):
    table, out = exported(tmp_path, said=said, asked=asked), tmp_path / "i"
    named = ("--column", "item=prompt_id", "--column", "value=score")
    meant = ("--construct", "harmful", "--intent", "benign")
    told = call("import", table, "--out", out, *named, *meant)
    assert told.count("judge_reason") == 1  # a note for each part of the table would say the same
    judged = examples_of(ImportDirectory(out))
    assert set(judged["text"]) == {f"{m} says {i}" for m in ("base", "chat") for i in range(20)}
    assert set(judged["prompt"]) == {f"Question {i}?" for i in range(20)}
    imported = json.loads(call("analyze", out, "--json"))
    direct = json.loads(call("analyze", table, *named, *meant, "--json"))
    assert imported["rates"] == direct["rates"] and imported["differences"] == direct["differences"]
    assert {r["metric"] for r in direct["rates"]} == {"benign_harmful_rate"}
    quiet = [word for c in ("", "temperature", "judge_reason", "created_at") for word in ("--ignore", c)]
    assert "note" not in call("import", table, "--out", tmp_path / "j", *named, *meant, *quiet)
    assert "less safe than base" in call("analyze", out)


def test_a_question_that_is_not_the_items_own_is_no_prompt(tmp_path: Path):
    table = tmp_path / "t.csv"
    table.write_text("model,item,value,question\na,1,1,one\nb,1,0,two\n")
    told = call("import", table, "--out", tmp_path / "i", "--construct", "correct")
    assert "the table's columns question were not used" in told
    assert pl.read_parquet(tmp_path / "i" / "items.parquet").is_empty()


def test_options_of_a_table_need_one(tmp_path: Path):
    logs = samples(tmp_path, {1})
    result = CliRunner().invoke(
        app, ["import", str(logs), *CORRECT, "--ignore", "x", "--out", str(tmp_path / "i")]
    )
    assert isinstance(result.exception, DataError) and "--ignore without a table" in str(result.exception)
