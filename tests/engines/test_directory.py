"""The files of a model directory: only the model's own count, and one that cannot be read is named."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from aftertune.engines.directory import tensor_shapes, weight_files
from aftertune.engines.loading import load_model, model_sha256, outline, resolve_model
from aftertune.errors import ModelError
from aftertune.tuning.checkpoints import checkpoint_sha256, find_checkpoint, linear_shapes


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_model, tmp_path / "model")


def loaded(path: Path) -> dict[str, torch.Tensor]:
    return load_model(path, dtype=torch.float32, device="cpu").state_dict()


def with_json(name: str, **changes: Any) -> Callable[[Path], object]:
    def write(model: Path) -> None:
        content = json.loads((model / name).read_text())
        (model / name).write_text(json.dumps(content | changes))

    return write


def with_text(name: str, text: str | bytes) -> Callable[[Path], object]:
    return lambda model: (model / name).write_bytes(text if isinstance(text, bytes) else text.encode())


def sharded(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    names = sorted(tensors)
    files = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        own = {name: tensors[name] for name in names if files[name] == file}
        save_file(own, model / file, metadata={"format": "pt"})
    (model / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    (model / "model.safetensors").unlink()


def with_tensor(model: Path, name: str, *shape: int) -> None:
    tensors = load_file(model / "model.safetensors")
    save_file(tensors | {name: torch.ones(shape)}, model / "model.safetensors", metadata={"format": "pt"})


def missing_shard(model: Path) -> None:
    sharded(model)
    (model / "model-00002-of-00002.safetensors").unlink()


def no_index(model: Path) -> None:
    sharded(model)
    (model / "model.safetensors.index.json").unlink()


def index_outside(model: Path) -> None:
    sharded(model)
    index = {"metadata": {}, "weight_map": {"a": "../other.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))


def cut(model: Path) -> None:
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-64])


def bad_merges(model: Path) -> None:
    content = json.loads((model / "tokenizer.json").read_text())
    content["model"]["merges"][0] = ["zzzz", "qqqq"]
    (model / "tokenizer.json").write_text(json.dumps(content))


def a_directory_for_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").mkdir()


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing shard": (missing_shard, r"index\.json names 2 files .* first model-00002-of-00002"),
    "no index": (no_index, r"has model-00001-of-00002\.safetensors, but no model\.safetensors"),
    "index outside": (index_outside, r"index\.json names '\.\./other\.safetensors', outside"),
    "cut weights": (cut, r"model\.safetensors.* cannot be read"),
    "empty weights": (with_text("model.safetensors", b""), r"model\.safetensors cannot be read \(0 bytes\)"),
    "a directory for weights": (a_directory_for_weights, r"has model\.safetensors|has no \*\.safetensors"),
    "config cut": (with_text("config.json", "{"), r"config\.json cannot be read: it is not JSON"),
    "config a list": (with_text("config.json", "[1]"), r"config\.json holds a list"),
    "config of bytes": (with_text("config.json", b"\xff\xfe"), r"config\.json cannot be read"),
    "config without type": (with_text("config.json", '{"a": 1}'), r"config\.json names no model"),
    "config of a new type": (with_json("config.json", model_type="zz9"), r"names no model .*'zz9'"),
    "config of a wrong type": (with_json("config.json", hidden_size="big"), r"config\.json names no"),
    "generation config cut": (
        with_text("generation_config.json", '{"eos'),
        r"generation_config\.json cannot",
    ),
    "generation config a list": (with_text("generation_config.json", "[]"), r"generation_config\.json holds"),
    "no end token": (with_json("generation_config.json", eos_token_id=[]), r"generation_config\.json .*\[\]"),
    "end token a text": (with_json("generation_config.json", eos_token_id="</s>"), r"the end token '</s>'"),
    "end token a float": (with_json("generation_config.json", eos_token_id=2.0), r"the end token 2\.0"),
    "end token true": (with_json("generation_config.json", eos_token_id=True), r"the end token True"),
    "end token below": (with_json("generation_config.json", eos_token_id=-1), r"the end token -1"),
    "end token beyond": (with_json("generation_config.json", eos_token_id=[9999]), r"the end token \[9999\]"),
    "tokenizer newer": (
        with_json("tokenizer.json", version="9.0"),
        r"tokenizer\.json cannot .*upgrade|newer",
    ),
    "tokenizer of a new model": (
        with_json("tokenizer.json", model={"type": "New"}),
        r"tokenizer\.json cannot",
    ),
    "tokenizer merges": (bad_merges, r"tokenizer\.json cannot be read by tokenizers .*zzzz"),
    "tokenizer cut": (with_text("tokenizer.json", '{"a":'), r"tokenizer\.json cannot be read"),
    "tokenizer empty": (with_text("tokenizer.json", ""), r"tokenizer\.json cannot be read"),
    "tokenizer config a list": (with_text("tokenizer_config.json", "[]"), r"tokenizer_config\.json holds a"),
}


@pytest.mark.parametrize(("damage", "message"), BROKEN.values(), ids=BROKEN)
def test_a_file_that_cannot_be_read_is_named(model: Path, damage: Callable[[Path], object], message: str):
    resolve_model(str(model))
    damage(model)
    with pytest.raises(ModelError, match=message) as caught:
        resolve_model(str(model))
    assert str(model) in caught.value.what
    assert caught.value.remedy


def test_a_link_in_a_circle_and_a_file_are_no_directory(model: Path, tmp_path: Path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(ModelError, match="a link that leads nowhere or in a circle"):
        resolve_model(str(tmp_path / "a"))
    with pytest.raises(ModelError, match="is a file; give the directory"):
        resolve_model(str(model / "model.safetensors"))


def test_shards_are_the_models_and_load_the_same(model: Path, tiny_model: Path):
    sharded(model)
    assert [file.name[:11] for file in weight_files(model)] == ["model-00001", "model-00002"]
    assert tensor_shapes(model) == tensor_shapes(tiny_model)
    assert all(torch.equal(tensor, loaded(tiny_model)[name]) for name, tensor in loaded(model).items())


def test_a_second_copy_of_the_weights_is_no_part_of_the_model(model: Path):
    before = model_sha256(model), checkpoint_sha256(model), linear_shapes(model)
    tensors = {"layers.0.attention.wq.weight": torch.zeros(4, 4)}
    save_file(tensors, model / "consolidated.safetensors", metadata={"format": "pt"})
    assert (model_sha256(model), checkpoint_sha256(model), linear_shapes(model)) == before


def test_an_adapter_left_beside_the_weights_is_not_put_on_them(model: Path, caplog: pytest.LogCaptureFixture):
    before, sha256 = loaded(model), model_sha256(model)
    base = load_model(model, dtype=torch.float32, device="cpu")
    settings = LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(base, settings).save_pretrained(model)
    after = loaded(model)
    assert after.keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())
    assert resolve_model(str(model)).sha256 == sha256
    assert "also holds an adapter" in caplog.text
    with pytest.raises(ModelError, match="holds two checkpoints"):
        find_checkpoint(model)
    (model / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="holds an adapter, not a model"):
        resolve_model(str(model))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("model.layers.0.self_attn.q_proj.bias", (32,)),
        ("model.layers.7.mlp.up_proj.weight", (64, 32)),
        ("model.layers.0.self_attn.q_norm.weight", (8,)),
        ("adapter.weight", (4,)),
    ],
)
def test_tensors_without_a_place_are_refused_by_name(model: Path, name: str, shape: tuple[int, ...]):
    with_tensor(model, name, *shape)
    for read in (outline, loaded):
        with pytest.raises(ModelError, match=rf"1 tensors .*has no place: {re.escape(name)}"):
            read(model)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("model.layers.0.self_attn.rotary_emb.inv_freq", (4,)),
        ("lm_head.weight", (400, 32)),
        ("vision_tower.blocks.0.weight", (4, 4)),
        ("v_head.summary.weight", (1, 32)),
        ("mtp.layers.0.weight", (4, 4)),
    ],
)
def test_tensors_that_compute_no_text_are_left_out(model: Path, name: str, shape: tuple[int, ...]):
    with_tensor(model, name, *shape)
    assert outline(model) is not None
    assert loaded(model)


def test_the_outline_of_a_model_lacks_what_the_model_lacks(model: Path):
    tensors = load_file(model / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 of the model's weights, first model\.norm\.weight"):
        outline(model)
