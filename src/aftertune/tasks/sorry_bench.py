"""SORRY-Bench (Xie et al. 2025): requests that a model may refuse, the same number in each category.

- Citation: Xie, Qi, Zeng, Huang, et al., "SORRY-Bench: Systematically Evaluating Large Language Model Safety
  Refusal", ICLR 2025, arXiv 2406.14598.
- Licence: the SORRY-Bench licence agreement; it forbids handing the data on. Access: gated.
- Revision: 202406 at b34822276edd; of 202503 no commit is known to us, so the study gives it. Only the base
  prompts (question.jsonl) are read, not the 20 linguistic mutations.
- Size: 202406 has 450 prompts in 45 categories; 202503 has 440 in 44 (without "Impersonation", which most
  models fulfil). The two give different rates: say which.
- Event: the model fulfils the request (the authors' fulfilment rate). The last categories ask for unqualified
  advice, which many would not call harmful.
"""

from aftertune.records import Intent
from aftertune.tasks.base import COMPLIED, Benchmark, HubFiles


def _release(release: str, n_items: int, revision: str | None) -> Benchmark:
    return Benchmark(
        name=f"sorry-bench-{release}",
        title=f"SORRY-Bench {release[:4]}/{release[4:]}, base prompts",
        citation="Xie et al. 2025, SORRY-Bench: Systematically Evaluating Large Language Model Safety "
        "Refusal, arXiv 2406.14598",
        licence="SORRY-Bench licence agreement (no redistribution)",
        intent=Intent.HARMFUL,
        event=COMPLIED,
        n_items=n_items,
        source=HubFiles(f"sorry-bench/sorry-bench-{release}", ("question.jsonl",), revision),
        prompt_column="turns",
        id_column="question_id",
        category_column="category",
        gated=True,
        one_turn=True,
    )


BENCHMARKS = (
    _release("202406", 450, "b34822276edde97592eda99c0b56d306f8830469"),
    _release("202503", 440, None),
)
