"""Held-out losses of a run: the recipe's seeds against the base on the same rows."""

from itertools import groupby
from typing import Any

import numpy as np

from aftertune.records.analysis import HeldOutLosses, SeedLoss
from aftertune.stats import t_quantile
from aftertune.store import RunDirectory


def held_out_losses(run: RunDirectory, *, level: float) -> tuple[HeldOutLosses, ...]:
    """One record a recipe that holds rows out, from what `tune` wrote; none where nothing was held out."""
    if not run.held_out.is_file():
        return ()
    entries = run.read_json(run.held_out)
    return tuple(
        _recipe(name, list(group), level=level)
        for name, group in groupby(entries, key=lambda entry: entry["recipe"])
    )


def _recipe(name: str, entries: list[dict[str, Any]], *, level: float) -> HeldOutLosses:
    base = next(entry for entry in entries if entry["seed"] is None)
    seeds = [
        SeedLoss(seed=entry["seed"], loss=entry["loss"], reason=entry["reason"])
        for entry in entries
        if entry["seed"] is not None
    ]
    losses = np.array([seed.loss for seed in seeds if seed.loss is not None], dtype=float)
    difference = se = reach = None
    if base["loss"] is not None and len(losses):
        difference = float(losses.mean()) - base["loss"]
    if difference is not None and len(losses) > 1:
        se = float(losses.std(ddof=1) / np.sqrt(len(losses)))
        reach = se * t_quantile(level, len(losses) - 1)
    return HeldOutLosses(
        recipe=name,
        data=base["data"],
        n_rows=base["n_rows"],
        n_tokens=base["n_tokens"],
        base=base["loss"],
        per_seed=tuple(seeds),
        difference=difference,
        ci_low=None if reach is None or difference is None else difference - reach,
        ci_high=None if reach is None or difference is None else difference + reach,
        se=se,
    )
