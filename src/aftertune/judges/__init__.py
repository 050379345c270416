"""The judges that aftertune knows by name, and a user's own rubrics."""

from collections.abc import Callable
from dataclasses import replace

from aftertune.errors import StudyError, nearest
from aftertune.judges.base import Case, Judge, Judgments, needs_reference
from aftertune.judges.incoherence_rules import INCOHERENCE_REPETITION, INCOHERENCE_RULES
from aftertune.judges.language import INCOHERENCE_LANGUAGE
from aftertune.judges.learned import LEARNED
from aftertune.judges.model_judges import MODEL_JUDGES
from aftertune.judges.number_match import NUMBER_MATCH
from aftertune.judges.perplexity import NAME as PERPLEXITY
from aftertune.judges.perplexity import perplexity_judge
from aftertune.judges.phrase_lists import PHRASE_JUDGES
from aftertune.judges.refusal_rules import REFUSAL_RULES
from aftertune.judges.rubric import RUBRIC_MAKERS, own_rubric
from aftertune.judges.rule_judge import RuleJudge
from aftertune.study import JudgeSpec

__all__ = ["Case", "Judge", "Judgments", "get_judge", "known_judges", "needs_reference"]

# Judges that need nothing but their name.
_FIXED: tuple[Judge, ...] = (
    REFUSAL_RULES,
    *PHRASE_JUDGES,
    LEARNED,
    INCOHERENCE_RULES,
    INCOHERENCE_REPETITION,
    INCOHERENCE_LANGUAGE,
    NUMBER_MATCH,
)
# Judges that a study configures, by their known name; to make one loads no weights and calls nobody.
_MAKERS: dict[str, Callable[[JudgeSpec], Judge]] = {
    PERPLEXITY: perplexity_judge,
    **MODEL_JUDGES,
    **RUBRIC_MAKERS,
}


def known_judges() -> tuple[str, ...]:
    """The name of every judge, in the order in which they are listed to people."""
    return (*(judge.name for judge in _FIXED), *_MAKERS)


def get_judge(spec: JudgeSpec) -> Judge:
    """The judge that a study names.

    Raises:
        StudyError: no judge has the name (the nearest is given), or its settings do not fit it.
    """
    fixed = {judge.name: judge for judge in _FIXED}
    if spec.rubric is not None:
        judge = _own(spec)
    elif spec.known_name in _MAKERS:
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


def _own(spec: JudgeSpec) -> Judge:
    if spec.judge is not None or spec.name in known_judges():
        raise StudyError(
            f"judge {spec.name!r} has a rubric, and the name of a known judge: {spec.known_name!r}",
            "give it another name, and leave judge out",
        )
    return own_rubric(spec)


def _fixed(judge: Judge, spec: JudgeSpec) -> Judge:
    """The judge; one of rules also under another name, so that a variation can put it in another's place."""
    allowed = {"name", "repeats", "judge"} if isinstance(judge, RuleJudge) else {"name", "repeats"}
    given = sorted(spec.settings - allowed)
    if given:
        raise StudyError(
            f"judge {judge.name!r} has no settings, got {', '.join(given)}", f"write `- {judge.name}` alone"
        )
    return replace(judge, name=spec.name) if isinstance(judge, RuleJudge) else judge
