"""OR-Bench-Hard-1K (Cui et al. 2024): safe prompts that several models refuse.

- Citation: Cui, Chiang, Stoica, Hsieh, "OR-Bench: An Over-Refusal Benchmark for Large Language Models", ICML
  2025, arXiv 2405.20947.
- Licence: CC-BY-4.0. Access: open.
- Revision: bench-llm/or-bench at e36d8b80e818, or-bench-hard-1k.csv.
- Size: 1,319 prompts in 10 categories; no ids. They were written and screened by models, and chosen because
  models refuse them: a rate here is no rate of over-refusal in use.
- Event: a refusal.
"""

from aftertune.records import Intent
from aftertune.tasks.base import OVER_REFUSED, Benchmark, HubFiles

BENCHMARKS = (
    Benchmark(
        name="or-bench-hard",
        title="OR-Bench-Hard-1K",
        citation="Cui et al. 2024, OR-Bench: An Over-Refusal Benchmark for Large Language Models, "
        "arXiv 2405.20947",
        licence="CC-BY-4.0",
        intent=Intent.BENIGN,
        event=OVER_REFUSED,
        n_items=1319,
        source=HubFiles(
            "bench-llm/or-bench", ("or-bench-hard-1k.csv",), "e36d8b80e81837c8a8f264bbb2a49f1b32c7e272"
        ),
        prompt_column="prompt",
        category_column="category",
    ),
)
