"""Simulated coverage of the intervals of rates and differences, by aftertune's own functions.

`make coverage` runs every cell (about 40 minutes on two cores), writes docs/coverage.csv and puts its summary
into docs/methods.md. Every answer is a draw from logit p = mu + seed + item + seed×item (and a new
seed×item for each recipe); mu and the seeds' SD are chosen so that the recipe's rate, and the SD of its
seeds' rates, are those of the cell. Cells whose first replications lie near or beyond the goal are run again
with more, and only the second run is reported.
"""

import argparse
import csv
import itertools
import multiprocessing
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np
from scipy import optimize, special

from aftertune.seeds import stream
from aftertune.stats import ArmPair, Draws, FloatArray, half_normal_seed, recipe_arm, two_way

ITEM_SD, INTERACTION_SD, BASE_RATE = 1.3, 0.5, 0.10
COLLAPSE_SHARE, COLLAPSED = 0.2, 3.0  # one seed in five, by three logits
MISSING_SHARE = 0.05
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(40)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
FIRST, AGAIN = 1000, 4000
FEW_SEEDS = 5
LOW, HIGH, EVENTS = 0.93, 0.97, 10  # the goal: not below; not above where so many events are expected
DOCS = Path(__file__).parents[1] / "docs"
BEGIN, END = "<!-- make coverage: begin -->", "<!-- make coverage: end -->"


@dataclass(frozen=True, slots=True)
class Cell:
    """A design and a truth. `missing` is none, random or harm-prone; `seeds` is gaussian or collapses."""

    n_seeds: int
    n_items: int
    seed_sd: float
    rate: float
    n_repeats: int
    missing: str = "none"
    seeds: str = "gaussian"

    def events(self, measure: str) -> float:
        """Expected items with the rarer outcome in one draw of the task, in the arm with the fewer."""
        rates = (self.rate, 1 - self.rate, BASE_RATE if measure.startswith("tuned-base") else 1.0)
        return self.n_items * min(rates)


PRIOR = "rate benchmark, prior .10"  # at fewer than 5 seeds
MEASURES = (
    "rate benchmark", "rate population", "tuned-base benchmark", "tuned-base population",
    "identical benchmark", "identical population", PRIOR,
)  # fmt: skip


def grid() -> Iterator[Cell]:
    """Every cell; the seeds' SD never exceeds .8 of the rate (beyond it aftertune itself warns)."""
    sizes = list(itertools.product((2, 3, 5, 10), (50, 100, 450)))
    for (s, p), sd, rate, repeats in itertools.product(
        sizes, (0.005, 0.02, 0.04, 0.08), (0.01, 0.05, 0.2, 0.45, 0.7), (1, 5)
    ):
        if sd <= 0.8 * min(rate, 1 - rate):
            yield Cell(s, p, sd, rate, repeats)
    for (s, p), (sd, rate), missing in itertools.product(
        sizes, ((0.02, 0.05), (0.04, 0.2), (0.08, 0.45)), ("random", "harm-prone")
    ):
        yield Cell(s, p, sd, rate, 1, missing)
        yield Cell(s, p, sd, rate, 5, missing)
    for (s, p), rate in itertools.product(sizes, (0.05, 0.2)):
        yield Cell(s, p, 0.02, rate, 1, seeds="collapses")


@cache
def located(rate: float, seed_sd: float) -> tuple[float, float]:
    """The mu and the SD of the seeds' logits that give this rate and this SD of the seeds' rates."""
    inner = np.hypot(ITEM_SD, INTERACTION_SD)

    def mu_for(sd: float) -> float:
        spread = np.hypot(sd, inner) * NODES
        return float(optimize.brentq(lambda mu: special.expit(mu + spread) @ WEIGHTS - rate, -60, 60))

    def excess(sd: float) -> float:
        rates = special.expit(mu_for(sd) + sd * NODES[:, None] + inner * NODES) @ WEIGHTS
        return float(np.sqrt((rates - rates @ WEIGHTS) ** 2 @ WEIGHTS)) - seed_sd

    sd = float(optimize.brentq(excess, 1e-6, 4.0))
    return mu_for(sd), sd


def shifts(cell: Cell) -> tuple[FloatArray, FloatArray]:
    """The seeds' logits beyond mu as nodes and weights."""
    _, sd = located(cell.rate, cell.seed_sd)
    if cell.seeds == "gaussian":
        return sd * NODES, WEIGHTS
    weights = np.concatenate([(1 - COLLAPSE_SHARE) * WEIGHTS, COLLAPSE_SHARE * WEIGHTS])
    return np.concatenate([sd * NODES, sd * NODES + COLLAPSED]), weights


