"""Asking an endpoint: what is no good reply is a status with a reason, nothing is lost, and no key leaks."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from aftertune.engines.endpoint import Limits
from aftertune.engines.usage import Usage
from aftertune.errors import EngineError, StudyError
from aftertune.judges.endpoint import Endpoint, Question, Reply, endpoint_of
from aftertune.records import JudgmentStatus
from aftertune.study import JudgeSpec
from endpoint_server import Answer, Server, completion, refused, unsupported

pytest.importorskip("openai")
KEY = "sk-test-0123456789"
QUICK = Limits(timeout_s=0.3, tries=3, first_wait_s=0.01, total_wait_s=0.2)
OK, FAILED, TRUNCATED, UNPARSED = (JudgmentStatus(name) for name in ("ok", "failed", "truncated", "unparsed"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MY_KEY", KEY)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*answers: Answer, then: Answer | None = None) -> Server:
        """Gives the answers in turn, and the last one (or `then`) for ever."""
        script = [*answers, *([then] if then else [])]
        servers.append(Server(lambda number, _: script[min(number, len(script) - 1)]))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def endpoint(server: Server, **changes) -> Endpoint:
    return replace(Endpoint(server.url, "MY_KEY", model="judge-7b", limits=QUICK), **changes)


def question(text: str = "Is it?", **changes) -> Question:
    return Question((("user", text),), 16, **changes)


def only(server: Server, **changes) -> Reply:
    (reply,) = endpoint(server, **changes).replies([question()])
    return reply


def test_a_good_reply_with_its_tokens_and_cost(serve) -> None:
    server = serve(completion("yes"))
    reply = only(server, usd_per_million_tokens=(1.0, 10.0), temperature=0.5)
    assert (reply.status, reply.text, reply.reason, reply.served_by) == (OK, "yes", "", "judge-7b-0613")
    assert reply.usage == Usage(100, 10, 0.0002, n_asked=1, attempts=1)
    assert server.asked == [
        {
            "model": "judge-7b",
            "messages": [{"role": "user", "content": "Is it?"}],
            "temperature": 0.5,
            "seed": 0,
            "max_tokens": 16,
        }
    ]
    assert server.keys == [f"Bearer {KEY}"]


def test_without_a_price_the_cost_is_not_counted_as_zero(serve) -> None:
    assert only(serve(completion("yes"))).usage.n_unpriced == 1
    body = json.loads(completion("yes").body)
    del body["usage"]
    usage = only(serve(Answer(json.dumps(body))), usd_per_million_tokens=(1.0, 1.0)).usage
    assert (usage.tokens_in, usage.usd, usage.n_unpriced) == (0, 0.0, 1)


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        (
            Answer("<html><body>Sign in</body></html>", kind="text/html"),
            FAILED,
            "200 with an HTML page: Sign in",
        ),
        (Answer(completion("yes").body[:60]), FAILED, "200 with no whole JSON"),
        (Answer(""), FAILED, "200 with no whole JSON"),
        (Answer("[]"), FAILED, "200 with list"),
        (Answer("null"), FAILED, "200 with NoneType"),
        (Answer('{"error": {"message": "overloaded"}}'), FAILED, "200 with an error: overloaded"),
        (Answer('{"choices": []}'), FAILED, "no choices"),
        (Answer('{"choices": [null]}'), FAILED, "no choices"),
        (Answer('{"choices": {"0": 1}}'), FAILED, "no choices"),
        (Answer('{"choices": [{"message": null}]}'), FAILED, "no choices"),
        (Answer('{"choices": [{"message": {}}]}'), UNPARSED, "no text, and its end is not known"),
        (
            Answer('{"choices": [{"message": {"content": [1]}}]}'),
            UNPARSED,
            "no text, only parts of the kind int",
        ),
        (Answer("[" * 100_000), FAILED, "200 with no whole JSON"),
        (completion(None), UNPARSED, "reply is empty"),
        (completion(" \n"), UNPARSED, "reply is empty"),
        (completion("yes", finish="length"), TRUNCATED, "cut at max_tokens"),
        (completion(None, finish="length"), TRUNCATED, "cut at max_tokens"),
        (completion("yes", finish="content_filter"), FAILED, "content filter"),
        (completion(None, refusal="I can't rate this."), FAILED, "refused to judge: I can't rate this"),
        (Answer("<html>bad gateway</html>", 502), FAILED, r"answered 502: .*\(tries: 3\)"),
        (Answer("busy", 500), FAILED, r"answered 500: busy \(tries: 3\)"),
        (Answer("slow down", 429), FAILED, r"answered 429: slow down \(tries: 3\)"),
        (Answer("{}", wait_s=0.6), FAILED, r"timed out \(tries: 3\)"),
    ],
)
def test_what_is_no_good_reply_is_a_status_with_a_reason_and_is_not_kept(
    serve, tmp_path, answer: Answer, status: JudgmentStatus, reason: str
) -> None:
    server = serve(answer)
    reply = only(server)
    assert reply.status is status
    assert re.search(reason, reply.reason), reply.reason
    assert not (tmp_path / "cache" / "endpoint").exists()
    n_before = len(server.asked)
    only(server)
    assert len(server.asked) > n_before


def test_a_truncated_reply_was_paid_for_too(serve) -> None:
    usage = only(serve(completion("y", finish="length")), usd_per_million_tokens=(1.0, 10.0)).usage
    assert (usage.usd, usage.n_failed) == (0.0002, 1)


@pytest.mark.parametrize("code", [408, 409, 429, 500, 502, 503])
def test_a_fault_that_passes_is_asked_again(serve, code: int) -> None:
    server = serve(Answer("later", code), completion("yes"))
    reply = only(server)
    assert (reply.status, reply.text, reply.usage.attempts) == (OK, "yes", 2)


def test_retry_after_in_seconds_or_as_a_date_is_kept_to(serve) -> None:
    now = Answer("wait", 429, {"Retry-After": "0"})
    past = Answer("wait", 429, {"Retry-After": format_datetime(datetime.now(UTC) - timedelta(hours=1))})
    odd = Answer("wait", 429, {"Retry-After": "soon"})
    assert only(serve(now, completion("yes"))).text == "yes"
    assert only(serve(past, completion("yes"))).text == "yes"
    assert only(serve(odd, completion("yes"))).text == "yes"


def test_a_wait_beyond_the_limit_is_not_waited_for(serve) -> None:
    server = serve(Answer("wait", 429, {"Retry-After": "3600"}))
    reply = only(server)
    assert reply.reason.startswith(
        "the endpoint answered 429: wait; 3600 s to wait before the next try, 0.2 s"
    )
    assert len(server.asked) == 1


def test_nobody_there_is_a_failure(serve) -> None:
    server = serve(completion("yes"))
    server.close()
    reply = only(server)
    assert reply.status is FAILED
    assert reply.reason.startswith("no connection to the endpoint")


def test_replies_come_in_order_and_a_bad_one_loses_no_other() -> None:
    def script(_: int, asked: dict) -> Answer:
        number = int(asked["messages"][0]["content"])
        if number % 10 == 3:
            return Answer("broken", 500)
        return replace(completion(f"reply {number}"), wait_s=0.02 * (number % 3 == 0))

    server = Server(script)
    try:
        replies = list(endpoint(server).replies(question(str(i)) for i in range(50)))
    finally:
        server.close()
    assert [reply.text for reply in replies] == ["" if i % 10 == 3 else f"reply {i}" for i in range(50)]
    assert [i for i, reply in enumerate(replies) if reply.status is FAILED] == [3, 13, 23, 33, 43]


def test_an_endpoint_that_is_down_stops_the_run_after_the_replies_before(serve) -> None:
    server = serve(Answer("gone", 501))
    replies: list[Reply] = []
    with pytest.raises(EngineError, match="failed 32 times in a row"):
        replies.extend(endpoint(server).replies(question(str(i)) for i in range(100)))
    assert len(server.asked) < 3 * 50


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer("no such key", 401), r"refuses the key in MY_KEY for 'judge-7b': .* 401: no such key"),
        (Answer("", 404), r"does not serve 'judge-7b': .* 404: nothing"),
        (
            refused("temperature 0 is not supported", param="temperature"),
            r"every request of this judge to 'judge-7b' \(temperature 0, max_tokens 16\): .* is not supported"
            r"(.|\n)*write a temperature that it takes in the judge",
        ),
    ],
)
def test_what_no_other_question_would_change_stops_at_once(serve, answer: Answer, message: str) -> None:
    server = serve(answer)
    with pytest.raises(EngineError, match=message):
        list(endpoint(server).replies(question(str(i)) for i in range(9)))
    assert len(server.asked) <= 9 + 1


def test_a_judging_model_without_a_system_message_is_said() -> None:
    def script(_: int, asked: dict) -> Answer:
        system = asked["messages"][0]["role"] == "system"
        return refused("System role not supported") if system else completion("yes")

    server, asked = Server(script), Question((("system", "Judge."), ("user", "Is it?")), 16)
    try:
        with pytest.raises(EngineError, match=r"System role not supported(.|\n)*ask another judging model"):
            list(endpoint(server).replies([asked]))
    finally:
        server.close()


def test_a_reply_is_asked_for_once(serve, tmp_path) -> None:
    server = serve(completion("yes"))
    first, again = (only(server, usd_per_million_tokens=(1.0, 1.0)) for _ in range(2))
    assert len(server.asked) == 1
    assert (first.text, first.served_by) == (again.text, again.served_by)
    assert again.usage == Usage(100, 10, 0.0, n_cached=1)
    (kept,) = (tmp_path / "cache" / "endpoint").iterdir()
    kept.write_text("{half")
    assert only(server).usage.n_asked == 1
    assert json.loads(kept.read_text())["text"] == "yes"


@pytest.mark.parametrize(
    "change", [{"model": "other"}, {"temperature": 1.0}, {"repeat": 1}, {"max_tokens": 9}]
)
def test_whatever_may_change_a_reply_is_asked_anew(serve, change: dict) -> None:
    server = serve(completion("yes"))
    only(server)
    of_endpoint = {k: v for k, v in change.items() if k in ("model", "temperature")}
    of_question = {k: v for k, v in change.items() if k not in of_endpoint}
    list(endpoint(server, **of_endpoint).replies([replace(question(), **of_question)]))
    assert len(server.asked) == 2
    assert server.asked[1]["seed"] == change.get("repeat", 0)


def test_a_model_that_knows_the_limit_by_another_name(serve) -> None:
    said = unsupported("max_tokens", use="max_completion_tokens")
    server = Server(lambda _, asked: said if "max_tokens" in asked else completion("yes"))
    assert only(server).text == "yes"
    server.close()
    assert server.asked[-1]["max_completion_tokens"] == 16
    assert "max_tokens" not in server.asked[-1]
    forever = serve(said)
    with pytest.raises(EngineError, match="write a max_tokens that it takes in the judge"):
        only(forever, model="m2")
    assert len(forever.asked) == 3  # the question, and a neutral one in both forms


def test_the_key_is_in_no_output(serve, tmp_path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    answers = [
        Answer(f"<html>{KEY}</html>"),
        Answer(f'{{"error": "{KEY}"}}'),
        completion(f"yes {KEY}"),
        completion(None, refusal=KEY),
        Answer(KEY, 500),
    ]
    with pytest.raises(EngineError, match=r"wrong key \[key\]"):
        only(serve(Answer(f"wrong key {KEY}", 401)))
    replies = [reply for answer in answers for reply in endpoint(serve(answer)).replies([question()])]
    kept = [path.read_text() for path in (tmp_path / "cache").rglob("*.json")]
    assert replies[2].text == "yes [key]"
    assert len(kept) == 1
    assert KEY not in repr(replies) + "".join(kept) + caplog.text


def test_the_totals_are_logged_in_one_line(serve, caplog: pytest.LogCaptureFixture) -> None:
    server = serve(completion("yes"), Answer("no", 500))
    only(server)
    caplog.set_level(logging.INFO, logger="aftertune")
    asked = endpoint(server, usd_per_million_tokens=(1.0, 10.0))
    list(asked.replies([question(), question("Else?")], judge="mine"))
    (line,) = [r.getMessage() for r in caplog.records if r.name.startswith("aftertune")]
    assert line == (
        "judge mine (judge-7b at 127.0.0.1): 1 asked in 3 tries (1 failed), "
        "1 from the cache; 100 tokens in, 10 out; $0.0000"
    )


def test_a_key_that_is_missing_or_anothers_is_an_error(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY")
    away = Endpoint("https://judge.example/v1", "MY_KEY", model="m")
    with pytest.raises(StudyError, match=r"environment variable MY_KEY is not set, and judge\.example"):
        next(away.replies([question()]))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(StudyError, match=r"OPENAI_API_KEY is sent to OpenAI alone.*judge\.example"):
        next(replace(away, api_key_env="OPENAI_API_KEY").replies([question()]))
    server = serve(completion("yes"))
    assert only(server, api_key_env="OPENAI_API_KEY").text == "yes"
    assert server.keys == ["Bearer none"]


@pytest.mark.parametrize("key", ["two words", "line\nend-of-secret", "clé-secret"])
def test_what_is_no_key_is_neither_sent_nor_shown(serve, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    server = serve(completion("yes"))
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(StudyError, match="MY_KEY holds what is no key") as caught:
        only(server)
    assert key not in str(caught.value)
    assert server.asked == []


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("judge.example/v1", "is no address, got 'judge.example/v1'"),
        ("ftp://judge.example", "is no address"),
        ("http://[::1", "is no address"),
        ("https://me:secret@judge.example/v1", "holds a user, a password or a query"),
        ("https://judge.example/v1?api-key=secret", "holds a user, a password or a query"),
    ],
)
def test_an_address_that_is_none_or_holds_a_secret_is_an_error(address: str, message: str) -> None:
    with pytest.raises(StudyError, match=message) as caught:
        endpoint_of(JudgeSpec(name="j", endpoint=address, model="m"))
    assert "secret" not in str(caught.value)
