"""One training: a recipe, a seed's streams, and a base model that comes back exactly as it was.

Precision: a bfloat16 model computes in bfloat16 under autocast, while what is trained (LoRA matrices, or in
full fine-tuning a copy of all weights) and AdamW's moments are in float32. A float32 model computes in
float32.
"""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from aftertune.engines.loading import pick_dtype
from aftertune.errors import TuningError
from aftertune.records import CheckpointStatus
from aftertune.study import TuneRecipe
from aftertune.tuning.batches import plan_steps
from aftertune.tuning.checkpoints import save_adapter, save_full
from aftertune.tuning.encode import IGNORED, Example
from aftertune.tuning.lora import NotStackableError
from aftertune.tuning.optimise import Plan, StepLog, Tokens, answer_logits, collate, optimise
from aftertune.tuning.packed import attention_of, can_pack, packed
from aftertune.tuning.streams import TrainingStreams
from aftertune.tuning.trainable import Tensors, goes_together, made_trainable


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
    dtype = pick_dtype("auto", device)
    return torch.float32 if dtype == torch.float16 else dtype  # whose gradients underflow


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
    return _train(
        model,
        examples,
        recipe,
        streams=[streams],
        pad_token_id=pad_token_id,
        on_step=lambda _, entry: on_step(entry),
    )[0]


def train_together(
    model: PreTrainedModel,
    examples: Sequence[Example],
    recipe: TuneRecipe,
    *,
    streams: Sequence[TrainingStreams],
    pad_token_id: int,
    on_step: Callable[[int, StepLog], None],
) -> list[TrainingOutcome]:
    """`train` for several seeds of a recipe, in one pass through the base where they can share it.

    The base is read once for all seeds, which a GPU does in little more time than for one. What each seed
    learns is what it learns alone, but for rounding; a seed that diverges leaves the others alone. Where the
    recipe or the architecture does not allow it, one seed is trained after another.

    Args:
        model: as in `train`, like what is not said here.
        examples: as in `train`.
        recipe: as in `train`.
        streams: of each seed.
        pad_token_id: as in `train`.
        on_step: called with a seed's place among `streams`, and its step.

    Returns:
        An outcome for each seed; `elapsed_s` is that of all where they were trained in one pass.
    """
    settings: dict[str, Any] = {"pad_token_id": pad_token_id}
    if goes_together(recipe):
        with suppress(NotStackableError):  # known before the first step ends
            return _train(model, examples, recipe, streams=streams, on_step=on_step, **settings)
    return [
        train(model, examples, recipe, streams=each, on_step=partial(on_step, place), **settings)
        for place, each in enumerate(streams)
    ]


def _train(
    model: PreTrainedModel,
    examples: Sequence[Example],
    recipe: TuneRecipe,
    *,
    streams: Sequence[TrainingStreams],
    pad_token_id: int,
    on_step: Callable[[int, StepLog], None],
) -> list[TrainingOutcome]:
    rows = [each.subset(len(examples), recipe.n) for each in streams]
    chosen = [[examples[row] for row in of_seed] for of_seed in rows]
    _check(model, used := [example for of_seed in chosen for example in of_seed])
    packs = can_pack(model, max(len(example.input_ids) for example in used))
    if not packs and len(streams) > 1:
        raise NotStackableError("rows cannot be packed for this architecture", "train one seed after another")
    plans = [_plan(of_seed, recipe, each) for of_seed, each in zip(chosen, streams, strict=True)]
    fused = model.device.type == "cuda" and attention_of(model) == "sdpa"
    dtype, started = model.dtype, time.perf_counter()
    logs: list[list[StepLog]] = [[] for _ in streams]
    made: list[tuple[Tensors, dict[str, Any] | None] | None] = [None for _ in streams]

    def log(seed: int, entry: StepLog) -> None:
        logs[seed].append(entry)
        on_step(seed, entry)

    with (
        _own_generators(model.device, streams[0]),
        made_trainable(model, recipe, streams) as trained,
        _training_mode(model, checkpointing=recipe.gradient_checkpointing),
        packed(model) if packs else nullcontext(),
    ):
        # Our own adapter layers and a bfloat16 model compute in bfloat16 by themselves.
        mixed = dtype == torch.bfloat16 and not trained.stacked

        def evaluate(batches: Sequence[Sequence[Example]]) -> tuple[torch.Tensor, Tokens]:
            tokens = collate(
                batches, packs=packs, pad_token_id=pad_token_id, device=model.device, fused=fused
            )
            with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=mixed):
                return answer_logits(model, tokens), tokens

        reasons = optimise(plans, recipe, trained, evaluate=evaluate, on_step=log)
        for seed, reason in enumerate(reasons):
            if not reason:
                tensors, config = trained.collect(seed)
                if all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
                    made[seed] = tensors, config
                else:
                    last = len(plans[seed].steps)
                    reasons[seed] = f"step {last}, the last, left weights that are not finite"
    elapsed_s = time.perf_counter() - started
    return [
        TrainingOutcome(
            status=CheckpointStatus.DIVERGED if reasons[seed] else CheckpointStatus.OK,
            reason=reasons[seed],
            kind="full" if recipe.method == "full" else "adapter",
            rows=rows[seed],
            n_steps=len(logs[seed]),
            n_tokens=sum(entry.n_tokens for entry in logs[seed]),
            elapsed_s=elapsed_s,
            tensors=result[0] if result else None,
            config=result[1] if result else None,
        )
        for seed, result in enumerate(made)
    ]


def _plan(examples: Sequence[Example], recipe: TuneRecipe, streams: TrainingStreams) -> Plan:
    """The batches of every step, in the order that the `order` stream gives."""
    steps = plan_steps(
        [len(example.input_ids) for example in examples],
        batch_size=recipe.batch_size,
        accumulation=recipe.accumulation,
        epochs=recipe.epochs,
        rng=streams.generator("order"),
    )
    return Plan(examples, steps)


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
