"""Responses of models that an OpenAI-compatible endpoint serves: hosted fine-tunes, vLLM, llama.cpp.

The weights are out of sight: a checkpoint is known by the endpoint's address and by its name there. What the
endpoint says of itself (the model that answered, its fingerprint, the tokens) is kept beside each response.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from typing import Any

import polars as pl

from aftertune.engines.base import Completion, Prompt, Request
from aftertune.engines.calls import NEUTRAL, Call, Form
from aftertune.engines.endpoint import Address, Client, Limits, address
from aftertune.engines.faults import Fault
from aftertune.engines.replies import Answer
from aftertune.engines.usage import Usage
from aftertune.errors import EngineError
from aftertune.records import Finish, ResponseStatus, Served
from aftertune.seeds import derive
from aftertune.store import canonical_json
from aftertune.study import OpenAISpec

log = logging.getLogger(__name__)

UNVERIFIED = "unverified: the endpoint's word for it; the weights were not seen"
_PROBE = (("user", NEUTRAL),)
_PROBE_TOKENS = 16
_SEED_BITS = 31  # the most that every known server takes for a seed


def address_of(spec: OpenAISpec, limits: Limits | None = None) -> Address:
    """Where the engine asks.

    Raises:
        StudyError: the endpoint is no address, or holds a secret.
    """
    return Address(
        address(spec.endpoint, whose="engine"),
        spec.api_key_env,
        spec.usd_per_million_tokens,
        limits or Limits(timeout_s=spec.timeout_s),
        spec.at_once,
    )


class OpenAIEngine:
    """Generates from an endpoint; to make one calls nobody.

    `accepted` is what was found of the requests that each served model takes, as the manifest keeps it.
    """

    def __init__(self, spec: OpenAISpec, *, limits: Limits | None = None):
        self.at = address_of(spec, limits)
        self.accepted: dict[str, dict[str, Any]] = {}

    def identity_for(self, model: str) -> dict[str, Any]:
        """The identity, and the form of the requests that this model takes where it is not the plain one."""
        found = self.accepted.get(model)
        form = _form(found).in_key() if found and found["in_key"] else {}
        return self.identity | ({"request": form} if form else {})

    @property
    def identity(self) -> dict[str, Any]:
        """The endpoint; its software and its weights are its own affair."""
        return {"engine": "openai", "endpoint": self.at.url, "numerics": "fast"}

    @property
    def reproducibility(self) -> dict[str, Any]:
        """Nothing is promised of the responses' bytes; what was found of the seed stands in the manifest."""
        promise = "none: weights, template and software are the endpoint's, and may change under one name"
        return {"promise": promise, "weights": UNVERIFIED}

    def render(self, prompt: str, system_prompt: str | None) -> Prompt:
        """The messages as JSON; the endpoint puts them into its own template, which is not seen."""
        system = [] if system_prompt is None else [{"role": "system", "content": system_prompt}]
        text = canonical_json([*system, {"role": "user", "content": prompt}])
        return Prompt(text.decode(), (), hashlib.sha256(text).hexdigest())

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Ask for each response; one that nobody gave is `failed`, and is yielded once the endpoint answers.

        Raises:
            StudyError: there is no key.
            EngineError: the endpoint is down, refuses the key or does not serve a model. What it left
                unanswered last is not yielded: it is still missing.
        """
        unanswered: list[Completion] = []
        down = False
        with Client(self.at, forms=self._forms()) as client:
            for completion, nobody in client.each(lambda request: _drawn(client, request), requests):
                down = nobody
                if completion.served is None:
                    unanswered.append(completion)
                else:
                    yield from unanswered
                    unanswered.clear()
                    yield completion
        if down:
            raise EngineError(
                f"the endpoint at {self.at.host} left the last {len(unanswered)} requests unanswered: "
                f"{unanswered[-1].reason}",
                "what it answered before is kept; see that it runs, and run the same command again",
            )
        yield from unanswered

    def probe(self, requests: Iterable[Request], *, in_key: bool) -> None:
        """See that each served model takes each kind of request, by one neutral question; writes `accepted`.

        What is recorded there is not asked again. Where the endpoint is busy or fails, it is not known, and
        the work itself will tell.

        Args:
            requests: of all kinds.
            in_key: whether a form other than the plain one belongs to the keys of the responses; it does not
                where some were drawn before forms were recorded.

        Raises:
            StudyError: there is no key.
            EngineError: nobody answers, or a kind of request is refused, so that no response could be drawn.
        """
        calls = dict.fromkeys(_call(request).kind for request in requests)
        new = [call for call in calls if call.settings() not in self._kinds(call.model)]
        if not new:
            return  # a finished run needs no key
        with Client(self.at, forms=self._forms()) as client:
            for call, fault in client.each(lambda call: (call, _settled(client, call)), new):
                if fault is not None:
                    log.warning(
                        "it is not known whether %s takes the requests for %s: %s",
                        *(self.at.host, call.model, fault.reason),
                    )
                    continue
                form, before = client.form(call.model), self.accepted.get(call.model, {"in_key": in_key})
                self.accepted[call.model] = {
                    **{"limit": form.limit, "left_out": list(form.left_out)},
                    **{"in_key": before["in_key"], "kinds": [*self._kinds(call.model), call.settings()]},
                }

    def _kinds(self, model: str) -> list[dict[str, Any]]:
        return self.accepted.get(model, {"kinds": []})["kinds"]

    def _forms(self) -> dict[str, Form]:
        return {model: _form(found) for model, found in self.accepted.items()}

    def probe_seed(self, model: str) -> dict[str, Any]:
        """Whether a seed decides the text at temperature 1: asked twice with one seed, then with another.

        The three questions are asked one at a time: a server may keep to a seed then and not in a crowd.
        """
        with Client(self.at, forms=self._forms()) as client:
            try:
                answers = [client.ask(Call(model, _PROBE, _PROBE_TOKENS, 1.0, seed)) for seed in (1, 1, 2)]
            except Fault as fault:
                return {"sent": None, "kept": None, "finding": f"not known: {fault.reason}"}
            sent = all(answer.seed is not None for answer in answers)
            kept, finding = _seed_finding([answer.response for answer in answers], sent=sent)
            if not kept:
                log.warning("the endpoint at %s and the seed: %s", self.at.host, finding)
            return {"sent": sent, "kept": kept, "finding": finding}

    def summary(self, served: pl.DataFrame) -> dict[str, Any]:
        """For the manifest, what an endpoint said of the responses that it gave (rows of `Served`).

        A model that is answered for by another name or fingerprint than before is warned of, and so is a name
        that answers for several.
        """
        models: dict[str, Any] = {}
        total = Usage()
        for (model,), rows in served.group_by("model", maintain_order=True):
            said = {
                "served_by": _values(rows["served_by"]),
                "fingerprints": _values(rows["fingerprint"]),
            }
            usage = sum((self._usage(row) for row in rows.iter_rows(named=True)), Usage())
            total += usage
            models[str(model)] = {
                **said,
                "n_replies": rows.height,
                "n_without_seed": rows["seed"].null_count(),
                **_counts(usage),
            }
            for what, values in said.items():
                if len(values) > 1:
                    log.warning(
                        "what answers as %s changed on the way (%s: %s): two models may have answered",
                        *(model, what, ", ".join(values)),
                    )
        _warn_of_one_for_many(models)
        return {"weights": UNVERIFIED, "template": "the endpoint's", "models": models, **_counts(total)}

    def _usage(self, row: dict[str, Any]) -> Usage:
        usage = Usage.of(row["n_prompt_tokens"], row["n_tokens"], self.at.usd_per_million_tokens)
        return usage.asked(row["attempts"], failed=False)


def _warn_of_one_for_many(models: dict[str, Any]) -> None:
    """A server that has one model may answer for any name with it."""
    asked: dict[str, list[str]] = {}
    for model, said in models.items():
        for name in said["served_by"]:
            asked.setdefault(name, []).append(model)
    for name, names in asked.items():
        if len(names) > 1:
            log.warning("%s are all answered by %s: are they different models?", ", ".join(names), name)


def _counts(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.tokens_in,
        "completion_tokens": usage.tokens_out,
        "attempts": usage.attempts,
        "usd": None if usage.n_asked and usage.n_unpriced == usage.n_asked else round(usage.usd, 6),
        "n_unpriced": usage.n_unpriced,
    }


def _values(column: pl.Series) -> list[str]:
    return sorted(column.filter(column != "").unique())


def _seed_finding(texts: list[str], *, sent: bool) -> tuple[bool | None, str]:
    first, again, other = texts
    if not sent:
        return False, "refused by name: it is asked without one, and a response cannot be drawn again"
    if first != again:
        return False, "not kept to: one seed gave two texts"
    if first == other:
        return None, (
            "not told: two seeds gave one text at temperature 1; "
            "either it does not sample, or it ignores the seed"
        )
    return True, "kept to: one seed gave one text, another seed another"


def _call(request: Request) -> Call:
    name = request.checkpoint.served
    assert name is not None  # the checkpoints of a study with this engine are served
    return Call(
        name,
        tuple((message["role"], message["content"]) for message in json.loads(request.prompt.text)),
        request.decoding.max_tokens,
        request.decoding.temperature,
        seed=derive(request.root_seed, *request.stream) >> (63 - _SEED_BITS),
        top_p=request.decoding.top_p,
    )


def _form(found: dict[str, Any]) -> Form:
    return Form(found["limit"], tuple(found["left_out"]))


def _settled(client: Client, call: Call) -> Fault | None:
    """Why it is not known whether a kind of request is answered; EngineError where it is known not to be."""
    try:
        client.settle(call)
    except Fault as fault:
        if fault.code is None or fault.code == 200:  # nobody is there, or what answers is no such endpoint
            raise EngineError(
                f"{client.at.host} does not answer a first question to {call.model!r}: {fault.reason}",
                "see that it runs and that the address is its own (it often ends in /v1), and run again",
            ) from None
        return fault
    return None


def _drawn(client: Client, request: Request) -> tuple[Completion, bool]:
    """What came of a request, and whether nobody answered at all."""
    call = _call(request)
    try:
        return _completion(request.key, call.model, client.ask(call)), False
    except Fault as fault:
        failed = Completion(request.key, "", None, None, ResponseStatus.FAILED, fault.reason)
        return failed, fault.code is None


def _completion(key: str, model: str, answer: Answer) -> Completion:
    served = Served(
        key=key,
        model=model,
        served_by=answer.served_by,
        fingerprint=answer.fingerprint,
        seed=answer.seed,
        n_prompt_tokens=answer.n_prompt_tokens,
        n_tokens=answer.n_tokens,
        attempts=answer.attempts,
    )
    text, n_tokens = answer.response, answer.n_tokens
    if answer.why_none:
        return Completion(key, text, n_tokens, None, ResponseStatus.FAILED, answer.why_none, served)
    finish = Finish.LENGTH if answer.end == Finish.LENGTH else None if answer.end is None else Finish.STOP
    if text.strip():
        return Completion(key, text, n_tokens, finish, ResponseStatus.OK, answer.note, served)
    counted = "an unknown number of" if n_tokens is None else n_tokens
    hint = "; max_tokens was reached" if finish is Finish.LENGTH else ""
    return Completion(
        key, text, n_tokens, finish, ResponseStatus.EMPTY, f"no text in {counted} tokens{hint}", served
    )
