"""From logits to tokens: argmax, or inverse CDF with one uniform number a token.

Each row's token depends on its own logits and its own number only, so rows may stand in any order.
"""

import torch

_BLOCK = 256  # the CDF is searched in blocks first: two short sums instead of one over the whole vocabulary


def greedy(logits: torch.Tensor) -> torch.Tensor:
    """The most likely token of each row (rows × vocabulary); ties go to the lowest id."""
    return logits.argmax(dim=-1)


def sample(logits: torch.Tensor, *, temperature: float, top_p: float, uniforms: torch.Tensor) -> torch.Tensor:
    """Tokens by inverse CDF.

    Args:
        logits: rows × vocabulary.
        temperature: above 0.
        top_p: tokens outside the smallest set with this probability are cut off (Holtzman et al. 2020).
        uniforms: one number in [0, 1) a row, float64.

    Returns:
        A token id a row.
    """
    probabilities = torch.softmax(logits.to(torch.float32) / temperature, dim=-1)
    if top_p < 1:
        probabilities = _nucleus(probabilities, top_p)
    rows, size = probabilities.shape
    if size % _BLOCK:
        probabilities = torch.nn.functional.pad(probabilities, (0, -size % _BLOCK))
    blocks = probabilities.view(rows, -1, _BLOCK)
    sums = blocks.sum(dim=-1).to(torch.float64)
    ends = sums.cumsum(dim=-1)
    aim = uniforms.to(torch.float64)[:, None] * ends[:, -1:]
    block = torch.searchsorted(ends, aim, right=True).clamp_(max=ends.shape[1] - 1)
    chosen = torch.take_along_dim(blocks, block[:, :, None], dim=1)[:, 0].to(torch.float64)
    # The block was summed in float32: its share of the way, not its length, is looked for within it.
    share = (aim - torch.take_along_dim(ends - sums, block, dim=1)) / torch.take_along_dim(sums, block, dim=1)
    inside = chosen.cumsum(dim=-1)
    within = torch.searchsorted(inside, share * inside[:, -1:], right=True).clamp_(max=_BLOCK - 1)
    token = (block * _BLOCK + within)[:, 0].clamp_(max=size - 1)  # not into the padding
    return _nearest_possible(token, probabilities)


def _nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ordered.to(torch.float64).cumsum(dim=-1) - ordered
    kept = torch.where(before < top_p, ordered, torch.zeros_like(ordered))
    return torch.zeros_like(probabilities).scatter_(1, order, kept)


def _nearest_possible(token: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
    # Rounding at a block's edge can point at a token of probability 0: take the most likely one instead.
    impossible = torch.take_along_dim(probabilities, token[:, None], dim=1)[:, 0] == 0
    return torch.where(impossible, probabilities.argmax(dim=-1), token)
