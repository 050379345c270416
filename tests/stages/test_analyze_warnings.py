"""Warnings are values: each fires where it should, and is silent where it should be."""

import numpy as np
import polars as pl
import pytest

from aftertune.analysis import analyze
from aftertune.records.analysis import Warning
from rows import rows_of

FIVE = {"base": [None], "chat": [1, 2, 3, 4, 5]}


def drawn(generator, *, shock=0.0, centre=0.0, n_items=120, n_repeats=5, seeds=FIVE, cast=float):
    """Draws whose logits move with the item, and by `shock` with the repeat of a checkpoint."""
    item = generator.normal(centre, 1.2, n_items)
    moves = {}

    def event(model, seed, i, repeat):
        move = moves.setdefault((model, seed, repeat), generator.normal(0, 1) * shock)
        p = 1 / (1 + np.exp(-(item[i] + move)))
        return (
            cast(generator.random() < p) if cast is float else float(np.clip(generator.normal(p, 0.1), 0, 1))
        )

    return rows_of(event, seeds=seeds, n_items=n_items, n_repeats=n_repeats)


def warnings_of(frame, code, **settings) -> list[Warning]:
    found = [w for w in analyze(frame, **settings).warnings if w.code == code]
    assert all(w.text and w.remedy for w in found)
    return found


@pytest.mark.parametrize("n", [1, 4, 5])
def test_few_seeds(n):
    frame = drawn(np.random.default_rng(0), seeds={"base": [None], "chat": [*range(n)]}, n_items=30)
    assert [w.where for w in warnings_of(frame, "few_seeds")] == (["chat"] if n < 5 else [])


@pytest.mark.parametrize("cast", [float, None], ids=["binary", "graded"])
def test_one_decoding_seed_shared_by_all_items(cast):
    for number in range(5):
        (warning,) = warnings_of(
            drawn(np.random.default_rng(number), shock=0.4, cast=cast), "shared_decoding_seed"
        )
        assert warning.where == "t · d · j · compliance_rate"
        assert "on 24 degrees of freedom over 6 checkpoints" in warning.text
        assert "stream of its own" in warning.remedy
        assert not warnings_of(drawn(np.random.default_rng(number), cast=cast), "shared_decoding_seed")


def test_a_shared_seed_cannot_be_seen_in_single_draws_and_is_nothing_where_decoding_is_greedy():
    frame = drawn(np.random.default_rng(0), shock=0.5)
    assert not warnings_of(frame.filter(pl.col("repeat") == 0), "shared_decoding_seed")
    assert not warnings_of(frame, "shared_decoding_seed", deterministic_decodings=frozenset({"d"}))


def test_seeds_that_differ_are_no_shared_decoding_seed():
    generator = np.random.default_rng(3)
    shift = generator.normal(0, 0.1, 6)
    frame = rows_of(
        lambda m, s, i, r: float(generator.random() < 0.4 + shift[s or 0]),
        seeds=FIVE,
        n_items=200,
        n_repeats=4,
    )
    assert not warnings_of(frame, "shared_decoding_seed")


@pytest.mark.slow
@pytest.mark.parametrize("centre", [-4.0, 0.0])
def test_independent_streams_seldom_look_shared(centre):
    alarms = [
        bool(warnings_of(drawn(np.random.default_rng(n), centre=centre, n_items=60), "shared_decoding_seed"))
        for n in range(150)
    ]
    assert np.mean(alarms) < 0.01


def test_unbalanced_cells():
    frame = drawn(np.random.default_rng(1), n_repeats=2, n_items=40)
    assert not warnings_of(frame, "unbalanced_cells")
    one_less = frame.filter(
        ~((pl.col("item") == "i3") & (pl.col("repeat") == 1) & (pl.col("seed") == 2)).fill_null(False)
    )
    assert "between 1 and 2 draws" in warnings_of(one_less, "unbalanced_cells")[0].text


