"""An OpenAI-compatible endpoint: questions to it, several at once, retries bounded, its key never shown.

Both the engine that draws from an endpoint and the judges that ask one stand on this.
"""

import json
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from aftertune.errors import EngineError, StudyError

FAULTS_IN_A_ROW = 32  # an endpoint that is down stops the run: what was not asked can be asked later
SHOWN = 300  # characters of a server's own words in a reason
_WAITING = 4  # questions in the queue for each that is asked at once, so that a slow reply holds up few
_OPENAI_KEY = "OPENAI_API_KEY"
_LOCAL = ("localhost", "127.0.0.1", "::1")
_SECRET_LENGTH = 8  # a shorter one, as "none" or "EMPTY" for a server of one's own, is no secret but a word
_FILTERED = re.compile(r'"(content_filter|content_policy_violation)"')  # an error's code, at Azure and OpenAI
_NAMES_SEED = re.compile(r"""["'`]seed["'`]""")

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Limits:
    """How long an endpoint is waited for."""

    timeout_s: float = 60.0  # of each connect, read and write
    tries: int = 5
    first_wait_s: float = 1.0  # doubled at every try, unless the server names a time
    total_wait_s: float = 120.0  # of all waits between the tries of one question


class Fault(Exception):
    """No reply. `again`: asking again may help; `wait_s`: what the server asked for; `code`: of its answer.

    `code` is None where nobody answered; `attempts` counts the tries, where they are over. `filtered`: the
    prompt was refused for what it says, by an endpoint that is well.
    """

    def __init__(
        self, reason: str, *, again: bool = False, wait_s: float | None = None, code: int | None = None
    ):
        super().__init__(reason)
        self.reason, self.again, self.wait_s, self.code = reason, again, wait_s, code
        self.attempts, self.filtered = 0, False


@dataclass(frozen=True, slots=True)
class Address:
    """Where an endpoint is and what it costs. To make one calls nobody and reads no key."""

    url: str
    api_key_env: str
    usd_per_million_tokens: tuple[float, ...] | None = None
    limits: Limits = field(default_factory=Limits)
    at_once: int = 8

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
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise StudyError(  # without showing it
                f"the environment variable {self.api_key_env} holds what is no key: "
                "spaces, line ends or letters beyond ASCII",
                "set it again, to the key alone",
            )
        return key


