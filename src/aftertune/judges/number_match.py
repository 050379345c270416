"""number-match: an answer is correct when its last number is the reference's number.

The rule of GSM8K's own grader (Cobbe et al. 2021, arXiv 2110.14168, grade-school-math @3101c7d5) looks for
the number after "####"; models that were not tuned on that form rarely write it, so, like most later
harnesses, we take it where it is there and else the last number of the response. Numbers are compared by
value: "1,000", "1000" and "$1000.00" are one.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from aftertune.judges.base import Case, Judgments, identity, judge_texts, judgment, no_values
from aftertune.records import Construct, JudgmentStatus

REVISION = 1
# A minus only where it is no hyphen or subtraction sign between words; commas only between thousands.
_NUMBER = re.compile(r"(?<![\w.])[-−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\d])")
_MARKED = re.compile(r"####\s*\$?([-−]?[\d,]*\.?\d+)")
_MAX_DIGITS = 40  # longer runs of digits are no answer, and comparing them would cost time


def number_of(text: str) -> Decimal | None:
    """The number that an answer gives, None where it has none."""
    marked = _MARKED.findall(text)
    found = marked or [hit.group(0) for hit in _NUMBER.finditer(text)]
    if not found:
        return None
    digits = found[-1].replace(",", "").replace("−", "-")
    return Decimal(digits) if len(digits) <= _MAX_DIGITS else None


@dataclass(frozen=True, slots=True)
class NumberMatch:
    """Correct or not, by the last number; an answer without a number is not correct."""

    name: str = "number-match"
    constructs: tuple[Construct] = (Construct.CORRECT,)
    source: str = "exact match on the number, after GSM8K (Cobbe et al. 2021, arXiv 2110.14168)"
    licence: str = "Apache-2.0"
    cost: str = "rules: microseconds"
    agreement: str = "exact by definition where the reference is a number"
    deterministic: bool = True
    sha256: str = identity("number-match", REVISION)

    def judge(self, cases: Sequence[Case], *, repeat: int = 0) -> Iterator[Judgments]:
        """One judgment a case; skipped where the item has no reference number."""
        return judge_texts(cases, self, lambda texts: (self._match(x, repeat) for x in texts), repeat=repeat)

    def _match(self, case: Case, repeat: int) -> Judgments:
        reference = None if case.item.reference is None else number_of(case.item.reference)
        if reference is None:
            reason = f"the item has no reference number, got {case.item.reference!r}"
            return no_values(case, self, JudgmentStatus.SKIPPED, reason=reason, repeat=repeat)
        found = number_of(case.response.text)
        evidence = "no number" if found is None else f"last number {found}"
        value = 1.0 if found == reference else 0.0
        raw = f"{evidence}, reference {reference}"
        return (judgment(case, self, Construct.CORRECT, value, raw=raw, repeat=repeat),)


NUMBER_MATCH = NumberMatch()
