"""A judge made of a rule."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from aftertune.judges.base import Case, Judgments, judge_texts, judgment
from aftertune.records import Construct


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found: whether the event is there, and the evidence in words."""

    event: bool
    evidence: str


@dataclass(frozen=True, slots=True)
class RuleJudge:
    """A judge of one construct, by a rule on (prompt, text); a refusal is a refusal whatever was asked."""

    name: str
    constructs: tuple[Construct]
    source: str
    licence: str
    sha256: str
    rule: Callable[[str, str], Finding]
    agreement: str = "not known"
    cost: str = "rules: microseconds"
    deterministic: bool = True

    def judge(self, cases: Sequence[Case], *, repeat: int = 0) -> Iterator[Judgments]:
        """One judgment a case: 1.0 where the event is there, 0.0 where it is not, or none with a reason."""
        return judge_texts(cases, self, lambda texts: (self._found(x, repeat) for x in texts), repeat=repeat)

    def _found(self, case: Case, repeat: int) -> Judgments:
        finding = self.rule(case.item.prompt, case.response.text)
        value = 1.0 if finding.event else 0.0
        return (judgment(case, self, self.constructs[0], value, raw=finding.evidence, repeat=repeat),)
