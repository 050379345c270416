"""The files of a model directory: which of them are the model's, and what they say.

What transformers reads counts and nothing else: model.safetensors, or the shards that its index names. Other
weights beside them (consolidated.safetensors of Mistral's repositories, an adapter) are no part of the model.
"""

import json
import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from aftertune.engines.base import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from aftertune.errors import AftertuneError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What decides a model's output beside its weights: configuration, tokenizer and template.
CONFIGS = ("*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt")
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# Where transformers looks for an adapter to put on a model that it loads: never in the model's own directory.
WITHOUT_ADAPTER: dict[str, Any] = {"adapter_kwargs": {"subfolder": "no-adapter-of-the-directory"}}
_TOKENIZER_FILES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.json")
_DISTRIBUTED = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")
# Parts of a checkpoint that compute no text of a language model, by the first part of their names; and values
# that transformers computes itself, or that a quantized cache would use.
_UNUSED = re.compile(
    r"^(model\.)?(vision|visual|image|audio|speech|mm_projector|multi_modal_projector|embed_vision"
    r"|embed_audio|v_head|value_head|mtp)(_\w+)?\."
    r"|rotary_emb\.inv_freq$|\.masked_bias$|attn\.[kv]_scale$"
)


def weight_files(path: Path) -> list[Path]:
    """The files that hold the weights of a model directory: those that transformers reads, and no others.

    Raises:
        ModelError: there are none, or not all of them.
    """
    if any(_DISTRIBUTED.fullmatch(file.name) for file in path.glob("shard-*.safetensors")):
        raise ModelError(
            f"{path} holds a distributed checkpoint (shard-*.safetensors)",
            "save the whole model with save_pretrained",
        )
    named = read_json(path / "config.json").get("transformers_weights")
    index = path / (named if isinstance(named, str) else WEIGHTS)
    if not index.is_file():
        index = path / INDEX if named is None and (path / INDEX).is_file() else index
    if not index.is_file():
        raise _no_weights(path, index.name)
    names = _shards(index) if index.name.endswith(".index.json") else [index.name]
    missing = [name for name in names if not (path / name).is_file()]
    if missing:
        raise ModelError(
            f"{index} names {len(names)} files of weights, of which {len(missing)} are missing, "
            f"first {missing[0]}",
            "get the missing files, or save the model again with save_pretrained",
        )
    return [path / name for name in names]


def _no_weights(path: Path, wanted: str) -> ModelError:
    others = sorted(file.name for file in path.glob("*.safetensors") if file.name != ADAPTER_WEIGHTS)
    pickled = sorted(file.name for file in path.glob("*.bin"))
    if others:
        return ModelError(
            f"{path} has {others[0]}, but no {wanted} and no {INDEX}",
            "get the index too, or save the model again with save_pretrained",
        )
    if (path / ADAPTER_CONFIG).is_file():
        return ModelError(
            f"{path} holds an adapter, not a model",
            "give the model that it was trained on as the base, and the adapter as a checkpoint",
        )
    return ModelError(
        f"{path} has only pickled weights ({pickled[0]})" if pickled else f"{path} has no *.safetensors",
        "save the model with save_pretrained(..., safe_serialization=True)",
    )


def _shards(index: Path) -> list[str]:
    listed = read_json(index)
    names = listed.get("weight_map")
    files = sorted({str(name) for name in names.values()}) if isinstance(names, dict) else []
    outside = [name for name in files if PurePosixPath(name).is_absolute() or ".." in name.split("/")]
    if not files or outside or not isinstance(listed.get("metadata"), dict):
        what = (
            f"names {outside[0]!r}, outside its directory" if outside else "has no weight_map or no metadata"
        )
        raise ModelError(
            f"{index} {what}", "get the index again, or save the model again with save_pretrained"
        )
    return files


