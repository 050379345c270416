import json
import re
from pathlib import Path

import pytest
import torch

from aftertune.errors import ModelError
from aftertune.tuning.checkpoints import checkpoint_sha256, find_checkpoint, kind_of, save_adapter, save_full

TENSORS = {"b": torch.arange(4.0), "a": torch.ones(2, 3, dtype=torch.bfloat16)}


def adapter(directory: Path, weights: bytes = b"w", **config: object) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "adapter_model.safetensors").write_bytes(weights)
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return directory


def full(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(b"w")
    return directory


def test_the_kind_of_a_directory(tmp_path):
    assert kind_of(adapter(tmp_path / "a")) == "adapter"
    assert kind_of(full(tmp_path / "f")) == "full"
    (tmp_path / "e").mkdir()
    assert kind_of(tmp_path / "e") is None
    (tmp_path / "e" / "config.json").write_text("{}")
    (tmp_path / "e" / "adapter_model.safetensors").write_bytes(b"w")
    assert kind_of(tmp_path / "e") is None  # an adapter without its configuration is no model


def test_the_same_content_is_saved_as_the_same_bytes(tmp_path):
    for name, tensors in (("1", TENSORS), ("2", dict(reversed(TENSORS.items())))):
        save_adapter(tensors, {"r": 4, "alpha": 8}, tmp_path / name, base_name="base")
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes()


def test_a_full_checkpoint_takes_over_all_but_the_weights(tmp_path):
    base = full(tmp_path / "base")
    (base / "tokenizer.json").write_text("{}")
    (base / "chat_template.jinja").write_text("x")
    (base / "model.safetensors.index.json").write_text("{}")
    save_full(TENSORS, tmp_path / "tuned", base=base)
    names = {file.name for file in (tmp_path / "tuned").iterdir()}
    assert names == {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"}


def test_the_output_itself_comes_before_its_subdirectories(tmp_path):
    adapter(tmp_path / "checkpoint-10")
    assert find_checkpoint(adapter(tmp_path)) == tmp_path


def test_one_subdirectory_or_the_highest_number(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "training_args.bin").touch()
    assert find_checkpoint(adapter(tmp_path / "final").parent).name == "final"
    for n in (9, 10):
        adapter(tmp_path / "numbers" / f"checkpoint-{n}")
    assert find_checkpoint(tmp_path / "numbers").name == "checkpoint-10"


def test_what_is_no_single_checkpoint_is_named(tmp_path):
    with pytest.raises(ModelError, match="holds no checkpoint, but nothing"):
        find_checkpoint(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ModelError, match=r"holds no checkpoint, but notes\.txt"):
        find_checkpoint(tmp_path)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "pytorch_model.bin").touch()
    with pytest.raises(ModelError, match=re.escape("but pickles (deep/pytorch_model.bin)")) as caught:
        find_checkpoint(tmp_path)
    assert "save_file" in caught.value.remedy
    adapter(tmp_path / "one")
    full(tmp_path / "two")
    with pytest.raises(ModelError, match="holds 2 checkpoints: one, two"):
        find_checkpoint(tmp_path)


def test_the_hash_is_of_the_content_and_not_of_the_place(tmp_path):
    one = checkpoint_sha256(adapter(tmp_path / "1", r=8, base_model_name_or_path="/here"))
    assert one == checkpoint_sha256(adapter(tmp_path / "2", base_model_name_or_path="/there", r=8))
    assert one != checkpoint_sha256(adapter(tmp_path / "3", r=16, base_model_name_or_path="/here"))
    assert one != checkpoint_sha256(
        adapter(tmp_path / "4", weights=b"v", r=8, base_model_name_or_path="/here")
    )


def test_the_hash_of_a_model_counts_its_template_and_leaves_bookkeeping_out(tmp_path):
    before = checkpoint_sha256(full(tmp_path))
    for bookkeeping in ("trainer_state.json", "training_args.bin", "optimizer.pt", "README.md"):
        (tmp_path / bookkeeping).write_text(bookkeeping)
    assert checkpoint_sha256(tmp_path) == before
    (tmp_path / "chat_template.jinja").write_text("x")
    assert checkpoint_sha256(tmp_path) != before
    with pytest.raises(ModelError, match="holds no checkpoint"):
        checkpoint_sha256(tmp_path / "none")
