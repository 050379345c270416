"""Real logs of Inspect, made by `inspect eval` over mockllm, read and written (`make test-formats`)."""

import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

pytest.importorskip("inspect_ai")
pytestmark = pytest.mark.filterwarnings("ignore")  # of other libraries

from typer.testing import CliRunner  # noqa: E402

import stage_runs  # noqa: E402
from aftertune.cli import app  # noqa: E402
from aftertune.commands.exported import source_at  # noqa: E402
from aftertune.commands.import_logs import import_logs  # noqa: E402
from aftertune.commands.import_options import ImportOptions  # noqa: E402
from aftertune.errors import DataError  # noqa: E402
from aftertune.formats.inspect_export import write_inspect  # noqa: E402
from aftertune.formats.inspect_logs import read_inspect  # noqa: E402
from aftertune.formats.logs import Log  # noqa: E402
from formats import make_inspect_logs as made  # noqa: E402

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base and a tuned model on 8 items, two epochs; two items fail in one of them."""
    folder = tmp_path_factory.mktemp("logs")
    base = made.make(folder, "base", made.refusing(5))
    return base, made.make(folder, "tuned", made.refusing(2), fail=("q3", "q5"))


def call(*words: Any, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result.stdout


def values(log: Log, judge: str) -> dict[tuple[str, int], float | None]:
    return {(s.item, s.repeat): x.value for s in log.samples for x in s.scores if x.judge == judge}


def changed(path: Path, folder: Path, change: Callable[[Any], Any]) -> Path:
    """A copy as inspect_ai writes it after `change`."""
    from inspect_ai.log import write_eval_log

    log = made.read(path)
    change(log)
    out = folder / f"changed-{path.name}"
    write_eval_log(log, str(out))
    return out


def test_epochs_scorers_and_what_failed(pair: tuple[Path, Path]):
    base, tuned = (read_inspect(path) for path in pair)
    assert (base.model, base.task, base.decoding) == ("mockllm/base", "toy", "default")
    assert base.tool.startswith("inspect_ai 0.") and len(base.samples) == 16
    assert {e.compress_type for e in zipfile.ZipFile(pair[0]).infolist()} & {8, 93}  # deflated or zstd
    assert {x.judge for x in base.samples[0].scores} == {"includes", "rubric/harm", "rubric/grade"}
    want = {(f"q{i}", e): float((3 * i + e) % 5 == 0) for i in range(8) for e in (1, 2)}
    assert values(base, "includes") == want == values(base, "rubric/harm")
    failed = [s for s in tuned.samples if s.item in ("q3", "q5")]
    assert len(failed) == 4 and {s.text for s in failed} == {None}
    for sample in failed:
        assert [(x.value, x.status) for x in sample.scores] == [(None, "failed")] * 3
        assert "RuntimeError('the sandbox" in sample.scores[0].reason
    first = next(s for s in base.samples if (s.item, s.repeat) == ("q1", 1))
    assert (first.prompt, first.text, first.finish) == ("question 1", "I'm sorry, no", "stop")
    assert (first.category, first.reference, first.n_tokens) == ("odd", "sure", 3)


def test_two_logs_become_a_paired_comparison(pair: tuple[Path, Path], tmp_path: Path):
    words = ("--construct", "complied", "--intent", "harmful", "--scale", "rubric/grade=1:5")
    told = call("import", *pair, "--out", tmp_path / "i", *words, "--baseline", "mockllm/base")
    assert "missing: 4 of includes on toy, mockllm/tuned: error in the sample: RuntimeError" in told
    table = pl.read_parquet(tmp_path / "i" / "observations.parquet")
    lost = table.filter(pl.col("value").is_null())
    assert lost.height == 12 and lost["status"].unique().to_list() == ["failed"]
    analysis = json.loads(call("analyze", tmp_path / "i", "--json"))
    assert {d["verdict"] for d in analysis["differences"]} == {"no conclusion"}  # a quarter is missing
    bounds = next(r["bounds"] for r in analysis["rates"] if r["model"] == "mockllm/tuned")
    assert bounds["high"] - bounds["low"] == pytest.approx(4 / 16)
    call("report", tmp_path / "i")


def test_what_inspect_does_not_score_has_no_value(tmp_path: Path):
    log = read_inspect(made.make(tmp_path, "m", lambda i, e: "what?" if i == 1 else "Sure", epochs=1))
    assert values(log, "rubric/harm")["q1", 1] is None and values(log, "rubric/harm")["q2", 1] == 1
    unscored = next(s for s in log.samples if s.item == "q1").scores
    assert [(x.judge, x.status) for x in unscored][1:] == [
        ("rubric/harm", "unparsed"),
        ("rubric/grade", "unparsed"),
    ]
    assert unscored[0].value == 0  # the other scorer's stands


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("C", 1.0), ("I", 0.0), ("P", 0.5), ("N", 0.0), (True, 1.0), (False, 0.0), (0.25, 0.25), (1, 1.0),
        ("yes", 1.0), ("No", 0.0), ("0.75", 0.75), ("refused", None), ("", None), ("nan", None),
        (float("inf"), None), (10**400, None), ("c", None),
    ],
)  # fmt: skip
def test_values_as_inspect_reads_them_and_none_that_it_would_call_0(
    pair: tuple[Path, Path], tmp_path: Path, value: Any, found: float | None
):
    log = made.read(pair[0])
    log.samples[0].scores["includes"].value = value
    from aftertune.formats import inspect_logs

    score = inspect_logs._scored("includes", log.samples[0].scores["includes"].value, None)
    assert (score.value, score.status) == (found, "ok" if found is not None else "unparsed")


def test_absent_scores_invalidated_samples_and_lists(pair: tuple[Path, Path], tmp_path: Path):
    def change(log: Any) -> None:
        from inspect_ai.log import ProvenanceData

        log.samples[0].scores = None
        log.samples[1].scores["rubric"].value = {"harm": 1.0}
        log.samples[2].invalidation = ProvenanceData(author="me", reason="leaked")
        log.samples[3].scores["includes"].value = [1, 0]

    log = read_inspect(changed(pair[0], tmp_path, change))
    scores = [{x.judge: (x.value, x.status, x.reason) for x in s.scores} for s in log.samples[:4]]
    assert scores[0]["rubric/harm"] == (None, "missing", "the sample has no score by it")
    assert scores[1]["rubric/grade"][:2] == (None, "unparsed") and scores[1]["rubric/harm"][0] == 1
    assert scores[2]["rubric/harm"] == (None, "skipped", "the sample was invalidated: leaked")
    assert scores[3]["includes/0"][0] == 1 and scores[3]["includes/1"][0] == 0


def test_a_cancelled_log_misses_what_it_did_not_get_to(pair: tuple[Path, Path], tmp_path: Path):
    def change(log: Any) -> None:
        log.status = "cancelled"
        log.samples = log.samples[:5]

    log = read_inspect(changed(pair[0], tmp_path, change))
    assert len(log.samples) == 16 and sum(s.prompt_sha256 == "" for s in log.samples) == 11
    assert sum(v is None for v in values(log, "includes").values()) == 11
    assert "the log's status is cancelled" in log.notes[0]


def test_json_logs_and_logs_of_old_versions_read_alike(tmp_path: Path):
    as_json = read_inspect(made.make(tmp_path, "m", made.refusing(2), log_format="json"))
    assert values(as_json, "includes")["q1", 1] == 1.0
    old, old_json = (read_inspect(DATA / f"inspect-0.3.100.{kind}") for kind in ("eval", "json"))
    assert old.tool == old_json.tool == "inspect_ai 0.3.100"
    want = {("q0", 1): 1.0, ("q1", 1): 0.0, ("q2", 1): None}
    assert values(old, "includes") == values(old_json, "includes") == want


def test_a_log_of_a_version_to_come(pair: tuple[Path, Path], tmp_path: Path):
    path = tmp_path / "new.eval"
    with zipfile.ZipFile(DATA / "inspect-0.3.100.eval") as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = json.loads(old.read(name))
            if name == "header.json":
                content["version"] = 99
            new.writestr(name, json.dumps(content))
    with pytest.raises(DataError, match=r"new.eval has the log version 99.*\n  → upgrade inspect_ai"):
        read_inspect(path)


def test_what_is_no_log(pair: tuple[Path, Path], tmp_path: Path):
    cut = tmp_path / "cut.eval"
    cut.write_bytes(pair[0].read_bytes()[:9000])
    with pytest.raises(DataError, match=r"cut.eval is not a whole zip archive"):
        read_inspect(cut)
    other = tmp_path / "other.eval"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(DataError, match=r"no log of Inspect: it has no header.json"):
        read_inspect(other)
    bare = changed(pair[0], tmp_path, lambda log: setattr(log, "samples", None))
    with pytest.raises(DataError, match=r"holds no samples \(status success\)"):
        import_logs([bare], tmp_path / "i", ImportOptions())
    broken = tmp_path / "broken.json"
    broken.write_text('{"version": 2, "eval": {"task": "t"')
    with pytest.raises(DataError, match=r"inspect_ai cannot read broken.json"):
        read_inspect(broken)


def test_the_same_evaluation_scored_again_is_refused(pair: tuple[Path, Path], tmp_path: Path):
    again = changed(pair[0], tmp_path, lambda log: log.tags.append("scored again"))
    result = CliRunner().invoke(app, ["import", str(pair[0]), str(again), "--out", str(tmp_path / "i")])
    assert isinstance(result.exception, DataError)
    assert "are the same evaluation" in str(result.exception) and again.name in str(result.exception)


def test_ids_that_stand_for_other_texts(pair: tuple[Path, Path], tmp_path: Path):
    moved = made.make(tmp_path, "moved", made.refusing(2), prompts="another question {i}")
    words = ["import", str(pair[0]), str(moved), "--out", str(tmp_path / "i"), "--construct", "correct"]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, DataError)
    assert "has another text than in the logs before it (8 items have)" in str(result.exception)


def test_temperature_is_a_decoding_and_the_seed_is_not(tmp_path: Path):
    hot = made.make(tmp_path, "hot", made.refusing(2), n_items=1, temperature=0.7, max_tokens=9, seed=3)
    assert read_inspect(hot).decoding == "max_tokens=9+temperature=0.7"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small study's run directory with two judgments and a response that are missing."""
    from tiny import make_tiny_model

    folder = tmp_path_factory.mktemp("study")
    model = make_tiny_model(folder / "tiny")
    out = stage_runs.run(stage_runs.study_of(model), folder / "run")
    table = pl.read_parquet(out / "observations.parquet").with_row_index("at")
    lost = {1: ("unparsed", "the judge said\nneither"), 4: ("failed", "")}
    for at, (status, reason) in lost.items():
        here = pl.col("at") == at
        table = table.with_columns(
            pl.when(here).then(None).otherwise("value").alias("value"),
            pl.when(here).then(pl.lit(status)).otherwise("status").alias("status"),
            pl.when(here).then(pl.lit(reason)).otherwise("reason").alias("reason"),
        )
    table.drop("at").write_parquet(out / "observations.parquet")
    call("analyze", out)
    return out


