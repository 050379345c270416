"""Why an endpoint gave no reply: in its own words, whether to ask again, and how long to wait before."""

import html
import json
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any

SHOWN = 300  # characters of a server's own words in a reason
# What an error's code or type says where no status does, as in the body of a 200.
_STATUS_OF = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "overloaded_error": 503,
    "server_error": 500,
    "api_error": 500,
    "service_unavailable": 503,
    "insufficient_quota": 402,
    "invalid_api_key": 401,
    "authentication_error": 401,
    "model_not_found": 404,
    "not_found_error": 404,
    "invalid_request_error": 400,
}
# A prompt is refused for what it says: an error's code at OpenAI and Azure, its metadata at OpenRouter.
_FILTERED = re.compile(r'"(content_filter|content_policy_violation|flagged_input)"')
_NO_CREDIT = re.compile(r'"(insufficient_quota|billing_hard_limit_reached)"')  # OpenAI's, with a 429
_READ = 5_000  # characters of a body that are looked at for what it shows
_TAG = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.DOTALL | re.IGNORECASE)


class Fault(Exception):
    """No reply. `again`: asking again may help; `wait_s`: what the server asked for; `code`: of its answer.

    `code` is None where nobody answered; `attempts` counts the tries, where they are over. `filtered`: the
    prompt was refused for what it says, by an endpoint that is well. `named`: where the server names a
    parameter, if it does.
    """

    def __init__(
        self, reason: str, *, again: bool = False, wait_s: float | None = None, code: int | None = None
    ):
        super().__init__(reason)
        self.reason, self.again, self.wait_s, self.code = reason, again, wait_s, code
        self.attempts, self.filtered, self.named = 0, False, ""

    @property
    def refused(self) -> bool:
        """Whether the request was refused for its form or its prompt, and not for who sent it or when."""
        return self.code is not None and 400 <= self.code < 500 and not (self.again or self.filtered)


def fault_of(body: str, *, code: int, headers: Mapping[str, str]) -> Fault:
    """The fault that a server's answer is, in its own words; of an error in a 200, the code in it counts."""
    message, named = said_by(json_of(body) or body)
    how = f"{code}"
    if code == 200:
        how, code = "200 with an error", _code_of(body)
    no_credit = bool(_NO_CREDIT.search(body))
    again = (code in (408, 409, 425, 429) or code >= 500) and not no_credit
    fault = Fault(
        f"the endpoint answered {how}: {message[:SHOWN] or 'nothing'}",
        again=again,
        wait_s=_wait(headers) if again else None,
        code=402 if no_credit else code,
    )
    fault.filtered = code in (200, 400, 403, 451) and bool(_FILTERED.search(body))
    fault.named = named
    return fault


def said_by(content: object) -> tuple[str, str]:
    """The words of a server's error, and those of them that would name a parameter.

    Errors are {error: {message, param}}, {error: text}, {message, param}, {detail: text or [{loc, msg}]},
    HTML or plain text.
    """
    if isinstance(content, list) and content and isinstance(content[0], dict):
        content = content[0]  # Gemini's endpoint puts the error into a list
    if isinstance(content, str):
        return plain(content), plain(content)
    if not isinstance(content, dict):
        return plain(json.dumps(content)), ""
    found = content.get("error") or content
    if not isinstance(found, dict):
        return plain(str(found)), plain(str(found))
    said = next((found[name] for name in ("message", "msg", "detail", "details") if found.get(name)), None)
    if isinstance(said, list):
        said = "; ".join(_located(one) for one in said)
    said = plain(said if isinstance(said, str) else json.dumps(found))
    raw = string_of(found["metadata"], "raw") if isinstance(found.get("metadata"), dict) else ""
    said = f"{said}: {plain(raw)}" if raw else said  # what the provider behind OpenRouter says
    param = found.get("param")
    return said, param if isinstance(param, str) and param else said


def _located(one: object) -> str:
    """An entry of FastAPI's list of errors, without the input that it repeats."""
    if not isinstance(one, dict):
        return str(one)
    place = ".".join(str(step) for step in list_of(one.get("loc")) if step != "body")
    return f"{place}: {one.get('msg', '')}" if place else str(one.get("msg", ""))


def plain(text: str) -> str:
    """A text on one line; of an HTML page, what it shows."""
    text = text[:_READ]
    if text.lstrip()[:1] == "<":
        text = html.unescape(_TAG.sub(" ", text)).strip() or text
    return " ".join(text.split())


def _code_of(body: str) -> int:
    """The status that an error in the body of a 200 says; 200 where it says none."""
    content = json_of(body)
    content = content[0] if isinstance(content, list) and content else content
    error = content.get("error") if isinstance(content, dict) else None
    for name in ("code", "status", "type"):
        value = error.get(name) if isinstance(error, dict) else None
        if isinstance(value, str):
            value = int(value) if value.isdecimal() and len(value) == 3 else _STATUS_OF.get(value.lower())
        if isinstance(value, int) and 400 <= value < 600:
            return value
    return 200


def _wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait, from a number or a date; None where it says nothing readable."""
    value, unit = headers.get("retry-after-ms"), 1000.0  # OpenAI's and Azure's
    if value is None:
        value, unit = headers.get("retry-after"), 1.0
    if value is None:
        return None
    try:
        seconds = float(value) / unit
    except ValueError:
        return _until(value)
    return seconds if isfinite(seconds) and seconds >= 0 else None


def _until(value: str) -> float | None:
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.fromtimestamp(time.time(), UTC)).total_seconds())


def json_of(body: str) -> Any:
    """A body's content; None where it is no JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def list_of(value: object) -> list[Any]:
    """The value where it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def string_of(found: dict[str, Any], name: str) -> str:
    """What stands under the name where it is a text, else ""."""
    value = found.get(name)
    return value if isinstance(value, str) else ""
