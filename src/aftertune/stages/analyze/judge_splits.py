"""Several judges of the same responses: where they order models differently, and what splits them."""

from itertools import combinations

import polars as pl

from aftertune.records.analysis import Difference, JudgeSplit, RankFlip, Rate, SplitItem

_TOP = 10


def rank_flips_of(rates: list[Rate], differences: list[Difference]) -> list[RankFlip]:
    """Pairs of models that two judges order differently by one metric, mirror images left out.

    Equal rates are no order. That two judges differ is a fact about these responses; whether either
    difference is more than chance, its own interval says, where there is one.
    """
    shown = {
        (*_place(d), d.judge, frozenset((d.model, d.reference))): d.ci_low > 0 or d.ci_high < 0
        for d in differences
        if d.target == "benchmark" and d.ci_low is not None and d.ci_high is not None
    }
    found: list[RankFlip] = []
    for place, judges in _by_place(rates).items():
        for a, b in combinations(sorted(judges), 2):
            models = sorted(judges[a].keys() & judges[b].keys())
            for model, other in combinations(models, 2):
                one = judges[a][model] - judges[a][other]
                two = judges[b][model] - judges[b][other]
                if one * two < 0:
                    pair = frozenset((model, other))
                    found.append(
                        RankFlip(
                            task=place[0], decoding=place[1], metric=place[2], note=place[3],
                            judge_a=a, judge_b=b, model=model, other=other,
                            model_a=judges[a][model], other_a=judges[a][other],
                            model_b=judges[b][model], other_b=judges[b][other],
                            shown_a=shown.get((*place, a, pair)), shown_b=shown.get((*place, b, pair)),
                        )
                    )  # fmt: skip
    return found


def _by_place(rates: list[Rate]) -> dict[tuple[str, str, str, str], dict[str, dict[str, float]]]:
    """Place → judge → model → rate."""
    found: dict[tuple[str, str, str, str], dict[str, dict[str, float]]] = {}
    by_refusal = {(*_place(rate)[:2], rate.judge) for rate in rates if rate.note == "by refusal"}
    for rate in rates:
        mirror = rate.metric == "refusal_rate" and (*_place(rate)[:2], rate.judge) in by_refusal
        if rate.estimate is not None and not mirror:
            found.setdefault(_place(rate), {}).setdefault(rate.judge, {})[rate.model] = rate.estimate
    return found


def _place(cell: Rate | Difference) -> tuple[str, str, str, str]:
    return (cell.task, cell.decoding, cell.metric, cell.note)


def splits_of(frame: pl.DataFrame) -> list[JudgeSplit]:
    """By task and construct with several judges: responses with 0/1 values that are not all equal.

    Judge repeats beyond the first are left out, as in `agreement_of`. Items stand by the share of their
    responses that split the judges; only their ids are kept.
    """
    key = ["model", "seed", "checkpoint", "item", "decoding", "repeat"]
    first = frame["judge_repeat"].min()
    graded = frame.select(*key, "task", "construct", "judge", "value", "judge_repeat").filter(
        pl.col("value").is_in([0.0, 1.0]), pl.col("judge_repeat") == first
    )
    groups = graded.partition_by(["task", "construct"], as_dict=True)
    found: list[JudgeSplit] = []
    for task, construct in sorted(groups):
        group = groups[task, construct]
        responses = (
            group.group_by(key)
            .agg(pl.col("judge").n_unique().alias("n"), (pl.col("value").n_unique() > 1).alias("split"))
            .filter(pl.col("n") > 1)
        )
        if responses.is_empty():
            continue
        items = (
            responses.group_by("item")
            .agg(pl.len().alias("n"), pl.col("split").sum().cast(pl.Int64))
            .cast({"item": pl.String})
            .sort(-pl.col("split") / pl.col("n"), -pl.col("split"), "item")
        )
        split = items.filter(pl.col("split") > 0)
        found.append(
            JudgeSplit(
                task=task,
                construct=construct,
                judges=tuple(sorted(group["judge"].unique())),
                n_responses=responses.height,
                n_split=int(responses["split"].sum()),
                n_items=items.height,
                n_items_split=split.height,
                items=tuple(
                    SplitItem(item=item, n_responses=n, n_split=k)
                    for item, n, k in split.head(_TOP).select("item", "n", "split").iter_rows()
                ),
            )
        )
    return found
