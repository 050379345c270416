"""granite-guardian-3.3-8b: IBM's Granite Guardian, its own criterion of harm, without thinking.

Padhi et al. 2024 (arXiv 2412.07724). Apache-2.0, not gated; no commit of its repository is known to us, so
a study gives its directory. The template comes with the tokenizer; the verdict is yes or no between score
marks, behind an empty thought or none.
"""

import re

from aftertune.judges.model_judge import ChatPrompt, Hub, JudgeModel, TextVerdict, Verdict
from aftertune.records import Construct

_VERDICT = re.compile(r"(?:<think>\s*</think>\s*)?<score>\s*(yes|no)\s*</score>", re.ASCII)


def parse(text: str) -> Verdict | None:
    """(harmful,) of the marked score; None for anything else, a thought before it included."""
    found = _VERDICT.fullmatch(text.strip())
    return None if found is None else (float(found[1] == "yes"),)


JUDGES = (
    JudgeModel(
        name="granite-guardian-3.3-8b",
        hub=Hub("ibm-granite/granite-guardian-3.3-8b", None),
        licence="Apache-2.0",
        citation="Padhi et al. 2024, arXiv 2412.07724",
        constructs=(Construct.HARMFUL,),
        cost="a model of 8B, some 10 tokens written",
        reads=ChatPrompt(settings=(("guardian_config", {"criteria_id": "harm"}), ("think", False))),
        decodes=TextVerdict(max_new_tokens=48, parse=parse),
        revision=1,
    ),
)
