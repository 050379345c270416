"""What an OpenAI-compatible endpoint replied: the answer, what is not part of it, and how it ended.

Servers differ in how they spell the same things; what is known of that stands here, in tables. Read for them
on 2026-11-30: the servers' sources and documentation that docs/served-models.md names.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aftertune.engines.faults import SHOWN, Fault, fault_of, json_of, list_of, plain, said_by, string_of
from aftertune.records import Finish

FILTERED = "filtered"
TOOLS = "tools"
_BROKEN = "broken"
# What the servers write as finish_reason, in lower case: ours <- theirs, and who writes it.
_ENDS: dict[str, str] = {
    "stop": Finish.STOP,  # OpenAI, vLLM, SGLang, llama.cpp, Ollama, TGI, Gemini
    "eos": Finish.STOP,  # Together
    "eos_token": Finish.STOP,  # TGI's own API, and gateways before it
    "stop_sequence": Finish.STOP,  # TGI, Anthropic, Bedrock, Cohere
    "end_turn": Finish.STOP,  # Anthropic, Bedrock
    "end": Finish.STOP,  # gateways (earendil-works/pi#2107)
    "complete": Finish.STOP,  # Cohere
    "completed": Finish.STOP,  # OpenAI's Responses, through gateways
    "length": Finish.LENGTH,  # OpenAI and most
    "max_tokens": Finish.LENGTH,  # Anthropic, Bedrock, Gemini, Cohere
    "max_output_tokens": Finish.LENGTH,  # OpenAI's Responses, through gateways
    "model_length": Finish.LENGTH,  # Mistral: the context's end
    "model_context_window_exceeded": Finish.LENGTH,  # Anthropic
    "tool_calls": TOOLS,  # OpenAI
    "function_call": TOOLS,  # OpenAI, deprecated
    "tool_call": TOOLS,  # Cohere
    "tool_use": TOOLS,  # Anthropic, Bedrock
    "content_filter": FILTERED,  # OpenAI, Azure
    "content_filtered": FILTERED,  # Bedrock
    "guardrail_intervened": FILTERED,  # Bedrock
    "refusal": FILTERED,  # Anthropic: a classifier of the provider's stopped the model
    "safety": FILTERED,  # Gemini, and the five below
    "recitation": FILTERED,
    "blocklist": FILTERED,
    "prohibited_content": FILTERED,
    "spii": FILTERED,
    "model_armor": FILTERED,
    "error_toxic": FILTERED,  # Cohere
    "sensitive": FILTERED,  # Zhipu
    "error": _BROKEN,  # OpenRouter, Mistral, Cohere
    "abort": _BROKEN,  # vLLM, SGLang
    "network_error": _BROKEN,  # Zhipu
    "insufficient_system_resource": _BROKEN,  # DeepSeek
}
_TEXT_PARTS = ("text", "output_text")
_THOUGHT_PARTS = ("thinking", "reasoning", "reasoning_content", "redacted_thinking")
_THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
Clean = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint said; the key is out of every text. Tokens are None where it does not count them.

    `text` is the answer alone: what the model thought before it is `thought`. A refusal in a field of its own
    is the answer where there is no other. `end` is what `finish` (the server's word) means: a `Finish`,
    FILTERED or TOOLS, and None where that is not known.
    """

    text: str
    refusal: str
    thought: str
    tools: tuple[str, ...]  # names of the tools that the model called
    others: tuple[str, ...]  # kinds of the parts that are no text
    finish: str
    end: str | None
    served_by: str  # the model that the endpoint says it used; the one that was asked for if it says nothing
    fingerprint: str
    n_prompt_tokens: int | None
    n_tokens: int | None
    n_thought_tokens: int | None
    seed: int | None  # as it was sent
    attempts: int = 1

    @property
    def response(self) -> str:
        """The text that stands for the model's response."""
        return self.text if self.text.strip() or not self.refusal else self.refusal

    @property
    def why_none(self) -> str:
        """Why this is no answer, though there is a reply; "" where it is one, which may be empty."""
        if self.end == FILTERED:
            return f"the endpoint's content filter withheld the response (finish_reason {self.finish!r})"
        if self.response.strip():
            return ""
        if self.tools:
            return f"the model called tools in place of an answer, and none were offered: {_few(self.tools)}"
        if self.others:
            return f"the reply has no text, only parts of the kind {_few(self.others)}"
        if self.thought.strip() or self.n_thought_tokens:
            return self._why_thought_alone()
        if self.end is None:
            return f"the reply has no text, and its end is not known, got finish_reason {self.finish!r}"
        return ""

    @property
    def note(self) -> str:
        """What else is to be said of an answer that is one."""
        notes = [
            (self.end is None and self.finish, f"its end is not known, got finish_reason {self.finish!r}"),
            (
                self.end is None and not self.finish,
                "its end is not known: the endpoint gave no finish_reason",
            ),
            (self.others, f"parts that are no text were left out: {_few(self.others)}"),
            (self.tools, f"calls of tools were left out: {_few(self.tools)}"),
        ]
        return "; ".join(note for holds, note in notes if holds)

    def _why_thought_alone(self) -> str:
        counted = "" if self.n_thought_tokens is None else f" after {self.n_thought_tokens} tokens of it"
        if self.end == Finish.LENGTH:
            return (
                f"max_tokens was reached inside the reasoning{counted}: there is no answer; raise max_tokens"
            )
        return f"all that the model wrote came back as its reasoning{counted}, and nothing as its answer"