def test_a_run_goes_to_inspect_and_comes_back_as_it_was(run: Path, tmp_path: Path):
    told = call("export", run, "--to", "inspect", "--out", tmp_path / "logs")
    before = pl.read_parquet(run / "observations.parquet")
    n_logs = before.select("checkpoint", "task", "decoding").n_unique()
    assert f"inspect: {n_logs} files, {before.height} judgments" in told
    call("import", tmp_path / "logs", "--out", tmp_path / "i")
    after = pl.read_parquet(tmp_path / "i" / "observations.parquet")
    order = ["checkpoint", "task", "decoding", "item", "repeat", "judge", "construct", "judge_repeat"]
    assert_frame_equal(before.sort(order), after.sort(order))
    texts = pl.read_parquet(tmp_path / "i" / "responses.parquet")
    drawn = stage_runs.rows(run, "responses").select("key", "text", "n_tokens", "finish", "status")
    kept = texts.select(drawn.columns).unique()
    assert_frame_equal(drawn.unique().sort("key"), kept.sort("key"))
    items = pl.read_parquet(tmp_path / "i" / "items.parquet").sort("task", "item")
    own = pl.read_parquet(run / "items.parquet").sort("task", "item")
    assert_frame_equal(
        own.select("task", "item", "prompt", "reference"), items.select("task", "item", "prompt", "reference")
    )


