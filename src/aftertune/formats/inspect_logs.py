"""Logs of Inspect: `.eval` (a zip of JSON, deflated or zstd) and `.json`, read by inspect_ai itself.

- Citation: UK AI Security Institute, Inspect AI: Framework for Large Language Model Evaluations,
  https://inspect.aisi.org.uk, 2024.
- Licence: MIT (of inspect_ai; nothing of it is copied here).
- Versions tried: see docs/decisions/15-formats.md; `make test-formats` runs the newest.

An epoch is a repeat and a scorer a judge; of a scorer that gives several values each is a judge of its own,
`scorer/key`. Inspect's own `value_to_float` turns C, I, P, N, yes, no, true and false into numbers, and what
it does not know into 0 with a line in a log: such values never reach it here. NaN is Inspect's mark of a
sample that was not scored.
"""

import hashlib
import importlib
import importlib.util
import io
import json
import math
import re
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from aftertune.errors import DataError
from aftertune.formats.archives import MAX_ENTRY_BYTES, check_zip, read_capped
from aftertune.formats.inspect_halves import write_without_halves
from aftertune.formats.logs import Log, Sample, Scored, absent, halves_note, scored
from aftertune.records import Construct, Finish, JudgmentStatus
from aftertune.sources.cell_values import MISSING

# inspect_ai's; the package is an extra, and pyright runs without it.
EvalLog: TypeAlias = Any
EvalSample: TypeAlias = Any
OURS = "aftertune"  # the key of what we add to a log's metadata
_WORDS = frozenset({"c", "i", "p", "n", "yes", "no", "true", "false"})
_LETTERS = frozenset({"C", "I", "P", "N"})
_MANIFEST = re.compile(
    rb'\s*\{\s*("eval_set_id"|"[^"]*\.(eval|json)")\s*:'
)  # begins with its first log's name
_UNUSED = {"events", "events_data", "store", "timelines"}  # most of an agent's log
_FINISH = {"stop": Finish.STOP, "max_tokens": Finish.LENGTH, "model_length": Finish.LENGTH}
# Why there is no answer, where the model stopped without a text or a call of a tool.
_STOPPED = {
    "content_filter": "stopped by the provider's content filter before any output",
    "max_tokens": "its tokens ran out before any answer",
    "model_length": "its tokens ran out before any answer",
}
# Of a model's arguments, those that choose the weights; others (device, dtype, batch size) do not.
_CHOOSES = ("path", "revision", "adapter", "lora", "checkpoint", "peft")
# Of the settings of generation, those that do not change what is drawn, and the seed: that is a repeat's.
_OPERATION = frozenset(
    {
        "max_retries", "timeout", "attempt_timeout", "stream_idle_timeout", "max_connections", "seed",
        "adaptive_connections", "cache_prompt", "cache", "batch", "fail_on_refusal", "logprobs",
        "top_logprobs", "prompt_logprobs", "num_choices", "extra_headers", "max_tool_output",
    }
)  # fmt: skip


def has_inspect() -> bool:
    """Whether inspect_ai is installed."""
    return importlib.util.find_spec("inspect_ai") is not None


def require_inspect(what: str) -> None:
    """Refuse to go on without inspect_ai.

    Raises:
        DataError: it is not installed.
    """
    if not has_inspect():
        raise DataError(
            f"{what} needs the package inspect_ai, which is not installed", "pip install 'aftertune[inspect]'"
        )


def inspect_module(name: str) -> Any:
    """A module of inspect_ai, imported only when it is used."""
    return importlib.import_module(f"inspect_ai.{name}")


def looks_like_inspect(path: Path, content: bytes) -> bool:
    """Whether a file is a log of Inspect, by its ending and its first bytes."""
    if path.suffix == ".eval":
        return True
    if path.suffix != ".json" or looks_like_manifest(path, content):
        return False
    return b'"eval"' in content[:4096] and b'"version"' in content[:4096]


def looks_like_manifest(path: Path, content: bytes) -> bool:
    """Whether a file lists logs, as `logs.json` and `eval-set.json` of an eval set do, and is none itself."""
    return path.suffix == ".json" and _MANIFEST.match(content) is not None


