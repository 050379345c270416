"""A rubric judge in a study: nothing is lost, scored or asked twice; without any judge the run stops."""

import json
from pathlib import Path

import polars as pl
import pytest

from aftertune.errors import EngineError
from aftertune.judges.usage import total_usage
from endpoint_server import Answer, Server, completion
from stage_runs import STAGES, rows, run, study_of

KEY = "sk-test-0123456789"


@pytest.mark.slow
def test_a_study_with_a_rubric_judge(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openai")
    monkeypatch.setenv("AFTERTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MY_KEY", KEY)
    answers = [completion("YES"), Answer("<html>", kind="text/html"), completion("maybe")]
    server = Server(lambda number, _: answers[number % 3])
    asked = {
        "endpoint": server.url,
        "model": "m",
        "api_key_env": "MY_KEY",
        "usd_per_million_tokens": [1.0, 10.0],
    }
    judge = {"name": "aftertune-rubric-complied", **asked}
    study = study_of(tiny_model, judges=["refusal-rules", judge])
    try:
        out = run(study, tmp_path / "run", stages=STAGES)
        n_asked = len(server.asked)
        first = rows(out, "judgments").filter(pl.col("judge") == "aftertune-rubric-complied")
        n_failed = first.filter(pl.col("status") == "failed").height
        server.script = lambda *_: Answer("gone", 404)
        run(study, out, stages=STAGES)  # what failed is asked again, and nothing else
        # A question whose twin was answered comes from the cache.
        assert 0 < len(server.asked) - n_asked <= n_failed
        own = tmp_path / "rubric.yaml"
        own.write_text("{construct: refused, prompt: '{prompt} {response}', answers: {a: 0, b: 1}}")
        other = study | {"judges": [{"name": "other", "rubric": str(own), **asked}]}
        with pytest.raises(EngineError, match="does not serve 'm'"):
            run(other, tmp_path / "other", stages=("tune", "generate", "judge"))
    finally:
        server.close()
    counts = dict(first["status"].value_counts().iter_rows())
    assert first.height == rows(out, "responses").height
    assert counts["ok"] > 0
    assert counts["failed"] > 0
    assert counts["unparsed"] > 0
    assert first.filter((pl.col("status") != "ok") & pl.col("value").is_not_null()).height == 0
    assert total_usage(first["raw"]).n_asked == n_asked
    kept = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert KEY.encode() not in kept
    assert KEY not in json.dumps(first.to_dicts(), default=str)


@pytest.mark.parametrize("alone", [True, False])
def test_a_judge_whose_every_judgment_failed_is_no_success(
    tiny_model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, alone: bool
) -> None:
    pytest.importorskip("openai")
    monkeypatch.setenv("AFTERTUNE_CACHE", str(tmp_path / "cache"))
    server = Server(lambda *_: Answer("<html>Sign in", kind="text/html"))
    judge = {"name": "aftertune-rubric-complied", "endpoint": server.url, "model": "m"}
    greedy = {"greedy": {"temperature": 0, "max_tokens": 4}}
    tasks = [{"name": "mini-harm", "n": 2}]
    judges = [judge, *([] if alone else ["refusal-rules"])]
    study = study_of(tiny_model, judges=judges, tasks=tasks, decodings=greedy, recipes={}, seeds=1)
    message = (
        "every judgment of aftertune-rubric-complied failed: the endpoint answered 200 with an HTML page"
    )
    try:
        if alone:
            with pytest.raises(EngineError, match=message):
                run(study, tmp_path / "run", stages=STAGES[:3])
        else:
            run(study, tmp_path / "run", stages=STAGES[:3])
            assert message in caplog.text
    finally:
        server.close()
