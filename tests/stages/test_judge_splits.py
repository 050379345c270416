"""Several judges of the same responses: models in another order, and items that split the judges."""

import polars as pl

from aftertune.analysis import analyze
from rows import rows_of


def frame_of(rates):
    """Judge → model → how many of 20 items are events, for each of four seeds."""
    return pl.concat(
        rows_of(
            lambda m, s, i, r, by=by: float(i < by[m]),
            seeds={m: [None] if m == "base" else [1, 2, 3, 4] for m in by}, n_items=20, judge=judge,
        )
        for judge, by in rates.items()
    )  # fmt: skip


def test_models_in_another_order_by_another_judge():
    found = analyze(frame_of({"x": {"base": 4, "chat": 18}, "y": {"base": 10, "chat": 9}}))
    (flip,) = found.rank_flips
    assert (flip.judge_a, flip.judge_b, flip.model, flip.other) == ("x", "y", "base", "chat")
    assert (flip.model_a, flip.other_a, flip.model_b, flip.other_b) == (0.2, 0.9, 0.5, 0.45)
    assert flip.shown_a is True and flip.shown_b is False


def test_the_same_order_and_equal_rates_are_no_flip():
    assert analyze(frame_of({"x": {"base": 4, "chat": 6}, "y": {"base": 1, "chat": 9}})).rank_flips == ()
    assert analyze(frame_of({"x": {"base": 4, "chat": 6}, "y": {"base": 5, "chat": 5}})).rank_flips == ()


def test_a_mirror_image_is_told_once():
    frame = frame_of({"x": {"base": 4, "chat": 18}, "y": {"base": 10, "chat": 9}})
    found = analyze(frame.with_columns(pl.lit("refused").alias("construct")))
    assert [flip.metric for flip in found.rank_flips] == ["compliance_rate"]


def test_items_that_split_the_judges():
    (split,) = analyze(frame_of({"x": {"base": 4, "chat": 6}, "y": {"base": 5, "chat": 6}})).splits
    assert (split.judges, split.n_responses, split.n_split) == (("x", "y"), 100, 1)
    assert (split.n_items, split.n_items_split) == (20, 1)
    (item,) = split.items
    assert (item.item, item.n_responses, item.n_split) == ("i4", 5, 1)


def test_one_judge_splits_with_nobody_and_graded_values_do_not_count():
    assert analyze(frame_of({"x": {"base": 4, "chat": 6}})).splits == ()
    frame = frame_of({"x": {"base": 4, "chat": 6}, "y": {"base": 5, "chat": 6}})
    half = frame.with_columns(pl.when(pl.col("judge") == "y").then(0.5).otherwise("value").alias("value"))
    assert analyze(half).splits == ()


def test_the_ten_items_that_split_most_by_share():
    (split,) = analyze(frame_of({"x": {"base": 0, "chat": 2}, "y": {"base": 20, "chat": 16}})).splits
    assert len(split.items) == 10 and split.n_items_split == 20
    assert all(item.n_split == 5 for item in split.items)
