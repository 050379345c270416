"""Trains the packaged judge `learned`: python scripts/learned/train.py --data ../shared/data

Fetches PyRIT's labelled responses from PyPI (learned.data says what is what), chooses the settings by
ten-fold cross-validation on the responses that people labelled, in folds of prompts, prints what it measured,
and writes weights.npz and vocabulary.json. XSTest's labelled responses are never opened here.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import numpy.typing as npt
from learned import data, fit

from aftertune.judges.learned import OUTCOMES, VOCABULARY, WEIGHTS, Model

GRID = [fit.Settings(l2, made_weight) for l2, made_weight in product((0.3, 0.1), (0.1,))]


def report(seen: Sequence[fit.Seen], chances: npt.NDArray[np.float64]) -> None:
    """Held-out accuracy: the likeliest outcome is one that the label leaves open."""
    right = fit.open_mask(seen)[np.arange(len(seen)), chances.argmax(axis=1)]
    kinds = [(s.row.origin, " or ".join(OUTCOMES[k] for k in sorted(s.row.open))) for s in seen]
    for kind in sorted(set(kinds)):
        chosen = np.array([k == kind for k in kinds])
        print(f"  {kind[0]:15} {kind[1]:22} {int(right[chosen].sum()):5} of {int(chosen.sum()):5} right")


def log_loss(seen: Sequence[fit.Seen], chances: npt.NDArray[np.float64]) -> float:
    """Mean −log P(an open outcome) over what people labelled."""
    people = np.array([s.row.by_people for s in seen])
    return float(-np.log((chances * fit.open_mask(seen)).sum(axis=1)[people]).mean())


def write(model: Model) -> None:
    WEIGHTS.parent.mkdir(parents=True, exist_ok=True)
    VOCABULARY.write_text(json.dumps(list(model.vocabulary), ensure_ascii=False, indent=0) + "\n", "utf-8")
    parts = {"grams": model.gram_weights, "measures": model.measure_weights, "bias": model.bias}
    np.savez_compressed(WEIGHTS, **{name: part.astype(np.float32) for name, part in parts.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="../shared/data")
    parser.add_argument("--seed", type=int, default=0, help="of the grammar and of what is drawn")
    args = parser.parse_args()
    seen = fit.see(data.every_row(args.data, seed=args.seed))
    held_out = {settings: fit.cross_validated(seen, settings) for settings in GRID}
    for settings, chances in held_out.items():
        print(f"{settings}: log loss {log_loss(seen, chances):.4f}", flush=True)
    best = min(GRID, key=lambda settings: log_loss(seen, held_out[settings]))
    print(f"chosen: {best}; held out by prompt, {fit.N_FOLDS} folds:")
    report(seen, held_out[best])
    write(fit.fit(seen, best))
    print(f"{WEIGHTS.stat().st_size + VOCABULARY.stat().st_size} bytes written")


if __name__ == "__main__":
    main()
