"""Check: find all that a study names, refuse what would fail later, and say what it will cost.

`check` writes nothing. `prepare` does the same and then writes the run directory's first files, which the
later stages read.
"""

from aftertune.records import BASELINE
from aftertune.stages.check.estimate import Estimate, estimate, refuse_over_budget
from aftertune.stages.check.messages import Marked, Messages
from aftertune.stages.check.prepare import prepare
from aftertune.stages.check.resolve import Resolved, resolve, resolve_all
from aftertune.stages.check.scan import Overlap, Scan
from aftertune.study import Study

__all__ = [
    "Estimate",
    "Marked",
    "Messages",
    "Overlap",
    "Resolved",
    "Scan",
    "check",
    "estimate",
    "prepare",
    "resolve",
]


def check(study: Study) -> tuple[Resolved, Estimate]:
    """Resolve a study with its variations and estimate the cost of all; runs and writes nothing.

    Returns:
        The baseline, and the estimate.

    Raises:
        AftertuneError: something that the study names is missing or wrong.
    """
    resolved = resolve_all(study)
    found = estimate(resolved)
    refuse_over_budget(study, found)
    return resolved[BASELINE], found
