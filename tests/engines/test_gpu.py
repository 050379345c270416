"""Drawing and tuning on a GPU against the CPU; skipped where there is none."""

import math
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model

from aftertune.engines.loading import load_model
from aftertune.study import TuneRecipe
from aftertune.tuning.encode import IGNORED, Example
from aftertune.tuning.streams import TrainingStreams
from aftertune.tuning.train import train_together
from engine_models import GREEDY, PROMPTS, completed, open_at, requests_of, save_model, tuned

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
RECIPE = TuneRecipe.model_validate(
    {"data": "x", "rank": 4, "batch_size": 4, "learning_rate": 5e-3, "epochs": 2}
)


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("gpu") / "model", dtype=torch.float32)


def rows() -> list[Example]:
    draws = torch.Generator().manual_seed(1)
    lines = [torch.randint(3, 250, (n,), generator=draws).tolist() for n in (5, 40, 17, 23, 9, 31, 3, 28)]
    return [Example(tuple(ids), (IGNORED, *ids[1:])) for ids in lines]


def test_greedy_texts_of_the_base_and_an_adapter_are_those_of_the_cpu(model_path, tmp_path):
    torch.manual_seed(1)
    model = load_model(model_path, dtype=torch.float32, device="cpu")
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    texts = {}
    for device, numerics in (("cpu", "exact"), ("cuda", "fast")):
        engine = open_at(model_path, device=device, numerics=numerics, dtype="float32")
        of_base = requests_of(engine, PROMPTS, [GREEDY])
        adapter = tuned(tmp_path / "adapter")
        tuned_too = [replace(r, checkpoint=adapter, key=f"{r.key} tuned") for r in of_base]
        beside = completed(engine, of_base + tuned_too)
        assert {**completed(engine, of_base), **completed(engine, tuned_too)} == beside
        texts[device] = [[beside[r.key].text for r in part] for part in (of_base, tuned_too)]
    assert texts["cuda"] == texts["cpu"]
    assert texts["cuda"][0] != texts["cuda"][1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_seeds_together_learn_what_each_learns_alone_and_on_the_cpu(model_path, dtype):
    tolerance = 1e-3 if dtype == torch.float32 else 0.05
    model = load_model(model_path, dtype=dtype, device="cuda", attention="sdpa")
    together = losses(model, [1, 2, 3])
    for place, seed in enumerate([1, 2, 3]):
        assert together[place] == pytest.approx(losses(model, [seed])[0], rel=tolerance)
    if dtype == torch.float32:
        on_cpu = losses(load_model(model_path, dtype=dtype, device="cpu", attention="sdpa"), [1])
        assert together[0] == pytest.approx(on_cpu[0], rel=tolerance)
    assert all(math.isfinite(loss) for line in together for loss in line)


def losses(model, seeds: list[int]) -> list[list[float]]:
    found: list[list[float]] = [[] for _ in seeds]
    train_together(
        model,
        rows(),
        RECIPE,
        streams=[TrainingStreams(2025, "chat", seed) for seed in seeds],
        pad_token_id=0,
        on_step=lambda place, step: found[place].append(step.loss),
    )
    return found
