"""A/A contrasts: a recipe against itself, which must come out null (METHODS section 4)."""

from dataclasses import dataclass

from aftertune.analysis.cells import MetricCells, ModelCell, Settings
from aftertune.analysis.differences import positive_p
from aftertune.records.analysis import Control, Warning
from aftertune.stats import Contrast, Draws, holm, recipe_difference

LEAST_SEEDS = 6  # three in each half


@dataclass(frozen=True, eq=False)
class Halves:
    """One recipe's seeds in ascending order, taken alternately, and their contrast."""

    cell: ModelCell
    first: tuple[int, ...]
    second: tuple[int, ...]
    contrast: Contrast


def split_halves(cells: MetricCells, settings: Settings) -> list[Halves]:
    """The halves of every recipe with six seeds or more in a cell that allows a conclusion."""
    found = [
        _halves(cell, settings)
        for name, cell in cells.cells.items()
        if name != settings.base and not cell.exceeds_missing_limit(settings)
    ]
    return [halves for halves in found if halves is not None]


def compare_halves(halves: list[Halves], settings: Settings) -> list[Control]:
    """The controls of a whole analysis, their p values adjusted together: one of twenty differs by chance."""
    p_values = [positive_p(h.contrast) for h in halves]
    adjusted = holm(p_values)
    return [_control(h, p_values[i], adjusted[i], settings) for i, h in enumerate(halves)]


def control_warnings(controls: list[Control]) -> list[Warning]:
    """One for each control that did not come out null."""
    return [
        Warning(
            code="aa_control",
            text=(
                f"seeds {_listed(c.first)} against {_listed(c.second)} of the same recipe differ by "
                f"{c.estimate * 100:+.1f} points (p {c.p_adjusted:.2g} over all controls), "
                "which chance alone seldom does"
            ),
            remedy="find what the two halves do not share (machine, order, batch, judge version), and trust "
            "no contrast of this cell before",
            where=f"{c.model} · {c.task} · {c.decoding} · {c.judge} · {c.metric}",
        )
        for c in controls
        if not c.passed
    ]


def _seeds(cell: ModelCell) -> list[int]:
    """Places of the checkpoints that have a seed and a value, by seed."""
    has = cell.has_value[0]
    places = [s for s, run in enumerate(cell.checkpoints) if run.seed is not None and has[s]]
    return sorted(places, key=lambda s: (cell.checkpoints[s].seed, cell.checkpoints[s].label))


def _halves(cell: ModelCell, settings: Settings) -> Halves | None:
    places = _seeds(cell)
    if len(places) < LEAST_SEEDS:
        return None
    first, second = places[::2], places[1::2]
    counts = cell.draws.counts_sp
    both = (counts[first].sum(axis=0) > 0) & (counts[second].sum(axis=0) > 0)
    if not counts[places][:, both].any(axis=1).all():
        return None
    a, b = (
        Draws(cell.draws.values[half][:, both], cell.draws.present[half][:, both]) for half in (first, second)
    )
    contrast = recipe_difference(a, b, target="benchmark", level=settings.level)
    names = [
        tuple(s for i in half if (s := cell.checkpoints[i].seed) is not None) for half in (first, second)
    ]
    return Halves(cell, names[0], names[1], contrast)


def _control(halves: Halves, p_value: float | None, p_adjusted: float | None, settings: Settings) -> Control:
    c = halves.contrast
    return Control(
        **halves.cell.key,
        first=halves.first,
        second=halves.second,
        estimate=c.estimate,
        ci_low=c.ci_low,
        ci_high=c.ci_high,
        se=c.se,
        p_value=p_value,
        p_adjusted=p_adjusted,
        method=c.method,
        passed=p_adjusted is None or p_adjusted > 1 - settings.level,
    )


def _listed(seeds: tuple[int, ...]) -> str:
    return ", ".join(map(str, seeds))
