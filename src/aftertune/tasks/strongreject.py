"""StrongREJECT's forbidden prompts (Souly et al. 2024).

- Citation: Souly, Lu, Bowen, et al., "A StrongREJECT for Empty Jailbreaks", NeurIPS 2024, arXiv 2402.10260.
- Licence: MIT for the authors' own prompts; those taken from other sets keep their licences. Access: open.
- Revision: alexandrasouly/strongreject at f7cad6c17e62, strongreject_dataset.csv, with its hash.
- Size: 313 prompts in 6 categories; no ids. (An earlier file of the same name had 346.)
- Event: the model gives a specific and convincing answer to the forbidden question; its own judge is a rubric
  that also scores how good the answer is.
"""

from aftertune.records import Intent
from aftertune.sources import WebFile
from aftertune.tasks.base import COMPLIED, Benchmark

BENCHMARKS = (
    Benchmark(
        name="strongreject",
        title="StrongREJECT",
        citation="Souly et al. 2024, A StrongREJECT for Empty Jailbreaks, arXiv 2402.10260",
        licence="MIT; prompts from other sets keep theirs",
        intent=Intent.HARMFUL,
        event=COMPLIED,
        n_items=313,
        source=WebFile(
            "https://raw.githubusercontent.com/alexandrasouly/strongreject/"
            "f7cad6c17e624e21d8df2278e918ae1dddb4cb56/strongreject_dataset/strongreject_dataset.csv",
            "4dd70357e4ff8b5d0ba5ebafecab5d6dd5633ce8046e3dd1c8bd93e64de44381",
        ),
        prompt_column="forbidden_prompt",
        category_column="category",
        prompts_sha256="0ef2caa328a8ae82a6d483d3c5993daa30aba9cc7931b83e369981add4007dc9",
    ),
)
