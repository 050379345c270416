"""An adapter set beside its base's weights, never merged into them, and taken off again without a trace."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel

from aftertune.engines.base import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from aftertune.engines.directory import read_json
from aftertune.engines.lora import REMEDY
from aftertune.errors import EngineError, ModelError

if TYPE_CHECKING:
    from peft import PeftModel

# The kinds of adapters that add to the prompt or to attention, or need more than the text: in a step of many
# rows side by side they would compute something else.
_OF_THE_TEXT = frozenset(
    {
        "PROMPT_TUNING",
        "MULTITASK_PROMPT_TUNING",
        "P_TUNING",
        "PREFIX_TUNING",
        "CPT",
        "CARTRIDGE",
        "ADAPTION_PROMPT",
        "XLORA",
        "POLY",
        "SHADOW",
    }
)
_WEIGHTS = torch.arange(1, 2**21, 2)  # odd: a change of a single number changes the sum


@dataclass(frozen=True, slots=True)
class AttachedAdapter:
    """A base with an adapter beside its weights; `before` is what the base held without it."""

    model: "PeftModel"
    before: dict[str, Any]

    def detach(self) -> bool:
        """Take the adapter off; False where it changed or replaced weights of the base, which is then spoilt.

        Some adapters do: those with trained biases or whole modules (`modules_to_save`), and those whose
        start is taken out of the base's weights (PiSSA, OLoRA).
        """
        unload: Any = getattr(self.model, "unload", None)
        if unload is None:  # some kinds cannot be taken off
            return False
        try:
            return contents(unload()) == self.before
        except (AttributeError, NotImplementedError, RuntimeError, ValueError):
            return False


def refuse_kind(path: Path) -> None:
    """Refuse an adapter of a kind that the engines of this machine cannot compute.

    Raises:
        ModelError: it is not peft's, or adds to the text or depends on it (prompt tuning, aLoRA, others).
    """
    file = path / ADAPTER_CONFIG
    config = read_json(file)
    kind = config.get("peft_type")
    if kind is None:
        raise ModelError(
            f"{file} names no peft_type: the adapter is of another library than peft",
            "convert it to peft's form, or merge it into its base and give the whole model",
        )
    activated = " with alora_invocation_tokens" if config.get("alora_invocation_tokens") else ""
    if kind in _OF_THE_TEXT or activated:
        raise ModelError(
            f"the adapter in {path} is of the kind {kind}{activated}, which the engines of this machine "
            "cannot compute: it adds to the prompt, or depends on the text around a token",
            "serve it and name it with `served:` and `engine: {name: openai, endpoint: …}` (audit: "
            "--endpoint), or train an adapter of another kind, such as LORA",
        )


def attach(base: PreTrainedModel, path: Path) -> AttachedAdapter:
    """Set an adapter beside the weights of `base`, in the dtype of the weights that it stands beside.

    Raises:
        EngineError: the adapter does not fit the base, whose modules are then spoilt.
        ModelError: it is of a kind that cannot be computed.
    """
    refuse_kind(path)
    from peft import PeftModel, get_peft_model_state_dict  # a second or two: not where no adapter is used

    before = contents(base)
    try:
        with warnings.catch_warnings():
            # peft 0.21 asks by a name that transformers 5.23 is renaming; nothing a user can mend.
            warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
            warnings.filterwarnings("error", message="Found missing adapter keys")
            # peft would make the adapter float32, which pulls its products out of bfloat16.
            model = PeftModel.from_pretrained(
                base, path, autocast_adapter_dtype=False, torch_device=str(base.device), local_files_only=True
            )
        with safe_open(path / ADAPTER_WEIGHTS, framework="pt") as file:
            unused = set(file.keys()) - set(get_peft_model_state_dict(model, save_embedding_layers=True))
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, UserWarning, SafetensorError) as error:
        first = " ".join(str(error).split("\n")[:2])  # torch names every tensor, a line each
        raise EngineError(f"the adapter in {path} does not fit its base: {first}", REMEDY) from error
    if unused:
        raise EngineError(
            f"the adapter in {path} has {len(unused)} tensors without a place in the base: {min(unused)} …",
            REMEDY,
        )
    return AttachedAdapter(model, before)


def contents(model: PreTrainedModel) -> dict[str, Any]:
    """What decides what a model computes: its modules with their hooks, and the bytes of its tensors.

    The bytes stand as sums, which are taken where the tensors are: of 540 MB on a processor in a tenth of a
    second. That a tensor is where it was and has torch's old count of changes says nothing: OLoRA changes
    weights through `.data`, which torch does not count.
    """
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    found: dict[str, Any] = {
        name: (tensor.dtype, tensor.shape, int(_checksum(tensor.detach())))
        for name, tensor in tensors.items()
    }
    for name, module in model.named_modules():
        hooks = [len(vars(module)[kind]) for kind in ("_forward_hooks", "_forward_pre_hooks")]
        found[f"module {name}"] = (type(module), hooks)
    return found


def _checksum(tensor: torch.Tensor) -> torch.Tensor:
    """The sum modulo 2⁶⁴ of a tensor's bytes, eight by eight, each times an odd number of its own."""
    flat = tensor.contiguous().reshape(-1).view(torch.uint8)
    flat = flat.view(torch.int64) if len(flat) % 8 == 0 and flat.data_ptr() % 8 == 0 else flat.long()
    factors, total = _WEIGHTS.to(flat.device), flat.new_zeros(())
    for place, part in enumerate(flat.split(len(factors))):
        total += (part * factors[: len(part)]).sum() * (2 * place + 1)
    return total
