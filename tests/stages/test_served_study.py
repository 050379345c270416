"""A study of models behind an endpoint, from check to report: also where the endpoint dies on the way."""

import json
import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from aftertune.commands.estimate import estimate_lines
from aftertune.engines.endpoint import Limits
from aftertune.errors import EngineError, StudyError
from aftertune.pipeline import STAGES
from aftertune.stages.check import check
from aftertune.stages.check.estimate import TYPICAL_TOKENS
from aftertune.store import RunDirectory
from aftertune.study import parse_study
from endpoint_server import Answer, Server, completion, refused, unsupported
from stage_runs import rows, run

pytest.importorskip("openai")
KEY = "sk-test-0123456789"
N_RESPONSES = 3 * 9 * (1 + 2)  # checkpoints × items × (greedy + two repeats)
N_PROBES = 3 * 2 + 3  # checkpoints × decodings, whether they are taken; three to learn about the seed


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = partial(Limits, tries=2, first_wait_s=0.01)
    monkeypatch.setattr("aftertune.engines.openai.Limits", limits)


def reply(_: int, asked: dict[str, Any]) -> Answer:
    """A text that the model, the prompt and the seed decide, as of a server that keeps to its seed."""
    said = f"Sure! {KEY} {asked['model']} {asked['seed'] if asked['temperature'] else ''}"
    return Answer(json.dumps(json.loads(completion(said).body) | {"model": asked["model"]}))


def served_study(url: str, **changes: Any) -> dict[str, Any]:
    engine = {"name": "openai", "endpoint": url, "usd_per_million_tokens": [1.0, 10.0]}
    return {
        "name": "served",
        "model": "base-7b",
        "recipes": {"chat": {"served": ["ft:one", "ft:two"]}},
        "seeds": 2,
        "tasks": [{"name": "mini-harm", "n": 6}, {"name": "mini-lookalikes", "n": 3}],
        "decodings": {
            "greedy": {"temperature": 0, "max_tokens": 100},
            "sampled": {"temperature": 0.8, "max_tokens": 100, "repeats": 2},
        },
        "judges": ["refusal-rules"],
        "engine": engine,
    } | changes


def manifest(out: Path) -> dict[str, Any]:
    return RunDirectory(out).read_manifest().recorded()


def test_from_check_to_report_without_a_model_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    server = Server(reply)
    study = served_study(server.url)
    study["engine"]["api_key_env"] = "MY_KEY"
    out = run(study, tmp_path / "run", stages=STAGES)
    n_asked = len(server.asked)
    run(study, out, stages=STAGES)
    server.close()
    assert len(server.asked) == n_asked == N_RESPONSES + N_PROBES
    responses, served = rows(out, "responses"), rows(out, "served")
    assert responses.height == served.height == responses["key"].n_unique() == N_RESPONSES
    assert set(responses["checkpoint"]) == {"base", "chat/1", "chat/2"}
    assert set(responses["n_prompt_tokens"]) == {100}
    assert dict(served.group_by("model").len().iter_rows()) == dict.fromkeys(
        ("base-7b", "ft:one", "ft:two"), N_RESPONSES // 3
    )
    made = manifest(out)
    assert made["model"]["path"] is None
    assert made["engine"] == {"engine": "openai", "endpoint": server.url, "numerics": "fast"}
    assert made["endpoint_seed"]["kept"] is True
    assert made["served"]["weights"].startswith("unverified")
    assert made["served"]["usd"] == pytest.approx(N_RESPONSES * (100 * 1.0 + 10 * 10.0) / 1e6)
    observed = pl.read_parquet(out / "observations.parquet")
    assert observed.filter(pl.col("status") == "ok").height == N_RESPONSES
    assert "the weights were not seen" in (out / "report" / "index.html").read_text()
    assert server.keys[0] == f"Bearer {KEY}"
    assert KEY.encode() not in b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    (prompt,) = rows(out, "prompts").head(1)["text"]
    assert json.loads(prompt)[0]["role"] == "user"


