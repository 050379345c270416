"""analyze() on studies with known truths."""

import json
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import numpy as np
import polars as pl
import pytest

from aftertune.analysis import analysis_schema, analyze
from aftertune.records.analysis import Analysis, Primary
from aftertune.stats import mcnemar_exact, newcombe_paired, three_way, wilson
from aftertune.stats.compare import Paired
from aftertune.study import AnalysisSpec
from rows import rows_of

DOCS = Path(__file__).parents[2] / "docs"


def one(found, **wanted):
    kept = [x for x in found if all(getattr(x, key) == value for key, value in wanted.items())]
    assert len(kept) == 1, f"{len(kept)} of {wanted}"
    return kept[0]


@pytest.fixture(scope="module")
def analysis(synthetic) -> Analysis:
    primary = Primary(
        task="mini-harm",
        decoding="sampled",
        judge="refusal-rules",
        metric="compliance_rate",
        target="benchmark",
    )
    return analyze(
        synthetic,
        study="synthetic",
        spec=AnalysisSpec(primary=primary),
        deterministic_decodings=frozenset({"greedy"}),
    )


def test_rates_equal_plain_means_and_hold_the_truth(analysis, synthetic):
    for model in ("base", "worse", "same"):
        rate = one(analysis.rates, model=model, decoding="sampled", metric="compliance_rate")
        rows = synthetic.filter(model=model, decoding="sampled")
        assert rate.estimate == pytest.approx(1 - rows["value"].mean())
        assert rate.note == "by refusal" and rate.higher_is == "worse"
        assert rate.benchmark.ci_low < rate.estimate < rate.benchmark.ci_high
        assert (
            rate.population.ci_low
            <= rate.benchmark.ci_low
            < rate.benchmark.ci_high
            <= rate.population.ci_high
        )
        assert (rate.n_items, rate.n_repeats, rate.missing.n) == (60, 3, 0)
        assert rate.bounds.low == rate.bounds.high == pytest.approx(rate.estimate)
        mirror = one(analysis.rates, model=model, decoding="sampled", metric="refusal_rate")
        assert mirror.estimate == pytest.approx(1 - rate.estimate)
        assert mirror.benchmark.ci_high == pytest.approx(1 - rate.benchmark.ci_low)


def test_seeds_have_their_own_rates_and_a_spread(analysis, synthetic):
    rate = one(analysis.rates, model="worse", decoding="sampled", metric="compliance_rate")
    expected = [
        1 - synthetic.filter(model="worse", decoding="sampled", seed=s)["value"].mean() for s in range(1, 6)
    ]
    assert [s.estimate for s in rate.per_seed] == pytest.approx(expected)
    assert [s.checkpoint for s in rate.per_seed] == [f"worse/{s}" for s in range(1, 6)]
    spread = rate.spread
    assert spread.sd == pytest.approx(np.std(expected, ddof=1))
    reach = 2.776445 * spread.sd * np.sqrt(1.2)
    assert spread.prediction_high == pytest.approx(
        max(rate.estimate + reach, rate.benchmark.ci_high), rel=1e-5
    )
    assert rate.bayes == ()


def test_the_worse_recipe_is_less_safe_and_the_same_one_is_not(analysis):
    for target in ("benchmark", "population"):
        where = {"reference": "base", "decoding": "sampled", "target": target}
        worse = one(analysis.differences, model="worse", **where)
        assert worse.verdict == "less safe" and worse.ci_low > 0.2 and worse.p_adjusted < 0.01
        assert "Less safe than base" in worse.sentence and "worse, 5 seeds" in worse.sentence
        same = one(analysis.differences, model="same", **where)
        assert same.verdict in ("not shown", "not less safe") and same.ci_low < 0 < same.ci_high
        assert worse.primary == (target == "benchmark")
        assert ("item" in worse.covers) == (target == "population") and "judge" in worse.leaves_out
    pair = one(analysis.differences, model="worse", reference="same", decoding="sampled", target="benchmark")
    assert pair.verdict == "less safe" and not pair.primary


def test_a_mirror_image_is_not_tested_twice(analysis):
    assert {d.metric for d in analysis.differences} == {"compliance_rate"}
    assert len(analysis.differences) == 2 * 2 * 3


def test_holm_counts_the_models_against_the_base_in_each_target(analysis):
    family = [
        d
        for d in analysis.differences
        if (d.reference, d.decoding, d.target) == ("base", "sampled", "population")
    ]
    raw = sorted(d.p_value for d in family)
    assert sorted(d.p_adjusted for d in family) == pytest.approx([2 * raw[0], max(2 * raw[0], raw[1])])


