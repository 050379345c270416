"""The steps of a training: batches into loss, loss into gradients, gradients into new weights."""

import math
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from aftertune.study import TuneRecipe
from aftertune.tuning.batches import Batch, learning_rate
from aftertune.tuning.encode import IGNORED, Example
from aftertune.tuning.packed import Segments
from aftertune.tuning.trainable import Trainable


@dataclass(frozen=True, slots=True)
class StepLog:
    """One optimizer step, counted from 1.

    `loss` is the mean cross-entropy, in nats, of the step's `n_tokens` answer tokens before the update, and
    `grad_norm` the gradient's norm before clipping. `elapsed_s` counts from the start of the training.
    """

    step: int
    loss: float
    learning_rate: float
    n_tokens: int
    grad_norm: float
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps of one seed: of each step its batches of rows of `examples`."""

    examples: Sequence[Example]
    steps: Sequence[Sequence[Batch]]


@dataclass(frozen=True, slots=True)
class Tokens:
    """A batch as the model reads it, lines × tokens: packed rows and `segments`, or a row a line and a mask.

    `before` are the places, counted through all lines, whose next token has a label; `answers` the labels.
    `seeds` says whose each label is.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    attention_mask: torch.Tensor | None
    segments: Segments | None
    before: torch.Tensor
    answers: torch.Tensor
    seeds: torch.Tensor


