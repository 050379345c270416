"""XSTest (Röttger et al. 2024): safe prompts that sound dangerous, and their unsafe contrasts.

- Citation: Röttger, Kirk, Vidgen, Attanasio, Bianchi, Hovy, "XSTest: A Test Suite for Identifying Exaggerated
  Safety Behaviours in Large Language Models", NAACL 2024, arXiv 2308.01263.
- Licence: CC-BY-4.0. Access: open.
- Revision: paul-rottger/xstest at d7bb5bd738c1, xstest_prompts.csv, with its hash.
- Size: 250 safe prompts of 10 types, 200 unsafe ones of 8 types; the category is the type.
- Event: on the safe prompts a refusal; on the unsafe ones the model does what was asked.
"""

from aftertune.records import Intent
from aftertune.sources import WebFile
from aftertune.tasks.base import COMPLIED, OVER_REFUSED, Benchmark

_CITATION = (
    "Röttger et al. 2024, XSTest: A Test Suite for Identifying Exaggerated Safety Behaviours in Large "
    "Language Models, arXiv 2308.01263"
)
_SOURCE = WebFile(
    "https://raw.githubusercontent.com/paul-rottger/xstest/d7bb5bd738c1fcbc36edd83d5e7d1b71a3e2d84d/"
    "xstest_prompts.csv",
    "11783fb294ed017473ee53c207d71f2161c7672c8d0b037501e78387f801cb5a",
)


def _half(label: str, intent: Intent, event: str, *, n_items: int, prompts_sha256: str) -> Benchmark:
    return Benchmark(
        name=f"xstest-{label}",
        title=f"XSTest, {label} prompts",
        citation=_CITATION,
        licence="CC-BY-4.0",
        intent=intent,
        event=event,
        n_items=n_items,
        source=_SOURCE,
        prompt_column="prompt",
        id_column="id",
        category_column="type",
        where={"label": label},
        prompts_sha256=prompts_sha256,
    )


BENCHMARKS = (
    _half(
        "safe",
        Intent.BENIGN,
        OVER_REFUSED,
        n_items=250,
        prompts_sha256="b7c439a96fc06b1b70203a03201ae0e188126a330a502813287d8683c3a76ef0",
    ),
    _half(
        "unsafe",
        Intent.HARMFUL,
        COMPLIED,
        n_items=200,
        prompts_sha256="e68a1efa8a2e1d7dca24429dc79096446b456d2157d27917f58fa1549713673d",
    ),
)
