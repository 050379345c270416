"""What servers write into a reply or an error, each as it is known to write it, over a real connection."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aftertune.engines.base import Completion
from aftertune.engines.faults import Fault, fault_of
from aftertune.engines.replies import read_reply
from aftertune.records import Finish, ResponseStatus
from endpoint_engines import engine_at, requests_of
from endpoint_server import Answer, Server, completion, refused

pytest.importorskip("openai")
OK, EMPTY, FAILED = ResponseStatus.OK, ResponseStatus.EMPTY, ResponseStatus.FAILED
STOP, LENGTH = Finish.STOP, Finish.LENGTH


@pytest.fixture
def get(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], Completion]]:
    monkeypatch.setenv("MY_KEY", "sk-test-0123456789")
    servers: list[Server] = []

    def one(answer: Answer) -> Completion:
        servers.append(Server(lambda *_: answer))
        engine = engine_at(servers[-1])
        (got,) = engine.complete(requests_of(engine))
        return got

    yield one
    for server in servers:
        server.close()


def text(value: Any, kind: str = "text") -> dict[str, Any]:
    return {"type": kind, kind.removeprefix("output_"): value}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([text("Sure, "), text("here.")], "Sure, here."),
        ([text("Sure.", "output_text")], "Sure."),
        (["Sure, ", "here."], "Sure, here."),
        (text("Sure."), "Sure."),
        ([{"text": "Sure."}], "Sure."),
        ([text({"value": "Sure.", "annotations": []})], "Sure."),
        ([text(None), None, text("Sure.")], "Sure."),
        ([{"type": "thinking", "thinking": [text("Hm.")]}, text("Sure.")], "Sure."),  # Mistral
        ([{"type": "thinking", "thinking": "Hm.", "signature": "x"}, text("Sure.")], "Sure."),  # Anthropic
        ([{"type": "refusal", "refusal": "I can't."}], "I can't."),
    ],
)
def test_the_text_parts_of_a_list_are_the_answer_in_their_order(get, content: Any, expected: str) -> None:
    got = get(completion(content))
    assert (got.text, got.status, got.finish, got.reason) == (expected, OK, STOP, "")


def test_parts_that_are_no_text_are_said(get) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:"}}
    got = get(completion([text("Sure."), image, image]))
    assert (got.text, got.status) == ("Sure.", OK)
    assert got.reason == "parts that are no text were left out: image_url"
    for content, kind in (([image], "image_url"), (7, "int"), ({"a": 1}, "object"), ([[1]], "list")):
        got = get(completion(content))
        assert (got.text, got.status) == ("", FAILED)
        assert got.reason == f"the reply has no text, only parts of the kind {kind}"


CALL = {"id": "c", "type": "function", "function": {"name": "search", "arguments": "{}"}}


@pytest.mark.parametrize("finish", ["tool_calls", "stop", "tool_use"])
def test_a_call_of_a_tool_is_no_answer(get, finish: str) -> None:
    got = get(completion(None, finish=finish, tool_calls=[CALL]))
    assert (got.text, got.status) == ("", FAILED)
    assert got.reason == "the model called tools in place of an answer, and none were offered: search"
    got = get(completion("Let me see.", finish=finish, tool_calls=[CALL]))
    assert (got.text, got.status, got.finish) == ("Let me see.", OK, STOP)
    assert got.reason == "calls of tools were left out: search"
    assert get(completion("", finish=finish, function_call={"name": "f"})).reason.endswith(": f")


@pytest.mark.parametrize(
    "thought",
    [
        {"reasoning_content": "Hm."},  # SGLang, llama.cpp, Fireworks
        {"reasoning": "Hm.", "reasoning_content": None},  # vLLM, Ollama, Together
        {"reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]},  # OpenRouter
    ],
)
def test_a_thought_is_no_answer(get, thought: dict[str, Any]) -> None:
    got = get(completion("Sure.", **thought))
    assert (got.text, got.status, got.reason) == ("Sure.", OK, "")
    for content in (None, "", []):
        got = get(completion(content, finish="length", **thought))
        assert (got.text, got.status, got.finish) == ("", FAILED, None)
        assert got.reason.startswith("max_tokens was reached inside the reasoning: there is no answer")
        got = get(completion(content, **thought))
        assert (got.status, got.reason[:49]) == (FAILED, "all that the model wrote came back as its reasoni")


def test_tokens_of_a_thought_that_is_not_shown_are_one_too(get) -> None:
    body = json.loads(completion("", finish="length").body)
    body["usage"]["completion_tokens_details"] = {"reasoning_tokens": 10}
    got = get(Answer(json.dumps(body)))  # OpenAI's reasoning models
    assert (got.status, got.n_tokens) == (FAILED, 10)
    assert "inside the reasoning after 10 tokens of it" in got.reason
    assert get(completion("", finish="length")).reason == "no text in 10 tokens; max_tokens was reached"


@pytest.mark.parametrize(
    ("word", "finish"),
    [
        *((word, STOP) for word in ("stop", "eos_token", "eos", "end_turn", "stop_sequence", "end")),
        *((word, STOP) for word in ("STOP", "stop-sequence", "COMPLETE", {"type": "stop"}, "tool_calls")),
        *((word, LENGTH) for word in ("length", "max_tokens", "MAX_TOKENS", "model_length")),
        *((word, None) for word in ("because", None, "", 3)),
    ],
)
def test_the_end_in_the_words_of_many_servers(get, word: Any, finish: Finish | None) -> None:
    got = get(completion("Sure.", finish=word))
    assert (got.text, got.status, got.finish) == ("Sure.", OK, finish)
    assert ("its end is not known" in got.reason) == (finish is None)
    assert str(word or "") in got.reason or finish is not None


@pytest.mark.parametrize("word", ["content_filter", "SAFETY", "refusal", "content_filtered"])
def test_what_a_filter_withheld_keeps_its_words(get, word: str) -> None:
    got = get(completion("Sur", finish=word))
    assert (got.text, got.status, got.finish) == ("Sur", FAILED, None)
    assert got.reason == f"the endpoint's content filter withheld the response (finish_reason {word!r})"


def test_a_reply_without_a_text_and_an_end_is_no_empty_response(get) -> None:
    got = get(completion(None, finish=None))
    assert (got.status, got.served is not None) == (FAILED, True)
    assert "no text, and its end is not known" in got.reason


@pytest.mark.parametrize("word", ["error", "abort", "insufficient_system_resource"])
def test_a_response_that_the_server_broke_off_is_asked_again(word: str, monkeypatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-test-0123456789")
    server = Server(lambda n, _: completion("Su", finish=word) if n == 0 else completion("Sure."))
    engine = engine_at(server)
    (got,) = engine.complete(requests_of(engine))
    server.close()
    assert (got.text, got.status) == ("Sure.", OK)
    assert got.served is not None
    assert got.served.attempts == 2


@pytest.mark.parametrize(
    ("body", "code", "reason", "kind"),
    [
        ('{"error": {"message": "m", "param": "p", "code": null}}', 400, "400: m", (400, False)),
        ('{"error": "text", "error_type": "validation"}', 422, "422: text", (422, False)),  # TGI
        ('{"object": "error", "message": "m", "param": null, "code": 400}', 400, "400: m", (400, False)),
        ('[{"error": {"code": 400, "message": "m"}}]', 400, "400: m", (400, False)),  # Gemini
        ('{"type": "error", "error": {"type": "t", "message": "m"}}', 400, "400: m", (400, False)),
        ('{"detail": "Not Found"}', 404, "404: Not Found", (404, False)),
        ('{"error": {"message": "", "type": "x"}}', 500, '500: {"message": "", "type": "x"}', (500, True)),
        ("<html><style>p{}</style><p>Bad &amp; sad</p></html>", 502, "502: Bad & sad", (502, True)),
        ("", 400, "400: nothing", (400, False)),
        ('{"error": "Unexpected endpoint"}', 200, "200 with an error: Unexpected endpoint", (200, False)),
        ('{"error": {"code": 502, "message": "m"}}', 200, "200 with an error: m", (502, True)),  # OpenRouter
        ('{"error": {"type": "overloaded_error", "message": "m"}}', 200, "error: m", (503, True)),
        ('{"error": {"code": "insufficient_quota", "message": "m"}}', 429, "429: m", (402, False)),
        (
            '{"error": {"code": 429, "message": "m", "metadata": {"raw": "later"}}}',
            429,
            "m: later",
            (429, True),
        ),
    ],
)
def test_errors_in_the_shapes_of_many_servers(body: str, code: int, reason: str, kind: Any) -> None:
    fault = fault_of(body, code=code, headers={})
    assert fault.reason.endswith(reason)
    assert (fault.code, fault.again) == kind


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after": "60", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-1"}, None),
        ({}, None),
    ],
)
def test_how_long_a_server_asks_to_wait(headers: dict[str, str], wait_s: float | None) -> None:
    assert fault_of("busy", code=429, headers=headers).wait_s == wait_s


def test_a_prompt_that_a_moderation_flags_is_no_fault_of_the_key() -> None:
    metadata = {"reasons": ["violence"], "flagged_input": "How to"}
    body = json.dumps({"error": {"code": 403, "message": "Flagged.", "metadata": metadata}})
    for code in (200, 403):
        fault = fault_of(body, code=code, headers={})
        assert (fault.filtered, fault.refused, fault.code) == (True, False, 403)


def test_the_input_that_an_error_repeats_names_no_parameter() -> None:
    entry = {"loc": ["body", "model"], "msg": "unknown model", "input": {"seed": 1, "top_p": 1.0}}
    fault = fault_of(json.dumps({"detail": [entry]}), code=422, headers={})
    assert fault.named == "model: unknown model"


@pytest.mark.parametrize("name", ["tool_calls", "usage", "system_fingerprint", "model", "reasoning_details"])
@pytest.mark.parametrize("value", [None, 1, [], {}, [1], "x", {"a": [None]}])
def test_odd_values_in_fields_beside_the_text_lose_nothing(name: str, value: Any) -> None:
    body = json.loads(completion("Sure.").body) | {name: value}
    body["choices"][0]["message"][name] = value
    got = read_reply(json.dumps(body), model="m", seed=None, attempt=1, clean=str)
    assert (got.response, got.why_none) == ("Sure.", "")


def test_an_error_in_a_reply_that_has_choices_breaks_it_off(get) -> None:
    body = json.loads(completion("Su").body)
    body["choices"][0]["error"] = {"code": 502, "message": "provider down"}
    got = get(Answer(json.dumps(body)))
    assert (got.status, got.served) == (FAILED, None)
    assert got.reason == "the endpoint broke the response off: provider down (tries: 2)"
    assert get(refused("no", code=500)).status is FAILED


@pytest.mark.parametrize(
    ("place", "beside"),
    [
        ("choices[0].text", {"text": "Sure."}),  # the older protocol, through gateways
        ("choices[0].delta", {"delta": {"content": "Sure."}}),  # a piece of a stream
        ("message.audio", {"message": {"content": None, "audio": {"transcript": "Sure."}}}),
    ],
)
def test_a_text_outside_the_content_is_no_empty_response(get, place: str, beside: dict[str, Any]) -> None:
    choice = {"finish_reason": "stop", "message": {"content": None}, **beside}
    got = get(Answer(json.dumps({"choices": [choice]})))
    assert (got.text, got.status) == ("", FAILED)
    assert got.reason == f"the reply has no text, only parts of the kind {place}"


@pytest.mark.parametrize("said", ["", "half an ans"])
def test_an_error_beside_the_choices_breaks_the_response_off(said: str) -> None:
    choice = {"finish_reason": "stop", "message": {"content": said}}
    body = json.dumps({"choices": [choice], "error": {"message": "overloaded", "code": 503}})
    with pytest.raises(Fault, match="overloaded"):
        read_reply(body, model="m", seed=1, attempt=1, clean=str)
