"""Architectures whose attention our loop cannot take over: found on a model's outline, before any work.

Our attention keeps the keys and values of many rows itself, one entry a layer. So each layer must call it
once, through transformers' attention interface, and hand on the arguments that say which rows are read.
"""

from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, PreTrainedModel

from aftertune.errors import EngineError

_TRIAL = "aftertune_trial"


class _NotHandedOnError(Exception):
    """Attention was called without the model's further arguments."""


def refuse_own_attention(model: PreTrainedModel) -> None:
    """Refuse an architecture whose attention our loop cannot take over.

    Raises:
        EngineError: it does not attend through transformers' interface, hands no arguments on to it, or calls
            it more than once a layer.
    """
    if why := _why_not(model):
        raise EngineError(
            f"the architecture {model.config.model_type} {why}",
            "write `engine: {name: generate}`, or use the vllm engine",
        )


def _why_not(model: PreTrainedModel) -> str:
    """Why our attention cannot serve a model, whose attention is another afterwards; "" where it can."""
    outside = "does not attend through transformers' attention interface"
    # The only sign that transformers gives.
    if not getattr(model, "_supports_attention_backend", False):
        return outside
    calls: list[int] = []
    try:
        model.set_attn_implementation(_TRIAL)
        with torch.no_grad():
            model(
                input_ids=torch.zeros(1, 2, dtype=torch.long, device=model.device),
                position_ids=torch.zeros(1, 2, dtype=torch.long, device=model.device),
                attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=model.device),
                reading=calls,
                use_cache=False,
            )
    except _NotHandedOnError:
        return "hands no further arguments on to transformers' attention interface"
    except (RuntimeError, NotImplementedError, ValueError, TypeError, AttributeError, LookupError):
        # Experts choose by values, which an outline does not have. What was called until then counts.
        pass
    else:
        if not calls:
            return outside
    return "attends more than once in a layer" if len(set(calls)) < len(calls) else ""


def _attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    reading: list[int] | None = None,
    **extras: Any,
) -> tuple[torch.Tensor, None]:
    if reading is None:
        raise _NotHandedOnError
    layer: Any = module.layer_idx
    reading.append(layer)
    return query.new_zeros(query.shape[0], query.shape[2], query.shape[1], value.shape[3]), None


AttentionInterface.register(_TRIAL, _attention)  # without a mask function: no mask is made
