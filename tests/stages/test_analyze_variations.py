"""Variations against the baseline: known effects come out, what changes nothing is named."""

import numpy as np
import polars as pl
import pytest

from aftertune.analysis.analyze import analyze_observations
from aftertune.analysis.table import normalise_table
from aftertune.analysis.variations import Varied
from aftertune.records.analysis import Analysis
from aftertune.seeds import stream
from aftertune.study import AnalysisSpec

SEEDS, ITEMS, REPEATS = 8, 60, 3
RATES = {"base": 0.15, "tuned": 0.45, "mild": 0.30}


def part(
    variation: str, *, shift: float = 0.0, seeds: int = SEEDS, key: str = "", seed_sd: float = 0.06
) -> pl.DataFrame:
    """One variation's rows; the same `key` gives the same draws."""
    rng = stream(5, "variations", key or variation)
    rows: list[dict[str, object]] = []
    items = np.clip(stream(5, "items").normal(0, 0.15, ITEMS), -0.14, 0.3)
    for model, rate in RATES.items():
        for seed in [None] if model == "base" else list(range(1, seeds + 1)):
            own = 0.0 if seed is None else seed_sd * stream(5, model, seed).normal()
            p = np.clip(rate + items + own + (0.0 if model == "base" else shift), 0.01, 0.99)
            events = rng.random((ITEMS, REPEATS)) < p[:, None]
            rows += [
                {"model": model, "seed": seed, "item": f"i{i}", "repeat": r, "value": float(events[i, r])}
                | {"category": f"c{i % 2}"}
                for i in range(ITEMS)
                for r in range(REPEATS)
            ]
    fixed = {"task": "t", "intent": "harmful", "decoding": "d", "judge": "j", "construct": "complied"}
    frame = pl.DataFrame(rows, schema_overrides={"seed": pl.Int64})
    return frame.with_columns(*(pl.lit(v).alias(k) for k, v in (fixed | {"variation": variation}).items()))


def found_in(*parts: pl.DataFrame, varied: tuple[Varied, ...]) -> Analysis:
    observations = normalise_table(pl.concat([part("baseline"), *parts]))
    return analyze_observations(observations, study="s", spec=AnalysisSpec(), fixed=True, varied=varied)


@pytest.fixture(scope="module")
def found() -> Analysis:
    return found_in(
        part("redrawn"),
        part("hotter", shift=0.15),
        part("rows", key="baseline"),
        part("fewer", seeds=3),
        varied=(
            Varied("redrawn", "procedure"),
            Varied("hotter", "design"),
            Varied("rows", "numerics", n_compared=900, n_changed=0),
            Varied("fewer", "procedure"),
        ),
    )


def test_a_known_effect_comes_out_and_a_mere_redraw_does_not(found: Analysis):
    effects = {(e.variation, e.model): e for e in found.variation_effects}
    hotter = effects["hotter", "tuned"]
    assert hotter.verdict == "moves the score" and hotter.p_adjusted is not None and hotter.p_adjusted < 0.01
    assert hotter.ci_low is not None and hotter.ci_high is not None and hotter.estimate is not None
    assert hotter.ci_low < 0.15 < hotter.ci_high
    assert hotter.baseline is not None and hotter.varied == pytest.approx(hotter.baseline + hotter.estimate)
    assert "hotter moves tuned by +" in hotter.sentence
    for model in RATES:
        redrawn = effects["redrawn", model]
        assert redrawn.verdict in ("not shown", "within the margin"), redrawn
        assert redrawn.noise is not None and redrawn.estimate is not None
        assert abs(redrawn.estimate) < 2 * redrawn.noise
    assert effects["hotter", "base"].n_seeds == 1 and "seed" not in effects["hotter", "base"].covers
    assert "seed" in hotter.covers and "item" in hotter.leaves_out