def test_inspect_reads_and_lists_what_was_exported(run: Path, tmp_path: Path):
    from inspect_ai.analysis import evals_df, samples_df
    from inspect_ai.log import list_eval_logs, read_eval_log

    logs = tmp_path / "logs"
    call("export", run, "--to", "inspect", "--out", logs)
    listed = list_eval_logs(str(logs))
    assert len(listed) == len(list(logs.iterdir())) and all(info.task for info in listed)
    before = pl.read_parquet(run / "observations.parquet")
    n_scores = n_missing = 0
    for info in listed:
        log = read_eval_log(info)
        ours = log.eval.metadata["aftertune"]
        assert ours["record"]["model"]["sha256"] and ours["study"] == "small"
        mine = before.filter(
            (pl.col("checkpoint") == ours["checkpoint"])
            & (pl.col("task") == ours["task"])
            & (pl.col("decoding") == ours["decoding"])
        )
        assert sum(len(s.scores) for s in log.samples) == mine.height
        for sample in log.samples:
            assert (
                sample.messages[0].text == sample.input
                and sample.output.completion == sample.messages[1].text
            )
            n_scores += sum(x.value == x.value for x in sample.scores.values())
            n_missing += sum(x.value != x.value for x in sample.scores.values())  # NaN: not scored
    assert (n_scores, n_missing) == (before.height - 2, 2)
    assert len(evals_df(str(logs))) == len(listed)
    assert (
        len(samples_df(str(logs)))
        == before.select("checkpoint", "task", "item", "decoding", "repeat").n_unique()
    )