def test_a_greedy_base_has_no_sampling_variance_on_its_benchmark(analysis, synthetic):
    base = one(analysis.rates, model="base", decoding="greedy", metric="compliance_rate")
    assert base.benchmark.ci_low == base.benchmark.ci_high == base.estimate
    assert base.population.ci_high - base.population.ci_low > 0.1
    careful = analyze(synthetic, study="synthetic")
    drawn = one(careful.rates, model="base", decoding="greedy", metric="compliance_rate")
    plain = wilson(round(60 * base.estimate), 60)
    assert (drawn.benchmark.ci_low, drawn.benchmark.ci_high) == pytest.approx((plain.ci_low, plain.ci_high))


def test_flips_equal_a_loop_over_all_pairs_of_draws(analysis, synthetic):
    flip = one(analysis.flips, model="worse", decoding="sampled", category="c1")
    rows = synthetic.filter(pl.col("decoding") == "sampled", pl.col("category") == "c1")
    total = 0.0
    for item in rows["item"].unique():
        was = 1 - rows.filter(model="base", item=item)["value"].to_numpy()
        for seed in range(1, 6):
            now = 1 - rows.filter(model="worse", item=item, seed=seed)["value"].to_numpy()
            total += np.mean([(1 - b) * t for b in was for t in now]) / 5
    assert flip.to_event == pytest.approx(total)
    whole = one(analysis.flips, model="worse", decoding="sampled", category=None)
    parts = [f for f in analysis.flips if (f.model, f.decoding) == ("worse", "sampled") and f.category]
    assert whole.to_event == pytest.approx(sum(f.to_event for f in parts))
    difference = one(
        analysis.differences, model="worse", reference="base", decoding="sampled", target="benchmark"
    )
    assert (whole.to_event - whole.to_no_event) / whole.n_items == pytest.approx(difference.estimate)


def test_consistency_shows_what_each_run_would_have_shown(analysis, synthetic):
    found = one(analysis.consistency, model="base", decoding="sampled")
    rows = synthetic.filter(model="base", decoding="sampled")
    rates = [1 - rows.filter(repeat=r)["value"].mean() for r in range(3)]
    assert found.per_repeat == pytest.approx(rates)
    assert (found.minimum, found.maximum) == (min(found.per_repeat), max(found.per_repeat))
    assert found.new_run_in_range == pytest.approx(0.5)
    assert found.interval.covers == ("repeat",)
    assert not [c for c in analysis.consistency if c.decoding == "greedy"]


def test_components_part_the_variance(analysis):
    found = {c.facet: c for c in analysis.components if (c.model, c.decoding) == ("worse", "sampled")}
    assert set(found) == {"seed", "item", "seed×item", "repeat"}
    assert sum(c.share for c in found.values()) == pytest.approx(1)
    assert found["seed"].f > 0 and found["item"].f is None


def test_the_order_of_the_rows_changes_nothing(analysis, synthetic):
    shuffled = synthetic.sample(fraction=1.0, shuffle=True, seed=3)
    again = analyze(
        shuffled,
        study="synthetic",
        spec=AnalysisSpec(primary=analysis.primary),
        deterministic_decodings=frozenset({"greedy"}),
    )
    assert again == analysis


def test_the_result_is_json_without_nan_and_fits_its_schema(analysis):
    text = analysis.model_dump_json()
    content = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))
    jsonschema.validate(content, analysis_schema())
    assert Analysis.model_validate_json(text) == analysis


def test_the_schema_in_the_docs_is_the_programs_own():
    assert json.loads((DOCS / "analysis.schema.json").read_text()) == analysis_schema()


def test_one_checkpoint_each_is_a_paired_table_in_words_for_two_checkpoints():
    event = {"base": lambda i: i < 14, "chat": lambda i: 2 <= i < 30}
    frame = rows_of(lambda m, s, i, r: float(event[m](i)), seeds={"base": [None], "chat": [7]}, n_items=50)
    found = analyze(frame, study="pair")
    rate = one(found.rates, model="chat")
    assert rate.benchmark is None and rate.population is None and "one seed" in rate.why_no_interval
    difference = one(found.differences, target="population")
    assert (difference.table.n_gained, difference.table.n_lost, difference.table.n_both) == (16, 2, 12)
    assert difference.p_value == mcnemar_exact(16, 2)
    assert (difference.ci_low, difference.ci_high) == newcombe_paired(Paired(20, 16, 2, 12))
    assert "these two checkpoints, chat/7 and base" in difference.sentence
    assert "seed" in difference.leaves_out and difference.verdict == "less safe"
    assert "few_seeds" in {w.code for w in found.warnings}


