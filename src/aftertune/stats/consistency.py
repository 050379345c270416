"""How often repeated draws of one checkpoint disagree (METHODS section 5).

All functions take `counts_pc`, items × labels: how many of an item's N draws got each label.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from aftertune.stats.agreement_many import fleiss_kappa
from aftertune.stats.draws import FloatArray

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ConsistencySummary:
    """Measures of one checkpoint on complete items; only the first and κ are free of the number of repeats.

    `entropy` is in bits. `fleiss_kappa` corrects pairwise agreement for chance over the items' labels; it is
    None where every draw of every item has the same label.
    """

    n_items: int
    n_repeats: int
    pairwise_disagreement: float
    flip_rate: float
    unanimous: float
    stability_index: float
    any_event: float
    all_event: float
    entropy: float
    fleiss_kappa: float | None


def summarize(events_pr: npt.ArrayLike) -> ConsistencySummary:
    """All measures from complete 0/1 draws, items × repeats.

    Raises:
        ValueError: for fewer than two draws an item, no item, or a value other than 0 and 1.
    """
    events = np.asarray(events_pr, dtype=float)
    if events.ndim != 2 or events.shape[0] < 1 or events.shape[1] < 2:
        raise ValueError(f"consistency needs items × at least 2 draws, got {events.shape}")
    if not bool(np.all((events == 0) | (events == 1))):
        raise ValueError("consistency counts labels: values must be 0 or 1")
    n = events.shape[1]
    harm = events.sum(axis=1).astype(np.int64)
    counts = np.stack([n - harm, harm], axis=1)
    kappa = fleiss_kappa(counts)
    return ConsistencySummary(
        n_items=len(counts),
        n_repeats=n,
        pairwise_disagreement=pairwise_disagreement(counts),
        flip_rate=flip_rate(counts),
        unanimous=unanimous(counts),
        stability_index=stability_index(counts),
        any_event=any_at_k(harm, n, n),
        all_event=all_at_k(harm, n, n),
        entropy=entropy(counts),
        fleiss_kappa=None if kappa is None else kappa.estimate,
    )


def pairwise_disagreement(counts_pc: Counts) -> float:
    """D = 1 − ΣC(n_c, 2)/C(N, 2), averaged over items with N ≥ 2: its mean does not depend on N.

    Raises:
        ValueError: where no item has two draws.
    """
    n = counts_pc.sum(axis=1)
    kept = n > 1
    if not kept.any():
        raise ValueError("pairwise disagreement needs an item with at least two draws")
    counts, n = counts_pc[kept], n[kept]
    return float((1 - (counts * (counts - 1)).sum(axis=1) / (n * (n - 1))).mean())


def flip_rate(counts_pc: Counts, *, k: int | None = None) -> float:
    """Share of items with more than one label among their draws; with `k`, expected among k of them.

    Rescaled by 1 − ΣC(n_c, k)/C(N, k), hypergeometric draws without replacement: a common k makes numbers
    of items with different N comparable.

    Raises:
        ValueError: for an item with fewer than 2 draws, or than k, or k < 2: one draw cannot flip.
    """
    n = _draws(counts_pc, least=2)
    if k is None:
        return float((counts_pc.max(axis=1) < n).mean())
    _within(k, n, least=2)
    same = _choose(counts_pc, k).sum(axis=1) / _choose(n, k)
    return float((1 - same).mean())


def unanimous(counts_pc: Counts, *, k: int | None = None) -> float:
    """Share of items with a single label: 1 − `flip_rate`."""
    return 1 - flip_rate(counts_pc, k=k)


def stability_index(counts_pc: Counts) -> float:
    """Safety Stability Index (arXiv 2512.12066): mean over items of max n_c/N, the top label's share.

    It depends on N and cannot be rescaled without bias; print N beside it.

    Raises:
        ValueError: for an item without a draw.
    """
    return float((counts_pc.max(axis=1) / _draws(counts_pc, least=1)).mean())


def entropy(counts_pc: Counts) -> float:
    """Mean over items of −Σ p log₂ p, p = n_c/N, in bits: 0 for one label, 1 for two labels half each.

    The plug-in estimate, biased downward by about (labels − 1)/(2N ln 2) (Miller 1955): print N beside it.

    Raises:
        ValueError: for an item without a draw.
    """
    p = counts_pc / _draws(counts_pc, least=1)[:, None]
    return float(special.entr(p).sum(axis=1).mean() / np.log(2))


def any_at_k(n_events: Counts, n: Counts | int, k: int) -> float:
    """Expected share of items with at least one event in k of n draws: mean of 1 − C(n−c, k)/C(n, k).

    `n` is one number, or one for each item.

    Raises:
        ValueError: unless 1 ≤ k ≤ every n and 0 ≤ c ≤ n.
    """
    draws = _events(n_events, n, k)
    return float((1 - _choose(draws - n_events, k) / _choose(draws, k)).mean())


def all_at_k(n_events: Counts, n: Counts | int, k: int) -> float:
    """Expected share of items with k events in k of n draws: mean of C(c, k)/C(n, k).

    `n` and errors as in `any_at_k`.
    """
    draws = _events(n_events, n, k)
    return float((_choose(n_events, k) / _choose(draws, k)).mean())


def _draws(counts_pc: Counts, *, least: int) -> Counts:
    """N of each item."""
    if counts_pc.ndim != 2 or len(counts_pc) == 0:
        raise ValueError(f"counts are items × labels with at least one item, got {counts_pc.shape}")
    n = counts_pc.sum(axis=1)
    if (n < least).any():
        raise ValueError(f"every item needs at least {least} draw(s), got one with {n.min()}")
    return n


def _events(n_events: Counts, n: Counts | int, k: int) -> Counts:
    """N of each item, from one number or one each."""
    draws = np.broadcast_to(np.asarray(n, dtype=np.int64), n_events.shape)
    if len(n_events) == 0 or ((n_events < 0) | (n_events > draws)).any():
        raise ValueError("events are counted among an item's draws, 0 ≤ c ≤ n, for at least one item")
    _within(k, draws, least=1)
    return draws


def _within(k: int, n: Counts, *, least: int) -> None:
    if k < least or (n < k).any():
        raise ValueError(
            f"k must be between {least} and every item's number of draws ({n.min()} at the fewest), got {k}"
        )


def _choose(n: Counts, k: int) -> FloatArray:
    return np.asarray(special.comb(n, k), dtype=float)
