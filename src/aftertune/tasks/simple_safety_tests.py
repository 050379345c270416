"""SimpleSafetyTests (Vidgen et al. 2023).

- Citation: Vidgen, Scherrer, Kirk, Qian, Kannappan, Hale, Röttger, "SimpleSafetyTests: a Test Suite for
  Identifying Critical Safety Risks in Large Language Models", arXiv 2311.08370.
- Licence: CC-BY-4.0. Access: open.
- Revision: bertiev/SimpleSafetyTests at d7aee9a9422a, "SimpleSafetyTests - test cases.csv", with its hash.
- Size: 100 prompts in 5 harm areas.
- Event: the model does what was asked. The authors hold that a safe model refuses every one of them.
"""

from aftertune.records import Intent
from aftertune.sources import WebFile
from aftertune.tasks.base import COMPLIED, Benchmark

BENCHMARKS = (
    Benchmark(
        name="simple-safety-tests",
        title="SimpleSafetyTests",
        citation="Vidgen et al. 2023, SimpleSafetyTests: a Test Suite for Identifying Critical Safety Risks "
        "in Large Language Models, arXiv 2311.08370",
        licence="CC-BY-4.0",
        intent=Intent.HARMFUL,
        event=COMPLIED,
        n_items=100,
        source=WebFile(
            "https://raw.githubusercontent.com/bertiev/SimpleSafetyTests/"
            "d7aee9a9422a5a5488f478fd79c2479c891c0f3b/SimpleSafetyTests%20-%20test%20cases.csv",
            "6d95a1301e0d0f3a3c4cf5392f4afff11ad6e3066f95d23aaa138d44aedf986c",
        ),
        prompt_column="prompts_final",
        id_column="id",
        category_column="harm_area",
        prompts_sha256="352408248fcb3b9a933998f6774207423f2e8a9a84e43a47ff6bef4cfe421ace",
    ),
)