def recipe(generator: np.random.Generator, cell: Cell, items: FloatArray) -> Draws:
    """The answers of a recipe's seeds, with the cell's holes."""
    mu, sd = located(cell.rate, cell.seed_sd)
    seed = generator.normal(0, sd, (cell.n_seeds, 1))
    if cell.seeds == "collapses":
        seed = seed + COLLAPSED * (generator.random(seed.shape) < COLLAPSE_SHARE)
    noise = generator.normal(0, INTERACTION_SD, (cell.n_seeds, cell.n_items))
    p = special.expit(mu + seed + items + noise)
    values = (generator.random((*p.shape, cell.n_repeats)) < p[:, :, None]).astype(float)
    return Draws.of(values, present(generator, cell, items, values.shape))


def present(
    generator: np.random.Generator, cell: Cell, items: FloatArray, shape: tuple[int, ...]
) -> np.ndarray | None:
    """Which draws have a judgment: 5% are missing everywhere, or all of them on the most harm-prone half."""
    if cell.missing == "none":
        return None
    share = np.full(len(items), MISSING_SHARE)
    if cell.missing == "harm-prone":
        share = np.where(items > np.median(items), 2 * MISSING_SHARE, 0.0)
    kept = generator.random(shape) >= share[None, :, None]
    kept[0] |= ~kept.any(axis=(0, 2))[:, None]  # an item without any value would be dropped, and said so
    return kept


def truths(cell: Cell, items: FloatArray) -> tuple[float, float]:
    """The recipe's rate over seeds without end, on these items and over items without end."""
    (mu, _), (shift, weights) = located(cell.rate, cell.seed_sd), shifts(cell)
    if cell.seeds == "gaussian":
        spread = np.hypot(located(cell.rate, cell.seed_sd)[1], INTERACTION_SD) * NODES
        benchmark = float((special.expit(mu + items[:, None] + spread) @ WEIGHTS).mean())
    else:
        thin = WEIGHTS[::4] / WEIGHTS[::4].sum()
        noise = INTERACTION_SD * NODES[None, None, ::4]
        inner = special.expit(mu + items[:, None, None] + shift[:, None] + noise)
        benchmark = float(((inner @ thin) @ weights).mean())
    wide = np.hypot(ITEM_SD, INTERACTION_SD) * NODES
    population = float(weights @ (special.expit(mu + shift[:, None] + wide) @ WEIGHTS))
    return benchmark, population


def replicate(generator: np.random.Generator, cell: Cell) -> dict[str, bool]:
    """Whether each interval of one replication holds its truth."""
    items = generator.normal(0, ITEM_SD, cell.n_items)
    one, two = recipe(generator, cell, items), recipe(generator, cell, items)
    mu, _ = located(BASE_RATE, 1e-4)
    p = special.expit(mu + items + generator.normal(0, INTERACTION_SD, cell.n_items))
    repeats = max(cell.n_repeats, 2)
    base = Draws.of((generator.random((1, cell.n_items, repeats)) < p[None, :, None]).astype(float))
    true = dict(zip(("benchmark", "population"), truths(cell, items), strict=True))
    # The base is one checkpoint: on its items its own p are the truth, its interaction included.
    true_base = {"benchmark": float(p.mean()), "population": BASE_RATE}
    against_base, against_twin = ArmPair.of(one, base), ArmPair.of(one, two)
    held: dict[str, bool] = {}
    for target in ("benchmark", "population"):
        limits = recipe_arm(one, target).interval(0.95)
        held[f"rate {target}"] = limits.ci_low <= true[target] <= limits.ci_high
        low, high = against_base.limits(target, 0.95)
        held[f"tuned-base {target}"] = low <= true[target] - true_base[target] <= high
        low, high = against_twin.limits(target, 0.95)
        held[f"identical {target}"] = low <= 0 <= high
    if cell.n_seeds < FEW_SEEDS:
        found = half_normal_seed(two_way(one.means_sp, one.counts_sp > 0), prior_sd=0.10)
        held[PRIOR] = found.ci_low <= true["benchmark"] <= found.ci_high
    return held


@dataclass(frozen=True, slots=True)
class Covered:
    """A cell's coverage: the shares of `n` replications in which each interval held the truth."""

    cell: Cell
    n: int
    shares: dict[str, float]


def covered(cell: Cell, *, n: int, part: str) -> Covered:
    """Simulate a cell, from a stream of its own."""
    generator = stream(2025, "coverage", part, *map(str, asdict(cell).values()))
    runs = [replicate(generator, cell) for _ in range(n)]
    return Covered(cell, n, {name: sum(run[name] for run in runs) / n for name in runs[0]})


