"""What `aftertune judges` lists."""

from aftertune.judges import get_judge, known_judges
from aftertune.judges.rubric import RUBRIC_MAKERS
from aftertune.study import JudgeSpec


def list_judges() -> list[dict[str, str]]:
    """Each judge's name, constructs, cost, licence, known agreement with people, and source."""
    return [_facts(name) for name in known_judges()]


def _facts(name: str) -> dict[str, str]:
    asks = name in RUBRIC_MAKERS
    # A rubric is nobody's judge before a study says whom it asks; its facts do not depend on that.
    spec = JudgeSpec(name=name, endpoint="http://localhost/v1", model="any") if asks else JudgeSpec(name=name)
    judge = get_judge(spec)
    return {
        "name": name,
        "constructs": ", ".join(judge.constructs),
        "cost": "one question a response to a model at an endpoint of yours" if asks else judge.cost,
        "licence": judge.licence,
        "agreement": judge.agreement,
        "source": judge.source,
    }
