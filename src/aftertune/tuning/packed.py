"""A batch without padding: its rows one after the other, each seeing itself alone.

All layers but attention treat every token by itself, so they read the rows as one long row. Attention alone
needs the rows apart: there they are moved into a rectangle, rows × longest row, and moved back. Rows stand
at its left and attention is causal, so no token sees what fills a row up, and no mask is needed.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel

from aftertune.engines.attention import matmul_attention
from aftertune.engines.loading import context_length
from aftertune.errors import ModelError

PACKED_ATTENTION = "aftertune_packed"


@dataclass(frozen=True, slots=True)
class Segments:
    """Where the rows of a packed batch stand: token `tokens[i]` of all lines is `slots[i]` of the rectangle.

    `tokens` is None where the packed tokens are all real and in the rectangle's order.
    """

    tokens: torch.Tensor | None
    slots: torch.Tensor
    n_rows: int
    longest: int
    fused: bool  # whether attention is torch's fused kernel

    @staticmethod
    def of(lines: Sequence[Sequence[int]], *, device: torch.device, fused: bool) -> "Segments":
        """Of lines of packed rows, given the lengths of the rows of each line, padded to the longest line."""
        width = max(sum(lengths) for lengths in lines)
        longest = max(max(lengths) for lengths in lines)
        tokens, slots, n_rows = list[int](), list[int](), 0
        for line, lengths in enumerate(lines):
            tokens += range(line * width, line * width + sum(lengths))
            for length in lengths:
                slots += range(n_rows * longest, n_rows * longest + length)
                n_rows += 1
        moved = None if len(tokens) == len(lines) * width else torch.tensor(tokens, device=device)
        return Segments(moved, torch.tensor(slots, device=device), n_rows, longest, fused)


class _Moved(torch.autograd.Function):
    """Vectors moved from some places to others, zeros elsewhere; each place is used at most once."""

    @staticmethod
    def forward(
        ctx: Any,
        vectors: torch.Tensor,
        source: torch.Tensor | None,
        target: torch.Tensor | None,
        n_places: int,
    ) -> torch.Tensor:
        ctx.places = source, target, len(vectors)
        return _moved(vectors, source, target, n_places)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        source, target, n_places = ctx.places
        return _moved(grads[0], target, source, n_places), None, None, None


def _moved(
    vectors: torch.Tensor, source: torch.Tensor | None, target: torch.Tensor | None, n_places: int
) -> torch.Tensor:
    chosen = vectors if source is None else vectors.index_select(0, source)
    if target is None:
        return chosen
    return vectors.new_zeros(n_places, *vectors.shape[1:]).index_copy_(0, target, chosen)


class _CausalAttention(torch.autograd.Function):
    """Softmax attention of rows with themselves as matrix products, the softmax in float32.

    Autograd's own would keep the scores of every step of the softmax, and read them as often.
    """

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        """Rows·key heads × group × tokens × size, and rows·key heads × tokens × size twice; as the query."""
        n, group, tokens, size = query.shape
        stacked = query.reshape(n, group * tokens, size)
        future = _future(tokens, query.device)
        scores = torch.bmm(stacked, key.transpose(1, 2)).float().mul_(scaling).view(n, group, tokens, tokens)
        weights = torch.softmax(scores.add_(future), dim=-1).to(value.dtype).view(n, group * tokens, tokens)
        ctx.save_for_backward(stacked, key, value, weights)
        ctx.scaling, ctx.group = scaling, group
        return torch.bmm(weights, value).view(n, group, tokens, size)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        stacked, key, value, weights = ctx.saved_tensors
        grad = grads[0].reshape(stacked.shape)
        of_value = torch.bmm(weights.transpose(1, 2), grad)
        of_weights = torch.bmm(grad, value.transpose(1, 2)).float()
        # The softmax's own derivative; a masked score has weight 0 and so no gradient.
        of_scores = torch.ops.aten._softmax_backward_data(of_weights, weights.float(), -1, torch.float32)
        of_scores = of_scores.mul_(ctx.scaling).to(value.dtype)
        of_query = torch.bmm(of_scores, key)
        of_key = torch.bmm(of_scores.transpose(1, 2), stacked)
        shape = (len(key), ctx.group, -1, stacked.shape[-1])
        return of_query.view(shape), of_key, of_value, None


def _future(tokens: int, device: torch.device) -> torch.Tensor:
    return torch.full((tokens, tokens), float("-inf"), device=device).triu_(1)


def packed_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    segments: Segments,
    scaling: float | None = None,
    **extras: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of each row of a packed batch with itself.

    Args:
        module: the attention layer (its `training` flag switches dropout).
        query: lines × heads × tokens × size.
        key: lines × key heads × tokens × size.
        value: as `key`.
        attention_mask: not read; what a token sees follows from `segments`.
        segments: where the rows are; none is longer than the layer's window.
        scaling: factor on the scores; size ** −0.5 by default.
        **extras: as in `matmul_attention`.

    Returns:
        lines × tokens × heads × size, and None for the weights.
    """
    n_lines, heads, width, size = query.shape
    key_heads, n_slots = key.shape[1], segments.n_rows * segments.longest
    scaling = size**-0.5 if scaling is None else scaling
    dropout = extras.get("dropout") or 0.0

    def apart(heads_first: torch.Tensor) -> torch.Tensor:
        flat = heads_first.transpose(1, 2).flatten(0, 1)
        moved: Any = _Moved.apply(flat, segments.tokens, segments.slots, n_slots)
        return moved.view(segments.n_rows, segments.longest, *flat.shape[1:]).transpose(1, 2)

    # Under autocast rotated queries and keys are in float32; as there, the products are in bfloat16.
    query, key, value = apart(query.to(value.dtype)), apart(key.to(value.dtype)), apart(value)
    if extras.get("softcap") is not None or extras.get("s_aux") is not None or (dropout and module.training):
        seen = _future(segments.longest, query.device) == 0
        mixed, _ = matmul_attention(module, query, key, value, seen[None, None], scaling=scaling, **extras)
    elif segments.fused:
        mixed = functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scaling, enable_gqa=key_heads != heads
        ).transpose(1, 2)
    else:
        group = heads // key_heads
        of_key = (segments.n_rows * key_heads, group, segments.longest, size)
        attended: Any = _CausalAttention.apply(
            query.reshape(of_key), key.flatten(0, 1), value.flatten(0, 1), scaling
        )
        mixed = attended.view(segments.n_rows, heads, segments.longest, -1).transpose(1, 2)
    n_tokens = n_lines * width
    back: Any = _Moved.apply(mixed.flatten(0, 1), segments.slots, segments.tokens, n_tokens)
    return back.view(n_lines, width, *back.shape[1:]), None


AttentionInterface.register(PACKED_ATTENTION, packed_attention)  # without a mask function: no mask is made


def can_pack(model: PreTrainedModel, longest: int) -> bool:
    """Whether rows of up to `longest` tokens can stand in one line of this architecture.

    Its attention must go through transformers' interface, its layers all be attention, and no row be longer
    than a sliding window or chunk, within which plain causal attention is right.
    """
    try:
        fits = longest <= context_length(model.config)
    except ModelError:
        return False
    # The only sign that transformers gives; private, as is the next.
    return fits and bool(getattr(model, "_supports_attention_backend", False))


def attention_of(model: PreTrainedModel) -> str:
    """The name of the model's attention in transformers' interface."""
    return str(getattr(model.config, "_attn_implementation", "eager"))


@contextmanager
def packed(model: PreTrainedModel) -> Generator[None]:
    """The model reads packed batches, given `segments`."""
    before = attention_of(model)
    model.set_attn_implementation(PACKED_ATTENTION)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
