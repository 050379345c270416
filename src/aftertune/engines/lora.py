"""LoRA matrices beside the layers of one base, so that rows of several adapters go through it in one pass.

A row's output is the base's plus its own adapter's, never merged (Hu et al. 2021, arXiv 2106.09685, equation
3). Only plain LoRA on linear layers can be served so; for what else peft knows, see adapters.py.
"""

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel

from aftertune.engines.base import ADAPTER_WEIGHTS
from aftertune.errors import EngineError

if TYPE_CHECKING:
    from peft import LoraConfig

REMEDY = "give an adapter that was trained on this very base"
RANK_STEP = 8  # a product with one column is a product of another kind: ranks are padded with zeros
_PREFIX, _A, _B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
# What may differ from peft's defaults: it names the adapter, is read here, or mattered in training only.
_PLAIN = {
    "task_type",
    "auto_mapping",
    "peft_version",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "r",
    "lora_alpha",
    "use_rslora",
    "target_modules",
    "lora_dropout",
}
_PLAIN_STARTS = (True, False, "gaussian", "orthogonal")  # the others change the base's weights


@dataclass(frozen=True, slots=True, eq=False)
class Lora:
    """An adapter's matrices, rank × inputs and outputs × rank, by the name of the layer they stand beside."""

    scale: float
    layers: dict[str, tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True, slots=True)
class Share:
    """An adapter's tokens in a step, of which the first `n` count and the rest is padding; None for all."""

    lora: Lora
    tokens: torch.Tensor | None = None
    n: int = 0


class Shares:
    """Which tokens of the next step go through which adapter; read by the hooks on the base's layers."""

    def __init__(self) -> None:
        self.now: Sequence[Share] = ()

    @contextmanager
    def on(self, base: PreTrainedModel) -> Generator[None]:
        """Let the linear layers of `base` heed the shares until left."""
        with ExitStack() as stack:
            for name, module in _linear(base).items():
                handle = module.register_forward_hook(self._hook(name))
                stack.callback(handle.remove)
            stack.callback(setattr, self, "now", ())
            yield

    def _hook(self, name: str) -> Any:
        def add(_: nn.Module, args: tuple[torch.Tensor], output: torch.Tensor) -> None:
            for share in self.now:
                if name not in share.lora.layers:
                    continue
                first, second = share.lora.layers[name]
                # Some architectures hand tokens on without a dimension for rows (OPT, shared experts).
                tokens = args[0].flatten(0, -2)
                inputs = args[0] if share.tokens is None else tokens[share.tokens]
                added = nn.functional.linear(nn.functional.linear(inputs, first), second) * share.lora.scale
                if share.tokens is None:
                    output += added
                else:
                    output.view(-1, output.shape[-1]).index_add_(0, share.tokens[: share.n], added[: share.n])

        return add


def plain_config(base: PreTrainedModel, path: Path) -> "LoraConfig | None":
    """The configuration of an adapter that can stand beside `base`; None where it is not plain LoRA.

    Raises:
        EngineError: it cannot be read.
    """
    from peft import LoraConfig, PeftConfig  # a second or two: not where no adapter is used

    try:
        config = PeftConfig.from_pretrained(str(path), local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise EngineError(f"the adapter in {path} cannot be read: {error}", REMEDY) from error
    if not isinstance(config, LoraConfig) or not _is_plain(config):
        return None
    return config if _targets(base, config) <= _linear(base).keys() else None


def read_lora(base: PreTrainedModel, path: Path) -> Lora:
    """The matrices of a plain adapter for `base`, in its dtype.

    Raises:
        EngineError: it cannot be read, or does not fit the base.
    """
    config = plain_config(base, path)
    assert config is not None
    try:
        tensors = load_file(path / ADAPTER_WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise EngineError(f"the adapter in {path} cannot be read: {error}", REMEDY) from error
    modules, wanted = _linear(base), _targets(base, config)
    expected = {f"{_PREFIX}{name}{end}" for name in wanted for end in (_A, _B)}
    if wrong := (expected ^ tensors.keys()) or (not wanted and {"its layers"}):
        kind = "lacks" if wrong <= expected else "has, without a place in the base,"
        raise EngineError(
            f"the adapter in {path} does not fit its base: it {kind} {len(wrong)} tensors: {min(wrong)} …",
            REMEDY,
        )
    layers: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for name in sorted(wanted):
        first, second = (tensors[f"{_PREFIX}{name}{end}"] for end in (_A, _B))
        layer = modules[name]
        if first.shape != (config.r, layer.in_features) or second.shape != (layer.out_features, config.r):
            raise EngineError(
                f"the adapter in {path} does not fit its base: at rank {config.r}, matrices of "
                f"{tuple(first.shape)} and {tuple(second.shape)} beside {name}, {tuple(layer.weight.shape)}",
                REMEDY,
            )
        layers[name] = _padded(first, second, layer.weight)
    return Lora(config.lora_alpha / (config.r**0.5 if config.use_rslora else config.r), layers)


def _targets(base: PreTrainedModel, config: "LoraConfig") -> frozenset[str]:
    from peft.tuners.tuners_utils import check_target_module_exists

    return frozenset(name for name, _ in base.named_modules() if check_target_module_exists(config, name))


def _is_plain(config: "LoraConfig") -> bool:
    from peft import LoraConfig

    default = LoraConfig(task_type=config.task_type)
    others = (f.name for f in fields(LoraConfig) if f.name not in {*_PLAIN, "init_lora_weights"})
    return config.init_lora_weights in _PLAIN_STARTS and all(
        (getattr(config, name) or None) == (getattr(default, name) or None) for name in others
    )


def _linear(base: PreTrainedModel) -> dict[str, nn.Linear]:
    """The plain linear layers of a model, without its output layer, which sees some tokens only."""
    head = base.get_output_embeddings()
    return {
        name: module
        for name, module in base.named_modules()
        if type(module) is nn.Linear and module is not head
    }


def _padded(
    first: torch.Tensor, second: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The matrices in the layer's dtype, their rank padded with zeros."""
    more = -first.shape[0] % RANK_STEP
    first, second = (matrix.to(weight.device, weight.dtype) for matrix in (first, second))
    return nn.functional.pad(first, (0, 0, 0, more)), nn.functional.pad(second, (0, more))