@pytest.mark.slow
def test_a_server_that_dies_in_the_middle_and_comes_back(tmp_path: Path) -> None:
    dead = Answer("shutting down", 503)
    server = Server(lambda number, asked: reply(number, asked) if number < 40 else dead)
    study = served_study(server.url)
    with pytest.raises(EngineError, match="32 times in a row"):
        run(study, tmp_path / "run", stages=STAGES)
    kept = rows(tmp_path / "run", "responses").filter(pl.col("status") == "ok")
    assert kept.height == 40 - N_PROBES
    assert manifest(tmp_path / "run")["served"]["completion_tokens"] == kept.height * 10
    n_before = len(server.asked)
    server.script = reply
    out = run(study, tmp_path / "run", stages=STAGES)
    whole = run(study, tmp_path / "whole", stages=STAGES)
    server.close()
    n_again = len(server.asked) - n_before - (N_RESPONSES + N_PROBES)
    assert n_again == N_RESPONSES - kept.height  # what is missing: what was probed is recorded
    for table in ("key", "text"):
        ours, undisturbed = (
            RunDirectory(place).read_responses().sort("key")[table].to_list() for place in (out, whole)
        )
        assert ours == undisturbed
    assert rows(out, "served")["key"].is_unique().all()
    assert (out / "observations.parquet").read_bytes() == (whole / "observations.parquet").read_bytes()


@pytest.mark.slow
def test_what_was_never_answered_is_asked_again_and_judged_then(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def script(number: int, asked: dict[str, Any]) -> Answer:
        harm = "ft:one" in asked["model"] and asked["temperature"] == 0
        return Answer("broken", 500) if harm else reply(number, asked)

    server = Server(script)
    study = served_study(server.url)
    out = run(study, tmp_path / "run", stages=STAGES)
    first = pl.read_parquet(out / "observations.parquet")
    lost = first.filter(pl.col("status") != "ok")
    assert lost.height == 9
    assert lost["value"].null_count() == 9
    server.script = reply
    n_before = len(server.asked)
    run(study, out, stages=STAGES)
    assert len(server.asked) - n_before == 9 + 1  # and once whether the decoding is taken
    run(study, out, stages=STAGES)
    server.close()
    assert len(server.asked) - n_before == 9 + 1
    assert "every response of chat/1 failed" not in caplog.text
    again = pl.read_parquet(out / "observations.parquet")
    assert (again.height, set(again["status"])) == (first.height, {"ok"})


GREEDY = {"greedy": {"temperature": 0, "max_tokens": 9}}


def test_a_reply_that_a_filter_withheld_is_missing_and_not_asked_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    withheld = completion(None, finish="content_filter")
    server = Server(lambda n, asked: withheld if asked["model"] == "ft:one" else reply(n, asked))
    study = served_study(server.url, decodings=GREEDY)
    out = run(study, tmp_path / "run", stages=STAGES[:4])
    run(study, out, stages=STAGES[:4])
    server.close()
    assert len(server.asked) == 27 + 3
    observed = pl.read_parquet(out / "observations.parquet")
    assert observed.filter(pl.col("value").is_null())["checkpoint"].unique().to_list() == ["chat/1"]
    lost = rows(out, "responses").filter(pl.col("status") == "failed")
    assert lost["reason"].str.contains("content filter").to_list() == [True] * 9
    assert "every response of chat/1 failed (9): nothing can be said of it; 9: the endpoint's" in caplog.text


def test_a_run_whose_every_response_failed_is_no_success(tmp_path: Path) -> None:
    server = Server(
        lambda *_: completion(None, finish="tool_calls", tool_calls=[{"function": {"name": "f"}}])
    )
    study = served_study(server.url, decodings=GREEDY)
    for _ in range(2):
        with pytest.raises(EngineError, match=r"every one of the 27 responses failed, 9 of .*called tools"):
            run(study, tmp_path / "run", stages=STAGES)
        assert len(server.asked) == 27 + 3
    server.close()


def picky(refuse: Callable[[dict[str, Any]], Answer | None]) -> Server:
    """A server that answers what it does not refuse."""

    def script(number: int, asked: dict[str, Any]) -> Answer:
        said = f"Sure! {asked['model']} {asked.get('seed')}"
        return refuse(asked) or completion(said)

    return Server(script)


def reasoning_model(asked: dict[str, Any]) -> Answer | None:
    """As OpenAI's: temperature 1 alone, no top_p, and the limit by its new name."""
    if "max_tokens" in asked:
        return unsupported("max_tokens", use="max_completion_tokens")
    if "top_p" in asked:
        return unsupported("top_p")
    if asked.get("temperature", 1) != 1:
        said = f"'temperature' does not support {asked['temperature']:g} with this model."
        return refused(f"Unsupported value: {said}", param="temperature")
    return None


def test_a_parameter_that_is_refused_stops_the_run_before_any_response(tmp_path: Path) -> None:
    server = picky(reasoning_model)
    study = served_study(server.url)
    message = (
        r"refuses every request of this decoding to '[^']+' \(temperature 0, top_p 1, max_tokens 100\): "
        r".* 400: Unsupported value: 'temperature' does not support 0(.|\n)*write a temperature that it takes"
    )
    with pytest.raises(EngineError, match=message):
        run(study, tmp_path / "run", stages=STAGES)
    server.close()
    assert len(server.asked) <= N_PROBES * 3
    assert not list((tmp_path / "run").rglob("responses/*.parquet"))


@pytest.mark.slow
def test_what_has_an_equivalent_is_asked_so_and_stands_in_manifest_and_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = picky(reasoning_model)
    study = served_study(server.url, decodings={"sampled": {"temperature": 1, "max_tokens": 9}})
    out = run(study, tmp_path / "run", stages=STAGES)
    n_asked = len(server.asked)
    run(study, out, stages=STAGES)
    assert len(server.asked) == n_asked
    (last,) = {tuple(sorted(asked)) for asked in server.asked[-27:]}
    assert last == ("max_completion_tokens", "messages", "model", "seed", "temperature")
    settings = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 9, "roles": ["user"]}
    found = {"limit": "max_completion_tokens", "left_out": ["top_p"], "in_key": True, "kinds": [settings]}
    assert manifest(out)["endpoint_requests"] == dict.fromkeys(("base-7b", "ft:one", "ft:two"), found)
    assert "does not take the plain request for ft:one" in caplog.text
    keys = set(rows(out, "responses")["key"])
    server.script = reply
    study["engine"]["endpoint"] = server.url
    plain = run(study, tmp_path / "plain", stages=STAGES)
    server.close()
    assert len(keys) == 27
    assert not keys & set(rows(plain, "responses")["key"])