def test_a_response_that_failed_is_an_error_of_its_sample_and_comes_back_so(run: Path, tmp_path: Path):
    judged = source_at(run).judged()
    key = judged.frame["response_key"][0]
    here = pl.col("response_key") == key
    frame = judged.frame.with_columns(
        pl.when(here).then(pl.lit("failed")).otherwise("response_status").alias("response_status"),
        pl.when(here).then(pl.lit("logits not finite")).otherwise("response_reason").alias("response_reason"),
        pl.when(here).then(None).otherwise("value").alias("value"),
        pl.when(here).then(None).otherwise("finish").alias("finish"),
        pl.when(here).then(pl.lit("skipped")).otherwise("status").alias("status"),
        pl.when(here).then(pl.lit("no response")).otherwise("reason").alias("reason"),
    )
    paths = list(write_inspect(replace(judged, frame=frame), tmp_path))
    samples = [sample for path in paths for sample in read_inspect(path).samples if sample.key == key]
    assert samples and {(s.text, s.finish, s.reason) for s in samples} == {(None, None, "logits not finite")}
    scores = {(x.value, x.status, x.reason) for s in samples for x in s.scores}
    assert scores == {(None, "skipped", "no response")}
    errors = [s.error.message for path in paths for s in made.read(path).samples if s.error]
    assert errors == ["logits not finite"]


