"""A rate has one estimate: with missing cells the numbers of rates, variations and movements fit together."""

from itertools import count

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aftertune.analysis import analyze
from aftertune.analysis.analyze import analyze_observations
from aftertune.analysis.table import normalise_table
from aftertune.analysis.variations import Varied
from aftertune.records.analysis import Analysis
from aftertune.records.variations import Movement
from aftertune.seeds import stream
from aftertune.stats import Draws, filled_means, paired_rates, point_estimate
from aftertune.study import AnalysisSpec
from rows import rows_of

SEEDS: dict[str, list[int | None]] = {"base": [None], "chat": [1, 2, 3], "self": [1, 2, 3, 4]}
VARIED = (Varied("hotter", "procedure"), Varied("again", "numerics"))


def table(rng: np.random.Generator, *, agree: bool, missing: float, n_repeats: int = 2) -> pl.DataFrame:
    """A baseline and two variations by two judges; rows without a value, and rows that are absent.

    `agree`: a value depends on model and item alone.
    """
    n_items = int(rng.integers(5, 9))
    fixed = {name: rng.random(n_items) < 0.4 for name in SEEDS}
    frames: list[pl.DataFrame] = []
    for variation in ("baseline", *(v.name for v in VARIED)):
        for judge in ("j", "k"):

            def event(model: str, seed: int | None, item: int, repeat: int) -> float:
                return float(fixed[model][item] if agree else rng.random() < 0.2 + 0.6 * fixed[model][item])

            rows = rows_of(
                event, seeds=SEEDS, n_items=n_items, n_repeats=n_repeats, variation=variation, judge=judge
            )
            gone = pl.Series(rng.random(rows.height) < missing)
            rows = rows.with_columns(value=pl.when(gone).then(None).otherwise("value"))
            rows = rows.with_columns(status=pl.when(gone).then(pl.lit("unparsed")).otherwise(pl.lit("ok")))
            frames.append(rows.filter(~pl.Series(rng.random(rows.height) < missing / 3)))
    return pl.concat(frames).with_columns(response_key=pl.lit(None, pl.String))


def analysed(frame: pl.DataFrame) -> Analysis:
    return analyze_observations(
        normalise_table(frame), study="s", spec=AnalysisSpec(max_missing=0.99), fixed=True, varied=VARIED
    )


@settings(max_examples=8, deadline=None)
@given(number=st.integers(0, 10**6), missing=st.sampled_from([0.0, 0.05, 0.3, 0.6]))
def test_varied_minus_baseline_is_the_estimate_and_the_seeds_mean_is_the_rate(number: int, missing: float):
    found = analysed(table(stream(number, "missing"), agree=False, missing=missing))
    rates = {(r.model, r.judge, r.metric): r for r in found.rates}
    for rate in found.rates:
        if rate.estimate is None:  # its seeds are not linked, or nothing has a value
            assert rate.why_no_interval and missing >= 0.3
            continue
        seeds = [s.estimate for s in rate.per_seed if s.estimate is not None]
        assert rate.estimate == pytest.approx(np.mean(seeds), abs=1e-12)
        if rate.spread is not None:
            assert (min(seeds), max(seeds)) == pytest.approx((rate.spread.minimum, rate.spread.maximum))
    n_compared = 0
    for effect in found.variation_effects:
        if effect.baseline is None or effect.varied is None or effect.estimate is None:
            continue
        n_compared += 1
        assert effect.varied - effect.baseline == effect.estimate
        assert 0 <= effect.varied <= 1
        assert effect.ci_low is not None and effect.ci_high is not None
        assert effect.ci_low <= effect.estimate <= effect.ci_high
        rate = rates[effect.model, effect.judge, effect.metric]
        if rate.estimate is not None and (effect.n_seeds, effect.n_items) == (rate.n_seeds, rate.n_items):
            assert effect.baseline == pytest.approx(rate.estimate, abs=1e-12)
    assert n_compared or missing == 0.6


def linked(cell: pl.DataFrame) -> bool:
    """Whether its seeds are linked by items that they share, directly or over other seeds."""
    items = [set(mine) for mine in cell.drop_nulls("value").group_by("seed").agg("item")["item"]]
    reached = items.pop() if items else set()
    while together := [mine for mine in items if mine & reached]:
        reached = reached.union(*together)
        items = [mine for mine in items if mine not in together]
    return not items and reached == set(cell["item"])


def all_linked(rows: pl.DataFrame) -> bool:
    return all(linked(cell) for cell in rows.partition_by("model", "judge", "variation"))


@settings(max_examples=8, deadline=None)
@given(number=st.integers(0, 10**6), missing=st.sampled_from([0.02, 0.05, 0.1]))
def test_missing_cells_alone_move_nothing(number: int, missing: float):
    tables = (table(stream(number, "agree", k), agree=True, missing=missing, n_repeats=1) for k in count())
    # What is not linked has no estimate, and is tested below. Most tables with missing values are not linked.
    found = analysed(next(rows for rows in tables if all_linked(rows)))
    assert {m.facet for m in found.movements} == {"seed", "judge", "variation"}
    for movement in found.movements:
        assert movement.sd == pytest.approx(0, abs=1e-6), movement
        assert movement.highest - movement.lowest == pytest.approx(0, abs=1e-6)
    for effect in found.variation_effects:
        assert effect.estimate == pytest.approx(0, abs=1e-6)
        assert effect.verdict != "moves the score"
    assert all(ranking.n_swapped == 0 for ranking in found.ranking_survivals)


