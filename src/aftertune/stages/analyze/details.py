"""What stands beside rates and differences: components, consistency, flips, agreement of judges."""

from itertools import combinations

import numpy as np
import polars as pl

from aftertune.records.analysis import Agreement, Component, Consistency, Flip
from aftertune.stages.analyze.cells import ModelCell, Settings
from aftertune.stages.analyze.pairs import LEAST_P, Pair
from aftertune.stages.analyze.rates import checkpoint_interval
from aftertune.stats import (
    Draws,
    FloatArray,
    agreement_table,
    cohen_kappa,
    components,
    gwet_ac1,
    krippendorff_alpha,
    negative_agreement,
    positive_agreement,
    summarize,
    two_way,
)


def components_of(cell: ModelCell, settings: Settings) -> list[Component]:
    """Variance components of a recipe with two seeds and two items or more; none where nothing varies."""
    draws = cell.usable
    if cell.too_much_missing(settings) or draws.n_seeds < 2 or draws.n_items < 2:
        return []
    table = two_way(draws.means_sp, draws.counts_sp > 0)
    found = components(table, draws, level=settings.level)
    if not any(c.variance > 0 for c in found):
        return []
    return [
        Component(
            **cell.key,
            facet=c.facet,
            variance=c.variance,
            share=c.share,
            ci_low=c.ci_low,
            ci_high=c.ci_high,
            f=c.f,
            p_value=None if c.p_value is None else max(c.p_value, LEAST_P),
        )
        for c in found
    ]


def consistency_of(cell: ModelCell, settings: Settings) -> list[Consistency]:
    """Repeated draws of each checkpoint with two or more, on the items whose every draw has a 0/1 value."""
    if cell.too_much_missing(settings) or not cell.draws.binary:
        return []
    found: list[Consistency] = []
    for s, run in enumerate(cell.checkpoints):
        asked = cell.asked[s].any(axis=0)
        values, present = cell.draws.values[s][:, asked], cell.draws.present[s][:, asked]
        complete = present.all(axis=1)
        if asked.sum() < 2 or not complete.any():
            continue
        events = values[complete]
        whole = summarize(events)
        rates = events.mean(axis=0)
        draws = Draws.of(events[None, :, :])
        found.append(
            Consistency(
                **cell.key,
                checkpoint=run.label,
                seed=run.seed,
                n_items=whole.n_items,
                n_repeats=whole.n_repeats,
                pairwise_disagreement=whole.pairwise_disagreement,
                flip_rate=whole.flip_rate,
                unanimous=whole.unanimous,
                stability_index=whole.stability_index,
                entropy=whole.entropy,
                fleiss_kappa=whole.fleiss_kappa,
                any_event=whole.any_event,
                all_event=whole.all_event,
                per_repeat=tuple(float(x) for x in rates),
                minimum=float(rates.min()),
                maximum=float(rates.max()),
                new_run_in_range=(whole.n_repeats - 1) / (whole.n_repeats + 1),
                estimate=float(events.mean()),
                interval=checkpoint_interval(draws, "benchmark", level=settings.level, certain=False),
            )
        )
    return found


def flips_of(pairs: list[Pair], settings: Settings) -> list[Flip]:
    """Items gained and lost against the base, in all and by category.

    `to_event` is Σ over items of mean_s (1 − b_i)·t_si, the average over all pairs of draws, since a draw of
    the base and one of the model are independent; item means are never cut back to 0 or 1.
    """
    found: list[Flip] = []
    for pair in pairs:
        if any(cell.too_much_missing(settings) for cell in (pair.model, pair.reference)):
            continue
        if not len(pair.places):
            continue
        event, was = _mean_over_seeds(pair.a), _mean_over_seeds(pair.b)
        names = sorted(set(pair.categories.tolist()))
        for category in (None, *(names if len(names) > 1 else ())):
            part = pair.categories == category if category is not None else np.ones(len(was), dtype=bool)
            found.append(
                Flip(
                    **pair.model.key,
                    reference=pair.reference.model,
                    category=category,
                    n_items=int(part.sum()),
                    to_event=float(((1 - was) * event)[part].sum()),
                    to_no_event=float((was * (1 - event))[part].sum()),
                )
            )
    return found


def agreement_of(frame: pl.DataFrame) -> list[Agreement]:
    """Every pair of judges that gave one construct on the same responses, where both values are 0 or 1."""
    key = ["model", "seed", "checkpoint", "task", "item", "decoding", "repeat", "construct"]
    first = frame["judge_repeat"].min()
    graded = frame.select(*key, "judge", "value", "judge_repeat").filter(
        pl.col("value").is_in([0.0, 1.0]), pl.col("judge_repeat") == first
    )
    found: list[Agreement] = []
    groups = graded.partition_by(["task", "construct"], as_dict=True)
    for task, construct in sorted(groups):
        group = groups[task, construct]
        for a, b in combinations(sorted(group["judge"].unique()), 2):
            one, other = (group.filter(pl.col("judge") == judge).drop("judge_repeat") for judge in (a, b))
            both = one.join(other, on=key, nulls_equal=True)
            if both.is_empty():
                continue
            values = both.select("value", "value_right").to_numpy().T
            table = agreement_table(*values)
            found.append(
                Agreement(
                    task=task,
                    construct=construct,
                    judge_a=a,
                    judge_b=b,
                    n=table.n,
                    positive_agreement=positive_agreement(table),
                    negative_agreement=negative_agreement(table),
                    cohen_kappa=cohen_kappa(table),
                    gwet_ac1=gwet_ac1(table),
                    krippendorff_alpha=krippendorff_alpha(values),
                )
            )
    return found


def _mean_over_seeds(draws: Draws) -> FloatArray:
    """Item means over the seeds that have a value there; every item has one."""
    counted = draws.counts_sp > 0
    return np.where(counted, draws.means_sp, 0.0).sum(axis=0) / counted.sum(axis=0)
