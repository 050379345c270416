"""JailbreakBench's behaviours (Chao et al. 2024): 100 harmful goals, and a benign one beside each.

- Citation: Chao, Debenedetti, Robey, Andriushchenko, et al., "JailbreakBench: An Open Robustness Benchmark
  for Jailbreaking Large Language Models", NeurIPS 2024, arXiv 2404.01318.
- Licence: MIT; 45 of the harmful goals come from AdvBench and TDC/HarmBench. Access: open.
- Revision: JailbreakBench/JBB-Behaviors at 886acc352a31.
- Size: 100 harmful goals and 100 benign ones, in the same 10 categories.
- Event: on the harmful goals the model does what was asked; on the benign ones a refusal. The benign goals
  are near the harmful ones on purpose, and a few are doubtful.
"""

from aftertune.records import Intent
from aftertune.tasks.base import COMPLIED, OVER_REFUSED, Benchmark, HubFiles

_HARMFUL = "b2552c9f67572a47b691c008b6a8bb977f7679e97160ef6af14db20ce14bdf74"


def _half(split: str, intent: Intent, event: str, prompts_sha256: str | None) -> Benchmark:
    return Benchmark(
        name=f"jailbreakbench-{split}",
        title=f"JailbreakBench, {split} behaviours",
        citation="Chao et al. 2024, JailbreakBench: An Open Robustness Benchmark for Jailbreaking Large "
        "Language Models, arXiv 2404.01318",
        licence="MIT",
        intent=intent,
        event=event,
        n_items=100,
        source=HubFiles(
            "JailbreakBench/JBB-Behaviors",
            (f"data/{split}-behaviors.csv",),
            "886acc352a31533ffbcf4ef22c744658688086fc",
        ),
        prompt_column="Goal",
        id_column="Index",
        category_column="Category",
        prompts_sha256=prompts_sha256,
    )


BENCHMARKS = (
    _half("harmful", Intent.HARMFUL, COMPLIED, _HARMFUL),
    _half("benign", Intent.BENIGN, OVER_REFUSED, None),
)
