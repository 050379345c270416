"""Attention as plain matrix products, which keeps results the same whatever rows stand beside a row.

Fused attention (SDPA) changed logits when rows were permuted or their number changed; matrix products did
not (DESIGN section 3, measured). The query heads that share a key head are stacked into one product, so each
key is read once: on CPU this is also faster than the fused kernel.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from aftertune.errors import EngineError

if TYPE_CHECKING:
    from aftertune.engines.rows import Reading

MATMUL_ATTENTION = "aftertune_matmul"
# MKL splits a longer sum into blocks of its own choice, so that keys that nobody sees would change the bytes
# (docs/log.md, 2026-11-25).
_KEYS_AT_ONCE = 128


def matmul_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    reading: "Reading | None" = None,
    **extras: Any,
) -> tuple[torch.Tensor, None]:
    """Softmax attention in float32 between products in the model's own dtype.

    Args:
        module: the attention layer (its `training` flag switches dropout).
        query: rows × heads × tokens × size.
        key: rows × key heads × keys × size; `value` likewise.
        value: as `key`.
        attention_mask: boolean, rows or 1 × 1 × tokens × keys, True where a key is seen.
        scaling: factor on the scores; size ** −0.5 by default.
        reading: given where the tokens are those of many rows, which then see their rows of its cache.
        **extras: `dropout` (in training only) and `softcap`; attention sinks (`s_aux`) are refused, and a
            sliding window is in the mask already, or the engine has refused the prompt.

    Returns:
        rows × tokens × heads × size, and None for the weights.
    """
    if extras.get("s_aux") is not None:
        raise EngineError("this architecture uses attention sinks", "use another model")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    softcap = extras.get("softcap")
    if reading is not None:
        return _read(module, query, key, value, reading, scale=scale, softcap=softcap), None
    hidden = None if attention_mask is None else ~attention_mask
    dropout = extras.get("dropout") if module.training else None
    mixed = attend(query, key, value, hidden, scale=scale, softcap=softcap, dropout=dropout)
    return mixed.transpose(1, 2).contiguous(), None


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    hidden: torch.Tensor | None,
    *,
    scale: float,
    softcap: float | None,
    dropout: float | None = None,
) -> torch.Tensor:
    """Rows × heads × tokens × size; `hidden` (rows or 1 × 1 × tokens × keys) says which keys are not seen."""
    rows, heads, tokens, size = query.shape
    key_heads = key.shape[1]
    group = heads // key_heads
    # Three dimensions: with four, torch would copy keys that are not contiguous element by element.
    stacked = query.reshape(rows * key_heads, group * tokens, size)
    scores = torch.bmm(stacked, key.reshape(rows * key_heads, -1, size).transpose(1, 2)) * scale
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores.view(rows, key_heads, group, tokens, -1)
    if hidden is not None:
        scores = scores.masked_fill(hidden[:, :, None], float("-inf"))
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
    if dropout:
        weights = nn.functional.dropout(weights, p=dropout)
    weights = weights.view(rows * key_heads, group * tokens, -1)
    mixed = _sum_of_values(weights, value.reshape(rows * key_heads, -1, value.shape[-1]))
    return mixed.view(rows, heads, tokens, -1)


def _sum_of_values(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """The product of two batches; in float32 by blocks of keys, or it would depend on how many there are."""
    if weights.dtype != torch.float32:
        return torch.bmm(weights, values)
    mixed = torch.bmm(weights[:, :, :_KEYS_AT_ONCE], values[:, :_KEYS_AT_ONCE])
    for start in range(_KEYS_AT_ONCE, weights.shape[2], _KEYS_AT_ONCE):
        block = slice(start, start + _KEYS_AT_ONCE)
        mixed = torch.baddbmm(mixed, weights[:, :, block], values[:, block])
    return mixed


def _read(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    reading: "Reading",
    *,
    scale: float,
    softcap: float | None,
) -> torch.Tensor:
    """A step's tokens (1 × heads × tokens × size) with the keys of their rows; 1 × tokens × heads × size."""
    layer: Any = module.layer_idx
    keys, values = reading.write(layer, key[0].transpose(0, 1), value[0].transpose(0, 1))
    mixed: list[torch.Tensor] = []
    for part in reading.parts:
        rows, n = slice(part.first, part.first + part.n_rows), part.n_tokens
        asked = query[0].index_select(1, part.tokens).view(-1, part.n_rows, n, query.shape[3])
        seen, mixing = keys[rows, :, : part.n_keys], values[rows, :, : part.n_keys]
        got = attend(asked.transpose(0, 1), seen, mixing, part.hidden, scale=scale, softcap=softcap)
        mixed.append(got.transpose(1, 2).flatten(0, 1))
    return torch.cat(mixed).index_select(0, reading.order)[None]


def _full_mask(*args: Any, **kwargs: Any) -> torch.Tensor | None:
    # Fused attention may skip a causal mask and set a flag instead; ours reads the mask.
    kwargs["allow_is_causal_skip"] = False
    return sdpa_mask(*args, **kwargs)


AttentionInterface.register(MATMUL_ATTENTION, matmul_attention)
AttentionMaskInterface.register(MATMUL_ATTENTION, _full_mask)