def test_few_seeds_get_a_prior_beside_the_interval():
    generator = np.random.default_rng(1)
    frame = rows_of(
        lambda m, s, i, r: float(generator.random() < 0.2 + 0.1 * (s or 2)),
        seeds={"base": [None], "chat": [1, 2, 3]},
        n_items=100,
    )
    rate = one(analyze(frame, study="few").rates, model="chat")
    assert [b.prior_sd for b in rate.bayes] == [0.1, 0.2]
    assert rate.benchmark.ci_low < rate.bayes[0].ci_low < rate.bayes[0].ci_high < rate.benchmark.ci_high
    for found in rate.bayes:
        width = rate.benchmark.ci_high - rate.benchmark.ci_low
        assert found.width_ratio == pytest.approx((found.ci_high - found.ci_low) / width)
        assert 0.02 < found.seed_sd < 0.3


def with_missing(n):
    generator = np.random.default_rng(2)
    frame = rows_of(
        lambda m, s, i, r: float(generator.random() < 0.3),
        seeds={"base": [None], "chat": [1, 2, 3, 4, 5]},
        n_items=40,
    ).with_row_index()
    gone = pl.col("index").is_in(range(60, 60 + n))
    return frame.with_columns(
        pl.when(gone).then(None).otherwise(pl.col("value")).alias("value"),
        pl.when(gone).then(pl.lit("unparsed")).otherwise(pl.lit("ok")).alias("status"),
    ).drop("index")


def test_missing_judgments_are_counted_and_bounded():
    found = analyze(with_missing(6), study="m")
    rate = one(found.rates, model="chat")
    assert (rate.missing.n, rate.missing.n_observations, rate.missing.by_status) == (6, 200, {"unparsed": 6})
    assert rate.bounds.high - rate.bounds.low == pytest.approx(6 / 200)
    assert rate.bounds.low <= rate.estimate <= rate.bounds.high and rate.benchmark is not None
    assert rate.per_seed[0].n_missing == 6
    assert one(found.warnings, code="missing_judgments").where.startswith("chat")


def test_too_many_missing_judgments_leave_bounds_and_no_conclusion():
    found = analyze(with_missing(12), study="m")
    rate = one(found.rates, model="chat")
    assert (rate.estimate, rate.benchmark, rate.population, rate.spread) == (None, None, None, None)
    assert "6.0%" in rate.why_no_interval and rate.bounds.high > rate.bounds.low
    for difference in found.differences:
        assert (difference.verdict, difference.estimate, difference.ci_low, difference.p_value) == (
            "no conclusion", None, None, None,
        )  # fmt: skip
    assert (
        analyze(with_missing(12), study="m", spec=AnalysisSpec(max_missing=0.1)).differences[0].estimate
        is not None
    )


def test_a_cell_without_a_row_is_missing_too():
    frame = with_missing(0).filter(~((pl.col("seed") == 2) & (pl.col("item") == "i3")).fill_null(False))
    found = analyze(frame, study="absent")
    rate = one(found.rates, model="chat")
    assert rate.missing.by_status == {"absent": 1} and rate.missing.n_observations == 200
    assert "unbalanced_cells" in {w.code for w in found.warnings}


@pytest.mark.parametrize(
    ("construct", "intent", "metric", "verdict"),
    [
        ("complied", "harmful", "compliance_rate", "less safe"),
        ("refused", "benign", "over_refusal_rate", "less safe"),
        ("correct", "benign", "accuracy", "safer"),
    ],
)
def test_the_verdict_follows_the_metrics_direction(construct, intent, metric, verdict):
    frame = rows_of(
        lambda m, s, i, r: float((i + (s or 0)) % 10 < (2 if m == "base" else 8)),
        seeds={"base": [None], "chat": [1, 2, 3, 4, 5]}, n_items=100, construct=construct, intent=intent,
    )  # fmt: skip
    difference = one(analyze(frame, study="d").differences, target="benchmark")
    assert (difference.metric, difference.verdict) == (metric, verdict)


def test_a_small_certain_loss_is_both():
    frame = rows_of(
        lambda m, s, i, r: float(i % 50 < (10 if m == "base" else 11)),
        seeds={"base": [None], "chat": [1, 2, 3, 4, 5]}, n_items=500,
    )  # fmt: skip
    found = analyze(frame, study="s", deterministic_decodings=frozenset({"d"}))
    difference = one(found.differences, target="benchmark")
    assert difference.verdict == "less safe, within the margin"
    assert 0 < difference.ci_low < difference.estimate == pytest.approx(0.02)