def read_inspect(path: Path) -> Log:
    """Read a log; samples with an error, without a score or not run at all are there, without a value.

    One that holds no samples has none here either: an attempt that failed at once is such a log.

    Raises:
        DataError: the archive is unsafe or damaged, or inspect_ai is absent or cannot read the log.
    """
    require_inspect(f"reading {path.name}")
    content = read_capped(path, MAX_ENTRY_BYTES)
    if path.suffix == ".eval":
        check_zip(content, path.name)
        _check_header(content, path.name)
    log, n_halves = _parsed(path, content)
    newest = inspect_module("log").EvalLog.model_fields["version"].default
    if log.version > newest:  # of .json inspect_ai refuses it itself
        raise DataError(
            f"{path.name} has the log version {log.version}, this inspect_ai knows {newest}",
            "upgrade inspect_ai",
        )
    known = _known(log.eval.metadata)
    return Log(
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        tool=f"inspect_ai {log.eval.packages.get('inspect_ai', 'of an unknown version')}",
        identity=log.eval.eval_id or "",
        model=str(known.get("model") or log.eval.model),
        checkpoint=str(known.get("checkpoint") or _checkpoint(log)),
        task=str(known.get("task") or log.eval.task),
        decoding=str(known.get("decoding") or _decoding(log)),
        samples=tuple(_samples(log)) if log.samples else (),
        created=str(log.eval.created),
        setup=_setup(log),
        notes=(*_notes(log), *halves_note(n_halves, "texts")),
        intent=_text(known.get("intent")),
        seed=known["seed"] if isinstance(known.get("seed"), int) else None,
        study=_text(known.get("study")),
        variation=_text(known.get("variation")),
        series=log.eval.task_id or "",
        status=log.status,
    )


def _parsed(path: Path, content: bytes) -> tuple[EvalLog, int]:
    """The log, and how many halves of surrogate pairs were escaped: inspect_ai fails or writes `?`."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        n_halves = write_without_halves(content, copy)
        try:
            return _read(copy if n_halves else path), n_halves
        except Exception as error:  # whatever another library's parser makes of a foreign file
            raise DataError(
                f"inspect_ai cannot read {path.name}: {type(error).__name__}: {str(error)[:300]}",
                "upgrade inspect_ai, the log may be of a newer one; "
                "one that was cut off: `inspect log recover`",
            ) from error


def _read(path: Path) -> EvalLog:
    read = inspect_module("log").read_eval_log
    return read(str(path.resolve()), resolve_attachments="core", exclude_fields=_UNUSED)


def _check_header(content: bytes, source: str) -> None:
    """A log that was never finished has no header, and inspect_ai's own message of that is hard to read."""
    names = set(zipfile.ZipFile(io.BytesIO(content)).namelist())
    if not names & {"header.json", "_journal/start.json"}:
        raise DataError(
            f"{source} is a zip archive and no log of Inspect: it has no header.json",
            "give a .eval file that `inspect eval` wrote",
        )


def _known(metadata: dict[str, Any] | None) -> dict[str, Any]:
    """What aftertune wrote into a log of its own."""
    found = (metadata or {}).get(OURS)
    return found if isinstance(found, dict) else {}


def _line(text: str) -> str:
    return " ".join(text.split())[:300]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _checkpoint(log: EvalLog) -> str:
    chosen = {
        name: value
        for name, value in sorted((log.eval.model_args or {}).items())
        if any(word in name.lower() for word in _CHOOSES) and isinstance(value, str | int | float)
    }
    return log.eval.model + "".join(f", {name}={value}" for name, value in chosen.items())


