"""How far a run is: what `aftertune status` finds, and the schema of its JSON."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

State = Literal["at work", "finished", "interrupted", "not begun"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Part(_Record):
    """One kind of work: `wanted` = `done` + `failed` + `missing`; `wanted` is None where it is not known yet.

    `failed` has a status and a reason in its file; `reasons` are the most frequent, with how many each.
    """

    stage: Literal["tune", "generate", "judge"]
    what: str
    variation: str
    wanted: int | None
    done: int
    failed: int
    missing: int | None
    reasons: dict[str, int]


class Left(_Record):
    """Seconds that the stage at work will take at its rate so far; None with the reason."""

    stage: str | None
    seconds: float | None
    why_not: str


class Spent(_Record):
    """What the run took so far: seconds by stage (the one at work included), and an endpoint's counts."""

    stages_s: dict[str, float]
    usd: float | None
    tokens_in: int | None
    tokens_out: int | None


class RunProgress(_Record):
    """Where a run stands. Times are UTC."""

    run: str
    study: str
    state: State
    process: int | None
    stage: str | None
    since: str | None
    last_event: str | None
    last_event_at: str | None
    parts: tuple[Part, ...]
    written: dict[str, bool]
    spent: Spent
    left: Left
    unreadable: tuple[str, ...]
