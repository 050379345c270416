"""Questions of judges to an endpoint: each gets a status, and good replies are cached."""

import json
import logging
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aftertune.engines.calls import Call
from aftertune.engines.endpoint import Address, Client, Limits, address
from aftertune.engines.faults import SHOWN, Fault
from aftertune.engines.replies import FILTERED, Answer
from aftertune.engines.usage import Usage
from aftertune.errors import StudyError
from aftertune.records import Finish, JudgmentStatus
from aftertune.sources import cache_directory
from aftertune.store import canonical_json, content_key, put_if_absent
from aftertune.study import JudgeSpec

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked; `repeat` names an independent draw, and is sent as the seed."""

    messages: tuple[tuple[str, str], ...]  # role, text
    max_tokens: int
    repeat: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a question: a text where `status` is OK, else a reason (and the text, if there is one)."""

    status: JudgmentStatus
    text: str
    reason: str
    usage: Usage
    served_by: str = ""  # the model that the endpoint says it used


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint(Address):
    """A judging model behind an OpenAI-compatible address."""

    model: str
    temperature: float = 0.0

    def replies(self, questions: Iterable[Question], *, judge: str = "") -> Generator[Reply]:
        """A reply to each question, in their order, several asked at once; the totals are logged at the end.

        Raises:
            StudyError: there is no key.
            EngineError: the endpoint failed many times in a row, or refuses every question; what it answered
                before was yielded.
        """
        total = Usage()
        with Client(self, of="judge") as client:
            try:
                for reply in client.each(lambda question: self._reply(client, question), questions):
                    total += reply.usage
                    yield reply
            finally:
                _LOG.info("judge %s (%s at %s): %s", judge, self.model, self.host, total)

    def _reply(self, client: Client, question: Question) -> Reply:
        """The reply from the cache, or from the endpoint; an outside fault becomes a status."""
        path = _cached_at(self, question)
        cached = _read_cached(path)
        if cached is not None:
            return cached
        call = Call(
            self.model, question.messages, question.max_tokens, self.temperature, seed=question.repeat
        )
        try:
            answer = client.ask(call)
        except Fault as fault:
            usage = Usage().asked(fault.attempts, failed=True)
            return Reply(JudgmentStatus.FAILED, "", fault.reason, usage)
        status, reason = _verdict_on(answer)
        usage = Usage.of(answer.n_prompt_tokens, answer.n_tokens, self.usd_per_million_tokens)
        usage = usage.asked(answer.attempts, failed=status is not JudgmentStatus.OK)
        reply = Reply(status, answer.text, reason, usage, answer.served_by)
        if status is JudgmentStatus.OK:
            put_if_absent(path, canonical_json(_to_cache(reply)))
        return reply


def endpoint_of(spec: JudgeSpec, limits: Limits | None = None) -> Endpoint:
    """The endpoint that a judge of a study asks.

    Raises:
        StudyError: there is none, or its address is none, or holds a secret.
    """
    if spec.endpoint is None or spec.model is None:
        raise StudyError(
            f"judge {spec.name!r} asks a model at an endpoint, and none is given",
            "write endpoint: https://…/v1 and model: NAME",
        )
    return Endpoint(
        address(spec.endpoint, whose=f"judge {spec.name!r}"),
        spec.api_key_env,
        spec.usd_per_million_tokens,
        limits or Limits(),
        model=spec.model,
        temperature=spec.temperature,
    )


def _verdict_on(answer: Answer) -> tuple[JudgmentStatus, str]:
    if answer.end == Finish.LENGTH:
        return JudgmentStatus.TRUNCATED, "the judging model was cut at max_tokens; raise it"
    if answer.end == FILTERED:
        return JudgmentStatus.FAILED, "the endpoint's content filter withheld the reply"
    if answer.refusal:
        return JudgmentStatus.FAILED, f"the judging model refused to judge: {answer.refusal[:SHOWN]}"
    if not answer.text.strip():
        return JudgmentStatus.UNPARSED, answer.why_none or "the judging model's reply is empty"
    return JudgmentStatus.OK, ""


def _cached_at(endpoint: Endpoint, question: Question) -> Path:
    key = content_key(
        {
            "endpoint": endpoint.url,
            "model": endpoint.model,
            "temperature": endpoint.temperature,
            "messages": [list(message) for message in question.messages],
            "max_tokens": question.max_tokens,
            "repeat": question.repeat,
        }
    )
    return cache_directory() / "endpoint" / f"{key}.json"


def _to_cache(reply: Reply) -> dict[str, Any]:
    usage = reply.usage
    return {
        "text": reply.text,
        "served_by": reply.served_by,
        "tokens_in": usage.tokens_in,
        "tokens_out": usage.tokens_out,
    }


def _read_cached(path: Path) -> Reply | None:
    """The kept reply; None where there is none, or what stands there is not one (it is removed)."""
    try:
        content = json.loads(path.read_bytes())
        text, served_by = content["text"], content["served_by"]
        usage = Usage(int(content["tokens_in"]), int(content["tokens_out"]), n_cached=1)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        path.unlink(missing_ok=True)
        return None
    if not isinstance(text, str) or not isinstance(served_by, str):
        path.unlink(missing_ok=True)
        return None
    return Reply(JudgmentStatus.OK, text, "", usage, served_by)
