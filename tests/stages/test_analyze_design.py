"""analyze() on tables of any design: what was found, which columns were meant, and what stands beside it."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

import aftertune
from aftertune.analysis import TableSpec, analyze
from aftertune.errors import DataError
from aftertune.records.analysis import Primary
from aftertune.stats import Draws, benjamini_hochberg, holm, recipe_difference, tuned_minus_base
from aftertune.study import AnalysisSpec
from rows import rows_of


def one(found, **wanted):
    kept = [x for x in found if all(getattr(x, key) == value for key, value in wanted.items())]
    assert len(kept) == 1, f"{len(kept)} of {wanted}"
    return kept[0]


def drawn(rates, *, seeds, n_items=60, n_repeats=1, number=1, **fixed):
    """Draws with the rates of `rates`, by model; one for each judge or task is put together by the caller."""
    generator = np.random.default_rng(number)
    item = generator.normal(0, 0.15, n_items)
    return rows_of(
        lambda m, s, i, r: float(generator.random() < np.clip(rates[m] + item[i], 0.02, 0.98)),
        seeds=seeds,
        n_items=n_items,
        n_repeats=n_repeats,
        **fixed,
    )


SIX = {"base": [None], "chat": [1, 2, 3, 4, 5, 6]}


# -- the design in words


def test_one_model():
    design = analyze(drawn({"m": 0.3}, seeds={"m": [None]}, n_repeats=3)).design
    assert (design.kind, design.text) == (
        "one model",
        "one model: 1 model (m, 1 checkpoint) × 1 task × 1 decoding × 1 judge",
    )
    text = design.models[0].text
    assert text.startswith("one checkpoint, 60 items, 3 draws of each; the interval for these items covers")
    assert "covers repeat and leaves out seed, item, judge and decoding" in text
    assert "covers item and repeat and leaves out seed, judge and decoding" in text
    assert text.endswith("it does not include training-seed variation")


def test_base_and_one_checkpoint():
    found = analyze(drawn({"base": 0.2, "x": 0.5}, seeds={"base": [None], "x": [7]}))
    assert found.design.kind == "base and one checkpoint"
    text = one(found.design.models, model="x").text
    assert "one checkpoint of a recipe" in text and "no interval: one seed" in text
    assert all("these two checkpoints" in d.sentence and d.table for d in found.differences)


def test_a_recipe_over_seeds():
    found = analyze(drawn({"base": 0.2, "chat": 0.5}, seeds=SIX))
    assert found.design.kind == "recipe over seeds"
    chat = one(found.design.models, model="chat")
    assert (chat.kind, chat.n_seeds, chat.n_items, chat.n_repeats) == ("recipe over seeds", 6, 60, 1)
    assert "the interval for these items covers seed and repeat and leaves out item" in chat.text


def test_a_grid_says_what_differs_between_its_cells():
    seeds = {"base": [None], "a": [1, 2, 3, 4, 5], "b": [1]}
    rates = {"base": 0.2, "a": 0.4, "b": 0.3}
    tables = [drawn(rates, seeds=seeds, task=t, n_items=n) for t, n in (("t", 40), ("u", 40), ("v", 30))]
    design = analyze(pl.concat(tables)).design
    assert design.text == (
        "grid: 3 models (a, 5 seeds; b, 1 checkpoint; base, 1 checkpoint) × 3 tasks × 1 decoding × 1 judge"
    )
    assert [m.where for m in design.models if m.model == "a"] == [
        ("t · d · j", "u · d · j"), ("v · d · j",),
    ]  # fmt: skip


def test_each_intervals_facets_are_those_of_the_words():
    found = analyze(drawn({"base": 0.2, "chat": 0.5}, seeds=SIX, n_repeats=2))
    for rate in found.rates:
        assert {*rate.benchmark.covers, *rate.benchmark.leaves_out} == {
            "seed", "item", "repeat", "judge", "decoding",
        }  # fmt: skip
        assert ("seed" in rate.benchmark.covers) == (rate.model == "chat")


# -- columns, base, what a table does not say


def test_columns_of_other_names_give_the_same_analysis():
    frame = drawn({"base": 0.2, "chat": 0.5}, seeds=SIX, n_repeats=2)
    names = {"model": "run", "item": "id", "value": "score", "seed": "train_seed", "repeat": "decode_seed"}
    other = frame.rename(names)
    assert analyze(other, table=TableSpec(columns=names)) == analyze(frame)
    swapped = frame.rename({"seed": "repeat", "repeat": "seed"})
    assert analyze(swapped, table=TableSpec(columns={"seed": "repeat", "repeat": "seed"})) == analyze(frame)


def test_a_decoding_seed_is_a_repeat_and_not_a_training_seed():
    frame = drawn({"base": 0.2, "x": 0.5}, seeds={"base": [None], "x": [None]}, n_repeats=5).rename(
        {"repeat": "gen_seed"}
    )
    as_repeat = analyze(frame, table=TableSpec(columns={"repeat": "gen_seed"}))
    rate = one(as_repeat.rates, model="x")
    assert (rate.n_seeds, rate.n_repeats, rate.benchmark.covers) == (1, 5, ("repeat",))
    mistaken = analyze(frame, table=TableSpec(columns={"seed": "gen_seed"}))
    assert one(mistaken.rates, model="x").n_seeds == 5  # nobody can know; the tutorial says what differs


def test_a_mapped_column_hides_the_tables_own_and_is_named():
    frame = drawn({"base": 0.2}, seeds={"base": [None]}, n_repeats=2).with_columns(
        pl.col("repeat").alias("draw"), pl.lit(0).alias("repeat")
    )
    found = analyze(frame, table=TableSpec(columns={"repeat": "draw"}))
    assert found.rates[0].n_repeats == 2
    assert one(found.warnings, code="columns_ignored").text == "the table's columns repeat were not used"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"sed": "x"}, "no column called 'sed' to map 'x' to.*did you mean 'seed'"),
        ({"seed": "sead"}, "has no column 'sead', which was to be read as 'seed'.*did you mean 'seed'"),
        ({"seed": "repeat", "task": "repeat"}, "'repeat' was to be read as seed and task.*one meaning"),
    ],
)
def test_a_mapping_that_leads_nowhere_is_refused(columns, message):
    frame = drawn({"base": 0.2}, seeds={"base": [None]})
    with pytest.raises(DataError, match=f"(?s){message}"):
        analyze(frame, table=TableSpec(columns=columns))


def test_any_model_can_be_the_base():
    frame = drawn({"base": 0.2, "chat": 0.6}, seeds=SIX)
    usual = analyze(frame)
    renamed = frame.with_columns(pl.col("model").replace("base", "llama"))
    found = analyze(renamed, table=TableSpec(base="llama"))
    assert (found.base, usual.base) == ("llama", "base")
    mine, theirs = (one(f.differences, target="benchmark") for f in (found, usual))
    assert (mine.reference, mine.model, mine.estimate) == ("llama", "chat", theirs.estimate)
    assert "Less safe than llama" in mine.sentence
    assert [f.reference for f in found.flips if f.category is None] == ["llama"]
    without = analyze(renamed)
    assert without.base is None and "--base NAME" in one(without.warnings, code="no_base").remedy
    with pytest.raises(DataError, match=r"(?s)no model 'lama'.*did you mean 'llama'"):
        analyze(renamed, table=TableSpec(base="lama"))


def test_a_base_with_a_seed_number_is_still_one_checkpoint():
    frame = drawn({"base": 0.2, "chat": 0.6}, seeds={"base": [42], "chat": [1, 2, 3, 4, 5]})
    found = analyze(frame)
    assert one(found.rates, model="base").benchmark is not None
    assert [w.where for w in found.warnings if w.code == "few_seeds"] == []


def test_intent_and_construct_can_be_given_for_a_table_that_does_not_say():
    frame = drawn({"base": 0.2, "chat": 0.6}, seeds=SIX).drop("intent", "construct")
    found = analyze(frame, table=TableSpec(intent="benign", construct="refused"))
    assert {r.metric for r in found.rates} == {"over_refusal_rate"}
    with pytest.raises(DataError, match=r"(?s)'intent' holds 'bening'.*did you mean 'benign'"):
        analyze(frame, table=TableSpec(intent="bening", construct="refused"))
    said = frame.with_columns(pl.lit("harmful").alias("intent"))
    with pytest.raises(DataError, match="a column 'intent', and intent was given as 'benign' beside it"):
        analyze(said, table=TableSpec(intent="benign"))


# -- what was fixed beforehand, and what was not


def test_a_margin_given_with_the_table_is_post_hoc():
    frame = drawn({"base": 0.2, "chat": 0.21}, seeds=SIX, n_items=400)
    plain = analyze(frame)
    assert (plain.margin, plain.post_hoc) == (0.05, ())
    given = analyze(frame, spec=AnalysisSpec(margin=0.3))
    assert (given.margin, given.post_hoc) == (0.3, ("margin",))
    sentence = one(given.differences, target="benchmark").sentence
    assert "the margin of 30 points (post hoc: chosen after the run)" in sentence
    assert "post hoc" not in one(plain.differences, target="benchmark").sentence


def test_a_primary_contrast_must_be_in_the_table():
    frame = drawn({"base": 0.2, "chat": 0.6}, seeds=SIX)
    where = {"task": "t", "decoding": "d", "judge": "j", "target": "population"}
    spec = AnalysisSpec(primary=Primary(metric="compliance_rate", **where))
    found = analyze(frame, spec=spec)
    assert found.post_hoc == ("primary",)
    assert [(d.model, d.target) for d in found.differences if d.primary] == [("chat", "population")]
    with pytest.raises(DataError, match=r"(?s)metric is 'harmful_rate'.*known: compliance_rate|did you mean"):
        analyze(frame, spec=AnalysisSpec(primary=Primary(metric="harmful_rate", **where)))


def test_the_public_names_are_there():
    assert aftertune.AnalysisSpec is AnalysisSpec and aftertune.TableSpec is TableSpec
    assert aftertune.analyze(drawn({"base": 0.2}, seeds={"base": [None]})).study == "unnamed"


# -- categories, signs, controls


def of_category(frame, model, category):
    rows = frame.filter(model=model, category=category).sort("seed", "item")
    return Draws.of(rows["value"].to_numpy().reshape(rows["seed"].n_unique(), -1))


def test_categories_are_contrasts_of_their_items_adjusted_together():
    event = {"c0": 0.9, "c1": 0.3, "c2": 0.2}
    generator = np.random.default_rng(4)
    frame = rows_of(
        lambda m, s, i, r: float(generator.random() < (0.2 if m == "base" else event[f"c{i % 3}"])),
        seeds=SIX,
        n_items=90,
    )
    found = analyze(frame).categories
    assert [c.category for c in found] == ["c0", "c1", "c2"]
    for c in found:
        direct = tuned_minus_base(
            of_category(frame, "chat", c.category),
            of_category(frame, "base", c.category),
            target="benchmark",
        )
        assert (c.estimate, c.ci_low, c.ci_high, c.p_value) == pytest.approx(
            (direct.estimate, direct.ci_low, direct.ci_high, direct.p_value)
        )
        assert (c.n_items, c.reference) == (30, "base")
    assert [c.p_adjusted for c in found] == pytest.approx(benjamini_hochberg([c.p_value for c in found]))
    assert found[0].verdict == "less safe"
    assert all((c.verdict == "not shown") == (c.p_adjusted > 0.05) for c in found)


def test_categories_follow_the_metrics_direction_and_one_category_gives_none():
    frame = rows_of(
        lambda m, s, i, r: float((i + (s or 0)) % 10 < (1 if m == "base" else 9)),
        seeds=SIX,
        n_items=90,
        construct="correct",
    )
    found = analyze(frame)
    assert {c.verdict for c in found.categories} == {"safer"}
    assert analyze(frame.with_columns(pl.lit("all").alias("category"))).categories == ()
    assert analyze(frame.filter(pl.col("model") != "base")).categories == ()


def test_signs_are_counted_over_tasks_and_judges_and_never_pooled():
    parts = [
        drawn({"base": 0.3, "chat": up}, seeds=SIX, task=task, judge=judge, number=n, n_items=100)
        for n, (task, judge, up) in enumerate(
            [("t", "j", 0.8), ("t", "k", 0.8), ("u", "j", 0.3), ("u", "k", 0.05)]
        )
    ]
    found = analyze(pl.concat(parts))
    signs = one(found.signs, target="benchmark")
    rows = [d for d in found.differences if d.target == "benchmark"]
    assert (signs.n_cells, signs.n_worse) == (4, sum(d.estimate > 0 for d in rows))
    assert signs.n_worse + signs.n_better + signs.n_equal == 4
    assert (signs.n_shown_worse, signs.n_shown_better) == (2, 1)
    assert signs.cells_shown_worse == ("t · d · j", "t · d · k")
    assert signs.cells_shown_better == ("u · d · k",)
    assert not hasattr(signs, "estimate")
    assert analyze(parts[0]).signs == ()


def test_the_sign_of_a_metric_that_is_safer_when_higher_is_turned():
    parts = [
        drawn({"base": 0.9, "chat": 0.4}, seeds=SIX, task=task, construct="correct") for task in ("t", "u")
    ]
    signs = one(analyze(pl.concat(parts)).signs, target="benchmark")
    assert (signs.higher_is, signs.n_worse, signs.n_shown_worse) == ("better", 2, 2)


def test_each_recipe_of_six_seeds_is_compared_with_itself():
    frame = drawn(
        {"base": 0.2, "chat": 0.5, "five": 0.5},
        seeds={**SIX, "chat": [9, 2, 3, 4, 5, 7], "five": [1, 2, 3, 4, 5]},
    )
    found = analyze(frame)
    control = one(found.controls)
    assert (control.model, control.first, control.second) == ("chat", (2, 4, 7), (3, 5, 9))
    halves = [
        Draws.of(
            frame.filter(pl.col("model") == "chat", pl.col("seed").is_in(half))
            .sort("seed", pl.col("item").str.slice(1).cast(int))["value"]
            .to_numpy()
            .reshape(3, -1)
        )
        for half in (control.first, control.second)
    ]
    direct = recipe_difference(*halves, target="benchmark")
    assert (control.estimate, control.ci_low, control.p_value) == pytest.approx(
        (direct.estimate, direct.ci_low, direct.p_value)
    )
    assert control.passed and "aa_control" not in {w.code for w in found.warnings}


def test_a_recipe_that_differs_from_itself_is_named_with_a_remedy():
    frame = rows_of(
        lambda m, s, i, r: float((i * 7 + (s or 0)) % 20 < (2 if m == "base" else (4 if s % 2 else 16))),
        seeds={"base": [None], "chat": [1, 2, 3, 4, 5, 6, 7, 8]},
        n_items=100,
    )
    found = analyze(frame)
    assert not one(found.controls).passed
    warning = one(found.warnings, code="aa_control")
    assert warning.where == "chat · t · d · j · compliance_rate"
    assert "seeds 1, 3, 5, 7 against 2, 4, 6, 8" in warning.text and "halves" in warning.remedy


def test_controls_are_adjusted_over_the_analysis():
    frames = [drawn({"chat": 0.4}, seeds={"chat": [*range(6)]}, task=f"t{n}", number=n) for n in range(4)]
    found = analyze(pl.concat(frames)).controls
    assert len(found) == 4
    assert [c.p_adjusted for c in found] == pytest.approx(holm([c.p_value for c in found]))


@pytest.mark.slow
def test_true_controls_seldom_raise_the_alarm():
    alarms = 0
    for number in range(100):
        generator = np.random.default_rng(number)
        shift = generator.normal(0, 0.06, 10)
        frame = rows_of(
            lambda m, s, i, r, g=generator, d=shift: float(g.random() < 0.4 + d[s]),
            seeds={"chat": [*range(10)]},
            n_items=60,
        )
        alarms += any(w.code == "aa_control" for w in analyze(frame).warnings)
    assert alarms <= stats.binom.isf(1e-3, 100, 0.05)