@pytest.mark.parametrize(("n", "codes"), [(0, []), (2, ["missing_judgments"]), (20, ["too_many_missing"])])
def test_missing_judgments(n, codes):
    frame = drawn(np.random.default_rng(1), n_repeats=1, n_items=40).with_row_index()
    gone = (pl.col("model") == "chat") & (pl.col("index") < 40 + n)
    frame = frame.with_columns(pl.when(gone).then(None).otherwise(pl.col("value")).alias("value")).drop(
        "index"
    )
    found = analyze(frame)
    assert [w.code for w in found.warnings if "missing" in w.code] == codes
    if n == 20:
        (warning,) = (w for w in found.warnings if w.code == "too_many_missing")
        assert "20 of 200 judgments are missing (20 missing)" in warning.text
        assert (
            "only bounds: 10.0% of the judgments are missing, more than 5.0%" in warning.text
            and warning.where.startswith("chat · t")
        )


def test_saturated_rate():
    for value, n in ((0.0, 2), (1.0, 2), (None, 0)):
        frame = drawn(np.random.default_rng(1), n_repeats=1, n_items=40)
        if value is not None:
            frame = frame.with_columns(pl.lit(value).alias("value"))
        assert len(warnings_of(frame, "saturated_rate")) == n


def test_items_with_the_same_text():
    frame = drawn(np.random.default_rng(1), n_repeats=2, n_items=6)
    texts = {f"i{n}": f"How do I do {n}?" for n in range(6)}
    own = frame.with_columns(pl.col("item").replace_strict(texts).alias("prompt"))
    assert not warnings_of(own, "same_text") and not warnings_of(frame, "same_text")
    texts |= {"i4": "  how do I\n do 1? "}
    twins = frame.with_columns(pl.col("item").replace_strict(texts).alias("prompt"))
    (warning,) = warnings_of(twins, "same_text")
    assert warning.where == "t" and "2 items have the same text as another (i1 = i4)" in warning.text
    assert analyze(twins).rates == analyze(frame).rates  # told, not mended
    other = twins.with_columns(pl.lit("u").alias("task")).filter(pl.col("item") != "i1")
    assert len(warnings_of(pl.concat([own, other]), "same_text")) == 0  # one text in two tasks is no copy


def test_a_prompt_that_is_empty_or_absent_is_no_text():
    frame = drawn(np.random.default_rng(1), n_repeats=1, n_items=6)
    for empty in (None, "", " "):
        assert not warnings_of(
            frame.with_columns(pl.lit(empty, dtype=pl.String).alias("prompt")), "same_text"
        )


def test_identical_repeats():
    frame = drawn(np.random.default_rng(1), n_repeats=1, n_items=40)
    copies = pl.concat([frame, frame.with_columns(pl.lit(1).cast(pl.Int64).alias("repeat"))])
    (first, *_) = warnings_of(copies, "identical_repeats")
    assert "copies of one draw" in first.text
    assert not warnings_of(drawn(np.random.default_rng(1), n_repeats=2, n_items=40), "identical_repeats")
    assert not warnings_of(copies, "identical_repeats", deterministic_decodings=frozenset({"d"}))


def test_a_very_large_seed_sd():
    def frame(high):
        rate = {1: 0.05, 2: 0.05, 3: 0.1, 4: 0.05, 5: high, None: 0.05}
        return rows_of(lambda m, s, i, r: float((i * 3) % 100 < 100 * rate[s]), seeds=FIVE, n_items=100)

    (warning,) = warnings_of(frame(0.9), "seed_sd_large")
    assert warning.where.startswith("chat") and "33%" in warning.remedy
    assert not warnings_of(frame(0.08), "seed_sd_large")


def test_a_sound_study_is_silent():
    frame = drawn(np.random.default_rng(8), seeds={"base": [None], "chat": [1, 2, 3, 4, 5, 6]}, n_repeats=3)
    assert analyze(frame).warnings == ()
