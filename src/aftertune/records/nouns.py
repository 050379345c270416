"""Items, checkpoints, responses, judgments and the columns of the observations table."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

BASELINE = "baseline"  # the name of no variation
Progress = Callable[[str, int, int], None]  # told (stage, done, total) as the work goes on


class Intent(StrEnum):
    """What the prompts of a task ask for."""

    HARMFUL = "harmful"
    BENIGN = "benign"


class Construct(StrEnum):
    """What a judge says of a response."""

    COMPLIED = "complied"
    HARMFUL = "harmful"
    REFUSED = "refused"
    TOXIC = "toxic"
    INCOHERENT = "incoherent"
    CORRECT = "correct"


class Direction(StrEnum):
    """What a higher value of a metric means."""

    WORSE = "worse"
    SAFER = "safer"
    BETTER = "better"


class Finish(StrEnum):
    """Why a response ended: its end token, or max_tokens."""

    STOP = "stop"
    LENGTH = "length"


class ResponseStatus(StrEnum):
    """Whether there is a text to judge."""

    OK = "ok"
    EMPTY = "empty"
    FAILED = "failed"


class JudgmentStatus(StrEnum):
    """Whether there is a value; every other status than OK comes with a reason and no value."""

    OK = "ok"
    UNPARSED = "unparsed"
    FAILED = "failed"
    TRUNCATED = "truncated"
    SKIPPED = "skipped"


class CheckpointStatus(StrEnum):
    """What became of a training."""

    OK = "ok"
    DIVERGED = "diverged"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Item:
    """One prompt of a task; `id` is unique in its task and never used as a path.

    `reference` is the answer that a capability task expects, None where there is none.
    """

    id: str
    prompt: str
    category: str
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A pinned list of items with one intent; `sha256` is the hash of ids, prompts, categories and intent."""

    name: str
    intent: Intent
    items: tuple[Item, ...]
    source: str
    licence: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The base (`seed` None), or what one recipe with one seed became.

    `path` is None where the status is not OK; `sha256` is the content's hash (of the weights and what else
    decides the output), and for the base that of its directory. `reason` is empty where the status is OK.
    One that is `served` has no path: an endpoint knows it by that name, and `sha256` is of address and name.
    """

    model: str
    seed: int | None
    kind: str  # base | adapter | full | served
    status: CheckpointStatus
    reason: str
    path: str | None
    sha256: str | None
    served: str | None = None

    @property
    def label(self) -> str:
        """`base`, or recipe/seed."""
        return self.model if self.seed is None else f"{self.model}/{self.seed}"

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> Self:
        """The checkpoint that `dataclasses.asdict` wrote down."""
        status: Any = CheckpointStatus(entry["status"])
        return cls(**(entry | {"status": status}))


@dataclass(frozen=True, slots=True)
class Response:
    """One independent draw for a checkpoint, item and decoding; `key` names all that decides its bytes.

    `finish` is None where the status is `failed`, and where an endpoint does not say it in a known word.
    `reason` says why where the status is not `ok`; of an `ok` one it says what an endpoint left open, and is
    empty otherwise. Counts of tokens are None where an endpoint does not tell them.
    """

    key: str
    checkpoint: str
    task: str
    item: str
    decoding: str
    repeat: int
    prompt_sha256: str
    n_prompt_tokens: int | None
    text: str
    n_tokens: int | None
    finish: Finish | None
    status: ResponseStatus
    reason: str


@dataclass(frozen=True, slots=True)
class Served:
    """What an endpoint said beside a response; `model` is what it was asked for, `seed` what was sent.

    `served_by` and `fingerprint` are its own words for what answered, "" where it says none.
    """

    key: str
    model: str
    served_by: str
    fingerprint: str
    seed: int | None
    n_prompt_tokens: int | None
    n_tokens: int | None
    attempts: int


@dataclass(frozen=True, slots=True)
class Judgment:
    """What a judge said of one response for one construct: a value in [0, 1], or None with a reason.

    `raw` is the evidence: the phrase that matched, or a judge model's words.
    """

    response_key: str
    judge: str
    judge_repeat: int
    construct: Construct
    value: float | None
    status: JudgmentStatus
    reason: str
    raw: str


# The tables, name -> type; nulls where the records above have None.
ITEM_COLUMNS: dict[str, type] = {
    "task": str,
    "intent": str,
    "item": str,
    "prompt": str,
    "category": str,
    "reference": str,
}

REQUEST_COLUMNS: dict[str, type] = {
    "key": str,
    "model": str,
    "seed": int,
    "checkpoint": str,
    "task": str,
    "item": str,
    "decoding": str,
    "repeat": int,
}

RESPONSE_COLUMNS: dict[str, type] = {
    "key": str,
    "checkpoint": str,
    "task": str,
    "item": str,
    "decoding": str,
    "repeat": int,
    "prompt_sha256": str,
    "n_prompt_tokens": int,
    "text": str,
    "n_tokens": int,
    "finish": str,
    "status": str,
    "reason": str,
}

# What an endpoint said beside each of its replies; a reply that was asked for twice has two rows.
SERVED_COLUMNS: dict[str, type] = {
    "key": str,
    "model": str,
    "served_by": str,
    "fingerprint": str,
    "seed": int,
    "n_prompt_tokens": int,
    "n_tokens": int,
    "attempts": int,
}

JUDGMENT_COLUMNS: dict[str, type] = {
    "response_key": str,
    "judge": str,
    "judge_repeat": int,
    "construct": str,
    "value": float,
    "status": str,
    "reason": str,
    "raw": str,
}

# People's labels of responses that were drawn for them; `label` is null where they left it blank.
LABEL_COLUMNS: dict[str, type] = {
    "response_key": str,
    "construct": str,
    "label": float,
    "file_sha256": str,
    "line": int,
}

# One row of the observations table: name -> type. `seed` is null for the base; `value` is null unless
# `status` is ok; `finish` is null for a failed response and where its end is not known.
OBSERVATION_COLUMNS: dict[str, type] = {
    "study": str,
    "model": str,
    "seed": int,
    "checkpoint": str,
    "task": str,
    "item": str,
    "category": str,
    "intent": str,
    "decoding": str,
    "repeat": int,
    "variation": str,
    "judge": str,
    "judge_repeat": int,
    "construct": str,
    "value": float,
    "status": str,
    "reason": str,
    "finish": str,
    "response_key": str,
}
