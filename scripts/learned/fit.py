"""The fit: multinomial logistic regression where a label may leave several outcomes open, and its folds."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from learned.data import Row
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import logsumexp

from aftertune.judges.learned import OUTCOMES, Model
from aftertune.judges.learned_features import MEASURES, grams, measures

K = len(OUTCOMES)
N_FOLDS = 5


@dataclass(frozen=True)
class Seen:
    """A row with its features, computed once."""

    row: Row
    grams: frozenset[str]
    measures: tuple[float, ...]


@dataclass(frozen=True)
class Settings:
    """`l2` on all weights but the bias; rows that no person labelled weigh `made_weight`, others 1."""

    l2: float
    made_weight: float
    least_rows: int = 3  # a gram that stands in fewer rows is left out


def see(rows: Sequence[Row]) -> list[Seen]:
    return [Seen(r, frozenset(grams(r.prompt, r.text)), tuple(measures(r.prompt, r.text))) for r in rows]


def fold(row: Row) -> int:
    """By the prompt, so that no prompt stands on both sides."""
    return hashlib.sha256(row.group.encode()).digest()[0] % N_FOLDS


def vocabulary(seen: Sequence[Seen], least_rows: int) -> dict[str, int]:
    counts = Counter(gram for s in seen for gram in s.grams)
    known = sorted(gram for gram, n in counts.items() if n >= least_rows)
    return {gram: i for i, gram in enumerate(known)}


def design(seen: Sequence[Seen], known: dict[str, int]) -> csr_array:
    """Rows × (grams, measures, 1); grams as `Model.probabilities` counts them."""
    data: list[float] = []
    columns: list[int] = []
    ends = [0]
    for s in seen:
        found = sorted(known[gram] for gram in s.grams if gram in known)
        columns += [*found, *range(len(known), len(known) + len(MEASURES) + 1)]
        data += [1 / np.sqrt(max(len(found), 1))] * len(found) + [*s.measures, 1.0]
        ends.append(len(columns))
    return csr_array((data, columns, ends), shape=(len(seen), len(known) + len(MEASURES) + 1))


def open_mask(seen: Sequence[Seen]) -> npt.NDArray[np.bool_]:
    return np.array([[k in s.row.open for k in range(K)] for s in seen])


def fit(seen: Sequence[Seen], settings: Settings) -> Model:
    """Minimises Σ weight · −log P(an open outcome) + l2/2 · Σ weights²; convex but for the open labels."""
    known = vocabulary(seen, settings.least_rows)
    x, mask = design(seen, known), open_mask(seen)
    weight = np.array([1.0 if s.row.by_people else settings.made_weight for s in seen])
    ridge = np.full((x.shape[1], K), settings.l2)
    ridge[-1] = 0

    def loss(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        b = flat.reshape(-1, K)
        scores = x @ b
        every = logsumexp(scores, axis=1, keepdims=True)
        left = logsumexp(np.where(mask, scores, -np.inf), axis=1, keepdims=True)
        p_every, p_left = np.exp(scores - every), np.exp(np.where(mask, scores, -np.inf) - left)
        value = float(weight @ (every - left)[:, 0]) + 0.5 * float((ridge * b * b).sum())
        slope = x.T @ (weight[:, None] * (p_every - p_left)) + ridge * b
        return value, slope.ravel()

    found = minimize(loss, np.zeros(x.shape[1] * K), jac=True, method="L-BFGS-B", options={"maxiter": 500})
    b = found.x.reshape(-1, K)
    return Model(known, b[: len(known)], b[len(known) : -1], b[-1])


def predict(model: Model, seen: Sequence[Seen]) -> npt.NDArray[np.float64]:
    b = np.vstack([model.gram_weights, model.measure_weights, model.bias[None]])
    scores = design(seen, model.vocabulary) @ b
    return np.exp(scores - logsumexp(scores, axis=1, keepdims=True))


def cross_validated(seen: Sequence[Seen], settings: Settings) -> npt.NDArray[np.float64]:
    """Rows × outcomes, each row by a model that never saw its prompt."""
    chances = np.zeros((len(seen), K))
    folds = np.array([fold(s.row) for s in seen])
    for i in range(N_FOLDS):
        model = fit([s for s, f in zip(seen, folds, strict=True) if f != i], settings)
        chances[folds == i] = predict(model, [s for s, f in zip(seen, folds, strict=True) if f == i])
    return chances
