"""How fast the statistics are: a million observations, and the two-way layout against a mixed model.

    make bench-stats

1. A synthetic table of 1,000,000 observations of ten recipes (10 seeds × 500 items × 10 repeats × 2 judges)
   and a base is written as Parquet and analysed by `aftertune.analysis.analyze_file`, reading and
   writing included. Promise: at most 10 s and 2 GB on two cores.
2. `two_way` on 5 × 450 Gaussian cell means against statsmodels' MixedLM with crossed seed and item effects
   (REML). Promise: at least 1,000 times faster, with the same standard error of the mean to 4 digits.

Exit status 1 if a promise is not kept. Peak memory is that of the process that analyses, with its libraries.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl

N_RECIPES, N_SEEDS, N_ITEMS, N_REPEATS, N_JUDGES = 10, 10, 500, 10, 2
MOST_S, MOST_GB, LEAST_RATIO = 10.0, 2.0, 1000.0


def observations(generator: np.random.Generator) -> pl.DataFrame:
    """The table; recipes rise from the base's rate, judges err in 5% of the responses, each on its own."""
    items = generator.normal(0, 1.5, N_ITEMS)
    parts = [_of_model("base", -1.2, 1, items, generator)]
    parts += [
        _of_model(f"recipe-{m}", -1.2 + 0.1 * m, N_SEEDS, items, generator) for m in range(1, N_RECIPES + 1)
    ]
    return pl.concat(parts)


def _of_model(
    name: str, centre: float, n_seeds: int, items: np.ndarray, generator: np.random.Generator
) -> pl.DataFrame:
    seed = generator.normal(0, 0.2, (n_seeds, 1))
    logit = centre + seed + items + generator.normal(0, 0.5, (n_seeds, N_ITEMS))
    events = generator.random((n_seeds, N_ITEMS, N_REPEATS)) < 1 / (1 + np.exp(-logit[..., None]))
    judged = events ^ (generator.random((N_JUDGES, *events.shape)) < 0.05)
    j, s, i, r = (axis.ravel() for axis in np.indices(judged.shape))
    frame = pl.DataFrame({"seed": s + 1, "item": i, "repeat": r, "judge": j, "value": judged.ravel()})
    return frame.with_columns(
        pl.lit(name).alias("model"),
        pl.when(pl.lit(name != "base")).then(pl.col("seed")).alias("seed"),
        pl.format("item-{}", "item").alias("item"),
        pl.format("topic-{}", pl.col("item") % 6).alias("category"),
        pl.format("judge-{}", "judge").alias("judge"),
        pl.col("value").cast(pl.Float64),
    )


def analyse(table: Path) -> None:
    """Analyse a table and print seconds, peak memory and counts as JSON; runs in a process of its own."""
    from aftertune.analysis import analyze_file

    start = time.perf_counter()
    found = analyze_file(table, table.with_name("analysis.json"))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    counts = {n: len(getattr(found, n)) for n in ("rates", "differences", "categories", "consistency")}
    counts["p_values"] = sum(x.p_value is not None for x in (*found.differences, *found.categories))
    print(json.dumps({"seconds": seconds, "peak_gb": peak, "counts": counts}))


def bench_analyze() -> bool:
    """The first promise."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "observations.parquet"
        frame = observations(np.random.default_rng(2025))
        frame.write_parquet(table)
        command = [sys.executable, __file__, "analyse", str(table)]
        done = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    rate = frame.height / done["seconds"]
    print(f"analyze: {frame.height:,} observations in {done['seconds']:.1f} s ({rate:,.0f} a second)")
    print(f"         peak {done['peak_gb']:.2f} GB; {done['counts']}")
    return done["seconds"] <= MOST_S and done["peak_gb"] <= MOST_GB


def bench_two_way() -> bool:
    """The second promise."""
    from aftertune.stats import two_way

    generator = np.random.default_rng(7)
    y = (
        0.4
        + generator.normal(0, 0.05, (5, 1))
        + generator.normal(0, 0.2, 450)
        + generator.normal(0, 0.15, (5, 450))
    )
    start, runs = time.perf_counter(), 1000
    for _ in range(runs):
        table = two_way(y)
        assert table.ms_item is not None and table.ms_residual is not None
        ours = float(np.sqrt((table.ms_seed + table.ms_item - table.ms_residual) / y.size))
    fast = (time.perf_counter() - start) / runs
    start = time.perf_counter()
    theirs = mixed_model(y)
    slow = time.perf_counter() - start
    print(f"two_way: {fast * 1e6:.0f} µs, SE {ours:.6f}; MixedLM {slow:.1f} s, SE {theirs:.6f}")
    print(f"         {slow / fast:,.0f} times faster, SE apart by {abs(ours / theirs - 1):.1e}")
    return slow / fast >= LEAST_RATIO and abs(ours / theirs - 1) < 5e-5


def mixed_model(y_sp: np.ndarray) -> float:
    """The standard error of the intercept with crossed random seed and item effects, by REML."""
    import statsmodels.formula.api as smf

    seed, item = (axis.ravel() for axis in np.indices(y_sp.shape))
    data = pd.DataFrame({"y": y_sp.ravel(), "seed": seed, "item": item, "all": 1})
    effects = {"seed": "0 + C(seed)", "item": "0 + C(item)"}
    model = smf.mixedlm("y ~ 1", data, groups="all", re_formula="0", vc_formula=effects)
    with warnings.catch_warnings():
        # It takes every variance below .01 for 0, whatever the data's scale.
        warnings.filterwarnings("ignore", message=".*on the boundary")
        fitted = model.fit(reml=True, method=["lbfgs"])
    return float(fitted.bse["Intercept"])


if __name__ == "__main__":
    if sys.argv[1:2] == ["analyse"]:
        analyse(Path(sys.argv[2]))
    else:
        kept = [bench_analyze(), bench_two_way()]
        print("promises kept" if all(kept) else "a promise is not kept")
        sys.exit(0 if all(kept) else 1)