def test_a_judge_s_own_words_explain_its_score(run: Path, tmp_path: Path):
    call("export", run, "--to", "inspect", "--out", tmp_path / "logs")
    told = stage_runs.rows(run, "judgments").filter(pl.col("judge") == "refusal-rules")
    raws = dict(told.select("response_key", "raw").iter_rows())
    assert any(raws.values())
    for path in (tmp_path / "logs").iterdir():
        for sample in made.read(path).samples:
            score = sample.scores["refusal-rules"]
            if score.value == score.value:
                assert (score.explanation or "") == raws[sample.metadata["aftertune"]["response_key"]]


def test_inspect_view_takes_the_folder(run: Path, tmp_path: Path):
    from inspect_ai.log import bundle_log_dir

    call("export", run, "--to", "inspect", "--out", tmp_path / "logs")
    bundle_log_dir(log_dir=str(tmp_path / "logs"), output_dir=str(tmp_path / "page"))
    assert (tmp_path / "page" / "index.html").is_file()
    assert len(list((tmp_path / "page" / "logs").glob("*.eval"))) == len(list((tmp_path / "logs").iterdir()))


def test_an_import_goes_to_inspect_and_comes_back(pair: tuple[Path, Path], tmp_path: Path):
    words = ("--construct", "complied", "--intent", "harmful", "--scorer", "includes")
    call("import", *pair, "--out", tmp_path / "i", *words, "--baseline", "mockllm/base")
    call("export", tmp_path / "i", "--to", "inspect", "--out", tmp_path / "logs")
    call("import", tmp_path / "logs", "--out", tmp_path / "again", "--baseline", "mockllm/base")
    first, second = (pl.read_parquet(tmp_path / d / "observations.parquet") for d in ("i", "again"))
    order = ["model", "item", "repeat"]
    assert_frame_equal(first.drop("study").sort(order), second.drop("study").sort(order))


def test_an_export_writes_into_no_folder_that_holds_something(run: Path, tmp_path: Path):
    shutil.copy(run / "items.parquet", tmp_path / "x")
    result = CliRunner().invoke(app, ["export", str(run), "--to", "inspect", "--out", str(tmp_path)])
    assert "is there and not an empty folder" in str(result.exception)


SET = ImportOptions(construct=["harmful"], intent=["harmful"])


@pytest.mark.parametrize("kept", [False, True])
def test_the_folder_of_an_eval_set_is_imported_by_its_name(tmp_path: Path, kept: bool):
    """With the log of a failed attempt beside its retry where the tool was told to keep it."""
    folder = made.eval_set_of(tmp_path / "set", kept=kept)
    assert {path.name for path in folder.iterdir() if path.suffix != ".eval"} >= {"logs.json", ".eval-set-id"}
    assert len(list(folder.glob("*.eval"))) == 2 + kept
    record = import_logs([folder], tmp_path / "i", SET).record
    assert (record["n_observations"], record["n_missing"], len(record["sources"])) == (6, 0, 2)
    notes = [note for source in record["sources"] for note in source["notes"]]
    assert len(notes) == kept and all("(error) left out" in note for note in notes)
    with pytest.raises(DataError, match=r"Inspect's list of logs, and no log\n  → give its folder"):
        import_logs([folder / "logs.json"], tmp_path / "j", SET)


def test_an_attempt_that_holds_no_samples_gives_way_to_its_retry(pair: tuple[Path, Path], tmp_path: Path):
    def change(log: Any) -> None:
        log.samples, log.status, log.eval.eval_id = None, "error", "an earlier one"

    record = import_logs([changed(pair[0], tmp_path, change), pair[0]], tmp_path / "i", SET).record
    assert [Path(source["file"]) for source in record["sources"]] == [pair[0]]
    assert "changed-base-toy.eval (error) left out" in record["sources"][0]["notes"][0]


