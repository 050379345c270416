"""What a log of another tool holds, in our words: what all readers give and the import takes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from aftertune.records import JudgmentStatus
from aftertune.sources.table import without_halves

_R = TypeVar("_R", bound="Log | Sample | Scored")
MOST = 2**63 - 1  # the largest seed or repeat that a table holds


@dataclass(frozen=True, slots=True)
class Scored:
    """One score of one sample: a number as the log has it, or None with a status and a reason.

    `construct` is None where the log does not say what a score of 1 means.
    """

    judge: str
    value: float | None
    status: str = JudgmentStatus.OK.value
    reason: str = ""
    construct: str | None = None
    judge_repeat: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """One item answered once. `text` is None where there is no response; `reason` then says why.

    `item` is what the tool calls the item; `prompt_sha256` is of what the model was asked, "" of a sample
    that was not run. Repeats count from 1 within the log. `identity` is the tool's own name of this very
    sample, and `key` our own of a response of ours; "" where there is none.
    """

    item: str
    repeat: int
    prompt: str
    prompt_sha256: str
    text: str | None
    finish: str | None
    reason: str
    category: str
    reference: str | None
    scores: tuple[Scored, ...]
    n_tokens: int | None = None
    identity: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class Log:
    """One model's answers to one task, by one tool; `part` says which part of the file, where it has several.

    `model` is None where the log does not name it; `checkpoint` tells two checkpoints of one name apart.
    `setup` holds what ought to be the same for a fair comparison, name -> value. `intent`, `seed`, `study`
    and `variation` are known of logs that aftertune wrote. Logs of one `series` are attempts at one
    evaluation, of which the tool tried again what failed; `status` is its own word, "success" of a finished
    one.
    """

    path: Path
    sha256: str
    tool: str  # with its version
    identity: str
    model: str | None
    checkpoint: str
    task: str
    decoding: str
    samples: tuple[Sample, ...]
    created: str = ""
    setup: Mapping[str, str] = field(default_factory=dict[str, str])
    notes: tuple[str, ...] = ()
    part: str = ""
    intent: str | None = None
    seed: int | None = None
    study: str | None = None
    variation: str | None = None
    series: str = ""
    status: str = "success"

    @property
    def name(self) -> str:
        """The file's name, for messages."""
        return self.path.name


def without_halves_in(log: Log) -> Log:
    """The log with each half of a surrogate pair escaped, and a note of how many samples have one.

    JSON can hold half of a pair, in a text that was cut inside an emoji; no table or page can.
    """
    samples = tuple(
        _whole_texts(replace(sample, scores=tuple(map(_whole_texts, sample.scores))))
        for sample in log.samples
    )
    n = sum(one != other for one, other in zip(samples, log.samples, strict=True))
    setup = {without_halves(name): without_halves(value) for name, value in log.setup.items()}
    notes = (*map(without_halves, log.notes), *halves_note(n, "samples"))
    return _whole_texts(replace(log, samples=samples, setup=setup, notes=notes))


def halves_note(n: int, what: str) -> tuple[str, ...]:
    """What is said of `n` samples or rows in which halves of surrogate pairs were escaped."""
    if not n:
        return ()
    return (f"{n} {what} hold half of a surrogate pair (a text cut inside a character): kept, as \\udXXX",)


def _whole_texts(record: _R) -> _R:
    given = {f.name: getattr(record, f.name) for f in fields(record)}
    changed = {
        name: without_halves(value)
        for name, value in given.items()
        if isinstance(value, str) and without_halves(value) != value
    }
    return replace(record, **changed) if changed else record


def absent(judge: str, status: str, reason: str, construct: str | None = None) -> Scored:
    """A judgment without a value."""
    return Scored(judge, None, status, " ".join(reason.split())[:300], construct)


def number(value: Any) -> float | None:
    """A finite number or a truth value as a float; None for anything else."""
    if isinstance(value, bool | int | float):
        try:
            found = float(value)
        except OverflowError:  # an integer beyond any float
            return None
        return found if math.isfinite(found) else None
    return None


def scored(judge: str, value: Any) -> Scored:
    """A number of a log as a score, or one without a value that says what stood there."""
    found = number(value)
    if found is None:
        return absent(judge, JudgmentStatus.UNPARSED, f"no number: {value!r:.120}")
    return Scored(judge, found)