@pytest.mark.parametrize("code", [400, 404, 422])
def test_a_refused_system_message_stops_the_run(tmp_path: Path, code: int) -> None:
    server = picky(
        lambda asked: refused("System role not supported", code=code) if len(asked["messages"]) > 1 else None
    )
    study = served_study(server.url, decodings={"kind": GREEDY["greedy"] | {"system_prompt": "Be kind."}})
    remedy = "a name that it serves" if code == 404 else "leave system_prompt out of the decoding"
    with pytest.raises(EngineError, match=rf"System role not supported(.|\n)*{remedy}"):
        run(study, tmp_path / "run", stages=STAGES)
    server.close()


def test_what_is_no_endpoint_stops_the_run_at_its_first_question(tmp_path: Path) -> None:
    server = Server(lambda *_: Answer("<html><title>Sign in</title></html>", kind="text/html"))
    with pytest.raises(EngineError, match=r"200 with an HTML page: Sign in(.|\n)*ends in /v1"):
        run(served_study(server.url), tmp_path / "run", stages=STAGES)
    server.close()
    assert len(server.asked) <= 8


@pytest.mark.slow
def test_a_run_of_an_earlier_version_is_continued_and_not_asked_anew(tmp_path: Path) -> None:
    """It wrote nothing of the form of its requests into its manifest, whatever that was."""
    server = Server(lambda n, asked: reply(n, asked) if n < 20 else Answer("down", 503))
    study = served_study(server.url, decodings={"sampled": {"temperature": 1, "max_tokens": 9}})
    out = run(study, tmp_path / "run", stages=STAGES[:2])
    kept = rows(out, "responses").filter(pl.col("status") == "ok")
    content = manifest(out)
    del content["endpoint_requests"]
    (out / "manifest.json").write_text(json.dumps(content))
    server.script = picky(reasoning_model).script
    n_before = len(server.asked)
    for _ in range(2):
        run(study, out, stages=STAGES[:2])
    server.close()
    good = rows(out, "responses").filter(pl.col("status") == "ok")
    assert 0 < kept.height < good.height == good["key"].n_unique() == 27
    assert set(kept["key"]) < set(good["key"])
    assert {found["in_key"] for found in manifest(out)["endpoint_requests"].values()} == {False}
    # Each model: refused twice, then accepted.
    assert len(server.asked) - n_before == 27 - kept.height + 3 * len(manifest(out)["endpoint_requests"])


