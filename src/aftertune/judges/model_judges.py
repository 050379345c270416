"""Every judge that is a model of its own, by its known name."""

from aftertune.judges import (
    granite_guardian,
    harmbench_classifiers,
    llama_guard,
    qwen3guard,
    shield_gemma,
    sorry_bench_judge,
    strongreject_gemma,
    wildguard,
)
from aftertune.judges.detoxify import TOXICITY_JUDGES
from aftertune.judges.model_judge import JudgeModel, make_judge

_FILES = (
    sorry_bench_judge,
    harmbench_classifiers,
    strongreject_gemma,
    llama_guard,
    wildguard,
    qwen3guard,
    shield_gemma,
    granite_guardian,
)
JUDGE_MODELS: dict[str, JudgeModel] = {known.name: known for file in _FILES for known in file.JUDGES}
MODEL_JUDGES = {name: make_judge(known) for name, known in JUDGE_MODELS.items()} | TOXICITY_JUDGES
