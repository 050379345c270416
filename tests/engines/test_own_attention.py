"""Which architectures our attention can take over; and adapters beside layers of other shapes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model

from aftertune.engines.base import Request
from aftertune.engines.loading import outline
from aftertune.engines.own_attention import refuse_own_attention
from aftertune.engines.transformers import TransformersEngine
from aftertune.errors import EngineError
from engine_models import GREEDY, completed, of_checkpoint, open_at, requests_of, save_model, tuned


@pytest.mark.parametrize(
    ("architecture", "why"),
    [
        ("DiffLlama", "attends more than once in a layer"),  # a silently wrong answer until 2026-12
        ("Nemotron", "hands no further arguments on"),
        ("StableLm", "does not attend through"),
        ("Falcon", "does not attend through"),
        ("Bloom", "does not attend through"),
    ],
)
def test_an_attention_that_cannot_be_taken_over_is_refused(tmp_path: Path, architecture: str, why: str):
    model = outline(save_model(tmp_path / "model", architecture))
    assert model is not None
    with pytest.raises(EngineError, match=why) as caught:
        refuse_own_attention(model)
    assert "engine: {name: generate}" in caught.value.remedy


@pytest.mark.parametrize("architecture", ["Llama", "Gemma2", "Qwen3", "Mixtral", "GPTNeoX"])
def test_others_are_not(tmp_path: Path, architecture: str):
    model = outline(save_model(tmp_path / "model", architecture))
    assert model is not None
    refuse_own_attention(model)


def test_adapters_beside_layers_that_read_tokens_without_rows(tmp_path: Path):
    """OPT's feed-forward layers get tokens × size; two adapters and the base go through them together."""
    path = save_model(tmp_path / "model", "OPT", dtype=torch.float32, ffn_dim=96, word_embed_proj_dim=64)
    adapters: list[Path] = []
    for seed in (1, 2):
        base = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "fc1", "fc2"])
        model = get_peft_model(base, config)
        random = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weights in (p for p in model.parameters() if p.requires_grad):
                weights.add_(torch.randn(weights.shape, generator=random) * 0.2)
        adapters.append(tmp_path / f"adapter-{seed}")
        model.save_pretrained(adapters[-1])
    engine = open_at(path, numerics="fast", dtype="float32", threads=1)
    first = requests_of(engine, decodings=(GREEDY,))
    arms = [
        first,
        *(of_checkpoint(first, replace(tuned(adapter), model=adapter.name)) for adapter in adapters),
    ]
    alone = [[texts_of(engine, [request]) for request in requests] for requests in arms]
    mixed = texts_of(engine, [request for together in zip(*arms, strict=True) for request in together])
    assert mixed == [text for together in zip(*alone, strict=True) for one in together for text in one]
    assert alone[0] != alone[1] != alone[2]


def texts_of(engine: TransformersEngine, requests: list[Request]) -> list[str]:
    """The texts in the order of the requests; keys are made new, since arms share them."""
    renamed = [replace(request, key=str(i)) for i, request in enumerate(requests)]
    done = completed(engine, renamed)
    return [done[request.key].text for request in renamed]
