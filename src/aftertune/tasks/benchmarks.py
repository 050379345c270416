"""The public benchmarks that a study may name."""

from aftertune.tasks import (
    advbench,
    do_not_answer,
    gsm8k,
    harmbench,
    hex_phi,
    jailbreakbench,
    malicious_instruct,
    or_bench,
    simple_safety_tests,
    sorry_bench,
    strongreject,
    xstest,
)
from aftertune.tasks.base import Benchmark

_FAMILIES = (
    sorry_bench,
    harmbench,
    do_not_answer,
    advbench,
    strongreject,
    xstest,
    jailbreakbench,
    simple_safety_tests,
    hex_phi,
    or_bench,
    malicious_instruct,
    gsm8k,
)
BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark for family in _FAMILIES for benchmark in family.BENCHMARKS
}
