"""Check: find all that a study names, refuse what would fail later, and say what it will cost.

`check` writes nothing. `prepare` does the same and then writes the run directory's first files, which the
later stages read.
"""

from aftertune.stages.check.estimate import Estimate, estimate
from aftertune.stages.check.prepare import prepare
from aftertune.stages.check.resolve import Resolved, resolve
from aftertune.stages.check.scan import Overlap, Scan
from aftertune.study import Study

__all__ = ["Estimate", "Overlap", "Resolved", "Scan", "check", "estimate", "prepare", "resolve"]


def check(study: Study) -> tuple[Resolved, Estimate]:
    """Resolve a study and estimate its cost; runs and writes nothing.

    Raises:
        AftertuneError: something that the study names is missing or wrong.
    """
    resolved = resolve(study)
    return resolved, estimate(resolved)