def _decoding(log: EvalLog) -> str:
    """The settings of generation that were written down, as a name: the same name is the same settings."""
    given: dict[str, Any] = {}
    for config in (log.plan.config, log.eval.model_generate_config):
        given |= config.model_dump(mode="json", exclude_none=True)
    parts = [f"{name}={_short(value)}" for name, value in sorted(given.items()) if name not in _OPERATION]
    return "+".join(parts) or "default"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    plain = len(text) <= 24 and text.isprintable() and not set(text) & set(" ,+=")
    return text if plain else f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _setup(log: EvalLog) -> dict[str, str]:
    """What ought to be the same in logs that are compared."""
    scorers = [scorer.model_dump(mode="json", exclude_none=True) for scorer in log.eval.scorers or []]
    found: dict[str, Any] = {
        "task version": log.eval.task_version,
        "task arguments": log.eval.task_args,
        "solver": [step.solver for step in log.plan.steps],
        "solver arguments": [step.params for step in log.plan.steps],
        "scorers": [{key: s.get(key) for key in ("name", "options")} for s in scorers],
        "dataset": log.eval.dataset.name,
    }
    return {name: json.dumps(value, sort_keys=True, default=str)[:400] for name, value in found.items()}


def _notes(log: EvalLog) -> Iterator[str]:
    if log.status != "success":
        yield f"the log's status is {log.status}: what it did not get to is missing"
    if log.invalidated:
        yield "the log is marked as invalidated"
    if log.eval.config.score_on_error:
        yield "samples that failed were scored all the same (score_on_error): their scores are not taken"
    answered = [s for s in log.samples or [] if s.error is None and not _unanswered(s)]
    stops = [choice.stop_reason for s in answered for choice in s.output.choices[:1]]
    for n, what in (
        (sum(s.limit is not None for s in answered), "were stopped by a limit after some output"),
        (stops.count("content_filter"), "were stopped by the provider's content filter, with a text"),
        (sum(not s.output.completion.strip() for s in answered), "have no text in their last output"),
    ):
        if n:
            yield f"{n} samples {what}: their scores are taken"


def _samples(log: EvalLog) -> Iterator[Sample]:
    keys = _score_keys(log)
    there: set[tuple[str, int]] = set()
    for sample in log.samples or []:
        there.add((str(sample.id), sample.epoch))
        yield _sample(sample, keys)
    why = f"the log ({log.status}) has no such sample"
    for item in log.eval.dataset.sample_ids or []:
        for epoch in range(1, (log.eval.config.epochs or 1) + 1):
            if (str(item), epoch) not in there:
                yield _not_run(str(item), epoch, keys, why)


def _score_keys(log: EvalLog) -> dict[str, list[str]]:
    """Each scorer with the keys of its values: none for a plain value."""
    keys: dict[str, list[str]] = {scorer.name: [] for scorer in log.eval.scorers or []}
    found: dict[str, list[str]] = {}
    for sample in log.samples or []:
        for name, score in (sample.scores or {}).items():
            mine = found.setdefault(name, [])
            if isinstance(score.value, dict):
                mine += [key for key in score.value if key not in mine]
            elif isinstance(score.value, list | tuple):
                mine += [key for key in map(str, range(len(score.value))) if key not in mine]
    # A scorer's name in the header may differ from that of its scores (`match` and `match1`).
    return found or keys


def _not_run(item: str, epoch: int, keys: dict[str, list[str]], why: str) -> Sample:
    scores = tuple(absent(judge, MISSING, why) for judge in _judges(keys))
    return Sample(item, epoch, "", "", None, None, why, "", None, scores)


def _judges(keys: dict[str, list[str]]) -> list[str]:
    return [f"{name}/{key}" if key else name for name, parts in keys.items() for key in parts or [""]]


def _sample(sample: EvalSample, keys: dict[str, list[str]]) -> Sample:
    prompt = _prompt(sample.input)
    choice = sample.output.choices[0] if sample.output.choices else None
    ours = _known(sample.metadata)
    error = "" if sample.error is None else sample.error.message or "no message"
    if error and not ours:
        error = f"error in the sample: {error}"
    unanswered = "" if error or ours else _unanswered(sample)
    usage = sample.output.usage
    finish = _FINISH.get(choice.stop_reason) if choice is not None and not error else None
    category = (sample.metadata or {}).get("category")
    return Sample(
        item=str(sample.id),
        repeat=sample.epoch,
        prompt=prompt,
        prompt_sha256=hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest(),
        text=None if error or unanswered or choice is None else sample.output.completion,
        finish=None if finish is None else finish.value,
        reason=_line(error or unanswered),
        category=category if isinstance(category, str) else "",
        reference=_target(sample.target),
        scores=tuple(_scores(sample, keys, error, unanswered)),
        n_tokens=usage.output_tokens if usage else None,
        identity=sample.uuid or "",
        key=_text(ours.get("response_key")) or "",
    )


