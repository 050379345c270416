"""Drawing from an endpoint: what it says is kept, what it does not say is missing, and a dead one stops."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import polars as pl
import pytest

from aftertune.engines.base import Completion
from aftertune.engines.endpoint import FAULTS_IN_A_ROW
from aftertune.engines.openai import OpenAIEngine
from aftertune.engines.served import served_checkpoints
from aftertune.errors import EngineError, StudyError
from aftertune.records import SERVED_COLUMNS, Finish, ResponseStatus, Served
from aftertune.study import OpenAISpec, ServedRecipe, Study
from endpoint_engines import QUICK, SAMPLED, engine_at, requests_of
from endpoint_server import Answer, Server, completion, refused, unsupported

pytest.importorskip("openai")
KEY = "sk-test-0123456789"
OK, EMPTY, FAILED = ResponseStatus.OK, ResponseStatus.EMPTY, ResponseStatus.FAILED


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*answers: Answer) -> Server:
        """Gives the answers in turn, and the last one for ever."""
        servers.append(Server(lambda number, _: answers[min(number, len(answers) - 1)]))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def only(server: Server, **changes) -> Completion:
    engine = engine_at(server, **changes)
    (one,) = engine.complete(requests_of(engine))
    return one


def changed(answer: Answer, **fields) -> Answer:
    return replace(answer, body=json.dumps(json.loads(answer.body) | fields))


def test_a_response_and_all_that_was_sent_for_it(serve) -> None:
    server = serve(changed(completion("Sure."), system_fingerprint="fp_1"))
    engine = engine_at(server)
    decoding = SAMPLED.model_copy(update={"system_prompt": "Be kind."})
    (request,) = requests_of(engine, decoding=decoding)
    (got,) = engine.complete([request])
    (asked,) = server.asked
    seed = asked.pop("seed")
    assert asked == {
        "model": "base-7b",
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "prompt 0"}],
        "max_tokens": 16,
        "temperature": 0.7,
        "top_p": 0.9,
    }
    assert 0 <= seed < 2**31
    assert server.keys == [f"Bearer {KEY}"]
    served = Served(request.key, "base-7b", "judge-7b-0613", "fp_1", seed, 100, 10, 1)
    assert got == Completion(request.key, "Sure.", 10, Finish.STOP, OK, "", served)
    assert json.loads(request.prompt.text) == asked["messages"]


def test_a_seed_is_the_requests_own_and_the_same_every_time(serve) -> None:
    server = serve(completion("Sure."))
    engine = engine_at(server, at_once=1)
    for _ in range(2):
        assert len(list(engine.complete(requests_of(engine, 20)))) == 20
    seeds = [asked["seed"] for asked in server.asked]
    assert seeds[:20] == seeds[20:]
    assert len(set(seeds)) == 20


@pytest.mark.parametrize(
    ("answer", "status", "finish", "text", "reason"),
    [
        (completion("Su", finish="length"), OK, Finish.LENGTH, "Su", ""),
        (completion(" \n"), EMPTY, Finish.STOP, " \n", "no text in 10 tokens"),
        (completion(None), EMPTY, Finish.STOP, "", "no text in 10 tokens"),
        (completion(None, refusal="I can't."), OK, Finish.STOP, "I can't.", ""),
        (completion("Su", finish="content_filter"), FAILED, None, "Su", "content filter withheld"),
        (completion("Su", finish="max_tokens"), OK, Finish.LENGTH, "Su", ""),
        (
            changed(completion("x"), choices=[{"message": {"content": "x"}}]),
            OK,
            None,
            "x",
            "no finish_reason",
        ),
    ],
)
def test_how_a_reply_ended(serve, answer: Answer, status, finish, text: str, reason: str) -> None:
    got = only(serve(answer))
    assert (got.status, got.finish, got.text) == (status, finish, text)
    assert reason in got.reason
    assert got.served is not None  # a reply is final, whatever it holds


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer("busy", 503), r"answered 503: busy (tries: 2)"),
        (Answer("slow down", 429), r"answered 429: slow down (tries: 2)"),
        (Answer("<html>"), "200 with an HTML page"),
        (Answer('{"choices": []}'), "no choices"),
    ],
)
def test_no_reply_is_a_failure_with_a_reason_and_without_evidence(serve, answer: Answer, reason: str) -> None:
    got = only(serve(answer))
    assert (got.status, got.text, got.finish, got.n_tokens, got.served) == (FAILED, "", None, None, None)
    assert reason in got.reason


def test_a_fault_that_passes_is_asked_again_and_counted(serve) -> None:
    got = only(serve(Answer("busy", 429, {"Retry-After": "0"}), completion("Sure.")))
    assert got.served is not None
    assert (got.status, got.served.attempts) == (OK, 2)


def test_tokens_that_are_not_counted_are_not_zero(serve) -> None:
    got = only(serve(changed(completion("Sure."), usage=None)))
    assert got.served is not None
    assert (got.n_tokens, got.served.n_prompt_tokens, got.served.n_tokens) == (None, None, None)


def test_a_prompt_that_is_refused_fails_alone_once_a_neutral_one_is_answered() -> None:
    def script(_: int, asked: dict) -> Answer:
        return refused("too long") if asked["messages"][0]["content"].startswith("prompt") else completion("")

    server = Server(script)
    try:
        got = list(engine_at(server).complete(requests_of(engine_at(server), 4)))
    finally:
        server.close()
    assert {(one.status, one.served) for one in got} == {(FAILED, None)}
    assert "answered 400: too long (tries: 1)" in got[0].reason
    assert len(server.asked) == 4 + 1  # one neutral question for all of a kind


@pytest.mark.parametrize(
    "answer",
    [
        refused("Unsupported parameter: 'seed'", param="seed"),
        refused("Unrecognized request argument supplied: seed"),
        Answer('{"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}', 422),
        Answer('{"object": "error", "message": "`seed` is not supported", "param": null, "code": 400}', 400),
    ],
)
def test_an_endpoint_that_refuses_a_seed_is_asked_without(answer: Answer) -> None:
    server = Server(lambda _, asked: answer if "seed" in asked else completion("Sure."))
    engine = engine_at(server, at_once=1)
    try:
        got = list(engine.complete(requests_of(engine, 3)))
    finally:
        server.close()
    assert [one.status for one in got] == [OK] * 3
    assert [one.served.seed for one in got if one.served] == [None] * 3
    assert ["seed" in asked for asked in server.asked] == [True, True, False, False, False, False]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            401,
            r"refuses the key in MY_KEY for 'base-7b': .* 401: no \[key\](.|\n)*export MY_KEY=",
        ),
        (403, r"refuses the key in MY_KEY"),
        (404, r"does not serve 'base-7b': .* 404: no \[key\](.|\n)*a name that it serves"),
    ],
)
def test_what_no_other_request_would_mend_stops_at_once(serve, code: int, message: str) -> None:
    server = serve(Answer(f"no {KEY}", code))
    engine = engine_at(server, at_once=1)
    with pytest.raises(EngineError, match=message) as caught:
        list(engine.complete(requests_of(engine, 50)))
    assert len(server.asked) < 10
    assert KEY not in str(caught.value)


def test_a_local_endpoint_that_wants_a_key_says_where_to_write_it(serve) -> None:
    server = serve(Answer("who are you", 401))
    engine = OpenAIEngine(OpenAISpec(endpoint=server.url), limits=QUICK)
    with pytest.raises(EngineError, match=r"none was sent(.|\n)*write api_key_env"):
        list(engine.complete(requests_of(engine)))


def test_an_endpoint_that_dies_leaves_what_it_answered_and_nothing_else() -> None:
    def script(number: int, _) -> Answer:
        return completion("Sure.") if number < 20 else Answer("dying", 500)

    server = Server(script)
    engine, got = engine_at(server, at_once=1), list[Completion]()
    often = f"failed {FAULTS_IN_A_ROW} times in a row"
    try:
        with pytest.raises(EngineError, match=rf"{often}: .* 500: dying(.|\n)*is kept"):
            got.extend(engine.complete(requests_of(engine, 100)))
    finally:
        server.close()
    assert [one.status for one in got] == [OK] * 20


def test_an_endpoint_that_is_gone_at_the_end_is_no_failed_response(serve) -> None:
    server = serve(completion("Sure."))
    engine = engine_at(server)
    server.close()
    with pytest.raises(EngineError, match="left the last 3 requests unanswered: no connection"):
        list(engine.complete(requests_of(engine, 3)))


def test_prompts_that_a_filter_refuses_are_no_sign_of_an_endpoint_that_is_down(serve) -> None:
    body = json.dumps({"error": {"code": "content_filter", "message": "The prompt was filtered."}})
    server = serve(Answer(body, 400))
    engine = engine_at(server)
    n = 2 * FAULTS_IN_A_ROW
    got = list(engine.complete(requests_of(engine, n)))
    assert len(server.asked) == n
    assert {(one.status, one.served) for one in got} == {(FAILED, None)}
    assert "The prompt was filtered." in got[0].reason


def test_a_request_that_nobody_answers_fails_alone_where_others_are_answered() -> None:
    def script(_: int, asked: dict) -> Answer:
        mute = asked["messages"][0]["content"] == "prompt 3"
        return Answer("{}", wait_s=0.6) if mute else completion("Sure.")

    server = Server(script)
    engine = engine_at(server)
    try:
        got = list(engine.complete(requests_of(engine, 8)))
    finally:
        server.close()
    assert [one.status for one in got] == [OK] * 3 + [FAILED] + [OK] * 4
    assert got[3].reason == "the endpoint timed out (tries: 2)"


def test_no_more_are_asked_at_once_than_was_said() -> None:
    lock, now, most = threading.Lock(), 0, 0

    def script(*_) -> Answer:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1
        return completion("Sure.")

    server = Server(script)
    engine = engine_at(server, at_once=3)
    try:
        got = engine.complete(iter(requests_of(engine, 30)))
        next(got)
        assert len(server.asked) <= 3 * 4  # what waits is bounded too
        assert len(list(got)) == 29
    finally:
        server.close()
    assert most == 3


def test_the_key_is_in_no_completion_and_no_log(serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for answer in (completion(f"yes {KEY}"), completion(None, refusal=KEY), Answer(KEY, 500), Answer(KEY)):
        assert KEY not in repr(only(serve(answer)))
    assert KEY not in caplog.text


def test_what_names_a_checkpoint_is_its_address_and_its_name() -> None:
    study = Study(
        name="s",
        model="m",
        tasks=("mini-harm",),
        judges=("refusal-rules",),
        decodings={"d": SAMPLED},
        seeds=(4, 9),
        recipes={"chat": ServedRecipe(served=("ft:a", "ft:b"))},
        engine=OpenAISpec(endpoint="https://one.example/v1"),
    )
    here, there = (
        served_checkpoints(study, OpenAISpec(endpoint=url))
        for url in ("https://one.example/v1/", "https://two.example/v1")
    )
    assert [(c.label, c.served, c.kind, c.path) for c in here] == [
        ("base", "m", "served", None),
        ("chat/4", "ft:a", "served", None),
        ("chat/9", "ft:b", "served", None),
    ]
    assert len({c.sha256 for c in (*here, *there)}) == 6
    again = served_checkpoints(study, OpenAISpec(endpoint="https://one.example/v1", at_once=2))
    assert again == here


def test_nothing_is_promised_of_an_endpoint(serve) -> None:
    said = engine_at(serve(completion(""))).reproducibility
    assert said["promise"].startswith("none: ")
    assert said["weights"].startswith("unverified")


def test_a_missing_key_is_an_error_before_anything_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY")
    engine = OpenAIEngine(OpenAISpec(endpoint="https://far.example/v1", api_key_env="MY_KEY"))
    with pytest.raises(StudyError, match="environment variable MY_KEY is not set"):
        next(engine.complete(requests_of(engine)))


@pytest.mark.parametrize(
    ("texts", "kept", "finding"),
    [
        (("a", "a", "b"), True, "kept to"),
        (("a", "b", "c"), False, "one seed gave two texts"),
        (("a", "a", "a"), None, "two seeds gave one text at temperature 1"),
    ],
)
def test_whether_a_seed_decides_the_text_is_tried(serve, texts, kept, finding: str) -> None:
    server = serve(*(completion(text) for text in texts))
    found = engine_at(server).probe_seed("base-7b")
    assert (found["sent"], found["kept"]) == (True, kept)
    assert finding in found["finding"]
    assert [(asked["temperature"], asked["seed"]) for asked in server.asked] == [(1.0, 1), (1.0, 1), (1.0, 2)]


def test_a_seed_that_is_refused_or_not_tried_is_said_so(serve) -> None:
    picky = Server(lambda _, asked: unsupported("seed") if "seed" in asked else completion("a"))
    assert engine_at(picky).probe_seed("m") == {
        "sent": False,
        "kept": False,
        "finding": "refused by name: it is asked without one, and a response cannot be drawn again",
    }
    picky.close()
    found = engine_at(serve(Answer("busy", 500))).probe_seed("m")
    assert (found["kept"], found["finding"][:30]) == (None, "not known: the endpoint answer")


def test_the_summary_counts_and_warns_of_models_that_change(serve, caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        ("k1", "m", "m-1", "fp_1", 5, 1_000_000, 2_000_000, 1),
        ("k2", "m", "m-2", "fp_1", None, 1, None, 3),
        ("k3", "other", "m-2", "", 6, 0, 0, 1),
    ]
    table = pl.DataFrame(rows, schema=list(SERVED_COLUMNS), orient="row")
    said = engine_at(serve(completion("")), usd_per_million_tokens=(1.0, 10.0)).summary(table)
    assert said["models"]["m"] == {
        "served_by": ["m-1", "m-2"],
        "fingerprints": ["fp_1"],
        "n_replies": 2,
        "n_without_seed": 1,
        "prompt_tokens": 1_000_001,
        "completion_tokens": 2_000_000,
        "attempts": 4,
        "usd": 21.0,
        "n_unpriced": 1,
    }
    assert (said["prompt_tokens"], said["usd"], said["n_unpriced"]) == (1_000_001, 21.0, 1)
    assert [record.getMessage() for record in caplog.records if record.name.startswith("aftertune")] == [
        "what answers as m changed on the way (served_by: m-1, m-2): two models may have answered",
        "m, other are all answered by m-2: are they different models?",
    ]
    unpriced = engine_at(serve(completion(""))).summary(table)
    assert (unpriced["usd"], unpriced["n_unpriced"]) == (None, 3)