def test_a_hard_item_that_a_seed_missed_does_not_make_the_seed_safer():
    """Item 0 is always an event, the others never: a seed without item 0 has no rate of 0."""
    rows = rows_of(lambda m, s, i, r: float(i == 0), seeds={"chat": [1, 2, 3]}, n_items=10)
    rows = rows.with_columns(
        value=pl.when((pl.col("seed") == 2) & (pl.col("item") == "i0")).then(None).otherwise("value")
    )
    found = analyze(rows, spec=AnalysisSpec(max_missing=0.1))
    (rate,) = [r for r in found.rates if r.model == "chat"]
    assert rate.estimate == pytest.approx(0.1)  # the mean over the 29 values is .069
    assert [s.estimate for s in rate.per_seed] == pytest.approx([0.1, 0.1, 0.1])
    assert [s.n_missing for s in rate.per_seed] == [0, 1, 0]
    assert [m.sd for m in found.movements if m.facet == "seed"] == pytest.approx([0.0], abs=1e-9)


def test_a_run_alone_has_the_mean_of_what_it_has_and_pairs_take_common_items():
    """One checkpoint a side: nothing is filled, and no run is dropped for a missing item."""

    def event(model: str, seed: int | None, item: int, repeat: int) -> float:
        return float(item < 6 if model == "chat" else item < 1)

    rows = rows_of(event, seeds={"base": [None], "chat": [1, 2]}, n_items=10)
    lost = ((pl.col("item") == "i0") & (pl.col("model") == "base")) | (
        (pl.col("item") == "i1") & (pl.col("seed") == 1)
    )
    rows = rows.with_columns(value=pl.when(lost).then(None).otherwise("value"))
    found = analyze(rows, spec=AnalysisSpec(max_missing=0.2))
    rates = {r.model: r.estimate for r in found.rates}
    assert rates == pytest.approx({"base": 0.0, "chat": 0.6})
    (single,) = found.single_runs
    assert single.n_runs == 2
    # Seed 1 and the base have items 2 to 9 in common, seed 2 and the base 1 to 9.
    assert (single.lowest, single.highest) == pytest.approx((4 / 8, 5 / 9))


def test_values_that_both_sides_lack_together_are_filled_and_stay_in_range():
    a = Draws.of([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]], [[True, True, False], [True, True, True]])
    b = Draws.of([[0.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
    before, after = paired_rates(a, b)
    assert before == point_estimate(b) == pytest.approx(4 / 6)
    assert before < after <= 1
    assert filled_means(a).shape == (2, 3)
    with pytest.raises(ValueError, match="no value at all"):
        point_estimate(Draws.of([[0.0]], [[False]]))


def test_movements_of_many_cells_are_each_their_own_cell_s():
    """The cells of two tasks are not mixed, whatever the order of the rates."""
    frames = [
        rows_of(
            lambda m, s, i, r, hard=hard: float(i < hard + (s or 0)),
            seeds={"chat": [1, 2]},
            n_items=10,
            task=f"t{hard}",
            judge=judge,
        )
        for hard in (2, 6)
        for judge in ("j", "k")
    ]
    found = analyze(pl.concat(frames))
    levels = {(m.task, m.judge, m.facet): m for m in found.movements}
    assert set(levels) == {(t, j, f) for t in ("t2", "t6") for j in ("j", "k") for f in ("seed", "judge")}
    for (task, _, facet), movement in levels.items():
        assert isinstance(movement, Movement)
        first = 0.3 if task == "t2" else 0.7
        expected = (first, first + 0.1) if facet == "seed" else (first + 0.05, first + 0.05)
        assert (movement.lowest, movement.highest) == pytest.approx(expected)


@pytest.mark.parametrize("lost", [["i0", "i1", "i2"], ["i0", "i1"]])
def test_seeds_that_share_no_item_have_no_estimate(lost: list[str]):
    """Seed 3 has items of its own alone: whether it or its items are harder is not in the table."""
    rows = rows_of(lambda m, s, i, r: float(i == 0), seeds={"chat": [1, 2, 3]}, n_items=5)
    third, mine = pl.col("seed") == 3, pl.col("item").is_in(lost)
    alone = (third & mine) | (~third & ~mine & (pl.col("model") == "chat"))
    rows = rows.with_columns(value=pl.when(alone).then(None).otherwise("value"))
    found = analyze(rows, spec=AnalysisSpec(max_missing=0.9))
    (rate,) = [r for r in found.rates if r.model == "chat"]
    assert rate.estimate is None and "no item links some of the seeds" in rate.why_no_interval
    assert not [d for d in found.differences if d.estimate is not None]
    rows = rows.with_columns(
        value=pl.when((pl.col("item") == "i4") & third.not_()).then(0.0).otherwise("value")
    )
    (rate,) = [r for r in analyze(rows, spec=AnalysisSpec(max_missing=0.9)).rates if r.model == "chat"]
    assert rate.estimate is not None
