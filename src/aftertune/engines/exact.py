"""What `exact` numerics need of the processor: that a row of a product does not depend on the other rows.

Libraries choose their kernels by the shape of a product, and some shapes add in another order. Where that
begins was measured (docs/log.md, 2026-11-21 and 2026-11-25); that it holds is checked on the model's own
weights whenever one is opened, since no documentation promises it.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from aftertune.engines.attention import attend
from aftertune.engines.lora import RANK_STEP
from aftertune.engines.rows import LENGTH_STEP
from aftertune.errors import EngineError

# torch 2.13 computes a bfloat16 product of at most 16³ multiplications (rows × inputs × outputs), or of a
# single row, in kernels of its own (oneDNN's side), and MKL a float32 product of less than 12 rows.
_FEWEST_ROWS = 16
_SMALL_PRODUCT = 16**3
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
_TRIED = (17, 31, 48, 64, 100, 129)  # numbers of rows, beside _FEWEST_ROWS, that must give the same bytes


def fewest_tokens(base: PreTrainedModel) -> int:
    """The least number of tokens in a step, by the smallest matrix that they go through."""
    config = base.config.get_text_config()
    shapes = [weight.shape for weight in base.parameters() if weight.ndim == 2]
    sizes = [size for shape in shapes for size in (shape.numel(), RANK_STEP * min(shape))]
    # The products of attention, for all heads of one row, over the shortest cache.
    sizes.append(config.num_attention_heads * _head_size(config) * LENGTH_STEP)
    return max(_FEWEST_ROWS, _SMALL_PRODUCT // min(sizes) + 1)


def check_exact(base: PreTrainedModel) -> None:
    """Compare the bytes of products and attention, of the model's own shapes, beside few rows and many.

    Raises:
        EngineError: some differ, or the architecture mixes rows: exact numerics cannot be promised here.
    """
    config = base.config.get_text_config()
    if any(getattr(config, name, None) for name in _EXPERTS):
        raise EngineError(
            f"numerics: exact is not promised for {config.model_type}: the rows meet in its experts",
            "write `numerics: fast`",
        )
    _check_rows(base, fewest_tokens(base))
    _check_attention(config.num_attention_heads, config.num_key_value_heads, _head_size(config), base.dtype)


def _head_size(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


@torch.inference_mode()
def _check_rows(model: nn.Module, n_fewest: int) -> None:
    """Multiply rows by a matrix of every shape in the model."""
    for weight in _one_of_each_shape(model):
        rows = _some_rows(weight, n_fewest + max(_TRIED))
        whole = nn.functional.linear(rows, weight)
        for n in (n_fewest, *(n_fewest + tried for tried in _TRIED)):
            # From another place too: what matters is neither the number of rows nor where a row stands.
            for start in (0, len(rows) - n):
                if not torch.equal(
                    nn.functional.linear(rows[start : start + n], weight), whole[start : start + n]
                ):
                    raise EngineError(
                        f"numerics: exact cannot be promised here: a product of {n} rows with a matrix of "
                        f"{tuple(weight.shape)} in {weight.dtype} differs from one of {len(rows)} rows",
                        "write `numerics: fast`, or another `engine: {dtype: …}`",
                    )


@torch.inference_mode()
def _check_attention(heads: int, key_heads: int, size: int, dtype: torch.dtype) -> None:
    """Attend beside more rows and to a longer cache than needed."""
    n_keys, most = 5 * LENGTH_STEP, 16 * LENGTH_STEP  # long enough for a library to split its sums
    for n_tokens in (1, LENGTH_STEP):
        generator = torch.Generator().manual_seed(0)
        query = torch.randn(5, heads, n_tokens, size, generator=generator).to(dtype)
        keys, values = torch.randn(2, 5, key_heads, most, size, generator=generator).to(dtype)
        hidden = (torch.arange(most) >= n_keys - 7).expand(5, 1, n_tokens, most)

        parts = (query, keys, values, hidden)
        # A single token sees the whole cache, of any length; a prompt as many keys as it needs (rows.py).
        longest = most if n_tokens == 1 else n_keys
        whole = _attended(parts, 5, longest)
        for rows, n in ((5, n_keys), (5, min(n_keys + LENGTH_STEP, longest)), (1, longest), (3, n_keys)):
            if not torch.equal(_attended(parts, rows, n), whole[:rows]):
                raise EngineError(
                    f"numerics: exact cannot be promised here: attention of {rows} rows to {n} keys in "
                    f"{dtype} differs from that of 5 rows to {longest}",
                    "write `numerics: fast`, or another `engine: {dtype: …}`",
                )


def _attended(parts: tuple[torch.Tensor, ...], n_rows: int, n_keys: int) -> torch.Tensor:
    query, keys, values, hidden = (part[:n_rows] for part in parts)
    seen, mixed = keys[:, :, :n_keys], values[:, :, :n_keys]
    return attend(query, seen, mixed, hidden[..., :n_keys], scale=0.1, softcap=None)


def _one_of_each_shape(model: nn.Module) -> Iterator[torch.Tensor]:
    """The matrices of the model's linear layers, and of adapters beside them."""
    seen: set[torch.Size] = set()
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.weight.shape not in seen:
            seen.add(module.weight.shape)
            weight = module.weight
            yield weight
            yield weight[:RANK_STEP]
            yield weight[:, :RANK_STEP].contiguous()


def _some_rows(weight: torch.Tensor, n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, weight.shape[1], generator=generator).to(weight.device, weight.dtype)
