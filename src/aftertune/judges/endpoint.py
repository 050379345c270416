"""Questions to an OpenAI-compatible endpoint: retries bounded, replies cached, tokens counted."""

import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aftertune.errors import EngineError, StudyError
from aftertune.judges.usage import Usage
from aftertune.records import JudgmentStatus
from aftertune.sources import cache_directory
from aftertune.store import canonical_json, content_key, put_if_absent
from aftertune.study import JudgeSpec

_LOG = logging.getLogger(__name__)
_AT_ONCE = 8
_WAITING = 32  # so that one slow reply does not hold up the others
_FAULTS_IN_A_ROW = 32  # an endpoint that is down stops the run: what was not asked can be asked later
_OPENAI_KEY = "OPENAI_API_KEY"
_LOCAL = ("localhost", "127.0.0.1", "::1")
_SHOWN = 300  # characters of a server's own words in a reason


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


@dataclass(frozen=True, slots=True)
class Limits:
    """How long an endpoint is waited for."""

    timeout_s: float = 60.0  # of each connect, read and write
    tries: int = 5
    first_wait_s: float = 1.0  # doubled at every try, unless the server names a time
    total_wait_s: float = 120.0  # of all waits between the tries of one question


class _Fault(Exception):
    """No reply: `again` says whether asking again may help; `wait_s` is what the server asked for."""

    def __init__(self, reason: str, *, again: bool = False, wait_s: float | None = None):
        super().__init__(reason)
        self.reason, self.again, self.wait_s = reason, again, wait_s


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model behind an OpenAI-compatible address. To make one calls nobody and reads no key."""

    url: str
    model: str
    api_key_env: str
    temperature: float = 0.0
    usd_per_million_tokens: tuple[float, ...] | None = None
    limits: Limits = field(default_factory=Limits)

    @property
    def host(self) -> str:
        """The name of the machine that is asked."""
        return urlsplit(self.url).hostname or ""

    def key(self) -> str:
        """The key, from the environment; "" for an endpoint on this machine that needs none.

        Raises:
            StudyError: the variable is not set, or it is OpenAI's and the endpoint is not.
        """
        openai = self.host == "openai.com" or self.host.endswith(".openai.com")
        if self.api_key_env == _OPENAI_KEY and not openai:
            if self.host in _LOCAL:
                return ""  # a key of OpenAI's that happens to be set is nobody else's business
            raise StudyError(
                f"{_OPENAI_KEY} is sent to OpenAI alone, and the endpoint is at {self.host!r}",
                "write api_key_env: the name of the environment variable with this endpoint's key",
            )
        key = os.environ.get(self.api_key_env, "").strip()
        if not key and self.host not in _LOCAL:
            raise StudyError(
                f"the environment variable {self.api_key_env} is not set, and {self.host} needs a key",
                f"export {self.api_key_env}=… before the run; a key never stands in a study file",
            )
        return key

    def replies(self, questions: Iterable[Question], *, judge: str = "") -> Generator[Reply]:
        """A reply to each question, in their order, several asked at once; the totals are logged at the end.

        Raises:
            StudyError: there is no key.
            EngineError: the endpoint failed many times in a row; the replies before that were yielded.
        """
        total = Usage()
        with _Asking(self) as asking, ThreadPoolExecutor(_AT_ONCE) as pool:
            waiting: deque[Future[Reply]] = deque()
            try:
                for question in questions:
                    waiting.append(pool.submit(asking.ask, question))
                    if len(waiting) >= _WAITING:
                        reply = waiting.popleft().result()
                        total += reply.usage
                        yield reply
                while waiting:
                    reply = waiting.popleft().result()
                    total += reply.usage
                    yield reply
            finally:
                asking.stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                _LOG.info("judge %s (%s at %s): %s", judge, self.model, self.host, total)


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
    try:
        parts = urlsplit(spec.endpoint)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        raise _no_address(spec) from None
    if parts.username or parts.password or parts.query:
        raise StudyError(  # the address is not shown: it may hold a key
            f"judge {spec.name!r}: the endpoint holds a user, a password or a query",
            "write the address alone; the key comes from the variable that api_key_env names",
        )
    if not good:
        raise _no_address(spec)
    return Endpoint(
        spec.endpoint.rstrip("/"),
        spec.model,
        spec.api_key_env,
        spec.temperature,
        spec.usd_per_million_tokens,
        limits or Limits(),
    )


def _no_address(spec: JudgeSpec) -> StudyError:
    return StudyError(
        f"judge {spec.name!r}: the endpoint is no address, got {spec.endpoint!r}", "write https://…/v1"
    )


class _Asking:
    """The state of one run over an endpoint: its client, its key, and how it has been doing."""

    def __init__(self, endpoint: Endpoint):
        self.endpoint = endpoint
        self.stopped = threading.Event()
        self._key = endpoint.key()
        self._faults = 0
        self._limit_name = "max_tokens"
        self._client: Any = None

    def __enter__(self) -> "_Asking":
        from openai import OpenAI  # a second to import, and most studies ask nobody

        # No retries of its own: they would not count against our limits.
        self._client = OpenAI(
            api_key=self._key or "none",
            base_url=self.endpoint.url,
            timeout=self.endpoint.limits.timeout_s,
            max_retries=0,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(self, question: Question) -> Reply:
        """The reply from the cache, or from the endpoint; an outside fault becomes a status."""
        path = _cached_at(self.endpoint, question)
        cached = _read_cached(path)
        if cached is not None:
            return cached
        if self._faults >= _FAULTS_IN_A_ROW:
            raise EngineError(
                f"the endpoint at {self.endpoint.host} failed {_FAULTS_IN_A_ROW} times in a row",
                "see the reasons in the judgments, mend it, and run the same command again",
            )
        reply, attempts = self._tried(question)
        self._faults = 0 if reply.served_by else self._faults + 1
        if reply.status is JudgmentStatus.OK:
            put_if_absent(path, canonical_json(_to_cache(reply)))
        return Reply(
            reply.status, reply.text, reply.reason, reply.usage.asked(attempts, reply.status), reply.served_by
        )

    def _tried(self, question: Question) -> tuple[Reply, int]:
        limits = self.endpoint.limits
        wait_s, left_s = limits.first_wait_s, limits.total_wait_s
        for attempt in range(1, limits.tries + 1):
            try:
                return self._once(question), attempt
            except _Fault as fault:
                pause = wait_s if fault.wait_s is None else fault.wait_s
                reason = fault.reason
                if fault.again and pause > left_s:
                    reason += f"; {pause:g} s to wait before the next try, {left_s:g} s are left"
                if not fault.again or pause > left_s or attempt == limits.tries or self.stopped.wait(pause):
                    return self._failed(f"{reason} (tries: {attempt})"), attempt
                wait_s, left_s = wait_s * 2, left_s - pause
        raise AssertionError("tries is at least 1")

    def _failed(self, reason: str) -> Reply:
        return Reply(JudgmentStatus.FAILED, "", self._clean(reason), Usage())

    def _once(self, question: Question) -> Reply:
        """One request, its body read by `_read`; every fault of the outside is a `_Fault`."""
        import openai

        limit_name = self._limit_name
        try:
            answer = self._client.chat.completions.with_raw_response.create(
                model=self.endpoint.model,
                messages=[{"role": role, "content": text} for role, text in question.messages],
                temperature=self.endpoint.temperature,
                seed=question.repeat,
                **{limit_name: question.max_tokens},
            )
            body: str = answer.text
        except openai.APITimeoutError as error:
            raise _Fault("the endpoint timed out", again=True) from error
        except openai.APIConnectionError as error:
            raise _Fault(f"no connection to the endpoint: {error.__cause__ or error}", again=True) from error
        except openai.APIStatusError as error:
            fault = _status_fault(error.status_code, error.response.headers, error.response.text)
            if error.status_code == 400 and "max_completion_tokens" in error.response.text:
                # OpenAI's newer models know the same limit by another name, and say so.
                fault.again, fault.wait_s = limit_name == "max_tokens", 0.0
                self._limit_name = "max_completion_tokens"
            raise fault from error
        except (openai.OpenAIError, ValueError, UnicodeError) as error:
            raise _Fault(f"the endpoint cannot be asked: {type(error).__name__}: {error}") from error
        return self._read(body)

    def _read(self, body: str) -> Reply:
        """The reply in the body of a 200."""
        content = _object(body)
        choices = content.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(message, dict):
            raise _Fault(f"the endpoint's reply has no choices: {body[:_SHOWN]}")
        text = message.get("content")
        text = self._clean(text) if isinstance(text, str) else ""
        status, reason = _verdict_on(choice.get("finish_reason"), message.get("refusal"), text)
        usage = Usage.of(content.get("usage"), self.endpoint.usd_per_million_tokens)
        served_by = content.get("model")
        served_by = served_by if isinstance(served_by, str) and served_by else self.endpoint.model
        return Reply(status, text, self._clean(reason), usage, self._clean(served_by))

    def _clean(self, text: str) -> str:
        """The text without the key (a server may repeat it), as something that can be stored."""
        text = text.replace(self._key, "[key]") if self._key else text
        return text.encode("utf-8", errors="replace").decode("utf-8")


def _verdict_on(finish: object, refusal: object, text: str) -> tuple[JudgmentStatus, str]:
    if finish == "length":
        return JudgmentStatus.TRUNCATED, "the judging model was cut at max_tokens; raise it"
    if finish == "content_filter":
        return JudgmentStatus.FAILED, "the endpoint's content filter withheld the reply"
    if isinstance(refusal, str) and refusal:
        return JudgmentStatus.FAILED, f"the judging model refused to judge: {refusal[:_SHOWN]}"
    if not text.strip():
        return JudgmentStatus.UNPARSED, "the judging model's reply is empty"
    return JudgmentStatus.OK, ""


def _object(body: str) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        kind = "an HTML page" if body.lstrip()[:1] == "<" else "no whole JSON"
        raise _Fault(f"the endpoint answered 200 with {kind}: {body[:_SHOWN]}") from None
    if not isinstance(content, dict):
        raise _Fault(f"the endpoint answered 200 with {type(content).__name__}: {body[:_SHOWN]}")
    return content


def _status_fault(code: int, headers: Any, text: str) -> _Fault:
    again = code in (408, 409, 429) or code >= 500
    said = " ".join(text.split())[:_SHOWN]
    return _Fault(
        f"the endpoint answered {code}: {said or 'nothing'}",
        again=again,
        wait_s=_retry_after(headers.get("retry-after")) if again else None,
    )


def _retry_after(value: str | None) -> float | None:
    """Seconds that a server asks to wait, from a number or a date; None where it says nothing readable."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.fromtimestamp(time.time(), UTC)).total_seconds())


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
