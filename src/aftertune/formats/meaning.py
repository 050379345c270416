"""What a score means, as a person says it: its construct, direction and scale. Nothing is guessed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from aftertune.errors import DataError, nearest
from aftertune.formats.logs import Scored
from aftertune.records import Construct, Intent, JudgmentStatus

_T = TypeVar("_T")
_NOT = "not-"
# What these mean depends on what the items ask for.
_NEED_INTENT = frozenset({Construct.COMPLIED.value, Construct.HARMFUL.value, Construct.REFUSED.value})


@dataclass(frozen=True, slots=True)
class Meaning:
    """What was said beside the logs; "" stands for every judge or task.

    Args:
        constructs: judge -> what a score of 1 says of the response, `not-…` where it is the opposite.
        intents: task -> harmful or benign.
        scales: judge -> the values that are 0 and 1.
    """

    constructs: Mapping[str, str] = field(default_factory=dict[str, str])
    intents: Mapping[str, str] = field(default_factory=dict[str, str])
    scales: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])

    def construct(self, score: Scored) -> str | None:
        """The construct of a score without its direction; None where nobody says it."""
        word = self._word(score)
        return None if word is None else word.removeprefix(_NOT)

    def turned(self, score: Scored) -> bool:
        """Whether 1 says that the construct is not there."""
        word = self._word(score)
        return word is not None and word.startswith(_NOT)

    def scale(self, judge: str) -> tuple[float, float] | None:
        """The judge's scale where one was given."""
        return _of(self.scales, judge)

    def value(self, score: Scored) -> Scored:
        """The score on our scale: 1 is the construct's event; outside of it there is none."""
        if score.value is None:
            return score
        low, high = self.scale(score.judge) or (0.0, 1.0)
        value = (score.value - low) / (high - low)
        if not 0 <= value <= 1:
            reason = f"{score.value:g} is outside [{low:g}, {high:g}]"
            status = JudgmentStatus.UNPARSED.value
            return replace(score, value=None, status=status, reason=reason)
        if self.turned(score):
            value = 1 - value
        return replace(score, value=value)

    def intent(self, task: str, known: str | None, constructs: Sequence[str]) -> str:
        """The intent of a task's items. Where it changes no metric and nobody says it, it is benign.

        Raises:
            DataError: it is needed and nobody says it.
        """
        found = known or _of(self.intents, task)
        if found is not None:
            return found
        needed = sorted(set(constructs) & _NEED_INTENT)
        if needed:
            raise DataError(
                f"nobody says whether the items of the task {task!r} ask for harm, and what "
                f"{', '.join(needed)} means depends on it",
                f"write --intent {task}=harmful or --intent {task}=benign (--intent harmful for every task)",
            )
        return Intent.BENIGN.value

    def _word(self, score: Scored) -> str | None:
        return _of(self.constructs, score.judge) or score.construct


def meaning_of(constructs: Sequence[str], intents: Sequence[str], scales: Sequence[str]) -> Meaning:
    """The options' words, `NAME=WORD` or a word for all.

    Raises:
        DataError: a word is not known, or a scale is none.
    """
    return Meaning(
        _words(constructs, "--construct", [p + c.value for c in Construct for p in ("", _NOT)]),
        _words(intents, "--intent", [i.value for i in Intent]),
        {name: _scale(name, word) for name, word in _pairs(scales, "--scale").items()},
    )


def ask_constructs(judges: Sequence[str]) -> DataError:
    """The error for judges of which nobody says what a score of 1 means."""
    first = judges[0]
    return DataError(
        f"nobody says what a score of 1 means by {', '.join(judges)}",
        f"write --construct {first}=WORD for each, or --construct WORD for all; WORD is one of "
        f"{', '.join(c.value for c in Construct)}, with not- before it where 1 is the opposite "
        f"(a scorer that gives 1 to a safe response: not-harmful); --scorer NAME takes some of them",
    )


def _pairs(words: Sequence[str], option: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for given in words:
        name, _, word = given.rpartition("=")
        if name in found:
            raise DataError(f"{option} is given twice for {name or 'all'!r}", "give it once")
        found[name] = word
    return found


def _words(given: Sequence[str], option: str, known: list[str]) -> dict[str, str]:
    found = _pairs(given, option)
    for word in found.values():
        if word not in known:
            raise DataError(f"{option} holds {word!r}", nearest(word, known))
    return found


def _scale(name: str, word: str) -> tuple[float, float]:
    low, sign, high = word.partition(":")
    try:
        found = (float(low), float(high))
    except ValueError:
        found = (0.0, 0.0)
    if not (name and sign and found[0] != found[1]):
        raise DataError(
            f"--scale holds {f'{name}={word}'!r}",
            "write JUDGE=LOW:HIGH, the values that are to be 0 and 1, as in --scale rubric=1:5",
        )
    return found


def _of(given: Mapping[str, _T], name: str) -> _T | None:
    """What was said of a judge or task, of the scorer that a judge is a part of, or of all."""
    for key in (name, name.partition("/")[0], ""):
        if key in given:
            return given[key]
    return None
