"""What a judge is: it maps an item and a response to one judgment for each construct that it declares."""

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from aftertune.records import (
    Construct,
    Intent,
    Item,
    Judgment,
    JudgmentStatus,
    Response,
    ResponseStatus,
)
from aftertune.store import content_key

REVISION = 1  # of what all judges share: judgments of failed and empty responses
Judgments = tuple[Judgment, ...]  # of one response: one a construct, in the order of the judge's constructs
EMPTY_INCOHERENT = "empty: the response has no text"


@dataclass(frozen=True, slots=True)
class Case:
    """One response to judge, with what was asked."""

    item: Item
    intent: Intent
    response: Response


class Judge(Protocol):
    """A judge; `sha256` is its identity, which changes with whatever can change its judgments."""

    @property
    def name(self) -> str:
        """What a study calls it by."""
        ...

    @property
    def constructs(self) -> tuple[Construct, ...]:
        """What it judges, in the order of its judgments."""
        ...

    @property
    def source(self) -> str:
        """Where its rules or weights come from."""
        ...

    @property
    def licence(self) -> str:
        """Of its rules or weights."""
        ...

    @property
    def cost(self) -> str:
        """What a judgment takes, in words: rules, a model of so many parameters, an endpoint's tokens."""
        ...

    @property
    def agreement(self) -> str:
        """What is known of its agreement with people, with the source; "not known" where nothing is."""
        ...

    @property
    def deterministic(self) -> bool:
        """Whether the same response always has the same judgment, so that repeats tell nothing."""
        ...

    @property
    def sha256(self) -> str:
        """Its identity (`identity`); to read it loads no weights and asks no endpoint."""
        ...

    def judge(self, cases: Sequence[Case], *, repeat: int = 0) -> Iterator[Judgments]:
        """The judgments of each case, in the order of the cases; what was yielded is done.

        `repeat` counts from 0 and names an independent draw of a judge that is not deterministic.
        """
        ...


def needs_reference(judge: Judge) -> bool:
    """Whether the judge says only if an answer is correct; items without a reference do not concern it."""
    return set(judge.constructs) == {Construct.CORRECT}


def judge_without_text(case: Case, judge: Judge, *, repeat: int = 0) -> Judgments | None:
    """What every judge says of a response without a text; None where there is one to judge.

    A failed response has a failed judgment. An empty one is incoherent and has no other judgment; a text of
    white space alone counts as empty. A cut response is judged like any other.
    """
    response = case.response
    if response.status is ResponseStatus.FAILED:
        reason = f"there is no response: {response.reason or 'no reason was given'}"
        return no_values(case, judge, JudgmentStatus.FAILED, reason=reason, repeat=repeat)
    if response.status is ResponseStatus.EMPTY or not response.text.strip():
        return tuple(
            judgment(case, judge, construct, 1.0, raw=EMPTY_INCOHERENT, repeat=repeat)
            if construct is Construct.INCOHERENT
            else no_value(
                case, judge, construct, JudgmentStatus.SKIPPED, reason="the response is empty", repeat=repeat
            )
            for construct in judge.constructs
        )
    return None


def judge_texts(
    cases: Sequence[Case],
    judge: Judge,
    judged: Callable[[Sequence[Case]], Iterable[Judgments]],
    *,
    repeat: int,
    at_once: int = 1,
) -> Iterator[Judgments]:
    """The judgments of each case, in their order, `at_once` cases at a time.

    `judged` gives those of cases that have a text; it is not asked about none.
    """
    for start in range(0, len(cases), at_once):
        window = cases[start : start + at_once]
        without = [judge_without_text(case, judge, repeat=repeat) for case in window]
        texts = [case for case, done in zip(window, without, strict=True) if done is None]
        found = iter(judged(texts) if texts else ())
        yield from (next(found) if done is None else done for done in without)


def judgment(
    case: Case, judge: Judge, construct: Construct, value: float, *, raw: str, repeat: int = 0
) -> Judgment:
    """A judgment with a value in [0, 1]; `raw` is its evidence."""
    return Judgment(
        case.response.key, judge.name, repeat, construct, value, JudgmentStatus.OK, reason="", raw=raw
    )


def no_value(
    case: Case,
    judge: Judge,
    construct: Construct,
    status: JudgmentStatus,
    *,
    reason: str,
    raw: str = "",
    repeat: int = 0,
) -> Judgment:
    """A judgment without a value, and why."""
    return Judgment(case.response.key, judge.name, repeat, construct, None, status, reason, raw)


def no_values(
    case: Case, judge: Judge, status: JudgmentStatus, *, reason: str, raw: str = "", repeat: int = 0
) -> Judgments:
    """No value for any of the judge's constructs, and why."""
    return tuple(
        no_value(case, judge, construct, status, reason=reason, raw=raw, repeat=repeat)
        for construct in judge.constructs
    )


def identity(kind: str, revision: int, *data: Any) -> str:
    """The identity of a judge: a hash of its kind, its revision and the data that decide its judgments.

    Judgments, labels' corrections and calibrations are kept under it. A revision is a number in the judge's
    module that is raised by hand with its judgments (tests/judges/test_golden.py says when), so that a
    reworded docstring makes no other judge. `data` is what is no code: phrases, thresholds, a prompt, the
    hash of weights; JSON values or tuples of them.
    """
    return content_key([kind, revision, REVISION, unicodedata.unidata_version, *data])
