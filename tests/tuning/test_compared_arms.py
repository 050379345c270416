"""A checkpoint must differ from its base in its weights alone, whatever door it came in by."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file

from aftertune.engines.loading import load_model
from aftertune.records import Checkpoint, CheckpointStatus
from aftertune.tuning.arms import as_arm
from aftertune.tuning.checkpoints import checkpoint_sha256, linear_shapes
from engine_models import open_at
from tiny import make_tiny_model

PROMPTS = [("How many loaves does a baker sell?", None), ("Hi", None)]


@pytest.fixture(scope="module")
def engine(tiny_model: Path):
    return open_at(tiny_model)


def adapter(base: Path, directory: Path, config: PeftConfig | None = None) -> Path:
    config = config or LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    with torch.random.fork_rng(devices=[]):
        model = load_model(base, dtype=torch.float32, device="cpu")
        get_peft_model(model, config).save_pretrained(directory)
    return directory


def whole(base: Path, directory: Path) -> Path:
    shutil.copytree(base, directory)
    tensors = load_file(directory / "model.safetensors")
    tensors["model.norm.weight"] *= 1.5
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def compared(engine, path: Path, kind: str = "full") -> Checkpoint:
    made = Checkpoint("mine", 1, kind, CheckpointStatus.OK, "", str(path), checkpoint_sha256(path))
    return as_arm(made, engine, linear=linear_shapes(engine.source.path), prompts=PROMPTS)


def edited(name: str, edit: Callable[[dict], object]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        content = json.loads((path / name).read_text())
        edit(content)
        (path / name).write_text(json.dumps(content))

    return write


def swap_two_tokens(content: dict) -> None:
    vocabulary = content["model"]["vocab"]
    one, two = (name for name, number in vocabulary.items() if number in (200, 201))
    vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]


def a_bias(path: Path) -> None:
    tensors = load_file(path / "model.safetensors")
    tensors["model.layers.0.self_attn.q_proj.bias"] = torch.ones(32)
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})


def another_end(path: Path) -> None:
    edited("tokenizer_config.json", lambda config: config.update(eos_token="<|endoftext|>"))(path)


def extra_token(special: bool) -> Callable[[dict], None]:
    token = {"content": "<new>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return lambda content: content["added_tokens"].append({"id": 400, **token, "special": special})


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "template": (
        lambda path: (path / "chat_template.jinja").write_text(
            "{% for m in messages %}{{ m['content'] }}{% endfor %}"
        ),
        "its chat template writes",
    ),
    "end tokens": (
        edited("generation_config.json", lambda config: config.update(eos_token_id=[0, 2])),
        "its responses end at the tokens",
    ),
    "tokenizer's end": (another_end, "ends a text with '<|endoftext|>'"),
    "vocabulary": (edited("tokenizer.json", swap_two_tokens), "reads 2 tokens otherwise, first 200"),
    "one token more": (
        edited("tokenizer.json", extra_token(special=False)),
        "first 400: '<new>', the base's None",
    ),
    "decoder": (
        edited("tokenizer.json", lambda t: t.update(decoder={"type": "Fuse"})),
        "puts tokens together",
    ),
    "unreadable tokenizer": (
        edited("tokenizer.json", lambda t: t.update(version="9")),
        "tokenizer.json cannot",
    ),
    "a tensor without a place": (a_bias, "has no place: model.layers.0.self_attn.q_proj.bias"),
}


@pytest.mark.parametrize(("spoil", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_model_that_differs_in_more_than_weights_has_failed(engine, tiny_model, tmp_path, spoil, reason):
    path = whole(tiny_model, tmp_path / "mine")
    assert compared(engine, path).status is CheckpointStatus.OK
    spoil(path)
    found = compared(engine, path)
    assert (found.status, found.path, found.sha256) == (CheckpointStatus.FAILED, None, None)
    assert reason in found.reason


def test_what_changes_no_text_is_no_difference(engine, tiny_model, tmp_path):
    path = whole(tiny_model, tmp_path / "mine")
    edited("tokenizer.json", extra_token(special=True))(path)  # a token to pad with, left out of texts
    edited("tokenizer_config.json", lambda config: config.update(padding_side="left", model_max_length=9))(
        path
    )
    save_file({"a": torch.ones(2)}, path / "consolidated.safetensors", metadata={"format": "pt"})
    assert compared(engine, path).status is CheckpointStatus.OK


def test_an_adapter_with_or_without_a_tokenizer_beside_it(engine, tiny_model, tmp_path):
    path = adapter(tiny_model, tmp_path / "mine")
    assert compared(engine, path, "adapter").status is CheckpointStatus.OK
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tiny_model / name, path / name)
    assert compared(engine, path, "adapter").status is CheckpointStatus.OK  # without a template of its own
    edited("tokenizer.json", swap_two_tokens)(path)
    assert "reads 2 tokens otherwise" in compared(engine, path, "adapter").reason
    (path / "tokenizer.json").unlink()
    (path / "tokenizer_config.json").unlink()
    (path / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    assert "its chat template writes" in compared(engine, path, "adapter").reason


def test_an_adapter_that_cannot_be_used_has_failed_before_it_is_asked(engine, tiny_model, tmp_path):
    prompt = adapter(
        tiny_model, tmp_path / "p", PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    )
    assert "of the kind PROMPT_TUNING" in compared(engine, prompt, "adapter").reason
    wide = adapter(make_tiny_model(tmp_path / "wide", hidden_size=64), tmp_path / "w")
    edited("adapter_config.json", lambda config: config.update(base_model_name_or_path="x"))(wide)
    assert "does not fit its base: at rank 2" in compared(engine, wide, "adapter").reason
    foreign = adapter(tiny_model, tmp_path / "f")
    edited("adapter_config.json", lambda config: config.pop("peft_type"))(foreign)
    assert "names no peft_type" in compared(engine, foreign, "adapter").reason
    empty = adapter(tiny_model, tmp_path / "e")
    (empty / "adapter_model.safetensors").write_bytes(b"")
    assert "adapter_model.safetensors cannot be read" in compared(engine, empty, "adapter").reason
