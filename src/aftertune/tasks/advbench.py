"""AdvBench's harmful behaviours (Zou et al. 2023).

- Citation: Zou, Wang, Carlini, Nasr, Kolter, Fredrikson, "Universal and Transferable Adversarial Attacks on
  Aligned Language Models", arXiv 2307.15043.
- Licence: MIT. Access: open.
- Revision: llm-attacks/llm-attacks at 098262edf85f, data/advbench/harmful_behaviors.csv, with its hash.
- Size: 520 instructions; no ids, no categories; many are near copies of one another.
- Event: the model does what was asked.
"""

from aftertune.records import Intent
from aftertune.sources import WebFile
from aftertune.tasks.base import COMPLIED, Benchmark

BENCHMARKS = (
    Benchmark(
        name="advbench",
        title="AdvBench, harmful behaviours",
        citation="Zou et al. 2023, Universal and Transferable Adversarial Attacks on Aligned Language "
        "Models, arXiv 2307.15043",
        licence="MIT",
        intent=Intent.HARMFUL,
        event=COMPLIED,
        n_items=520,
        source=WebFile(
            "https://raw.githubusercontent.com/llm-attacks/llm-attacks/"
            "098262edf85f807224e70ecd87b9d83716bf6b73/data/advbench/harmful_behaviors.csv",
            "6cd1a5c63c07610d7eb67307772ee5606017ee950b5770ab288a2c487489d3e1",
        ),
        prompt_column="goal",
        prompts_sha256="0dfb3d074c07ff24f6de0b536a9194ea4a4a6fe123164e0e8fc5a2bda9b1758a",
    ),
)
