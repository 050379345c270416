"""Simulated coverage of a few designs; the bounds allow for Monte Carlo error."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from simulate_coverage import (
    BEGIN,
    DOCS,
    END,
    ITEM_SD,
    Cell,
    covered,
    grid,
    misses,
    read,
    recipe,
    summary,
    truths,
)

from aftertune.seeds import stream
from aftertune.stats import Draws, checkpoint_arm, components, recipe_arm, two_way, wilson

N = 600  # replications; at .95 the standard error of a coverage is .009
ERROR = 0.009
CELLS = [
    Cell(3, 50, 0.04, 0.2, 1),
    Cell(5, 100, 0.04, 0.2, 1),
    Cell(5, 100, 0.02, 0.05, 5),
    Cell(10, 50, 0.08, 0.45, 1, "random"),
    Cell(5, 100, 0.04, 0.2, 1, "harm-prone"),
]


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_rates_and_differences_cover(cell):
    """A few cells of `make coverage`, by the same simulation; false alarms are 1 − coverage of identical."""
    shares = covered(cell, n=N, part="test").shares
    assert len(shares) == 6 + (cell.n_seeds < 5)
    for name, share in shares.items():
        assert share >= 0.93 - 3 * ERROR, (name, share)
        if cell.n_seeds >= 5 and cell.events(name) >= 10:
            assert share <= 0.97 + 3 * ERROR, (name, share)


@pytest.mark.slow
def test_a_rare_collapse_is_not_covered_and_the_page_says_so():
    shares = covered(Cell(5, 100, 0.02, 0.05, 1, seeds="collapses"), n=N, part="test").shares
    assert shares["rate benchmark"] < 0.9
    assert "one seed in five collapses" in (DOCS / "methods.md").read_text(encoding="utf-8")


def test_the_page_has_the_table_of_the_simulated_cells():
    rows = read(DOCS / "coverage.csv")
    assert [row.cell for row in rows] == list(grid())
    page = (DOCS / "methods.md").read_text(encoding="utf-8")
    assert f"{BEGIN}\n\n{summary(rows)}\n\n{misses(rows)}\n\n{END}" in page


@pytest.mark.parametrize("cell", [Cell(5, 50, 0.04, 0.2, 1), Cell(5, 50, 0.08, 0.45, 1)], ids=str)
def test_the_simulated_seeds_have_the_rate_and_the_spread_of_the_cell(cell):
    generator = stream(1, "spread", str(cell))
    seeds = replace(cell, n_seeds=2000)
    rates = recipe(generator, seeds, generator.normal(0, ITEM_SD, 2000)).means_sp.mean(axis=1)
    assert rates.mean() == pytest.approx(cell.rate, abs=0.015)
    binomial = cell.rate * (1 - cell.rate) / 2000
    assert np.sqrt(rates.var() - binomial) == pytest.approx(cell.seed_sd, rel=0.1)


@pytest.mark.slow
def test_the_usual_error_bar_does_not_cover():
    generator, cell = stream(1, "naive"), Cell(5, 450, 0.04, 0.2, 1)
    naive = ours = 0
    for _ in range(N):
        items = generator.normal(0, ITEM_SD, cell.n_items)
        draws, (true, _) = recipe(generator, cell, items), truths(cell, items)
        pooled = wilson(float(draws.values.sum()), draws.values.size)
        limits = recipe_arm(draws, "benchmark").interval(0.95)
        naive += pooled.ci_low <= true <= pooled.ci_high
        ours += limits.ci_low <= true <= limits.ci_high
    assert naive / N < 0.8 < 0.9 < ours / N


@pytest.mark.slow
def test_component_intervals_cover_under_normal_effects():
    generator = stream(1, "components")
    hits = {"seed": 0, "item": 0, "residual": 0}
    true = {"seed": 0.05**2, "item": 0.1**2, "residual": 0.15**2}
    for _ in range(N):
        y = (
            generator.normal(0, 0.05, (6, 1))
            + generator.normal(0, 0.1, (1, 50))
            + generator.normal(0, 0.15, (6, 50))
        )
        for c in components(two_way(0.5 + y)):
            hits[c.facet] += c.ci_low <= true[c.facet] <= c.ci_high
    coverage = {facet: n / N for facet, n in hits.items()}
    assert all(value >= 0.93 - 0.027 for value in coverage.values()), coverage


@pytest.mark.slow
def test_one_checkpoint_covers_its_own_rate_from_its_draws():
    generator = stream(1, "checkpoint")
    hits = 0
    for _ in range(N):
        p = expit(-1 + generator.normal(0, 2.0, 80))
        draws = Draws.of((generator.random((1, 80, 5)) < p[None, :, None]).astype(float))
        limits = checkpoint_arm(draws, "benchmark").interval(0.95)
        hits += limits.ci_low <= p.mean() <= limits.ci_high
    assert hits / N >= 0.95 - 0.027