def read_reply(body: str, *, model: str, seed: int | None, attempt: int, clean: Clean) -> Answer:
    """The answer in the body of a 200.

    Args:
        body: as it came.
        model: what was asked.
        seed: as it was sent.
        attempt: which try this was.
        clean: takes the key out of a text.

    Raises:
        Fault: the body is no reply, or says that there was a fault.
    """
    content = _object(body)
    if content.get("error"):  # beside choices too: what stands in them is not whole
        raise fault_of(body, code=200, headers={})
    choices = content.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise Fault(f"the endpoint's reply has no choices: {body[:SHOWN]}", code=200)
    finish = _finish(choice.get("finish_reason"))
    end = _ENDS.get(finish.strip().lower().replace("-", "_"))
    if end == _BROKEN or choice.get("error"):
        said, _ = said_by(choice)
        detail = said if choice.get("error") else f"finish_reason {finish!r}"
        raise Fault(f"the endpoint broke the response off: {detail}", again=True, code=200)
    parts = _Parts.of(message.get("content"))
    counted = content.get("usage")
    details = counted.get("completion_tokens_details") if isinstance(counted, dict) else None
    return Answer(
        text=clean(parts.text),
        refusal=clean(string_of(message, "refusal") or parts.refusal),
        thought=clean(
            next((t for name in _THOUGHT_FIELDS if (t := _thought(message.get(name)))), parts.thought)
        ),
        tools=tuple(clean(name) for name in _tools(message)),
        others=tuple(clean(kind) for kind in (*parts.others, *_elsewhere(choice, message))),
        finish=clean(finish)[:SHOWN],
        end=end,
        served_by=clean(string_of(content, "model")) or model,
        fingerprint=clean(string_of(content, "system_fingerprint")),
        n_prompt_tokens=_count(counted, "prompt_tokens"),
        n_tokens=_count(counted, "completion_tokens"),
        n_thought_tokens=_count(details, "reasoning_tokens"),
        seed=seed,
        attempts=attempt,
    )


@dataclass(slots=True)
class _Parts:
    """A message's content, which is a text, nothing, or a list of parts."""

    text: str = ""
    refusal: str = ""
    thought: str = ""
    others: tuple[str, ...] = ()

    @classmethod
    def of(cls, content: object) -> "_Parts":
        parts = cls()
        for part in content if isinstance(content, list) else [content]:
            if isinstance(part, str):
                parts.text += part
            elif isinstance(part, dict):
                parts._add(part)
            elif part is not None:
                parts.others += (type(part).__name__,)
        return parts

    def _add(self, part: dict[str, Any]) -> None:
        kind = part.get("type", "text" if "text" in part else None)
        if kind in _TEXT_PARTS:
            self.text += _inner(part.get("text"))
        elif kind == "refusal":
            self.refusal += _inner(part.get("refusal"))
        elif kind in _THOUGHT_PARTS:
            self.thought += _thought(part)
        else:
            self.others += ("object" if kind is None else str(kind),)


def _inner(value: object) -> str:
    """A part's text, which some write as {value: text}."""
    value = value.get("value") if isinstance(value, dict) else value
    return value if isinstance(value, str) else ""


def _thought(value: object) -> str:
    """The reasoning of a field or a part: a text, or parts that hold one under some name."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_thought(part) for part in value)
    if isinstance(value, dict):
        names = ("text", "thinking", "reasoning", "reasoning_content", "summary", "content", "data")
        return next((found for name in names if (found := _thought(value.get(name)))), "")
    return ""


def _tools(message: dict[str, Any]) -> list[str]:
    """The names of the tools that a message calls."""
    calls = message.get("tool_calls")
    found = [call.get("function") if isinstance(call, dict) else None for call in list_of(calls)]
    found += [message["function_call"]] if message.get("function_call") else []
    return [str(one.get("name")) if isinstance(one, dict) else "unnamed" for one in found]


def _elsewhere(choice: dict[str, Any], message: dict[str, Any]) -> list[str]:
    """Fields that hold a text and are no content of the message, where the content is missing or empty."""
    if message.get("content"):
        return []
    places: dict[str, object] = {
        "choices[0].text": choice.get("text"),  # the older protocol
        "choices[0].delta": _field(choice.get("delta"), "content"),  # a piece of a stream
        "message.audio": _field(message.get("audio"), "transcript"),
    }
    return [name for name, found in places.items() if isinstance(found, str) and found.strip()]


def _field(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, dict) else None


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(dict.fromkeys(names))[:SHOWN]


def _finish(value: object) -> str:
    value = value.get("type") if isinstance(value, dict) else value  # SGLang's own API writes {type: stop}
    return "" if value is None else str(value)


def _count(counted: object, name: str) -> int | None:
    value = counted.get(name) if isinstance(counted, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _object(body: str) -> dict[str, Any]:
    content = json_of(body)
    if isinstance(content, dict):
        return content
    if content is None and body.strip() != "null":
        kind = "an HTML page" if body.lstrip()[:1] == "<" else "no whole JSON"
        raise Fault(f"the endpoint answered 200 with {kind}: {plain(body)[:SHOWN]}", code=200)
    raise Fault(f"the endpoint answered 200 with {type(content).__name__}: {body[:SHOWN]}", code=200)
