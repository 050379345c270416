"""A model made trainable for the length of one training, and given back exactly as it was."""

import importlib.util
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.helpers import disable_input_dtype_casting
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from aftertune.engines.directory import WITHOUT_ADAPTER
from aftertune.errors import TuningError
from aftertune.study import TuneRecipe
from aftertune.tuning.lora import LoraStack, NotStackableError
from aftertune.tuning.streams import TrainingStreams

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Trainable:
    """What is trained: of one seed, or of several, whose tensors are then stacked along the first axis.

    `collect`, called for a seed (by its place) whose training went well, gives the checkpoint's tensors, on
    the CPU, and the adapter's configuration.
    """

    parameters: Sequence[torch.nn.Parameter]
    stacked: bool
    collect: Callable[[int], tuple[Tensors, dict[str, Any] | None]]


def goes_together(recipe: TuneRecipe) -> bool:
    """Whether several seeds of the recipe can be trained in one pass: adapters without dropout."""
    return recipe.method == "lora" and recipe.dropout == 0


def made_trainable(model: PreTrainedModel, recipe: TuneRecipe, streams: Sequence[TrainingStreams]) -> Any:
    """The context in which `model` itself can be trained by the recipe's method; it yields a `Trainable`.

    On leaving, however that comes about, the model's modules, weights and flags are what they were.

    Args:
        model: the base.
        recipe: says method and target modules.
        streams: of each seed; several only where the recipe `goes_together`.

    Raises:
        TuningError: the method does not fit how the model was loaded, or the target modules are not in it.
        NotStackableError: several seeds, and the model has target modules that are not plain linear layers.
    """
    in_4bit = bool(getattr(model, "is_loaded_in_4bit", False))
    if recipe.method == "qlora":
        require_qlora()
    if in_4bit != (recipe.method == "qlora"):
        state = "is" if in_4bit else "is not"
        raise TuningError(
            f"method {recipe.method} cannot train this model: it {state} loaded in 4 bits",
            "load it with load_quantized for method qlora, and with load_model for the others",
        )
    return _full(model) if recipe.method == "full" else _adapter(model, recipe, streams)


@contextmanager
def _adapter(
    model: PreTrainedModel, recipe: TuneRecipe, streams: Sequence[TrainingStreams]
) -> Generator[Trainable]:
    """LoRA matrices in float32 beside frozen base weights (Hu et al. 2021, arXiv 2106.09685)."""
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    targets = recipe.target_modules
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=recipe.rank,
        lora_alpha=cast(int, 2 * recipe.rank if recipe.alpha is None else recipe.alpha),  # a float is as good
        lora_dropout=recipe.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
    )
    try:
        with warnings.catch_warnings():
            # peft 0.21 asks by a name that transformers 5.23 is renaming; nothing a user can mend.
            warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
            adapted = cast(PeftModel, get_peft_model(model, config))
    except ValueError as error:
        _restore(flags)
        raise TuningError(
            f"target_modules {targets!r} do not fit the model: {error}",
            "write all-linear, or names of its layers",
        ) from error
    try:
        layers = {name: layer for name, layer in adapted.named_modules() if isinstance(layer, LoraLayer)}
        if goes_together(recipe) and all(_is_plain(layer) for layer in layers.values()):
            yield _stacked(adapted, layers, config, streams)
            return
        if len(streams) > 1:
            raise NotStackableError(
                "a target module is not a plain linear layer", "train one seed after another"
            )
        _initialise(adapted, streams[0])
        # Autocast does the casting; peft's own would make a float32 copy of every input first.
        with disable_input_dtype_casting(adapted):
            trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
            yield Trainable(trained, stacked=False, collect=lambda _: _collected(adapted, config))
    finally:
        adapted.unload()
        _restore(flags)


def _is_plain(layer: Any) -> bool:
    return type(layer) is LoraLinear and type(layer.base_layer) is torch.nn.Linear