def _prompt(given: Any) -> str:
    if isinstance(given, str):
        return given
    return "\n\n".join(message.text if message.role == "user" else f"[{message.role}] {message.text}"
                       for message in given)  # fmt: skip


def _target(target: Any) -> str | None:
    text = target if isinstance(target, str) else json.dumps(list(target), ensure_ascii=False)
    return text or None


def _unanswered(sample: EvalSample) -> str:
    """Why there is nothing to score; "" where the model gave something, and be it an empty text."""
    output = sample.output
    if output.error:
        return f"the provider kept the answer back: {output.error}"
    if _given(sample.messages) > _given(sample.input) or _given(choice.message for choice in output.choices):
        return ""
    if sample.limit is not None:
        return f"stopped by its {sample.limit.type} limit before any output"
    if not output.choices:
        return "" if output.completion.strip() else "the sample has no output"
    return _STOPPED.get(output.choices[0].stop_reason, "")


def _given(messages: Any) -> int:
    """How many messages of the model say or do something."""
    if isinstance(messages, str):
        return 0
    return sum(m.role == "assistant" and bool(m.text.strip() or m.tool_calls) for m in messages or ())


def _scores(sample: EvalSample, keys: dict[str, list[str]], error: str, unanswered: str) -> Iterator[Scored]:
    for name, parts in keys.items():
        score = (sample.scores or {}).get(name)
        ours = _known(score.metadata if score is not None else None)
        if ours:
            yield _own(name, score, ours)
            continue
        for key in parts or [""]:
            judge = f"{name}/{key}" if key else name
            if error:
                yield absent(judge, JudgmentStatus.FAILED, error)
            elif unanswered:
                yield absent(judge, MISSING, unanswered)
            elif sample.invalidation is not None:
                reason = getattr(sample.invalidation, "reason", None) or "no reason given"
                yield absent(judge, JudgmentStatus.SKIPPED, f"the sample was invalidated: {reason}")
            elif score is None:
                yield absent(judge, MISSING, "the sample has no score by it")
            else:
                yield _scored(judge, _part(score.value, key), getattr(score, "reason", None))


def _own(name: str, score: Any, ours: dict[str, Any]) -> Scored:
    """A score that aftertune wrote; the value is the log's, which people may have edited since."""
    found = _scored(name, score.value, None)
    status, reason = (str(ours.get(key) or "") for key in ("status", "reason"))
    if found.value is None and status not in ("", JudgmentStatus.OK.value):
        found = replace(found, status=status, reason=reason)
    construct = ours.get("construct")
    repeat = ours.get("judge_repeat")
    return replace(
        found,
        judge=_text(ours.get("judge")) or name,
        construct=construct if construct in {c.value for c in Construct} else None,
        judge_repeat=repeat if isinstance(repeat, int) else 0,
    )


def _part(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return value.get(key)
    if isinstance(value, list | tuple) and key.isdecimal() and int(key) < len(value):
        return value[int(key)]
    return value  # of one that was not scored, NaN stands for all keys


def _scored(judge: str, value: Any, reason: str | None) -> Scored:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return absent(judge, JudgmentStatus.UNPARSED, f"not scored: {reason or 'no reason given'}")
    if isinstance(value, str):
        if value in _LETTERS or value.lower() in _WORDS - {letter.lower() for letter in _LETTERS}:
            return Scored(judge, float(inspect_module("scorer").value_to_float()(value)))
        return _of_text(judge, value)
    return scored(judge, value)


def _of_text(judge: str, value: str) -> Scored:
    try:
        return scored(judge, float(value))
    except ValueError:
        return absent(judge, JudgmentStatus.UNPARSED, f"no number: {value!r:.120}")
