"""Which way of computing keeps `exact` numerics on this processor: the first that passes a check.

Exact means that a row's bytes do not depend on the other rows. No documentation of a library promises it, so
it is tried: with products of the shapes of the model at hand, in its dtype and with the threads in use. What
was found is remembered for the same model, processor and versions.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from aftertune.engines.attention import Settings, attend
from aftertune.engines.lora import RANK_STEP, Lora
from aftertune.engines.products import MOST_ROWS, PLAIN, Way
from aftertune.engines.rows import LENGTH_STEP
from aftertune.errors import StoreError
from aftertune.sources import cache_directory
from aftertune.store import content_key, replace

CHECK_REVISION = 1  # raise it when the check or the order of the ways changes: what is remembered is void

MOST_ASKED = 145  # rows of the output layer's product in one step

# torch 2.13 computes a bfloat16 product of at most 16³ multiplications (rows × inputs × outputs), or of a
# single row, in kernels of its own (oneDNN's side), and MKL a float32 product of less than 12 rows.
_FEWEST_ROWS = 16
_SMALL_PRODUCT = 16**3
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
_RANKS = (RANK_STEP, 16, 32, 64, 128)  # of adapters beside a layer
# Numbers of rows that must give the same bytes, beside the fewest: of the tokens of a step, which are many
# where it reads prompts, and of those after which logits are asked for.
_TRIED = (17, 31, 48, 64, 77, 100, 128, 129, 145, 192, 256, 320, 511, 640, MOST_ROWS)
_TRIED_ASKED = (31, 64, 100, 129, MOST_ASKED)
_SEEDS = (0, 1)

# Fastest first (docs/machines.md): padding costs most where few rows are left.
_PRODUCTS = (
    PLAIN,
    *(Way(rows=rows) for rows in (128, 64)),
    *(Way(rows=rows, padded=True) for rows in (64, 32, 128, 16)),
)
_ATTENTION_ROWS = (None, 16, 1)


@dataclass(frozen=True, slots=True)
class Found:
    """The way that passed; or None, and what differed under the way that was tried first."""

    way: Way | None
    difference: str = ""


def fewest_tokens(base: PreTrainedModel) -> int:
    """The least number of tokens in a step, by the smallest matrix that they go through."""
    config = base.config.get_text_config()
    shapes = [weight.shape for weight in base.parameters() if weight.ndim == 2]
    sizes = [size for shape in shapes for size in (shape.numel(), RANK_STEP * min(shape))]
    # The products of attention, for all heads of one row, over the shortest cache.
    sizes.append(config.num_attention_heads * _head_size(config) * LENGTH_STEP)
    return max(_FEWEST_ROWS, _SMALL_PRODUCT // min(sizes) + 1)


def exact_way(load_base: Callable[[], PreTrainedModel], surroundings: dict[str, Any]) -> Found:
    """The way in which a model's responses are exact here, remembered or found by trial.

    Args:
        load_base: gives the model; called only where nothing is remembered.
        surroundings: all that the answer depends on: model, dtype, threads, processor, versions.
    """
    key = content_key({**surroundings, "revision": CHECK_REVISION})
    path = cache_directory() / "exact" / f"{key}.json"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Found(None if kept["way"] is None else Way(**kept["way"]), kept["difference"])
    except (OSError, ValueError, KeyError, TypeError):
        found = find_way(load_base())
    entry = {"way": found.way and asdict(found.way), "difference": found.difference}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, json.dumps({**entry, "surroundings": surroundings}, indent=1).encode())
    except (OSError, StoreError):
        pass  # a cache that cannot be written costs a trial each time, and no result
    return found


@torch.inference_mode()
def find_way(base: PreTrainedModel) -> Found:
    """The first way in which neither the number nor the place of its neighbours changes a row's bytes."""
    config = base.config.get_text_config()
    if any(getattr(config, name, None) for name in _EXPERTS):
        return Found(None, f"the rows of {config.model_type} meet in its experts")
    differences: list[str] = []
    for threads in (None, 1) if torch.get_num_threads() > 1 else (None,):
        with Way(threads=threads).active():
            way = _passing(base, threads, differences)
        if way is not None:
            return Found(way)
    return Found(None, differences[0])


def _passing(base: PreTrainedModel, threads: int | None, differences: list[str]) -> Way | None:
    """The first of the ways that passes with so many threads; what differed is appended."""
    layers, n_fewest = list(_layers(base)), fewest_tokens(base)
    for products in _PRODUCTS:
        with products.active():
            difference = _rows_differ(layers, n_fewest)
        if not difference:
            break
        differences.append(difference)
    else:
        return None
    for attention_rows in _ATTENTION_ROWS:
        difference = _attention_differs(base, attention_rows)
        if not difference:
            return Way(products.rows, products.padded, attention_rows, threads)
        differences.append(difference)
    return None