def _stacked(
    adapted: PeftModel, layers: dict[str, Any], config: LoraConfig, streams: Sequence[TrainingStreams]
) -> Trainable:
    """Our own layers in place of peft's, whose matrices serve for their names only."""
    stacks = [
        LoraStack(
            layer,
            [
                _drawn(layer.lora_A["default"].weight, f"{name}.lora_A.default.weight", each)
                for each in streams
            ],
        )
        for name, layer in layers.items()
    ]

    def collect(seed: int) -> tuple[Tensors, dict[str, Any]]:
        for stack in stacks:
            stack.write_back(seed)
        return _collected(adapted, config)

    return Trainable([p for stack in stacks for p in (stack.a, stack.b)], stacked=True, collect=collect)


def _collected(adapted: PeftModel, config: LoraConfig) -> tuple[Tensors, dict[str, Any]]:
    return _on_cpu(get_peft_model_state_dict(adapted, save_embedding_layers=False)), _plain(config)


def _initialise(adapted: PeftModel, streams: TrainingStreams) -> None:
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if ".lora_A." in name:
                parameter.copy_(_drawn(parameter, name, streams))
            elif ".lora_B." in name:
                parameter.zero_()


def _drawn(matrix: torch.Tensor, name: str, streams: TrainingStreams) -> torch.Tensor:
    """A uniform in ±1/√(inputs), B zero: peft's own start, but drawn from the `init` stream, by matrix."""
    bound = matrix.shape[1] ** -0.5
    drawn = streams.generator("init", name).uniform(-bound, bound, size=tuple(matrix.shape))
    return torch.from_numpy(drawn).to(matrix)


@contextmanager
def _full(model: PreTrainedModel) -> Generator[Trainable]:
    """All weights trained on a float32 copy; the originals are set aside, untouched, and put back."""
    kept = [(parameter, parameter.data, parameter.requires_grad) for parameter in model.parameters()]
    dtypes = {name: parameter.dtype for name, parameter in model.named_parameters()}
    try:
        for parameter, data, _ in kept:
            parameter.data = data.to(torch.float32, copy=True)
            parameter.requires_grad_(True)
        # named_parameters names tied weights once, as a saved model does.
        yield Trainable(
            list(model.parameters()),
            stacked=False,
            collect=lambda _: (
                _on_cpu({name: p.to(dtypes[name]) for name, p in model.named_parameters()}),
                None,
            ),
        )
    finally:
        for parameter, data, flag in kept:
            parameter.grad = None
            parameter.data = data
            parameter.requires_grad_(flag)


def require_qlora() -> None:
    """Refuse method qlora where it cannot run.

    Raises:
        TuningError: bitsandbytes is missing.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise TuningError(
            "method qlora needs the package bitsandbytes, which is not installed",
            "pip install 'aftertune[qlora]', or write method: lora",
        )


def load_quantized(path: Path, *, device: str) -> PreTrainedModel:
    """A model in 4-bit NormalFloat, its constants quantized too (Dettmers et al. 2023, arXiv 2305.14314).

    Its matrices need a number of inputs that is a multiple of 64 on a CPU, bitsandbytes' block there.

    Raises:
        TuningError: bitsandbytes is missing.
    """
    require_qlora()
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return AutoModelForCausalLM.from_pretrained(
        path,
        quantization_config=config,
        dtype=torch.bfloat16,
        device_map={"": device},
        use_safetensors=True,
        local_files_only=True,
        **WITHOUT_ADAPTER,
    )


def _restore(flags: list[tuple[torch.nn.Parameter, bool]]) -> None:
    for parameter, flag in flags:
        parameter.requires_grad_(flag)


def _on_cpu(tensors: Tensors) -> Tensors:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def _plain(config: LoraConfig) -> dict[str, Any]:
    """The configuration as JSON values; sets sorted, whose order would change from process to process."""
    content = {**config.to_dict(), "inference_mode": True}
    return {
        key: sorted(value) if isinstance(value, set) else value.value if isinstance(value, Enum) else value
        for key, value in content.items()
    }