def collate(
    batches: Sequence[Sequence[Example]], *, packs: bool, pad_token_id: int, device: torch.device, fused: bool
) -> Tokens:
    """A batch of each seed as one line of packed rows, or (of a single seed) its rows padded on the right."""
    if not packs:
        batches = [[row] for row in batches[0]]
    lines = [[len(row.input_ids) for row in line] for line in batches]
    width = max(sum(lengths) for lengths in lines)
    ids = torch.full((len(lines), width), pad_token_id)
    positions = torch.zeros((len(lines), width), dtype=torch.long)
    labels = torch.full((len(lines), width), IGNORED)
    mask = torch.zeros((len(lines), width), dtype=torch.long)
    for line, rows in enumerate(batches):
        n = sum(lines[line])
        ids[line, :n] = torch.tensor([i for row in rows for i in row.input_ids])
        positions[line, :n] = torch.tensor([i for row in rows for i in range(len(row.input_ids))])
        # The first token of a row is nobody's next.
        following = [i for row in rows for i in (*row.labels[1:], IGNORED)]
        labels[line, :n] = torch.tensor(following)
        mask[line, :n] = 1
    before = (labels.flatten() != IGNORED).nonzero()[:, 0]
    moved = [t.to(device) for t in (ids, positions, mask, before, labels.flatten()[before], before // width)]
    ids, positions, mask, before, answers, line_of = moved
    if not packs:
        return Tokens(ids, positions, mask, None, before, answers, torch.zeros_like(line_of))
    segments = Segments.of(lines, device=device, fused=fused)
    return Tokens(ids, positions, None, segments, before, answers, line_of)


# From a batch of each seed: the logits, answers × vocabulary, and what was read.
Evaluate = Callable[[Sequence[Sequence[Example]]], tuple[torch.Tensor, Tokens]]


def optimise(
    plans: Sequence[Plan],
    recipe: TuneRecipe,
    trained: Trainable,
    *,
    evaluate: Evaluate,
    on_step: Callable[[int, StepLog], None],
) -> list[str]:
    """Run all steps of all seeds; of each the reason why its training diverged, or an empty string.

    A step is the same for every seed but for its rows, since AdamW works element by element; only the
    gradient is clipped by each seed's own norm. A seed that diverges reads on, at weights of 0, and its
    losses are not looked at.

    Args:
        plans: of each seed, with equally many steps and batches.
        recipe: hyperparameters.
        trained: the parameters.
        evaluate: runs the model, what is trained being in place.
        on_step: told a seed's place and its step.
    """
    parameters = trained.parameters
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": recipe.weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=recipe.learning_rate,
        betas=(0.9, 0.999),
        fused=True,
    )
    n_steps, started = len(plans[0].steps), time.perf_counter()
    reasons = [""] * len(plans)
    for step in range(n_steps):
        rate = learning_rate(step, n_steps=n_steps, peak=recipe.learning_rate, warmup=recipe.warmup)
        for group in optimizer.param_groups:
            group["lr"] = rate
        n_tokens = [_count_answers(plan, step) for plan in plans]
        losses = _backward(plans, step, trained.parameters[0].device, n_tokens, evaluate)
        norms = _clip(trained, len(plans), recipe.max_grad_norm)
        values = torch.stack([losses, norms]).tolist()
        for seed, (loss, norm) in enumerate(zip(*values, strict=True)):
            if not (reasons[seed] or (math.isfinite(loss) and math.isfinite(norm))):
                reasons[seed] = (
                    f"step {step + 1} of {n_steps}: the loss is {loss} and the gradient's norm {norm}"
                )
        if all(reasons):
            return reasons
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        for seed in range(len(plans)):
            if reasons[seed]:
                _silence(trained, optimizer, seed)
            else:
                elapsed = time.perf_counter() - started
                log = StepLog(step + 1, values[0][seed], rate, n_tokens[seed], values[1][seed], elapsed)
                on_step(seed, log)
    return reasons


def _count_answers(plan: Plan, step: int) -> int:
    rows = [plan.examples[row] for batch in plan.steps[step] for row in batch]
    return sum(label != IGNORED for row in rows for label in row.labels[1:])


def _backward(
    plans: Sequence[Plan], step: int, device: torch.device, n_tokens: Sequence[int], evaluate: Evaluate
) -> torch.Tensor:
    """Every seed's loss in a step, its mean cross-entropy in nats; the gradients of all are added up."""
    counts = torch.tensor(n_tokens, dtype=torch.float32, device=device)
    losses = torch.zeros_like(counts)
    for batches in zip(*(plan.steps[step] for plan in plans), strict=True):
        rows = [[plan.examples[i] for i in batch] for plan, batch in zip(plans, batches, strict=True)]
        logits, tokens = evaluate(rows)
        each: Any = _CrossEntropy.apply(logits, tokens.answers)
        parts = torch.zeros_like(counts).index_add(0, tokens.seeds, each) / counts
        parts.sum().backward()
        losses += parts.detach()
    return losses


def _clip(trained: Trainable, n_seeds: int, max_norm: float) -> torch.Tensor:
    """Clip each seed's gradient by its norm; the norms before that."""
    norms: list[torch.Tensor] = []
    for seed in range(n_seeds):
        grads = _of_seed(trained, [p.grad for p in trained.parameters if p.grad is not None], seed)
        norm = torch.nn.utils.get_total_norm(grads)
        # As torch.nn.utils.clip_grad_norm_ does it.
        factor = torch.clamp(max_norm / (norm + 1e-6), max=1.0)
        for grad in grads:
            grad.mul_(factor)
        norms.append(norm)
    return torch.stack(norms)


def _of_seed(trained: Trainable, tensors: Sequence[torch.Tensor], seed: int) -> list[torch.Tensor]:
    return [tensor[seed] for tensor in tensors] if trained.stacked else list(tensors)


def _silence(trained: Trainable, optimizer: torch.optim.Optimizer, seed: int) -> None:
    """Weights and moments to 0: what is not finite would go on to cost time and mean nothing."""
    with torch.no_grad():
        for parameter in trained.parameters:
            state = optimizer.state[parameter]
            for tensor in (parameter, state["exp_avg"], state["exp_avg_sq"]):
                tensor[seed].zero_()


def answer_logits(model: PreTrainedModel, tokens: Tokens) -> torch.Tensor:
    """Answers × vocabulary."""
    extras: dict[str, Any] = (
        {"attention_mask": tokens.attention_mask}
        if tokens.segments is None
        else {"segments": tokens.segments}
    )
    with _logits_only_at(tokens.before, model):
        logits = model(
            input_ids=tokens.input_ids, position_ids=tokens.position_ids, use_cache=False, **extras
        ).logits
    return logits[0]


@contextmanager
def _logits_only_at(places: torch.Tensor, model: PreTrainedModel) -> Generator[None]:
    """Let the output layer see some places only, so that logits are 1 × answers × vocabulary.

    The vocabulary is the largest matrix of a small model, and most tokens are prompt. A hook on the layer
    keeps the rest of the model's own forward (scaling, soft caps), which calling its parts would skip.
    """
    head = cast(nn.Module, model.get_output_embeddings())
    hook = head.register_forward_pre_hook(
        lambda _, args: (args[0].flatten(0, 1).index_select(0, places)[None], *args[1:])
    )
    try:
        yield
    finally:
        hook.remove()


class _CrossEntropy(torch.autograd.Function):
    """Of each answer, in nats; the gradient is made going forward, some rows at a time.

    Autograd's own would keep float32 logits and log-probabilities of the whole vocabulary.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        """Answers × vocabulary, and one index of the vocabulary for each answer."""
        losses = logits.new_empty(len(answers), dtype=torch.float32)
        grads = torch.empty_like(logits)
        rows = 1 if not len(answers) else _CHUNK if logits.device.type == "cpu" else 1024
        for start in range(0, len(answers), rows):
            part = slice(start, start + rows)
            chunk, wanted = logits[part].float(), answers[part, None]
            total = torch.logsumexp(chunk, dim=-1, keepdim=True)
            losses[part] = (total - chunk.gather(1, wanted))[:, 0]
            probabilities = torch.sub(chunk, total).exp_()
            probabilities.scatter_add_(1, wanted, probabilities.new_full(wanted.shape, -1.0))
            grads[part] = probabilities
        ctx.save_for_backward(grads)
        return losses

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        (of_logits,) = ctx.saved_tensors
        return of_logits * grads[0][:, None].to(of_logits.dtype), None


_CHUNK = 16  # rows whose logits stay in a CPU's cache