def address(url: str, *, whose: str) -> str:
    """The address of an endpoint as it is asked, without a slash at its end.

    Args:
        url: as it stands in the study.
        whose: named in errors.

    Raises:
        StudyError: it is no address, or holds a secret.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        raise _no_address(url, whose) from None
    if parts.username or parts.password or parts.query:
        raise StudyError(  # the address is not shown: it may hold a key
            f"{whose}: the endpoint holds a user, a password or a query",
            "write the address alone; the key comes from the variable that api_key_env names",
        )
    if not good:
        raise _no_address(url, whose)
    return url.rstrip("/")


def _no_address(url: str, whose: str) -> StudyError:
    return StudyError(f"{whose}: the endpoint is no address, got {url!r}", "write https://…/v1")


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked; `top_p` is sent where it is given, `seed` as long as the endpoint takes one."""

    model: str
    messages: tuple[tuple[str, str], ...]  # role, text
    max_tokens: int
    temperature: float
    seed: int
    top_p: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint said; the key is out of every text. Tokens are None where it does not count them."""

    text: str
    refusal: str
    finish: str
    served_by: str  # the model that the endpoint says it used; the one that was asked for if it says nothing
    fingerprint: str
    n_prompt_tokens: int | None
    n_tokens: int | None
    seed: int | None  # as it was sent
    attempts: int = 1


class Client:
    """One run over an endpoint: its connections, its key, and how it has been doing."""

    def __init__(self, at: Address):
        self.at = at
        self.sends_seed = True
        self._key = at.key()
        self._stopped = threading.Event()
        self._faults = 0
        self._last_reason = ""
        self._limit_name = "max_tokens"
        self._client: Any = None

    def __enter__(self) -> Self:
        from openai import OpenAI  # a second to import, and most studies ask nobody

        # No retries of its own: they would not count against our limits.
        self._client = OpenAI(
            api_key=self._key or "none",
            base_url=self.at.url,
            timeout=self.at.limits.timeout_s,
            max_retries=0,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._client.close()

    def each(self, ask: Callable[[T], R], questions: Iterable[T]) -> Generator[R]:
        """What `ask` gives for each question, in their order, several asked at once."""
        with ThreadPoolExecutor(self.at.at_once) as pool:
            waiting: deque[Future[R]] = deque()
            try:
                for question in questions:
                    waiting.append(pool.submit(ask, question))
                    if len(waiting) >= _WAITING * self.at.at_once:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                self._stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)

    def ask(self, call: Call) -> Answer:
        """One answer, asked for as often as the limits allow.

        Raises:
            Fault: there was none; the reason says how often it was tried.
            EngineError: the endpoint failed many times in a row.
        """
        if self._faults >= FAULTS_IN_A_ROW:
            often = f"failed {FAULTS_IN_A_ROW} times in a row"
            raise EngineError(
                f"the endpoint at {self.at.host} {often}: {self._last_reason}",
                "what it answered before is kept; mend it, and run the same command again",
            )
        try:
            answer = self._tried(call)
        except Fault as fault:
            self._faults = 0 if fault.filtered else self._faults + 1
            self._last_reason = fault.reason
            raise
        self._faults = 0
        return answer

    def clean(self, text: str) -> str:
        """The text without the key (a server may repeat it), as something that can be stored."""
        if len(self._key) >= _SECRET_LENGTH:
            text = text.replace(self._key, "[key]")
        return text.encode("utf-8", errors="replace").decode("utf-8")

    def _tried(self, call: Call) -> Answer:
        limits = self.at.limits
        wait_s, left_s = limits.first_wait_s, limits.total_wait_s
        for attempt in range(1, limits.tries + 1):
            try:
                return self._once(call, attempt)
            except Fault as fault:
                pause = wait_s if fault.wait_s is None else fault.wait_s
                if fault.again and pause > left_s:
                    fault.reason += f"; {pause:g} s to wait before the next try, {left_s:g} s are left"
                if not fault.again or pause > left_s or attempt == limits.tries or self._stopped.wait(pause):
                    fault.reason = self.clean(f"{fault.reason} (tries: {attempt})")
                    fault.attempts = attempt
                    raise
                wait_s, left_s = wait_s * 2, left_s - pause
        raise AssertionError("tries is at least 1")

    def _once(self, call: Call, attempt: int) -> Answer:
        """One request, its body read by `_read`; every fault of the outside is a `Fault`."""
        import openai

        limit_name, sends_seed = self._limit_name, self.sends_seed
        named = {limit_name: call.max_tokens}
        named |= {"seed": call.seed} if sends_seed else {}
        try:
            answer = self._client.chat.completions.with_raw_response.create(
                model=call.model,
                messages=[{"role": role, "content": text} for role, text in call.messages],
                temperature=call.temperature,
                **({} if call.top_p is None else {"top_p": call.top_p}),
                **named,
            )
            body: str = answer.text
        except openai.APITimeoutError as error:
            raise Fault("the endpoint timed out", again=True) from error
        except openai.APIConnectionError as error:
            raise Fault(f"no connection to the endpoint: {error.__cause__ or error}", again=True) from error
        except openai.APIStatusError as error:
            fault = _status_fault(error.status_code, error.response.headers, error.response.text)
            if error.status_code == 400 and "max_completion_tokens" in error.response.text:
                # OpenAI's newer models know the same limit by another name, and say so.
                fault.again, fault.wait_s = limit_name == "max_tokens", 0.0
                self._limit_name = "max_completion_tokens"
            elif error.status_code in (400, 422) and sends_seed and _NAMES_SEED.search(error.response.text):
                fault.again, fault.wait_s = True, 0.0
                self.sends_seed = False
            fault.filtered = error.status_code == 400 and bool(_FILTERED.search(error.response.text))
            raise fault from error
        except (openai.OpenAIError, ValueError, UnicodeError) as error:
            raise Fault(f"the endpoint cannot be asked: {type(error).__name__}: {error}") from error
        return self._read(body, call, call.seed if sends_seed else None, attempt)

    def _read(self, body: str, call: Call, seed: int | None, attempt: int) -> Answer:
        """The answer in the body of a 200."""
        content = _object(body)
        choices = content.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(message, dict):
            raise Fault(f"the endpoint's reply has no choices: {body[:SHOWN]}", code=200)
        counted = content.get("usage")
        return Answer(
            text=self._text(message, "content"),
            refusal=self._text(message, "refusal"),
            finish=self._text(choice, "finish_reason"),
            served_by=self._text(content, "model") or call.model,
            fingerprint=self._text(content, "system_fingerprint"),
            n_prompt_tokens=_count(counted, "prompt_tokens"),
            n_tokens=_count(counted, "completion_tokens"),
            seed=seed,
            attempts=attempt,
        )

    def _text(self, found: dict[str, Any], name: str) -> str:
        value = found.get(name)
        return self.clean(value) if isinstance(value, str) else ""


def _count(counted: object, name: str) -> int | None:
    value = counted.get(name) if isinstance(counted, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _object(body: str) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        kind = "an HTML page" if body.lstrip()[:1] == "<" else "no whole JSON"
        raise Fault(f"the endpoint answered 200 with {kind}: {body[:SHOWN]}", code=200) from None
    if not isinstance(content, dict):
        said = f"{type(content).__name__}: {body[:SHOWN]}"
        raise Fault(f"the endpoint answered 200 with {said}", code=200)
    return content


def _status_fault(code: int, headers: Any, text: str) -> Fault:
    again = code in (408, 409, 429) or code >= 500
    said = " ".join(text.split())[:SHOWN]
    return Fault(
        f"the endpoint answered {code}: {said or 'nothing'}",
        again=again,
        wait_s=_retry_after(headers.get("retry-after")) if again else None,
        code=code,
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
