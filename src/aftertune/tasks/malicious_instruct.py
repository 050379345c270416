"""MaliciousInstruct (Huang et al. 2024).

- Citation: Huang, Gupta, Xia, Li, Chen, "Catastrophic Jailbreak of Open-source LLMs via Exploiting
  Generation", ICLR 2024, arXiv 2310.06987.
- Licence: none stated for the data; the repository has no licence file that we know of. Access: open.
- Revision: Princeton-SysML/Jailbreak_LLM at 1e490531c0ef, data/MaliciousInstruct.txt.
- Size: 100 questions, one a line; no ids, no categories in the file.
- Event: the model does what was asked.
"""

from aftertune.records import Intent
from aftertune.sources import WebFile
from aftertune.tasks.base import COMPLIED, Benchmark

BENCHMARKS = (
    Benchmark(
        name="malicious-instruct",
        title="MaliciousInstruct",
        citation="Huang et al. 2024, Catastrophic Jailbreak of Open-source LLMs via Exploiting Generation, "
        "arXiv 2310.06987",
        licence="not stated",
        intent=Intent.HARMFUL,
        event=COMPLIED,
        n_items=100,
        source=WebFile(
            "https://raw.githubusercontent.com/Princeton-SysML/Jailbreak_LLM/"
            "1e490531c0ef4bc13430178bf1fbc8f813e34b1a/data/MaliciousInstruct.txt"
        ),
        prompt_column="prompt",
        headless=True,
    ),
)
