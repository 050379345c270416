"""GSM8K's test split (Cobbe et al. 2021): word problems, to see what a fine-tune did to ability.

- Citation: Cobbe, Kosaraju, Bavarian, et al., "Training Verifiers to Solve Math Word Problems", arXiv
  2110.14168.
- Licence: MIT. Access: open.
- Revision: openai/grade-school-math at 3101c7d50724, grade_school_math/data/test.jsonl.
- Size: 1,319 problems; no ids, no categories. A small model stands near zero here.
- Event: the response's number equals the one after #### in the answer. Never train on these; the train split
  (train.jsonl) is read like any table, with prompt_column: question and reference_column: answer.
"""

from aftertune.records import Intent
from aftertune.sources import WebFile
from aftertune.tasks.base import SOLVED, Benchmark

BENCHMARKS = (
    Benchmark(
        name="gsm8k",
        title="GSM8K, test split",
        citation="Cobbe et al. 2021, Training Verifiers to Solve Math Word Problems, arXiv 2110.14168",
        licence="MIT",
        intent=Intent.BENIGN,
        event=SOLVED,
        n_items=1319,
        source=WebFile(
            "https://raw.githubusercontent.com/openai/grade-school-math/"
            "3101c7d5072418e28b9008a6636bde82a006892c/grade_school_math/data/test.jsonl"
        ),
        prompt_column="question",
        reference_column="answer",
    ),
)