def test_nothing_ever_happening_still_leaves_an_upper_bound():
    frame = rows_of(lambda m, s, i, r: 0.0, seeds={"base": [None], "chat": [1, 2, 3, 4, 5]}, n_items=30)
    found = analyze(frame, study="zero")
    for rate in found.rates:
        assert rate.estimate == 0 and rate.benchmark.ci_high > 0.05 and rate.benchmark.se > 0
    assert all(d.p_value == 1 and d.ci_low < 0 < d.ci_high for d in found.differences)
    assert "saturated_rate" in {w.code for w in found.warnings}


def test_no_incoherence_at_all_is_no_fault_of_the_items():
    seeds = {"base": [None], "chat": [1, 2, 3, 4, 5]}
    for value, codes in ((0.0, set()), (1.0, {"saturated_rate"})):
        frame = rows_of(lambda m, s, i, r, v=value: v, seeds=seeds, n_items=30, construct="incoherent")
        assert {w.code for w in analyze(frame, study="zero").warnings} == codes


def test_copied_repeats_and_long_responses_are_noticed():
    frame = rows_of(
        lambda m, s, i, r: float(i % 3 == 0), seeds={"base": [None], "chat": [1, 2]}, n_items=30, n_repeats=2
    ).with_columns(
        pl.when(pl.col("seed") == 2).then(pl.lit("length")).otherwise(pl.lit("stop")).alias("finish")
    )
    found = analyze(frame, study="copies")
    assert {"identical_repeats", "max_tokens", "few_seeds"} <= {w.code for w in found.warnings}
    rate = one(found.rates, model="chat")
    assert [s.share_length for s in rate.per_seed] == [0.0, 1.0]
    quiet = analyze(frame, study="copies", deterministic_decodings=frozenset({"d"}))
    assert "identical_repeats" not in {w.code for w in quiet.warnings}


def test_judges_of_one_construct_are_compared():
    frame = rows_of(lambda m, s, i, r: float(i % 2), seeds={"base": [None]}, n_items=40)
    other = frame.with_columns(
        pl.lit("k").alias("judge"),
        pl.when(pl.col("item") == "i1").then(0.0).otherwise(pl.col("value")).alias("value"),
    )
    found = analyze(pl.concat([frame, other]), study="judges").agreement
    agreement = one(found, judge_a="j", judge_b="k", task="t")
    assert (agreement.n, agreement.positive_agreement) == (40, pytest.approx(2 * 19 / (2 * 19 + 1)))
    assert agreement.cohen_kappa == pytest.approx(0.95)
    assert agreement.model_dump(by_alias=True)["construct"] == "complied"


def test_judge_repeats_are_averaged_within_a_response():
    frame = rows_of(lambda m, s, i, r: float(i < 10), seeds={"base": [None]}, n_items=40)
    again = pl.concat([frame.with_columns(pl.lit(j).alias("judge_repeat")) for j in (0, 1, 2)])
    one_time, three_times = (analyze(f, study="j").rates[0] for f in (frame, again))
    assert three_times.benchmark == one_time.benchmark
    assert three_times.missing.n_observations == 40


def test_a_table_from_elsewhere_needs_three_columns():
    frame = pl.DataFrame(
        {"model": ["base"] * 40 + ["mine"] * 40, "item": [*range(40)] * 2, "value": [0] * 60 + [1] * 20}
    )
    found = analyze(frame, study="csv")
    assert {(r.model, r.metric, r.task, r.judge) for r in found.rates} == {
        ("base", "harmful_rate", "unnamed", "unnamed"), ("mine", "harmful_rate", "unnamed", "unnamed"),
    }  # fmt: skip
    mine = one(found.rates, model="mine")
    assert (mine.benchmark.ci_low, mine.benchmark.ci_high) == (wilson(20, 40).ci_low, wilson(20, 40).ci_high)
    assert "seed" in mine.benchmark.leaves_out
    assert all(d.verdict == "less safe" and "two checkpoints" in d.sentence for d in found.differences)


def test_models_on_other_items_are_compared_on_the_common_ones():
    frame = rows_of(
        lambda m, s, i, r: float(i % 2), seeds={"base": [None], "chat": [1, 2, 3, 4, 5]}, n_items=40
    )
    found = analyze(frame.filter((pl.col("model") == "base") | (pl.col("item") != "i1")), study="items")
    warning = one(found.warnings, code="different_items")
    assert "39 of 40" in warning.text and warning.where == "t · d · j · compliance_rate"
    assert one(found.differences, target="benchmark").estimate == pytest.approx(0)
    assert one(found.flips, category=None).n_items == 39


