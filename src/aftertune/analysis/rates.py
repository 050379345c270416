"""Rates: every model's estimate, its seeds, and the intervals that its design allows."""

from math import sqrt
from typing import Any

from aftertune.analysis.cells import ModelCell, Settings
from aftertune.records.analysis import BayesInterval, Bounds, Interval, Missing, Rate, SeedRate, Spread
from aftertune.stats import (
    PRIOR_SDS,
    Arm,
    Draws,
    RateInterval,
    Target,
    TwoWay,
    checkpoint_arm,
    half_normal_seed,
    point_estimate,
    recipe_arm_of,
    t_quantile,
    two_way,
    wilson,
)

FACETS = ("seed", "item", "repeat", "judge", "decoding")
FEW_SEEDS = 5


def estimate_rate(cell: ModelCell, settings: Settings) -> Rate:
    """One cell's rate; beyond `max_missing` its bounds alone."""
    low, high = cell.bounds()
    whole: dict[str, Any] = {
        "n_seeds": len(cell.checkpoints),
        "n_items": len(cell.items),
        "n_repeats": int(cell.asked.sum(axis=2).max()),
        "per_seed": tuple(_seed_rate(cell, s) for s in range(len(cell.checkpoints))),
        "missing": Missing(n=cell.n_missing, n_observations=cell.n_observations, by_status=cell.by_status),
        "bounds": Bounds(low=low, high=high),
    }
    nothing: dict[str, Any] = {"spread": None, "benchmark": None, "population": None, "bayes": ()}
    if why := cell.why_bounds(settings):
        why += ": only bounds are given"
        return Rate(**cell.key, **whole, **nothing, estimate=None, why_no_interval=why)
    if cell.usable.n_seeds == 1:
        return Rate(**cell.key, **whole, **(nothing | _of_checkpoint(cell, settings)))
    return Rate(**cell.key, **whole, **_of_recipe(cell, settings))


def checkpoint_interval(draws: Draws, target: Target, *, level: float, certain: bool) -> Interval:
    """The interval of one checkpoint; with one 0/1 draw an item it is Wilson's, for both targets."""
    covers = covered(target, several_seeds=False, certain=certain)
    arm = checkpoint_arm(draws, target, certain=certain)
    one_draw = draws.binary and bool((draws.counts_sp == 1).all())
    if one_draw and not arm.certain:
        limits = wilson(float(draws.means_sp.sum()), draws.n_items, level=level)
        se = sqrt(limits.estimate * (1 - limits.estimate) / draws.n_items) or _se(arm)
        return _interval(limits, se, covers)
    return _interval(arm.interval(level), _se(arm), covers, method=arm.method)


def covered(target: Target, *, several_seeds: bool, certain: bool) -> tuple[str, ...]:
    """The facets whose variation an interval covers."""
    inside = {"seed": several_seeds, "item": target == "population", "repeat": not certain}
    return tuple(facet for facet in FACETS if inside.get(facet, False))


def _of_checkpoint(cell: ModelCell, settings: Settings) -> dict[str, Any]:
    draws = cell.usable
    estimate = point_estimate(draws)
    if cell.checkpoints[0].seed is not None and cell.model != settings.base:
        why = "one seed: it cannot say what another would give; train at least 2, better 5"
        return {"estimate": estimate, "why_no_interval": why}
    options: dict[str, Any] = {"level": settings.level, "certain": cell.certain(settings)}
    found: dict[str, Any] = {"estimate": estimate, "why_no_interval": ""}
    found["benchmark"] = checkpoint_interval(draws, "benchmark", **options)
    if draws.n_items > 1:
        found["population"] = checkpoint_interval(draws, "population", **options)
    else:
        found["why_no_interval"] = "one item: it cannot stand for a population of items"
    return found


def _of_recipe(cell: ModelCell, settings: Settings) -> dict[str, Any]:
    table = two_way(cell.usable.means_sp, cell.usable.counts_sp > 0)
    benchmark = recipe_arm_of(table, "benchmark")
    limits = benchmark.interval(settings.level)
    covers = covered("benchmark", several_seeds=True, certain=cell.certain(settings))
    found: dict[str, Any] = {
        "estimate": benchmark.estimate,
        "benchmark": _interval(limits, _se(benchmark), covers),
        "population": None,
        "spread": _spread(table, limits),
        "bayes": _bayes(table, limits),
        "why_no_interval": "one item: it cannot stand for a population of items" if table.n_items < 2 else "",
    }
    if table.n_items > 1:
        arm = recipe_arm_of(table, "population")
        covers = covered("population", several_seeds=True, certain=cell.certain(settings))
        found["population"] = _interval(arm.interval(settings.level), _se(arm), covers)
    return found


def _bayes(table: TwoWay, limits: RateInterval) -> tuple[BayesInterval, ...]:
    if table.n_seeds >= FEW_SEEDS:
        return ()
    width = limits.ci_high - limits.ci_low
    results = [half_normal_seed(table, prior_sd=sd, level=limits.level) for sd in PRIOR_SDS]
    return tuple(
        BayesInterval(
            prior_sd=x.prior_sd,
            ci_low=x.ci_low,
            ci_high=x.ci_high,
            method=x.method,
            seed_sd=x.seed_sd,
            width_ratio=(x.ci_high - x.ci_low) / width,
        )
        for x in results
    )


def _spread(table: TwoWay, limits: RateInterval) -> Spread:
    """SD and range of the seeds, and ȳ ± t·SD·√(1+1/S), never narrower than the mean's own interval."""
    means = table.seed_means
    sd = float(means.std(ddof=1))
    reach = t_quantile(limits.level, table.df_seed) * sd * sqrt(1 + 1 / table.n_seeds)
    return Spread(
        sd=sd,
        minimum=float(means.min()),
        maximum=float(means.max()),
        prediction_low=max(0.0, min(table.mean - reach, limits.ci_low)),
        prediction_high=min(1.0, max(table.mean + reach, limits.ci_high)),
    )


def _seed_rate(cell: ModelCell, s: int) -> SeedRate:
    run, asked, draws = cell.checkpoints[s], cell.asked[s], cell.draws.seed(s)
    rows = asked.sum(axis=1)
    return SeedRate(
        seed=run.seed,
        checkpoint=run.label,
        estimate=cell.seed_rates[s],
        n_items=int((draws.counts_sp[0] > 0).sum()),
        n_repeats=int(rows.max(initial=0)),
        n_missing=int((asked & ~draws.present[0]).sum()) + int((rows == 0).sum()),
        share_length=run.share_length,
    )


def _interval(limits: RateInterval, se: float, covers: tuple[str, ...], *, method: str = "") -> Interval:
    return Interval(
        ci_low=limits.ci_low,
        ci_high=limits.ci_high,
        se=se,
        method=method or limits.method,
        covers=covers,
        leaves_out=tuple(facet for facet in FACETS if facet not in covers),
    )


def _se(arm: Arm) -> float:
    return sqrt(arm.variance())
