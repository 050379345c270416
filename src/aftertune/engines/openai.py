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
from aftertune.engines.endpoint import Address, Answer, Call, Client, Fault, Limits, address
from aftertune.engines.usage import Usage
from aftertune.errors import EngineError
from aftertune.records import Finish, ResponseStatus, Served
from aftertune.seeds import derive
from aftertune.store import canonical_json
from aftertune.study import OpenAISpec

log = logging.getLogger(__name__)

UNVERIFIED = "unverified: the endpoint's word for it; the weights were not seen"
_FINISHES = {"stop": Finish.STOP, "length": Finish.LENGTH}
_PROBE = (("user", "Write one sentence about anything you like."),)
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
    """Draws from an endpoint; to make one calls nobody."""

    def __init__(self, spec: OpenAISpec, *, limits: Limits | None = None):
        self.at = address_of(spec, limits)

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
        with Client(self.at) as client:
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

    def probe_seed(self, model: str) -> dict[str, Any]:
        """Whether a seed decides the text at temperature 1: asked twice with one seed, then with another.

        The three questions are asked one at a time: a server may keep to a seed then and not in a crowd.
        """
        with Client(self.at) as client:
            try:
                texts = [
                    client.ask(Call(model, _PROBE, _PROBE_TOKENS, 1.0, seed=seed, top_p=1.0)).text
                    for seed in (1, 1, 2)
                ]
            except Fault as fault:
                return {"sent": client.sends_seed, "kept": None, "finding": f"not known: {fault.reason}"}
            kept, finding = _seed_finding(texts, sent=client.sends_seed)
            if not kept:
                log.warning("the endpoint at %s and the seed: %s", self.at.host, finding)
            return {"sent": client.sends_seed, "kept": kept, "finding": finding}

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


def _drawn(client: Client, request: Request) -> tuple[Completion, bool]:
    """What came of a request, and whether nobody answered at all."""
    name = request.checkpoint.served
    assert name is not None  # the checkpoints of a study with this engine are served
    decoding = request.decoding
    call = Call(
        name,
        tuple((message["role"], message["content"]) for message in json.loads(request.prompt.text)),
        decoding.max_tokens,
        decoding.temperature,
        seed=derive(request.root_seed, *request.stream) >> (63 - _SEED_BITS),
        top_p=decoding.top_p,
    )
    try:
        return _completion(request.key, name, client.ask(call)), False
    except Fault as fault:
        if fault.code in (401, 403, 404):
            raise _refused(client.at, name, fault) from None
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
    text = answer.text or answer.refusal  # a refusal in a field of its own is the response all the same
    finish = _FINISHES.get(answer.finish)
    status, reason = ResponseStatus.OK, ""
    if finish is None:
        status, reason = ResponseStatus.FAILED, _unfinished(answer.finish)
    elif not text.strip():
        counted = "an unknown number of" if answer.n_tokens is None else answer.n_tokens
        status, reason = ResponseStatus.EMPTY, f"no text in {counted} tokens"
    return Completion(key, text, answer.n_tokens, finish, status, reason, served)


def _unfinished(finish: str) -> str:
    if finish == "content_filter":
        return "the endpoint's content filter withheld the response"
    return f"the endpoint names no end that is known, got finish_reason {finish!r}"


def _refused(at: Address, model: str, fault: Fault) -> EngineError:
    """What no further request would change."""
    kept = "what it answered before is kept"
    if fault.code == 404:
        return EngineError(
            f"{at.host} does not serve {model!r}: {fault.reason}",
            f"write a name that it serves, and run again; {kept}",
        )
    if not at.key():
        return EngineError(
            f"{at.host} asks for a key, and none was sent: {fault.reason}",
            f"write api_key_env: the name of the environment variable that holds it; {kept}",
        )
    return EngineError(
        f"{at.host} refuses the key in {at.api_key_env} for {model!r}: {fault.reason}",
        f"export {at.api_key_env}=… with one that may use the model, and run again; {kept}",
    )
