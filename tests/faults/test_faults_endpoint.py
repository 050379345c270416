"""A judge whose endpoint is down for an hour: the study goes on with the rest, and finishes later.

The hour passes in no time: the waits between tries are cut to nothing, and the server answers 503 or is
away altogether until the test brings it back.
"""

from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aftertune.commands.gate import gate
from aftertune.engines.endpoint import Limits
from aftertune.pipeline import STAGES
from endpoint_server import Answer, Server, completion
from stage_runs import rows, run, study_of

pytest.importorskip("openai")
JUDGE = "aftertune-rubric-complied"
PRIMARY = {
    "task": "mini-harm",
    "decoding": "sampled",
    "judge": "incoherence-rules",
    "metric": "incoherence_rate",
    "target": "benchmark",
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AFTERTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("aftertune.judges.endpoint.Limits", partial(Limits, tries=2, first_wait_s=0.001))


def study(model: Path, url: str) -> dict[str, Any]:
    rubric = {"name": JUDGE, "endpoint": url, "model": "m"}
    return study_of(
        model, judges=["refusal-rules", "incoherence-rules", rubric], analysis={"primary": PRIMARY}
    )


@pytest.mark.slow
@pytest.mark.parametrize("how", ["answers 503", "throttles for ever", "is not there"])
def test_the_study_goes_on_with_the_rest_and_finishes_later(how, tiny_model, tmp_path, caplog):
    answers = {
        "answers 503": Answer("down", 503),
        "throttles for ever": Answer("slow", 429),
        "is not there": None,
    }
    server = Server(lambda n, _: completion("YES") if n < 6 or answers[how] is None else answers[how])
    url = server.url
    if answers[how] is None:
        server.close()
    out = run(study(tiny_model, url), tmp_path / "run", stages=STAGES)  # to the report
    assert f"judge {JUDGE} did not finish" in caplog.text
    assert "the same command asks for them again" in caplog.text
    observed = pl.read_parquet(out / "observations.parquet")
    theirs = observed.filter(pl.col("judge") == JUDGE)
    failed = theirs.filter(pl.col("status") == "failed")
    assert failed.height > 0
    assert failed["value"].null_count() == failed.height  # missing, and nothing else
    assert failed["reason"].str.contains("endpoint").all()
    rest = observed.filter(pl.col("judge") != JUDGE)
    assert rest.height == 2 * rows(out, "responses").height
    assert rest["status"].is_in(["ok", "skipped"]).all()
    page = (out / "report" / "report.md").read_text()
    assert JUDGE in page

    port = int(url.split(":")[2].split("/")[0])
    server = Server(lambda *_: completion("YES"), port=port) if answers[how] is None else server
    server.script = lambda *_: completion("YES")
    n_before = len(server.asked)
    run(study(tiny_model, url), out, stages=STAGES)
    n_texts = rows(out, "responses").filter(pl.col("status") == "ok")["key"].n_unique()
    assert 0 < len(server.asked) - n_before <= n_texts
    theirs = pl.read_parquet(out / "observations.parquet").filter(pl.col("judge") == JUDGE)
    assert theirs["status"].is_in(["ok", "skipped"]).all()
    again = len(server.asked)
    run(study(tiny_model, url), out, stages=STAGES)
    assert len(server.asked) == again
    server.close()

    # The same table as where nothing was ever down.
    calm = Server(lambda *_: completion("YES"), port=port)
    other = run(study(tiny_model, url), tmp_path / "calm", stages=STAGES)
    calm.close()
    assert (other / "observations.parquet").read_bytes() == (out / "observations.parquet").read_bytes()


@pytest.mark.slow
def test_the_gate_never_passes_on_a_judge_that_was_away(tiny_model, tmp_path):
    server = Server(lambda *_: Answer("down", 503))
    asked = study(tiny_model, server.url)
    metric = {"judge": JUDGE, "metric": "compliance_rate"}
    asked["analysis"] = {"primary": PRIMARY | metric, "margin": 0.99}
    out = run(asked, tmp_path / "run", stages=STAGES)
    server.close()
    assert gate(out).outcome == "insufficient evidence"
