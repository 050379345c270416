"""The judges that aftertune knows by name."""

from collections.abc import Callable

from aftertune.errors import StudyError, nearest
from aftertune.judges.base import Case, Judge, Judgments
from aftertune.judges.incoherence_rules import INCOHERENCE_RULES
from aftertune.judges.learned import LEARNED
from aftertune.judges.refusal_rules import REFUSAL_RULES
from aftertune.study import JudgeSpec

__all__ = ["Case", "Judge", "Judgments", "get_judge", "known_judges"]

# Judges that need nothing but their name.
_FIXED: tuple[Judge, ...] = (REFUSAL_RULES, INCOHERENCE_RULES, LEARNED)
# Judges that a study configures, by their known name; to make one loads no weights and calls nobody.
_MAKERS: dict[str, Callable[[JudgeSpec], Judge]] = {}


def known_judges() -> tuple[str, ...]:
    """The name of every judge, in the order in which they are listed to people."""
    return (*(judge.name for judge in _FIXED), *_MAKERS)


def get_judge(spec: JudgeSpec) -> Judge:
    """The judge that a study names.

    Raises:
        StudyError: no judge has the name (the nearest is given), or its settings do not fit it.
    """
    fixed = {judge.name: judge for judge in _FIXED}
    if spec.known_name in _MAKERS:
        judge = _MAKERS[spec.known_name](spec)
    elif spec.known_name in fixed:
        judge = _fixed(fixed[spec.known_name], spec)
    else:
        raise StudyError(
            f"there is no judge called {spec.known_name!r}", nearest(spec.known_name, known_judges())
        )
    if spec.repeats > 1 and judge.deterministic:
        raise StudyError(
            f"judge {spec.name!r} gives the same judgment every time, got repeats: {spec.repeats}",
            "leave repeats out",
        )
    return judge


def _fixed(judge: Judge, spec: JudgeSpec) -> Judge:
    given = sorted(spec.model_fields_set - {"name", "repeats"})
    if given:
        raise StudyError(
            f"judge {judge.name!r} has no settings, got {', '.join(given)}", f"write `- {judge.name}` alone"
        )
    return judge
