"""How fast this machine multiplies matrices right now: what drawing and training are made of."""

import time
from functools import cache

import torch

_ROWS, _SIZE = 128, 1024  # a step of our loop at its default batch; matrices of a small model's size
_TIMES = 40


@cache
def products_flop_per_s(dtype: torch.dtype, device: str) -> float:
    """FLOP/s of products of 128 rows with 1024 × 1024 weights; the fastest of 40, some 0.3 s on two slow cores.

    The fastest, since what else the machine does at this moment will not last as long as a study.

    Args:
        dtype: of weights and rows.
        device: cpu or cuda.
    """
    rows = torch.ones(_ROWS, _SIZE, dtype=dtype, device=device)
    weights = torch.ones(_SIZE, _SIZE, dtype=dtype, device=device)
    seconds: list[float] = []
    for _ in range(_TIMES):
        start = time.perf_counter()
        torch.mm(rows, weights.T)
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return 2 * _ROWS * _SIZE**2 / min(seconds)
