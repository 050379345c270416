"""Attention as plain matrix products, which keeps results the same whatever rows stand beside a row.

Fused attention (SDPA) changed logits when rows were permuted or their number changed; matrix products did
not (docs/log.md, 2026-11-21). The query heads that share a key head are stacked into one product, so each
key is read once: on CPU this is also faster than the fused kernel.
"""

from dataclasses import dataclass
from functools import reduce
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
    rows_at_once: int | None = None,
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
        rows_at_once: compute these with products of one shape, of so many rows; None for plain products.
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
        settings = Settings(scale, softcap, rows_at_once)
        return _read(module, query, key, value, reading, settings), None
    hidden = None if attention_mask is None else ~attention_mask
    dropout = extras.get("dropout") if module.training else None
    mixed = attend(query, key, value, hidden, Settings(scale, softcap), dropout=dropout)
    return mixed.transpose(1, 2).contiguous(), None


@dataclass(frozen=True, slots=True)
class Settings:
    """The factor on the scores, their cap, and of how many rows the products are computed at a time."""

    scale: float
    softcap: float | None = None
    rows_at_once: int | None = None


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    hidden: torch.Tensor | None,
    settings: Settings,
    *,
    dropout: float | None = None,
) -> torch.Tensor:
    """Rows × heads × tokens × size; `hidden` (rows or 1 × 1 × tokens × keys) says which keys are not seen."""
    if settings.rows_at_once is not None and hidden is not None:
        return _attend_in_fixed_shapes(query, key, value, hidden, settings)
    rows, heads, tokens, size = query.shape
    key_heads = key.shape[1]
    # Three dimensions: with four, torch would copy keys that are not contiguous element by element.
    stacked = query.reshape(rows * key_heads, -1, size)
    scores = torch.bmm(stacked, key.reshape(rows * key_heads, -1, size).transpose(1, 2))
    scores = scores.view(rows, key_heads, -1, tokens, scores.shape[-1])
    weights = _weights(scores, hidden, settings, value.dtype)
    if dropout:
        weights = nn.functional.dropout(weights, p=dropout)
    weights = weights.view(rows * key_heads, -1, weights.shape[-1])
    mixed = _sum_of_values(weights, value.reshape(rows * key_heads, -1, value.shape[-1]))
    return mixed.view(rows, heads, tokens, -1)


def _weights(
    scores: torch.Tensor, hidden: torch.Tensor | None, settings: Settings, dtype: torch.dtype
) -> torch.Tensor:
    """Softmax over the keys of scores, rows × key heads × group × tokens × keys, of which some are hidden."""
    scores = scores * settings.scale
    if settings.softcap is not None:
        scores = torch.tanh(scores / settings.softcap) * settings.softcap
    if hidden is not None:
        scores = scores.masked_fill(hidden[:, :, None], float("-inf"))
    return torch.softmax(scores, dim=-1, dtype=torch.float32).to(dtype)


def _attend_in_fixed_shapes(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, hidden: torch.Tensor, settings: Settings
) -> torch.Tensor:
    """As `attend`, with products whose shape depends neither on the rows beside a row nor on unseen keys.

    Rows are padded to a multiple of `settings.rows_at_once`, keys to a multiple of _KEYS_AT_ONCE; a product
    is one of so many rows with a block of so many keys.
    """
    (n_rows, heads, tokens, _), key_heads = query.shape, key.shape[1]
    at_once = settings.rows_at_once or n_rows
    more_rows, more_keys = -n_rows % at_once, -key.shape[2] % _KEYS_AT_ONCE
    query = nn.functional.pad(query, (0, 0, 0, 0, 0, 0, 0, more_rows))
    key, value = (nn.functional.pad(t, (0, 0, 0, more_keys, 0, 0, 0, more_rows)) for t in (key, value))
    hidden = nn.functional.pad(hidden.expand(n_rows, -1, -1, -1), (0, more_keys), value=True)
    # A padding row sees every key, of zeros: a row that sees none would have no softmax.
    hidden = nn.functional.pad(hidden, (0, 0, 0, 0, 0, 0, 0, more_rows), value=False)
    made: list[torch.Tensor] = []
    for first in range(0, n_rows, at_once):
        part = slice(first, first + at_once)
        stacked = query[part].reshape(at_once * key_heads, -1, query.shape[3])
        keys = key[part].flatten(0, 1).split(_KEYS_AT_ONCE, dim=1)
        scores = torch.cat([torch.bmm(stacked, block.transpose(1, 2)) for block in keys], dim=-1)
        scores = scores.view(at_once, key_heads, -1, tokens, scores.shape[-1])
        weights = _weights(scores, hidden[part], settings, value.dtype).flatten(0, 1).flatten(1, 2)
        values = value[part].flatten(0, 1).split(_KEYS_AT_ONCE, dim=1)
        blocks = zip(weights.split(_KEYS_AT_ONCE, dim=2), values, strict=True)
        # One after another: a block of keys that nobody sees then adds an exact zero.
        mixed = reduce(torch.add, (torch.bmm(*block).float() for block in blocks))
        made.append(mixed.to(value.dtype).view(at_once, heads, tokens, -1))
    return torch.cat(made)[:n_rows]


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
    settings: Settings,
) -> torch.Tensor:
    """A step's tokens (1 × heads × tokens × size) with the keys of their rows; 1 × tokens × heads × size."""
    layer: Any = module.layer_idx
    keys, values = reading.write(layer, key[0].transpose(0, 1), value[0].transpose(0, 1))
    mixed: list[torch.Tensor] = []
    for part in reading.parts:
        rows, n = slice(part.first, part.first + part.n_rows), part.n_tokens
        asked = query[0].index_select(1, part.tokens).view(-1, part.n_rows, n, query.shape[3])
        seen, mixing = keys[rows, :, : part.n_keys], values[rows, :, : part.n_keys]
        got = attend(asked.transpose(0, 1), seen, mixing, part.hidden, settings)
        mixed.append(got.transpose(1, 2).flatten(0, 1))
    return torch.cat(mixed).index_select(0, reading.order)[None]


def _full_mask(*args: Any, **kwargs: Any) -> torch.Tensor | None:
    # Fused attention may skip a causal mask and set a flag instead; ours reads the mask.
    kwargs["allow_is_causal_skip"] = False
    return sdpa_mask(*args, **kwargs)


AttentionInterface.register(MATMUL_ATTENTION, matmul_attention)
AttentionMaskInterface.register(MATMUL_ATTENTION, _full_mask)