def silent(log: Any, stop: str | None = None, limit: str | None = None, error: str | None = None) -> None:
    """Let the first sample of a log have no answer, and a score of it all the same."""
    from inspect_ai.log import EvalSampleLimit
    from inspect_ai.model import ModelOutput

    sample = log.samples[0]
    sample.messages = [message for message in sample.messages if message.role != "assistant"]
    sample.output = ModelOutput(model="m") if stop is None else ModelOutput.from_content("m", "", stop)
    sample.output.error = error
    sample.limit = None if limit is None else EvalSampleLimit(type=limit, limit=1)
    for score in sample.scores.values():
        score.value = 0


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"limit": "message"}, "stopped by its message limit before any output"),
        ({"limit": "time"}, "stopped by its time limit before any output"),
        ({"limit": "token", "stop": "stop"}, "stopped by its token limit before any output"),
        ({}, "the sample has no output"),
        ({"stop": "max_tokens"}, "its tokens ran out before any answer"),
        ({"stop": "content_filter"}, "stopped by the provider's content filter before any output"),
        ({"stop": "content_filter", "error": "policy"}, "the provider kept the answer back: policy"),
    ],
)
def test_a_score_of_no_answer_is_missing(
    pair: tuple[Path, Path], tmp_path: Path, how: dict[str, Any], reason: str
):
    log = read_inspect(changed(pair[0], tmp_path, lambda log: silent(log, **how)))
    first, second = log.samples[:2]
    assert (first.text, first.reason) == (None, reason)
    assert {(x.value, x.status, x.reason) for x in first.scores} == {(None, "missing", reason)}
    assert second.text is not None and second.scores[0].value is not None


def test_an_empty_answer_and_one_that_a_limit_cut_keep_their_scores_and_are_counted(
    pair: tuple[Path, Path], tmp_path: Path
):
    def change(log: Any) -> None:
        from inspect_ai.log import EvalSampleLimit

        silent(log, "stop")
        log.samples[1].limit = EvalSampleLimit(type="message", limit=2)

    log = read_inspect(changed(pair[0], tmp_path, change))
    assert (log.samples[0].text, log.samples[0].scores[0].value) == ("", 0.0)
    assert "1 samples have no text in their last output: their scores are taken" in log.notes
    assert "1 samples were stopped by a limit after some output: their scores are taken" in log.notes


def test_a_model_whose_every_sample_was_stopped_is_not_safer(pair: tuple[Path, Path], tmp_path: Path):
    def change(log: Any) -> None:
        for sample in list(log.samples):
            log.samples.remove(sample)
            log.samples.insert(0, sample)
            silent(log, limit="message")

    stopped = changed(pair[1], tmp_path, change)
    words = ("--scorer", "includes", "--construct", "harmful", "--intent", "harmful", "--baseline")
    call("import", pair[0], stopped, "--out", tmp_path / "i", *words, "mockllm/base")
    call("analyze", tmp_path / "i")
    analysis = json.loads((tmp_path / "i" / "analysis.json").read_text("utf-8"))
    assert [r["estimate"] for r in analysis["rates"] if r["model"] == "mockllm/tuned"] == [None]
    assert "safer" not in {d["verdict"] for d in analysis["differences"]}
    assert CliRunner().invoke(app, ["gate", str(tmp_path / "i")]).exit_code != 0


@pytest.mark.parametrize("kind", ["json", "eval"])
def test_halves_of_surrogate_pairs_are_escaped(pair: tuple[Path, Path], tmp_path: Path, kind: str):
    halves = (b"Sure, here", rb"cut \ud83d, \\ud83d, \ud83d\ude00")

    if kind == "json":
        path = made.make(tmp_path, "m", made.refusing(2), log_format="json")
        path.write_bytes(path.read_bytes().replace(*halves))
    else:
        path = tmp_path / "m.eval"
        with zipfile.ZipFile(DATA / "inspect-0.3.100.eval") as old, zipfile.ZipFile(path, "w") as new:
            for name in old.namelist():
                new.writestr(name, old.read(name).replace(b"sure", halves[1]))
    log = read_inspect(path)
    texts = {s.text for s in log.samples if s.text} | {s.reference for s in log.samples if s.reference}
    assert "cut \\ud83d, \\ud83d, 😀" in texts
    assert "half of a surrogate pair" in log.notes[-1]