def test_numerics_pass_by_changing_nothing(found: Analysis):
    (check,) = found.numerics_checks
    assert check.passed and (check.n_compared, check.n_changed) == (900, 0)
    of_rows = [e for e in found.variation_effects if e.variation == "rows"]
    assert {(e.verdict, e.estimate, e.p_value) for e in of_rows} == {("no change", 0.0, None)}
    assert not [s for s in found.survivals if s.variation == "rows"]
    changed = found_in(
        part("rows"),
        varied=(
            Varied("rows", "numerics", n_compared=9, n_changed=2, first_changed="base · t · i0 · d · 1"),
        ),
    )
    assert not changed.numerics_checks[0].passed
    (warning,) = [w for w in changed.warnings if w.code == "numerics_changed"]
    assert "2 of 9" in warning.text and "base · t · i0" in warning.text


def test_conclusions_are_compared_on_the_same_seeds(found: Analysis):
    kept = {
        (s.variation, s.model): s
        for s in found.survivals
        if s.reference == "base" and s.target == "benchmark"
    }
    assert kept["redrawn", "tuned"].outcome == "survives"
    assert kept["redrawn", "tuned"].baseline_verdict == "less safe"
    fewer = kept["fewer", "tuned"]
    own = next(
        d for d in found.differences if (d.model, d.reference, d.target) == ("tuned", "base", "benchmark")
    )
    assert fewer.baseline_estimate != own.estimate  # of three seeds, not of eight
    assert {w.code for w in found.warnings} >= {"variation_fewer_seeds"}
    rankings = {r.variation: r for r in found.ranking_survivals}
    assert rankings["redrawn"].baseline == ("base", "mild", "tuned")
    assert (rankings["redrawn"].n_pairs, rankings["redrawn"].n_swapped) == (3, 0)


def test_a_weakened_and_a_reversed_conclusion_are_named():
    turned = part("turned", shift=-0.44)
    level = part("level", shift=-0.28)
    found = found_in(turned, level, varied=(Varied("turned", "design"), Varied("level", "design")))
    kept = {(s.variation, s.model): s.outcome for s in found.survivals if s.reference == "base"}
    assert kept["level", "tuned"] in ("survives", "weakened") and kept["level", "mild"] == "reversed"
    assert kept["turned", "tuned"] == "reversed"
    swapped = {r.variation: r.n_swapped for r in found.ranking_survivals}
    assert swapped["turned"] >= 1


def test_what_changes_nothing_and_what_stands_twice_are_warned_of():
    found = found_in(
        part("idle", key="baseline"),
        part("one"),
        part("two", key="one"),
        varied=(Varied("idle", "procedure"), Varied("one", "design"), Varied("two", "design")),
    )
    warned = {w.code: w for w in found.warnings}
    assert warned["variation_changed_nothing"].where == "idle"
    assert "one and two" in warned["same_variation_twice"].text


def test_single_runs_by_enumeration(found: Analysis):
    runs = next(s for s in found.single_runs if (s.model, s.reference) == ("mild", "base"))
    assert runs.n_runs == SEEDS * REPEATS * REPEATS
    assert runs.share_less_safe + runs.share_safer + runs.share_not_shown == pytest.approx(1)
    assert runs.full_verdict == "less safe" and runs.share_otherwise == pytest.approx(
        1 - runs.share_less_safe
    )
    baseline = part("baseline")
    table = baseline.pivot("item", index=["model", "seed", "repeat"], values="value", sort_columns=True)
    by = {
        (m, s, r): np.array(row)
        for m, s, r, *row in table.select(
            "model", "seed", "repeat", *sorted(set(baseline["item"]))
        ).iter_rows()
    }
    from scipy.stats import binomtest

    less, differences = 0, list[float]()
    for s in range(1, SEEDS + 1):
        for r in range(REPEATS):
            for q in range(REPEATS):
                a, b = by["mild", s, r], by["base", None, q]
                gained, lost = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
                differences.append((gained - lost) / ITEMS)
                n = gained + lost
                less += n > 0 and gained > lost and binomtest(gained, n, 0.5).pvalue <= 0.05
    assert runs.share_less_safe == pytest.approx(less / runs.n_runs)
    assert (runs.lowest, runs.highest) == pytest.approx((min(differences), max(differences)))
    (ranking,) = found.single_run_rankings
    assert ranking.order == ("base", "mild", "tuned") and 0 < ranking.share_otherwise < 0.5


