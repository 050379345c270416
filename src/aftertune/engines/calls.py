"""How a question is put to a served model: the plain form, and what a model that refuses it takes instead."""

import re
from dataclasses import dataclass, replace
from typing import Any, Self

from aftertune.engines.faults import Fault
from aftertune.errors import EngineError

NEUTRAL = "Write one sentence about anything you like."
_NEUTRAL_SYSTEM = "Answer briefly."
_OLD_LIMIT, _NEW_LIMIT = "max_tokens", "max_completion_tokens"
# The protocol's defaults: such a value may be left out where it is refused.
# https://platform.openai.com/docs/api-reference/chat/create
_DEFAULTS = {"top_p": 1.0, "temperature": 1.0}
_UNKNOWN = re.compile(r"unsupported|not supported|unrecogni[sz]ed|unknown|unexpected|extra|permitted", re.I)
_ROLE = re.compile(r"\b(system|developer)\b|\brole", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked; `top_p` is sent where it is given, `seed` as long as the endpoint takes one."""

    model: str
    messages: tuple[tuple[str, str], ...]  # role, text
    max_tokens: int
    temperature: float
    seed: int
    top_p: float | None = None

    @property
    def kind(self) -> Self:
        """A neutral question with the same parameters and roles: what is refused of it is refused of all."""
        texts = {"system": _NEUTRAL_SYSTEM}
        messages = tuple((role, texts.get(role, NEUTRAL)) for role, _ in self.messages)
        return replace(self, messages=messages, seed=1)

    def settings(self) -> dict[str, Any]:
        """What its kind differs in from others, for a record and for a reader."""
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "roles": [role for role, _ in self.messages],
        }


@dataclass(frozen=True, slots=True)
class Form:
    """How requests to one served model are written, as far as it does not take the plain form."""

    limit: str = _OLD_LIMIT  # its name for max_tokens
    left_out: tuple[str, ...] = ()  # parameters it refuses: the seed, and the protocol's default of others

    def parameters(self, call: Call) -> dict[str, Any]:
        """What is sent beside the model and the messages."""
        given = {"temperature": call.temperature, "top_p": call.top_p, "seed": call.seed}
        sent = {name: v for name, v in given.items() if v is not None and not self._leaves_out(name, v)}
        return {**sent, self.limit: call.max_tokens}

    def _leaves_out(self, name: str, value: float) -> bool:
        return name in self.left_out and value == _DEFAULTS.get(name, value)

    def in_key(self) -> dict[str, Any]:
        """What of it belongs to a response's key: not the seed, which the row of each reply has."""
        left_out = [name for name in self.left_out if name != "seed"]
        found: dict[str, Any] = {} if self.limit == _OLD_LIMIT else {"limit": self.limit}
        return found | ({"left_out": left_out} if left_out else {})

    def after(self, fault: Fault, call: Call) -> "Form | None":
        """The form that says the same without what the fault refuses; None where there is none."""
        named = [name for name in (_NEW_LIMIT, *_DEFAULTS, "seed") if _names(fault, name)]
        if self.limit == _OLD_LIMIT and (
            _NEW_LIMIT in fault.reason or (_names(fault, _OLD_LIMIT) and _UNKNOWN.search(fault.reason))
        ):
            return replace(self, limit=_NEW_LIMIT)
        sent = self.parameters(call)
        for name in ("seed", *_DEFAULTS):
            if name in named and name in sent and sent[name] == _DEFAULTS.get(name, sent[name]):
                return replace(self, left_out=tuple(sorted({*self.left_out, name})))
        return None


def _names(fault: Fault, parameter: str) -> bool:
    return re.search(rf"(?<![\w-]){parameter}(?![\w-])", fault.named) is not None


def refusal(fault: Fault, call: Call, *, host: str, key_env: str, has_key: bool, of: str) -> EngineError:
    """What no other prompt would change, with what to do.

    Args:
        fault: the server's words.
        call: what it refused.
        host: who.
        key_env: the variable with the key.
        has_key: whether one was sent.
        of: what the parameters stand in: decoding, or judge.
    """
    kept = "what it answered before is kept"
    if fault.code == 404:
        return EngineError(
            f"{host} does not serve {call.model!r}: {fault.reason}",
            f"write a name that it serves, and run again; {kept}",
        )
    if fault.code in (401, 403) and not has_key:
        return EngineError(
            f"{host} asks for a key, and none was sent: {fault.reason}",
            f"write api_key_env: the name of the environment variable that holds it; {kept}",
        )
    if fault.code in (401, 403):
        return EngineError(
            f"{host} refuses the key in {key_env} for {call.model!r}: {fault.reason}",
            f"export {key_env}=… with one that may use the model, and run again; {kept}",
        )
    if fault.code == 402:
        return EngineError(
            f"{host} has no credit left for the key in {key_env}: {fault.reason}",
            f"add credit there, and run the same command again; {kept}",
        )
    return EngineError(
        f"{host} refuses every request of this {of} to {call.model!r} ({_written(call)}): {fault.reason}",
        f"{_remedy(fault, call, of)}; {kept}",
    )


def _written(call: Call) -> str:
    parts = [f"{name} {value:g}" for name, value in call.settings().items() if isinstance(value, float | int)]
    return ", ".join([*parts, *(["a system message"] if _has_system(call) else [])])


def _has_system(call: Call) -> bool:
    return any(role == "system" for role, _ in call.messages)


def _remedy(fault: Fault, call: Call, of: str) -> str:
    for name in ("temperature", "top_p", _OLD_LIMIT, _NEW_LIMIT):
        if _names(fault, name):
            name = _OLD_LIMIT if name == _NEW_LIMIT else name
            return f"write a {name} that it takes in the {of}, or ask a model that takes this one"
    if _has_system(call) and _ROLE.search(fault.reason):
        where = "leave system_prompt out of the decoding" if of == "decoding" else "ask another judging model"
        return f"{where}, or serve the model with a chat template that has a system message"
    return f"change what it names in the {of}, or write the endpoint or model that was meant"