def _head_size(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


@torch.inference_mode()
def adapter_differs(lora: Lora, n_fewest: int) -> str:
    """What differs where rows go through an adapter of a rank that was not tried with the model; else ""."""
    matrices = [matrix for pair in lora.layers.values() for matrix in pair if min(matrix.shape) not in _RANKS]
    one_of_each = {matrix.shape: _Layer(matrix, None, _TRIED) for matrix in matrices}
    return _rows_differ(one_of_each.values(), n_fewest)


def _rows_differ(layers: Iterable["_Layer"], n_fewest: int) -> str:
    """What differs where rows are multiplied by these matrices; "" where nothing does."""
    for layer, seed in product(layers, _SEEDS):
        rows = layer.some_rows(layer.tried[-1], seed)
        whole = layer.product(rows)
        # With the second seed every other size, from another place.
        for index, n in enumerate((n_fewest, *(n for n in layer.tried if n > n_fewest))[seed :: seed + 1]):
            # What matters is neither the number of rows nor where a row stands.
            start = (0, len(rows[0]) - n, (len(rows[0]) - n) // 2)[(index + seed) % 3]
            if not torch.equal(layer.product(rows[:, start : start + n]), whole[:, start : start + n]):
                return (
                    f"a product of {n} rows with a matrix of {tuple(layer.weight.shape)} in "
                    f"{layer.weight.dtype} differs from one of {len(rows[0])} rows"
                )
    return ""


@torch.inference_mode()
def _attention_differs(base: PreTrainedModel, rows_at_once: int | None) -> str:
    """What differs where rows attend beside more rows and to a longer cache than needed."""
    config = base.config.get_text_config()
    heads, key_heads, size = config.num_attention_heads, config.num_key_value_heads, _head_size(config)
    settings = Settings(scale=0.1, rows_at_once=rows_at_once)
    n_keys, most = 5 * LENGTH_STEP, 16 * LENGTH_STEP  # long enough for a library to split its sums
    for n_tokens, seed in product((1, LENGTH_STEP), _SEEDS):
        generator = torch.Generator().manual_seed(seed)
        query = torch.randn(5, heads, n_tokens, size, generator=generator).to(base.dtype)
        keys, values = torch.randn(2, 5, key_heads, most, size, generator=generator).to(base.dtype)
        hidden = (torch.arange(most) >= n_keys - 7).expand(5, 1, n_tokens, most)
        parts = (query, keys, values, hidden)
        # A single token sees the whole cache, of any length; a prompt as many keys as it needs (rows.py).
        longest = most if n_tokens == 1 else n_keys
        whole = _attended(parts, slice(0, 5), longest, settings)
        more = min(n_keys + LENGTH_STEP, longest)
        tries = ((0, 5, n_keys), (0, 5, more), (0, 1, longest), (2, 5, n_keys), (4, 5, n_keys))
        for first, end, n in tries:
            if not torch.equal(_attended(parts, slice(first, end), n, settings), whole[first:end]):
                return (
                    f"attention of {end - first} rows to {n} keys in {base.dtype} "
                    f"differs from that of 5 rows to {longest}"
                )
    return ""


def _attended(parts: tuple[torch.Tensor, ...], rows: slice, n_keys: int, settings: Settings) -> torch.Tensor:
    query, keys, values, hidden = (part[rows] for part in parts)
    return attend(query, keys[:, :, :n_keys], values[:, :, :n_keys], hidden[..., :n_keys], settings)


@dataclass(frozen=True, slots=True)
class _Layer:
    """A weight matrix as a layer multiplies by it, and the numbers of rows to try."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    tried: tuple[int, ...]
    transposed: bool = False  # inputs × outputs, as GPT-2's layers have it

    def product(self, rows: torch.Tensor) -> torch.Tensor:
        """1 × rows × outputs."""
        if not self.transposed:
            return nn.functional.linear(rows, self.weight, self.bias)
        assert self.bias is not None
        return torch.addmm(self.bias, rows.view(-1, rows.shape[-1]), self.weight)[None]

    def some_rows(self, n: int, seed: int) -> torch.Tensor:
        """1 × n × inputs, normally distributed."""
        generator = torch.Generator().manual_seed(seed)
        n_inputs = self.weight.shape[0 if self.transposed else 1]
        return torch.randn(1, n, n_inputs, generator=generator).to(self.weight.device, self.weight.dtype)


def _layers(model: PreTrainedModel) -> Iterator[_Layer]:
    """One layer of each shape in the model, with the matrices of adapters beside it."""
    head = model.get_output_embeddings()
    found: dict[tuple[Any, ...], _Layer] = {}
    for module in model.modules():
        if not isinstance(module, nn.Linear | Conv1D):
            continue
        weight, transposed = module.weight, isinstance(module, Conv1D)
        tried = _TRIED_ASKED if module is head else _TRIED
        shape = (transposed, getattr(module, "bias", None) is None, tried, *weight.shape)
        found.setdefault(shape, _Layer(weight, module.bias, tried, transposed))
        if module is not head and not transposed:
            for rank in (rank for rank in _RANKS if rank <= min(weight.shape)):
                for matrix in (weight[:rank], weight[:, :rank]):
                    shape = (False, True, _TRIED, *matrix.shape)
                    found.setdefault(shape, _Layer(matrix.contiguous(), None, _TRIED))
    return iter(found.values())