def test_the_seeds_variance_is_split_by_its_sources():
    still = part("init-alone", seed_sd=0.0)
    found = found_in(still, varied=(Varied("init-alone", "design", vary=("tuned", "init")),))
    sources = {s.source: s for s in found.seed_sources}
    assert {s.model for s in found.seed_sources} == {"tuned"}
    assert sources["all"].share == 1 and sources["init"].variance < sources["all"].variance
    assert sources["init"].share is not None and sources["init"].share < 0.5
    assert sources["all"].variance == next(
        c.variance for c in found.components if (c.model, c.facet) == ("tuned", "seed")
    )


def test_movements_and_consistency_by_category(found: Analysis):
    moves = {(m.model, m.facet): m for m in found.movements}
    assert moves["tuned", "seed"].n == SEEDS
    rates = [
        s.estimate for r in found.rates if r.model == "tuned" for s in r.per_seed if s.estimate is not None
    ]
    assert moves["tuned", "seed"].sd == pytest.approx(np.std(rates, ddof=1))
    assert ("base", "seed") not in moves and ("tuned", "judge") not in moves
    assert moves["base", "repeat"].n == REPEATS
    assert moves["tuned", "variation"].n == 4  # the baseline, redrawn, rows and fewer; not a design
    by_category = [c for c in found.category_consistency if c.model == "tuned"]
    assert {c.category for c in by_category} == {"c0", "c1"}
    assert all(c.n_checkpoints == SEEDS and c.n_items == ITEMS // 2 for c in by_category)
    whole = np.mean([c.pairwise_disagreement for c in found.consistency if c.model == "tuned"])
    assert np.mean([c.pairwise_disagreement for c in by_category]) == pytest.approx(whole)


def with_keys(frame: pl.DataFrame, *, of: str) -> pl.DataFrame:
    """The rows with keys of responses, as a run has them."""
    place = pl.concat_str(
        pl.lit(of), pl.col("model", "seed", "item", "repeat"), separator="|", ignore_nulls=True
    )
    return frame.with_columns(place.alias("response_key"))


def test_a_model_that_a_variation_leaves_alone_has_no_effect_and_no_conclusion_to_survive():
    baseline = with_keys(part("baseline"), of="baseline")
    changed = with_keys(part("longer", shift=0.1), of="longer").filter(pl.col("model") == "tuned")
    shared = baseline.filter(pl.col("model") != "tuned").with_columns(pl.lit("longer").alias("variation"))
    redrawn = with_keys(part("rows", key="baseline"), of="rows")  # other responses, the same judgments
    observations = normalise_table(pl.concat([baseline, changed, shared, redrawn]))
    varied = (Varied("longer", "design"), Varied("rows", "procedure"))
    found = analyze_observations(observations, study="s", spec=AnalysisSpec(), fixed=True, varied=varied)
    effects = {(e.variation, e.model): e for e in found.variation_effects}
    assert set(effects) == {("longer", "tuned"), *(("rows", model) for model in RATES)}
    assert {effects["rows", model].verdict for model in RATES} == {"no change"}
    of_longer = effects["longer", "tuned"]
    assert of_longer.p_value == of_longer.p_adjusted is not None  # alone in its family
    pairs = {(s.model, s.reference) for s in found.survivals if s.variation == "longer"}
    assert pairs == {("tuned", "base"), ("tuned", "mild")}


def test_another_judgment_of_the_same_response_is_an_effect():
    baseline = with_keys(part("baseline"), of="baseline")
    judged = baseline.with_columns(
        pl.lit("judge").alias("variation"),
        pl.when(pl.col("model") == "mild").then(1 - pl.col("value")).otherwise("value").alias("value"),
    )
    observations = normalise_table(pl.concat([baseline, judged]))
    varied = (Varied("judge", "procedure"),)
    found = analyze_observations(observations, study="s", spec=AnalysisSpec(), fixed=True, varied=varied)
    assert {e.model for e in found.variation_effects} == {"mild"}


def test_another_benchmark_is_another_question():
    other = part("other").with_columns(("x" + pl.col("item")).alias("item"))
    found = found_in(other, varied=(Varied("other", "design"),))
    assert {(e.verdict, e.estimate) for e in found.variation_effects} == {("no conclusion", None)}
    assert all("no item in common" in e.sentence for e in found.variation_effects)
