"""One training: a recipe, a seed's streams, and a base model that comes back exactly as it was.

Precision: a bfloat16 model computes in bfloat16 under autocast, while what is trained (LoRA matrices, or in
full fine-tuning a copy of all weights) and AdamW's moments are in float32. A float32 model computes in
float32.
"""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from aftertune.engines.loading import has_bfloat16
from aftertune.errors import TuningError
from aftertune.records import CheckpointStatus
from aftertune.study import TuneRecipe
from aftertune.tuning.batches import plan_steps
from aftertune.tuning.checkpoints import save_adapter, save_full
from aftertune.tuning.encode import IGNORED, Example
from aftertune.tuning.optimise import Rows, StepLog, collate, optimise
from aftertune.tuning.streams import TrainingStreams
from aftertune.tuning.trainable import Tensors, made_trainable


@dataclass(frozen=True, slots=True, eq=False)
class TrainingOutcome:
    """What became of a training: OK with tensors, or DIVERGED with a reason and none.

    `rows` are the indices of the examples used, `n_tokens` all answer tokens trained on; `config` is
    peft's, for an adapter.
    """

    status: CheckpointStatus
    reason: str
    kind: str  # adapter | full
    rows: tuple[int, ...]
    n_steps: int
    n_tokens: int
    elapsed_s: float
    tensors: Tensors | None
    config: dict[str, Any] | None


def training_dtype(device: str) -> torch.dtype:
    """The dtype to load a model in for training: bfloat16 where the processor has it, else float32."""
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if has_bfloat16() else torch.float32


def train(
    model: PreTrainedModel,
    examples: Sequence[Example],
    recipe: TuneRecipe,
    *,
    streams: TrainingStreams,
    pad_token_id: int,
    on_step: Callable[[StepLog], None],
) -> TrainingOutcome:
    """Train on `examples` by the recipe; all that is random comes from `streams`.

    AdamW (Loshchilov and Hutter 2019; betas 0.9 and 0.999, epsilon 1e-8, decay on matrices only) with
    linear warm-up and decay. A step's loss is the mean over all its answer tokens, whatever the number of
    batches it is accumulated from. The model's modules, weights, flags and the global generators are
    afterwards what they were, also when `on_step` raises.

    Args:
        model: the base, in bfloat16 or float32 (in 4 bits for qlora), on its device.
        examples: the encoded rows of the data, before the subset is drawn.
        recipe: hyperparameters.
        streams: of this recipe and seed.
        pad_token_id: any id; what it stands for is masked.
        on_step: called after every step with finite numbers.

    Raises:
        TuningError: the training cannot start (dtype, method, target modules, a row too long or unanswered).
        DataError: the subset is larger than the data.
    """
    rows = streams.subset(len(examples), recipe.n)
    _check(model, chosen := [examples[row] for row in rows])
    steps = _plan(chosen, recipe, streams=streams, pad_token_id=pad_token_id, device=model.device)
    dtype, started, logs = model.dtype, time.perf_counter(), list[StepLog]()

    def log(entry: StepLog) -> None:
        logs.append(entry)
        on_step(entry)

    tensors = config = None
    with (
        _own_generators(model.device, streams),
        made_trainable(model, recipe, streams) as collect,
        _training_mode(model, checkpointing=recipe.gradient_checkpointing),
    ):
        reason = optimise(model, steps, recipe, dtype=dtype, on_step=log)
        if not reason:
            tensors, config = collect()
            if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
                reason = f"step {len(steps)}, the last, left weights that are not finite"
                tensors = config = None
    return TrainingOutcome(
        status=CheckpointStatus.DIVERGED if reason else CheckpointStatus.OK,
        reason=reason,
        kind="full" if recipe.method == "full" else "adapter",
        rows=rows,
        n_steps=len(logs),
        n_tokens=sum(entry.n_tokens for entry in logs),
        elapsed_s=time.perf_counter() - started,
        tensors=tensors,
        config=config,
    )


def _plan(
    examples: Sequence[Example],
    recipe: TuneRecipe,
    *,
    streams: TrainingStreams,
    pad_token_id: int,
    device: torch.device,
) -> list[list[Rows]]:
    """The padded batches of every step, in the order that the `order` stream gives."""
    steps = plan_steps(
        [len(example.input_ids) for example in examples],
        batch_size=recipe.batch_size,
        accumulation=recipe.accumulation,
        epochs=recipe.epochs,
        rng=streams.generator("order"),
    )
    return [[collate(examples, batch, pad_token_id, device) for batch in step] for step in steps]


def save_checkpoint(outcome: TrainingOutcome, directory: Path, *, base: Path, base_name: str) -> None:
    """Write the checkpoint of a training that ended well.

    Args:
        outcome: with status OK.
        directory: made if it is missing.
        base: the base model's directory; a full checkpoint copies its configuration and tokenizer.
        base_name: what an adapter names as its base.

    Raises:
        TuningError: the outcome has no tensors.
    """
    if outcome.tensors is None:
        raise TuningError(
            f"a training with status {outcome.status} has no checkpoint: {outcome.reason}", "lower its rate"
        )
    if outcome.config is None:
        save_full(outcome.tensors, directory, base=base)
    else:
        save_adapter(outcome.tensors, outcome.config, directory, base_name=base_name)


def _check(model: PreTrainedModel, examples: Sequence[Example]) -> None:
    if model.dtype not in (torch.bfloat16, torch.float32):
        raise TuningError(
            f"the model is in {str(model.dtype).removeprefix('torch.')}, whose gradients underflow",
            "load it in bfloat16 or float32 (training_dtype says which)",
        )
    context = getattr(model.config, "max_position_embeddings", None)
    if not all(any(label != IGNORED for label in example.labels) for example in examples):
        raise TuningError("a row has no answer to learn", "give every row an answer")
    longest = max(len(example.input_ids) for example in examples)
    if context is not None and longest > context:
        raise TuningError(
            f"a row has {longest} tokens, and the model's context is {context}",
            f"set max_length to at most {context}",
        )


@contextmanager
def _own_generators(device: torch.device, streams: TrainingStreams) -> Generator[None]:
    """Seed torch from the dropout stream, and put its generators back afterwards."""
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        seed = streams.integer("dropout")
        torch.default_generator.manual_seed(seed)
        if gpus:
            torch.cuda.manual_seed(seed)
        yield


@contextmanager
def _training_mode(model: PreTrainedModel, *, checkpointing: bool) -> Generator[None]:
    """Dropout on, and activations recomputed in the backward pass where asked for."""
    modes = [(module, module.training) for module in model.modules()]
    model.train()
    try:
        if checkpointing:
            _switch_checkpointing(model, on=True)
        yield
    finally:
        if checkpointing:
            _switch_checkpointing(model, on=False)
        for module, mode in modes:
            module.training = mode


def _switch_checkpointing(model: Any, *, on: bool) -> None:
    # transformers is renaming these methods (gradient_ → activation_); both versions are supported.
    word = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    if on:
        getattr(model, f"{word}_checkpointing_enable")({"use_reentrant": False})
    else:
        getattr(model, f"{word}_checkpointing_disable")()
        model.disable_input_require_grads()  # for an adapter, switching on also hooks the embedding
