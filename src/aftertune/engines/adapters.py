"""An adapter set beside its base's weights, never merged into them, and taken off again without a trace."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel

from aftertune.engines.base import ADAPTER_WEIGHTS
from aftertune.engines.lora import REMEDY
from aftertune.errors import EngineError

if TYPE_CHECKING:
    from peft import PeftModel

Storage = dict[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class AttachedAdapter:
    """A base with an adapter beside its weights; `storage` says where the base's weights stood before."""

    model: "PeftModel"
    storage: Storage

    def detach(self) -> bool:
        """Take the adapter off; False where it changed or replaced weights of the base, which is then spoilt.

        Some adapters do: those with trained biases or whole modules (`modules_to_save`), and those whose
        start is taken out of the base's weights (PiSSA, OLoRA).
        """
        base = self.model.unload()
        return _storage(cast(PreTrainedModel, base)) == self.storage


def attach(base: PreTrainedModel, path: Path) -> AttachedAdapter:
    """Set an adapter beside the weights of `base`, in the dtype of the weights that it stands beside.

    Raises:
        EngineError: the adapter does not fit the base, whose modules are then spoilt.
    """
    from peft import PeftModel, get_peft_model_state_dict  # a second or two: not where no adapter is used

    storage = _storage(base)
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
    return AttachedAdapter(model, storage)


def _storage(model: PreTrainedModel) -> Storage:
    # A tensor's version counts its changes in place, so an equal pair means that no byte was changed.
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: (tensor.data_ptr(), tensor._version) for name, tensor in tensors.items()}
