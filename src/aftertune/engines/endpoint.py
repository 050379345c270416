"""An OpenAI-compatible endpoint: questions to it, several at once, retries bounded, its key never shown.

Both the engine that draws from an endpoint and the judges that ask one stand on this.
"""

import logging
import os
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from aftertune.engines.calls import Call, Form, refusal
from aftertune.engines.faults import Fault, fault_of
from aftertune.engines.replies import Answer, read_reply
from aftertune.errors import EngineError, StudyError

_LOG = logging.getLogger(__name__)

FAULTS_IN_A_ROW = 32  # an endpoint that is down stops the run: what was not asked can be asked later
_WAITING = 4  # questions in the queue for each that is asked at once, so that a slow reply holds up few
_OPENAI_KEY = "OPENAI_API_KEY"
_LOCAL = ("localhost", "127.0.0.1", "::1")
_SECRET_LENGTH = 8  # a shorter one, as "none" or "EMPTY" for a server of one's own, is no secret but a word
_STOPS = (401, 402, 403, 404)  # no other prompt would be answered: key, credit or model is wrong

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Limits:
    """How long an endpoint is waited for."""

    timeout_s: float = 60.0  # of each connect, read and write
    tries: int = 5
    first_wait_s: float = 1.0  # doubled at every try, unless the server names a time
    total_wait_s: float = 120.0  # of all waits between the tries of one question


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


class Client:
    """One run over an endpoint: its connections, its key, and how it has been doing."""

    def __init__(self, at: Address, *, of: str = "decoding", forms: Mapping[str, Form] | None = None):
        """To make one calls nobody.

        Args:
            at: the endpoint.
            of: what the parameters stand in, for errors: decoding, or judge.
            forms: by model, the form of request that it was found to take.

        Raises:
            StudyError: there is no key.
        """
        self.at = at
        self.forms = dict(forms or {})
        self._of = of
        self._key = at.key()
        self._stopped = threading.Event()
        self._faults = 0
        self._last_reason = ""
        self._accepted: set[Call] = set()
        self._refused: dict[Call, EngineError] = {}
        self._settling: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
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
            EngineError: the endpoint failed many times in a row, or answers no request of this kind.
        """
        if self._faults >= FAULTS_IN_A_ROW:
            often = f"failed {FAULTS_IN_A_ROW} times in a row"
            raise EngineError(
                f"the endpoint at {self.at.host} {often}: {self._last_reason}",
                "what it answered before is kept; mend it, and run the same command again",
            )
        try:
            answer = self._asked(call)
        except Fault as fault:
            self._faults = 0 if fault.filtered else self._faults + 1
            self._last_reason = fault.reason
            raise
        self._faults = 0
        self._accepted.add(call.kind)
        return answer

    def form(self, model: str) -> Form:
        """How requests to a model are written."""
        return self.forms.get(model, Form())

    def accept(self, call: Call) -> None:
        """Take it as known that requests of this kind are answered."""
        self._accepted.add(call.kind)

    def settle(self, call: Call) -> None:
        """See with a neutral question that requests of this kind are answered, in whatever form.

        A kind that was asked before is not asked again.

        Raises:
            EngineError: every request of this kind is refused, and no other form says the same.
            Fault: it is not known, for another reason.
        """
        kind = call.kind
        with self._settling[call.model]:
            if kind in self._refused:
                raise self._refused[kind]
            while kind not in self._accepted:
                try:
                    answer = self._tried(kind)
                except Fault as fault:
                    self._learn(kind, fault)
                else:
                    self._accepted.add(kind)
                    self._warn_of_limit(kind, answer)

    def _learn(self, kind: Call, fault: Fault) -> None:
        """Turn to a form that the model may take."""
        if not fault.refused:
            raise fault
        form = None if fault.code in _STOPS else self.form(kind.model).after(fault, kind)
        if form is None:
            self._refused[kind] = self.refusal(fault, kind)
            raise self._refused[kind]
        self.forms[kind.model] = form
        _LOG.warning(
            "%s does not take the plain request for %s (%s): it is asked with %s%s",
            *(self.at.host, kind.model, fault.reason, form.limit),
            f" and without {', '.join(form.left_out)}" if form.left_out else "",
        )

    def _warn_of_limit(self, kind: Call, answer: Answer) -> None:
        if answer.n_tokens is not None and answer.n_tokens > kind.max_tokens + 1:  # some count the end token
            _LOG.warning(
                "%s does not keep to %s %d for %s: it counted %d tokens of an answer",
                *(self.at.host, self.form(kind.model).limit, kind.max_tokens, kind.model, answer.n_tokens),
            )

    def refusal(self, fault: Fault, call: Call) -> EngineError:
        """What stops the work, with what to do."""
        env, has_key = self.at.api_key_env, bool(self._key)
        return refusal(fault, call, host=self.at.host, key_env=env, has_key=has_key, of=self._of)

    def clean(self, text: str) -> str:
        """The text without the key (a server may repeat it), as something that can be stored."""
        if len(self._key) >= _SECRET_LENGTH:
            text = text.replace(self._key, "[key]")
        return text.encode("utf-8", errors="replace").decode("utf-8")

    def _asked(self, call: Call) -> Answer:
        """An answer; where the request is refused, it is found out whether its kind is or its prompt."""
        form = self.form(call.model)
        try:
            return self._tried(call)
        except Fault as fault:
            if fault.code in _STOPS and not fault.filtered:
                raise self.refusal(fault, call) from None
            if not fault.refused:
                raise
            self.settle(call)
            if self.form(call.model) == form:
                raise  # others of its kind are answered
        return self._tried(call)

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
        """One request; every fault of the outside is a `Fault`."""
        import openai

        sent = self.form(call.model).parameters(call)
        try:
            answer = self._client.chat.completions.with_raw_response.create(
                model=call.model,
                messages=[{"role": role, "content": text} for role, text in call.messages],
                **sent,
            )
            body: str = answer.text
        except openai.APITimeoutError as error:
            raise Fault("the endpoint timed out", again=True) from error
        except openai.APIConnectionError as error:
            raise Fault(f"no connection to the endpoint: {error.__cause__ or error}", again=True) from error
        except openai.APIStatusError as error:
            response = error.response
            raise fault_of(response.text, code=error.status_code, headers=response.headers) from error
        except (openai.OpenAIError, ValueError, UnicodeError) as error:
            raise Fault(f"the endpoint cannot be asked: {type(error).__name__}: {error}") from error
        return read_reply(body, model=call.model, seed=sent.get("seed"), attempt=attempt, clean=self.clean)
