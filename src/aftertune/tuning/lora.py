"""LoRA matrices of one or several seeds beside one frozen layer (Hu et al. 2021, arXiv 2106.09685).

peft's own layer makes, beside the products, a scaled copy and a sum of outputs going forward and the same
of inputs going back, each as large as the activations. Here both are added into the product's result.
Matrices of several seeds are stacked, and line s of a batch meets those of seed s.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from aftertune.errors import TuningError


class NotStackableError(TuningError):
    """Several seeds cannot be trained in one pass on this architecture."""


class _LoraProduct(torch.autograd.Function):
    """x·Wᵀ + bias + scaling·x·Aᵀ·Bᵀ, by line of the batch; W and bias are frozen."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        base: nn.Linear,
        a: torch.Tensor,
        b: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        """Of lines × tokens × inputs; A lines × rank × inputs and B lines × outputs × rank, in any dtype."""
        dtype = base.weight.dtype
        inner, a, b = x.to(dtype), a.to(dtype), b.to(dtype)
        with torch.autocast(x.device.type, enabled=False):
            out = nn.functional.linear(inner, base.weight, base.bias)
            low = torch.bmm(inner, a.transpose(1, 2))
            out.baddbmm_(low, b.transpose(1, 2), alpha=scaling)
        ctx.save_for_backward(inner, low, a, b)
        ctx.base, ctx.scaling, ctx.dtypes = base, scaling, (x.dtype, torch.float32)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        inner, low, a, b = ctx.saved_tensors
        dtype, own = ctx.dtypes
        grad = grads[0].to(inner.dtype)
        of_low = torch.bmm(grad, b).mul_(ctx.scaling)
        of_a = torch.bmm(of_low.transpose(1, 2), inner).to(own)
        of_b = torch.bmm(grad.transpose(1, 2), low).to(own).mul_(ctx.scaling)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = torch.matmul(grad, ctx.base.weight).baddbmm_(of_low, a).to(dtype)
        return of_x, None, of_a, of_b, None


class LoraStack:
    """Matrices of some seeds in place of one peft layer's: A seeds × rank × inputs, B × outputs × rank."""

    def __init__(self, layer: Any, a: Sequence[torch.Tensor]):
        self.layer, self.base = layer, layer.base_layer
        self.scaling = float(layer.scaling["default"])
        self.a = nn.Parameter(torch.stack(list(a)))
        self.b = nn.Parameter(
            layer.lora_B["default"].weight.new_zeros(len(a), *layer.lora_B["default"].weight.shape)
        )
        # peft's layer is thrown away after the training, and this with it.
        layer.forward = self.forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As the layer's own, where a batch has a line for each seed."""
        n_seeds = len(self.a)
        if n_seeds > 1 and (x.ndim != 3 or len(x) != n_seeds):
            raise NotStackableError(
                f"a layer of the model reads tokens as {tuple(x.shape)}, apart from their seeds",
                "train one seed after another",
            )
        lines = x if x.ndim == 3 and len(x) == n_seeds else x.reshape(1, -1, x.shape[-1])
        out: Any = _LoraProduct.apply(lines, self.base, self.a, self.b, self.scaling)
        return out.view(*x.shape[:-1], out.shape[-1])

    def write_back(self, seed: int) -> None:
        """Give peft's layer the matrices of one seed."""
        with torch.no_grad():
            self.layer.lora_A["default"].weight.copy_(self.a[seed])
            self.layer.lora_B["default"].weight.copy_(self.b[seed])