def model_files(path: Path) -> list[Path]:
    """The files that decide what a model directory computes; an adapter that was left in it is not read.

    Raises:
        ModelError: its weights are not there.
    """
    configs = {file for pattern in CONFIGS for file in path.glob(pattern)}
    return sorted({*weight_files(path), *configs} - {path / ADAPTER_CONFIG})


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a model's tensors, from the headers of its files.

    Raises:
        ModelError: a file is missing or cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, tuple[int, ...]] = {}
    for file in weight_files(path):
        try:
            with safe_open(file, framework="np") as tensors:
                shapes |= {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            size = f" ({file.stat().st_size} bytes)" if file.stat().st_size < 1000 else ""
            raise ModelError(
                f"{file} cannot be read{size}: {error}", "get or save the model again"
            ) from error
    return shapes


def read_json(file: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        ModelError: it cannot be read, or holds something else.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else f"it is not JSON: {error}"
        raise ModelError(f"{file} cannot be read: {why}", "get the file again, or save it again") from error
    if not isinstance(content, dict):
        raise ModelError(
            f"{file} holds a {type(content).__name__}, not an object", "get the file again, or save it again"
        )
    return content


def read_config(path: Path) -> Any:
    """The configuration of a model directory.

    Raises:
        ModelError: there is none, or transformers does not know it.
    """
    from transformers import AutoConfig  # seconds: not where only files are hashed

    file = path / "config.json"
    kind = read_json(file).get("model_type")
    with reading(
        f"{file} names no model that transformers knows (model_type {kind!r})",
        "give the directory that save_pretrained wrote; a new architecture may need a newer transformers",
    ):
        return AutoConfig.from_pretrained(path, trust_remote_code=False)


def read_tokenizer(path: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer of a model directory.

    Raises:
        ModelError: there is none, or it cannot be read.
    """
    import tokenizers
    from transformers import AutoTokenizer

    for name in _TOKENIZER_FILES:
        if (path / name).is_file():
            read_json(path / name)
    if (path / "tokenizer.json").is_file():
        with reading(
            f"{path / 'tokenizer.json'} cannot be read by tokenizers {tokenizers.__version__}",
            "get the file again; if a newer version wrote it, upgrade tokenizers and transformers",
        ):
            tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
    with reading(f"{path} has no usable tokenizer", "save the tokenizer beside the weights"):
        return AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True)


def named_end_tokens(path: Path) -> frozenset[int]:
    """The end tokens that the generation config of a model directory names, or else its config.

    Raises:
        ModelError: neither names one, or what is named is no token.
    """
    config, file = read_config(path).get_text_config(), path / "generation_config.json"
    named = read_json(file).get("eos_token_id") if file.is_file() else None
    if named is None:
        file, named = path / "config.json", config.eos_token_id
    if named is None:
        raise ModelError(
            f"the model in {path} names no end token", "write eos_token_id into its generation_config.json"
        )
    ends = named if isinstance(named, list) else [named]
    n_tokens = getattr(config, "vocab_size", None) or float("inf")
    # A token beyond the vocabulary is never generated: it may stand beside one that is.
    if not ends or not all(type(end) is int and end >= 0 for end in ends) or min(ends) >= n_tokens:
        raise ModelError(
            f"{file} names the end token {named!r}; a response would never end",
            f"write eos_token_id as the number of a token, below {n_tokens}, or a list of such",
        )
    return frozenset(ends)


def refuse_unused(path: Path, unexpected: set[str]) -> None:
    """Refuse tensors for which the architecture has no place; a model without them is another model.

    Raises:
        ModelError: there are some that would compute text.
    """
    lost = sorted(name for name in unexpected if not _UNUSED.search(name))
    if lost:
        raise ModelError(
            f"the weights in {path} hold {len(lost)} tensors for which the architecture of its config.json "
            f"has no place: {', '.join(lost[:4])}{', …' if len(lost) > 4 else ''}",
            "put the config.json of these weights beside them (attention_bias, num_hidden_layers, "
            "architectures), or save the model again with save_pretrained",
        )


@contextmanager
def reading(what: str, remedy: str) -> Generator[None]:
    """Let a fault in a file say what it is a fault of."""
    try:
        yield
    except (AftertuneError, MemoryError):
        raise
    except Exception as error:  # tokenizers raises bare exceptions, transformers and pydantic any kind
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
        raise ModelError(f"{what}: {first[:300]}", remedy) from error


def missing_directory(name: str) -> str | None:
    """Why a path that is there is no directory to read; None where it is one, or nothing is there."""
    if not os.path.lexists(name) or os.path.isdir(name):
        return None
    if os.path.isfile(name):
        return "is a file; give the directory that it is in"
    return "is a link that leads nowhere or in a circle" if os.path.islink(name) else "is no directory"