def test_a_greedy_pair_of_checkpoints_is_a_fact_on_its_items_only():
    frame = rows_of(
        lambda m, s, i, r: float(i < (10 if m == "base" else 16)),
        seeds={"base": [None], "chat": [1]},
        n_items=40,
    )
    found = analyze(frame, study="g", deterministic_decodings=frozenset({"d"}))
    fact = one(found.differences, target="benchmark")
    assert fact.ci_low == fact.ci_high == pytest.approx(0.15)
    assert (fact.p_value, fact.p_adjusted) == (None, None)
    assert "a fact on these items" in fact.sentence
    assert one(found.differences, target="population").ci_low < 0.15


def test_a_metric_that_is_no_safety_has_words_of_its_own():
    frame = rows_of(
        lambda m, s, i, r: float((i + (s or 0)) % 10 < (2 if m == "base" else 8)),
        seeds={"base": [None], "chat": [1, 2, 3, 4, 5]}, n_items=100, construct="incoherent",
    )  # fmt: skip
    difference = one(analyze(frame, study="w").differences, target="benchmark")
    assert difference.sentence.startswith(
        "Less coherent than base, over training seeds (chat, 5 seeds), on these items"
    )


def test_variations_of_a_table_alone_are_compared_and_count_as_design():
    frame = rows_of(lambda m, s, i, r: float(i < 10), seeds={"base": [None]}, n_items=40)
    hotter = frame.with_columns(pl.lit("hotter").alias("variation"), pl.lit(1.0).alias("value"))
    both = pl.concat([frame.with_columns(pl.lit("baseline").alias("variation")), hotter], how="diagonal")
    found = analyze(both, study="v")
    assert found.rates[0].estimate == 0.25
    assert "hotter" in one(found.warnings, code="variations_of_no_class").text
    effect = one(found.variation_effects, variation="hotter")
    assert (effect.kind, effect.estimate, effect.verdict) == ("design", 0.75, "moves the score")


@pytest.mark.slow
def test_100_000_rows_take_less_than_two_seconds():
    generator = np.random.default_rng(0)
    events = generator.random((5, 10, 500, 5)) < 0.3
    axes = np.indices(events.shape).reshape(4, -1)
    names = np.array(["base", "a", "b", "c", "d"])
    frame = pl.DataFrame(
        {
            "model": names[axes[0]], "seed": axes[1], "item": axes[2], "repeat": axes[3],
            "value": events.ravel().astype(float),
        }
    )  # fmt: skip
    frame = frame.filter((pl.col("model") != "base") | (pl.col("seed") == 0))
    frame = frame.with_columns(pl.when(pl.col("model") != "base").then(pl.col("seed")).alias("seed"))
    assert frame.height == 102_500
    start = time.perf_counter()
    analyze(frame, study="speed")
    assert time.perf_counter() - start < 2


def test_nothing_heavy_is_imported():
    code = "import sys, aftertune.analysis; print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_judges_share_of_the_variance_is_that_of_three_way():
    generator = np.random.default_rng(3)
    truth = {(s, i): float(generator.random() < 0.4) for s in (1, 2, 3) for i in range(40)}
    parts = []
    for judge, miss in (("strict", 0.02), ("lenient", 0.4)):
        frame = rows_of(
            lambda m, s, i, r, miss=miss: truth[s, i] * float(generator.random() >= miss),
            seeds={"chat": [1, 2, 3]},
            n_items=40,
        )
        parts.append(frame.with_columns(pl.lit(judge).alias("judge")))
    found = analyze(pl.concat(parts), study="two judges").components
    together = {c.facet: c for c in found if c.judge == "lenient + strict"}
    values = {
        name: part.sort("seed", "item")["value"].to_numpy() for name, part in zip("sl", parts, strict=True)
    }
    y_spj = np.stack([values["l"].reshape(3, 40), values["s"].reshape(3, 40)], axis=2)
    expected = {e.name: e for e in three_way(y_spj).effects}
    assert together.keys() == expected.keys()
    for facet, component in together.items():
        assert component.variance == pytest.approx(expected[facet].variance)
        assert component.share == pytest.approx(expected[facet].share)
    assert together["judge"].share > 0.01
    assert {c.judge for c in found} == {"strict", "lenient", "lenient + strict"}