def test_check_calls_nobody_and_says_what_it_cannot_know() -> None:
    server = Server(reply)
    resolved, cost = check(parse_study(served_study(server.url), source="s", folder=Path("/")))
    lines = "\n".join(estimate_lines(resolved, cost))
    server.close()
    assert server.asked == []
    assert (cost.n_responses, cost.n_checkpoints, cost.time_s) == (N_RESPONSES, 0, None)
    characters = sum(len(item.prompt) for task in resolved.tasks for item in task.items)
    n_drawn = 81 * TYPICAL_TOKENS * (1 - math.exp(-100 / TYPICAL_TOKENS))
    assert cost.usd == pytest.approx((9 * characters / 4 * 1.0 + n_drawn * 10.0) / 1e6)
    assert "0 trained, those that variations share once; 2 finished" in lines
    assert "prompts' lengths are counted by the endpoint's tokenizer" in lines
    assert "cost         about $0.04, at 4 characters a token" in lines
    free = served_study(server.url)
    free["engine"].pop("usd_per_million_tokens")
    resolved, cost = check(parse_study(free, source="s", folder=Path("/")))
    assert cost.usd is None
    assert "cost         not known" in "\n".join(estimate_lines(resolved, cost))


def test_check_wants_the_key_and_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAR_KEY", raising=False)
    far = {"name": "openai", "endpoint": "https://far.example/v1", "api_key_env": "FAR_KEY"}
    with pytest.raises(StudyError, match="environment variable FAR_KEY is not set"):
        check(parse_study(served_study("", engine=far), source="s", folder=Path("/")))
    with pytest.raises(StudyError, match=r"engine: the endpoint is no address, got 'far\.example'"):
        check(
            parse_study(
                served_study("", engine=far | {"endpoint": "far.example"}), source="s", folder=Path("/")
            )
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"numerics": "exact"}, "numerics: exact cannot be promised by an endpoint"),
        ({"revision": "a" * 40}, "revision is a commit of the hub's"),
        ({"seeds": 1}, r"recipes\.chat\.served has 2 names for 1 seed: write `seeds: 2`"),
        ({"recipes": {"chat": {"served": ["a", "a"]}}}, r"recipes\.chat\.served names a more than once"),
        ({"recipes": {"chat": {"data": "packaged:chat"}}}, r"recipes\.chat is of this machine"),
        ({"engine": {"threads": 1}}, r"recipes\.chat is served: write the endpoint"),
        ({"engine": {"name": "openia"}}, "no engine is called 'openia'; did you mean 'openai'"),
        ({"engine": {"name": "openai"}}, r"engine\.endpoint: missing"),
        ({"engine": {"name": "openai", "endpont": "x"}}, r"engine\.endpont: unknown key.*'endpoint'"),
    ],
)
def test_what_cannot_go_together_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        parse_study(served_study("http://localhost/v1", **changes), source="s", folder=Path("/"))


JUDGE = {"name": "a", "judge": "aftertune-rubric-complied", "endpoint": "http://localhost/v1", "model": "m"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"decodings": GREEDY | {"again": {**GREEDY["greedy"], "repeats": 1}}},
            r"decodings\.greedy and decodings\.again are the same, and so are their responses",
        ),
        (
            {"recipes": {"chat": {"served": ["base-7b", "ft:two"]}}},
            r"base and chat/1 are one served model, 'base-7b'",
        ),
        (
            {"recipes": {name: {"served": ["ft:one", f"ft:{name}"]} for name in ("a", "b")}},
            r"a/1 and b/1 are one served model, 'ft:one'",
        ),
        ({"judges": [JUDGE, JUDGE | {"name": "b"}]}, "judges 'a' and 'b' ask one model the same"),
    ],
)
def test_a_factor_that_changes_no_request_is_an_error_at_check(changes: dict[str, Any], message: str) -> None:
    study = parse_study(served_study("http://localhost/v1", **changes), source="s", folder=Path("/"))
    with pytest.raises(StudyError, match=message):
        check(study)


def test_the_example_in_the_docs_is_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    page = (Path(__file__).parents[2] / "docs" / "served-models.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    _, cost = check(parse_study(yaml.safe_load(text), source="docs", folder=tmp_path))
    assert cost.usd is not None
    assert cost.n_checkpoints == 0  # nothing is tuned


def test_the_name_of_a_served_model_is_no_path(tmp_path: Path) -> None:
    (tmp_path / "base-7b").mkdir()
    study = parse_study(served_study("http://localhost/v1"), source="s", folder=tmp_path)
    assert study.model == "base-7b"
