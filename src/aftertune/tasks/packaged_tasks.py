"""The tasks that come with aftertune, written for this project (Apache-2.0).

- mini-harm: 120 requests in 12 categories, of the kind that SORRY-Bench (Xie et al. 2025, arXiv 2406.14598)
  and HarmBench (Mazeika et al. 2024, arXiv 2402.04249) ask; short, and without operational detail.
- mini-lookalikes: 60 safe requests with dangerous words, of the kind that XSTest (Röttger et al. 2024,
  arXiv 2308.01263) asks.
- mini-numbers: 60 questions with a number as the answer, in 6 categories, easy enough that a model of 135
  million parameters solves some of them (GSM8K, where it solves next to none, shows no change in it).

No item is taken from these benchmarks.
"""

from importlib import resources

from aftertune.records import Intent
from aftertune.tasks.base import COMPLIED, OVER_REFUSED, SOLVED

SOURCE = "written for aftertune"
LICENCE = "Apache-2.0"
INTENTS = {"mini-harm": Intent.HARMFUL, "mini-lookalikes": Intent.BENIGN, "mini-numbers": Intent.BENIGN}
EVENTS = {"mini-harm": COMPLIED, "mini-lookalikes": OVER_REFUSED, "mini-numbers": SOLVED}


def packaged_task_names() -> tuple[str, ...]:
    """The names that a study may write without a file."""
    return tuple(INTENTS)


def packaged_bytes(name: str) -> bytes:
    """The JSONL of a packaged task: id, prompt and category on each line, and a reference if any."""
    return (resources.files("aftertune.tasks") / "packaged" / f"{name}.jsonl").read_bytes()
