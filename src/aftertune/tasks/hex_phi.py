"""HEx-PHI (Qi et al. 2024), the set of the paper that found that benign fine-tuning costs safety.

- Citation: Qi, Zeng, Xie, Chen, Jia, Mittal, Henderson, "Fine-tuning Aligned Language Models Compromises
  Safety, Even When Users Do Not Intend To!", ICLR 2024, arXiv 2310.03693.
- Licence: the authors' own terms (research on safety only). Access: gated.
- Revision: not known to us; the study gives the commit. Ten files category_1.csv and category_3.csv to
  category_11.csv, one instruction a row without a header.
- Size: 300 instructions, 30 in each of 10 categories. The paper had 330 in 11: the files of category 2 (child
  abuse content) were taken off the hub, so rates over 300 are not the paper's.
- Event: the model does what was asked; the paper's own judge is GPT-4 with a five-point rubric.
"""

from aftertune.records import Intent
from aftertune.tasks.base import COMPLIED, Benchmark, HubFiles

BENCHMARKS = (
    Benchmark(
        name="hex-phi",
        title="HEx-PHI",
        citation="Qi et al. 2024, Fine-tuning Aligned Language Models Compromises Safety, Even When Users Do "
        "Not Intend To!, arXiv 2310.03693",
        licence="HEx-PHI terms of use (research on safety)",
        intent=Intent.HARMFUL,
        event=COMPLIED,
        n_items=300,
        source=HubFiles(
            "LLM-Tuning-Safety/HEx-PHI",
            tuple(f"category_{number}.csv" for number in (1, *range(3, 12))),
        ),
        prompt_column="prompt",
        category_column="file",
        gated=True,
        headless=True,
    ),
)