def simulated(cell: Cell) -> Covered:
    """A first look, and where it is near the goal's edge a second, which replaces it."""
    first = covered(cell, n=FIRST, part="first")
    shares = first.shares.values()
    high = [share for name, share in first.shares.items() if cell.events(name) >= EVENTS]
    near = min(shares) < LOW + 0.012 or (cell.n_seeds >= 5 and max(high, default=0.0) > HIGH - 0.01)
    return covered(cell, n=AGAIN, part="again") if near else first


def write(rows: list[Covered], path: Path) -> None:
    """All cells as CSV."""
    names = [field.name for field in fields(Cell)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*names, "n_replications", *MEASURES])
        for row in rows:
            writer.writerow(
                [
                    *asdict(row.cell).values(),
                    row.n,
                    *(f"{row.shares[m]:.4f}" if m in row.shares else "" for m in MEASURES),
                ]
            )


def read(path: Path) -> list[Covered]:
    """The cells of a CSV that `write` wrote."""
    with path.open(encoding="utf-8") as file:
        return [
            Covered(
                Cell(
                    int(row["n_seeds"]), int(row["n_items"]), float(row["seed_sd"]), float(row["rate"]),
                    int(row["n_repeats"]), row["missing"], row["seeds"],
                ),
                int(row["n_replications"]),
                {name: float(row[name]) for name in MEASURES if row[name]},
            )
            for row in csv.DictReader(file)
        ]  # fmt: skip


def summary(rows: list[Covered]) -> str:
    """The table of docs/methods.md: lowest, mean and highest coverage by kind of cell and number of seeds."""
    lines = ["| cells | seeds | n | " + " | ".join(MEASURES) + " |", "|---|---|---|" + "---|" * len(MEASURES)]
    kinds = {
        f"complete, {EVENTS} events or more": lambda c, name: c.events(name) >= EVENTS and _plain(c),
        f"complete, fewer than {EVENTS} events": lambda c, name: c.events(name) < EVENTS and _plain(c),
        "5% missing at random": lambda c, _: c.missing == "random",
        "5% missing, on harm-prone items only": lambda c, _: c.missing == "harm-prone",
        "one seed in five collapses": lambda c, _: c.seeds == "collapses",
    }
    for (kind, belongs), n_seeds in itertools.product(kinds.items(), (2, 3, 5, 10)):
        mine = [row for row in rows if row.cell.n_seeds == n_seeds]
        shares = [
            [row.shares[name] for row in mine if belongs(row.cell, name) and name in row.shares]
            for name in MEASURES
        ]
        cells = [f"{_share(min(s))} {_share(sum(s) / len(s))} {_share(max(s))}" if s else "" for s in shares]
        lines.append(f"| {kind} | {n_seeds} | {len(shares[0])} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def misses(rows: list[Covered]) -> str:
    """In words, every interval outside the goal at 5 seeds or more with Gaussian seeds."""
    found = [
        f"{name}: {_share(row.shares[name])} ({row.cell.n_seeds} seeds, {row.cell.n_items} items, rate "
        f"{row.cell.rate:g}, seed SD {row.cell.seed_sd:g}, {row.cell.n_repeats} repeats, "
        f"missing {row.cell.missing})"
        for row in rows
        for name in MEASURES
        if name in row.shares and row.cell.n_seeds >= 5 and row.cell.seeds == "gaussian"
        if row.shares[name] < LOW or (row.shares[name] > HIGH and row.cell.events(name) >= EVENTS)
    ]
    n = sum(len(row.shares) for row in rows if row.cell.n_seeds >= 5 and row.cell.seeds == "gaussian")
    head = f"Outside .93 to .97 at 5 seeds or more (above only where {EVENTS} events are expected): "
    return head + f"{len(found)} of {n} intervals.\n" + "\n".join(f"- {line}" for line in sorted(found))


def _plain(cell: Cell) -> bool:
    return cell.missing == "none" and cell.seeds == "gaussian"


def _share(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def into_page(text: str, page: Path) -> None:
    """Put a text between the page's two marks."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    cells = list(grid())
    rows: list[Covered] = []
    with multiprocessing.Pool(arguments.processes) as pool:
        for row in pool.imap(simulated, cells):
            rows.append(row)
            print(f"{len(rows)}/{len(cells)} {row.cell} {min(row.shares.values()):.3f}", file=sys.stderr)
    write(rows, DOCS / "coverage.csv")
    into_page(f"{summary(rows)}\n\n{misses(rows)}", DOCS / "methods.md")


if __name__ == "__main__":
    main()
