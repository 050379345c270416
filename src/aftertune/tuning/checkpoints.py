"""Checkpoints on disk: written, found and hashed. Safetensors only; nothing is ever unpickled."""

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aftertune.engines.base import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from aftertune.engines.directory import CONFIGS, INDEX, WEIGHTS, model_files, read_json, tensor_shapes
from aftertune.errors import ModelError

if TYPE_CHECKING:
    import torch

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
# Left beside a checkpoint by trainers; says how it was made, not what it is.
BOOKKEEPING = frozenset({"trainer_state.json", "all_results.json", "train_results.json", "eval_results.json"})


def save_adapter(
    tensors: Mapping[str, "torch.Tensor"], config: Mapping[str, Any], directory: Path, *, base_name: str
) -> None:
    """Write an adapter as peft does, for `PeftModel.from_pretrained`; the same content gives the same bytes.

    Args:
        tensors: under peft's names, without the adapter's own name.
        config: peft's, as plain values.
        directory: made if it is missing.
        base_name: the model that the adapter belongs to, written as base_model_name_or_path.
    """
    _save_tensors(tensors, directory / ADAPTER_WEIGHTS)
    content = {**config, "base_model_name_or_path": base_name}
    (directory / ADAPTER_CONFIG).write_text(
        json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )


def save_full(tensors: Mapping[str, "torch.Tensor"], directory: Path, *, base: Path) -> None:
    """Write a whole model: its weights, with configuration, tokenizer and template of the base directory."""
    _save_tensors(tensors, directory / "model.safetensors")
    for pattern in CONFIGS:
        for file in base.glob(pattern):
            # The index names the base's shards; the weights here are one file, and no adapter.
            if not file.name.endswith(".safetensors.index.json") and file.name not in {
                *BOOKKEEPING,
                ADAPTER_CONFIG,
            }:
                shutil.copyfile(file, directory / file.name)


def _save_tensors(tensors: Mapping[str, "torch.Tensor"], path: Path) -> None:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    # The library orders tensors itself, by dtype and name: the bytes do not depend on the mapping's order.
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"}
    )


def kind_of(directory: Path) -> str | None:
    """`adapter`, `full`, or None where the directory itself holds neither."""
    if (directory / ADAPTER_CONFIG).is_file() and (directory / ADAPTER_WEIGHTS).is_file():
        return "adapter"
    if (directory / "config.json").is_file() and any(
        file.name != ADAPTER_WEIGHTS for file in directory.glob("*.safetensors")
    ):
        return "full"
    return None


def find_checkpoint(directory: Path) -> Path:
    """The checkpoint that a trainer left: the directory itself, its only subdirectory with one, or the last.

    Where several subdirectories hold one and all are called checkpoint-N, the highest N is the last.

    Raises:
        ModelError: there is none, there are several, or the weights are pickles.
    """
    if kind_of(directory) is not None:
        return _one_of_two(directory)
    found = [child for child in sorted(directory.iterdir()) if child.is_dir() and kind_of(child) is not None]
    if len(found) == 1:
        return _one_of_two(found[0])
    numbers = {child: match for child in found if (match := re.fullmatch(r"checkpoint-(\d+)", child.name))}
    if found and len(numbers) == len(found):
        return _one_of_two(max(numbers, key=lambda child: int(numbers[child][1])))
    if found:
        raise ModelError(
            f"{directory} holds {len(found)} checkpoints: {', '.join(child.name for child in found)}",
            "leave one in {output} itself, or in one subdirectory, or in checkpoint-N: the highest counts",
        )
    pickles = sorted({file for pattern in PICKLES for file in directory.rglob(pattern)})
    if pickles:
        raise ModelError(
            f"{directory} holds no safetensors, but pickles ({pickles[0].relative_to(directory)}), which "
            "can run code when they are loaded",
            "save with safe_serialization=True (transformers, peft) or safetensors.torch.save_file",
        )
    names = ", ".join(sorted(child.name for child in directory.iterdir())[:8]) or "nothing"
    raise ModelError(
        f"{directory} holds no checkpoint, but {names}",
        f"leave {ADAPTER_WEIGHTS} and {ADAPTER_CONFIG}, or config.json and *.safetensors, in {{output}}",
    )


def _one_of_two(directory: Path) -> Path:
    """The directory, unless it holds an adapter and a whole model: which of them is meant?"""
    whole = (directory / "config.json").is_file() and any(
        (directory / name).is_file() for name in (WEIGHTS, INDEX)
    )
    if whole and kind_of(directory) == "adapter":
        raise ModelError(
            f"{directory} holds two checkpoints: an adapter ({ADAPTER_WEIGHTS}) and a model ({WEIGHTS})",
            f"move {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS} into a directory of their own, and give the one or "
            "the other",
        )
    return directory


def linear_shapes(path: Path) -> dict[str, tuple[int, int]]:
    """The shapes of a model's weight matrices, from the headers of its files, without embeddings and output.

    Raises:
        ModelError: a file cannot be read.
    """
    # Embeddings and the output layer are matrices too, but no adapter is put on them.
    return {
        name.removesuffix(".weight"): (shape[0], shape[1])
        for name, shape in tensor_shapes(path).items()
        if name.endswith(".weight") and len(shape) == 2
        if not any(word in name for word in ("embed", "lm_head", "wte", "wpe"))
    }


def checkpoint_sha256(directory: Path) -> str:
    """The hash of a checkpoint's content: names, sizes, bytes of weights, configuration, tokenizer, template.

    The adapter's base_model_name_or_path is left out: it is a path, and a run that was moved is the same
    model.

    Raises:
        ModelError: the directory holds no checkpoint or not all of one, or one that cannot be read.
    """
    kind = kind_of(directory)
    if kind is None:
        raise ModelError(
            f"{directory} holds no checkpoint", "give a directory with weights and their configuration"
        )
    configs = {file for pattern in CONFIGS for file in directory.glob(pattern)}
    files = {directory / ADAPTER_WEIGHTS, *configs} if kind == "adapter" else model_files(directory)
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.name):
        if file.name in BOOKKEEPING:
            continue
        if file.name == ADAPTER_CONFIG:
            config = read_json(file)
            config.pop("base_model_name_or_path", None)
            content = json.dumps(config, sort_keys=True).encode()
            digest.update(f"{file.name}\0{len(content)}\0".encode() + content)
            continue
        digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
        try:
            with file.open("rb") as stream:
                while chunk := stream.read(1 << 20):
                    digest.update(chunk)
        except OSError as error:
            raise ModelError(
                f"{file} cannot be read: {error.strerror}", "make it readable, or get it again"
            ) from error
    return digest.hexdigest()
