"""`aftertune plan`: the seeds, items and repeats that a precision or a difference asks for; their cost."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from aftertune.commands.analyze import columns_of
from aftertune.commands.compare import parts_of
from aftertune.commands.plan_options import PlanOptions
from aftertune.commands.tasks import visible
from aftertune.errors import DataError, StudyError, nearest
from aftertune.records import Checkpoint
from aftertune.stats.planning import (
    TYPICAL,
    AssumedVariances,
    Costs,
    Split,
    best_split,
    collapse_unseen,
    detectable_difference,
    half_width,
    seeds_needed,
)
from aftertune.store import ImportDirectory, RunDirectory, run_at
from aftertune.store import replace as replace_file

if TYPE_CHECKING:
    from aftertune.records.analysis import Analysis, Component

SEEDS = (2, 3, 5, 8, 12, 20)
REPEATS = (1, 3)
_MOST_SEEDS = 200  # of the search for a detectable difference


@dataclass(frozen=True, slots=True)
class Design:
    """One recipe on one task: its interval's half-width, what it finds, its hours (None: not known)."""

    n_seeds: int
    n_items: int
    n_repeats: int
    half_width: float
    detectable: float
    hours: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """Assumptions, a table of designs, and what was asked for.

    `pessimistic` are the variances with the seeds' at the upper end of its interval in the pilot; the
    half-widths of `pessimistic_designs` follow from it. `seeds_for_width` and `seeds_for_difference` are None
    where not asked for; `split` likewise.
    """

    source: str
    variances: AssumedVariances
    pessimistic: AssumedVariances | None
    costs: Costs | None
    level: float
    power: float
    designs: tuple[Design, ...]
    pessimistic_designs: tuple[Design, ...]
    wanted: float | None
    seeds_for_width: int | None
    difference: float | None
    seeds_for_difference: int | None
    split: Split | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def plan(pilot: Path | None, options: PlanOptions) -> Plan:
    """What a study of one recipe would cost and be able to say.

    Args:
        pilot: an analysed run or import, or a table of observations; its variance components, and the times
            of a run, are taken where options do not give them.
        options: assumptions and wishes.

    Raises:
        StoreError: the pilot is none of these, or was not analysed.
        DataError: an option is out of range, or the pilot has no such model or no components.
    """
    found = _pilot(pilot, options) if pilot else _Pilot("typical values", TYPICAL, None, 100, None)
    try:
        return _plan(found, options)
    except ValueError as error:
        raise DataError(str(error), "change what is assumed or wanted") from error


def write_picture(found: Plan, path: Path) -> None:
    """An SVG of precision against hours; against responses where hours are not known."""
    from aftertune.report.plan_figure import plan_svg

    known = found.costs is not None
    rows = [
        {
            "cost": d.hours if known else d.n_seeds * d.n_items * d.n_repeats,
            "half_width": d.half_width * 100,
            "n_seeds": d.n_seeds,
            "repeats": f"{d.n_repeats} draw{'s' * (d.n_repeats > 1)} of an item",
        }
        for d in found.designs
        if d.n_seeds > 2  # whose width would leave the others no room
    ]
    replace_file(path, plan_svg(rows, cost="hours" if known else "responses of a recipe").encode())


def plan_lines(found: Plan) -> list[str]:
    """The plan in words and a table."""
    v, level = found.variances, f"{found.level:.0%}"
    sds = [f"{x**0.5 * 100:.1f}" for x in (v.seed, v.seed_item, v.repeat)]
    lines = [
        f"assumed ({visible(found.source)}): SD between seeds {sds[0]} points, "
        f"of a seed on an item {sds[1]}, of repeats {sds[2]}",
    ]
    if found.costs:
        lines.append(f"a training {found.costs.train:.1f} s, a response {found.costs.generate:.2f} s")
    lines += ["", f"seeds  items  repeats  ±points ({level})  finds ({found.power:.0%} power)  hours"]
    lines += [
        f"{d.n_seeds:5}  {d.n_items:5}  {d.n_repeats:7}  {d.half_width * 100:14.1f}  "
        f"{_points(d.detectable):>17}  {'unknown' if d.hours is None else f'{d.hours:.2f}':>5}"
        for d in found.designs
    ]
    lines += ["", *_answers(found)]
    if found.pessimistic:
        worst = next(d for d in found.pessimistic_designs if d.n_seeds == SEEDS[2])
        lines.append(
            f"the pilot does not know the seeds' SD well: at the upper end of its interval "
            f"({found.pessimistic.seed**0.5 * 100:.1f} points) {worst.n_seeds} seeds give "
            f"±{worst.half_width * 100:.1f} points"
        )
    unseen = ", ".join(f"{n} seeds {collapse_unseen(0.2, n):.0%}" for n in SEEDS[2:])
    lines.append(f"a collapse of one seed in five stays unseen with probability: {unseen}")
    lines.append("Widths are of a recipe's rate on these items; what is found, against a base without error.")
    return lines


@dataclass(frozen=True, slots=True)
class _Pilot:
    source: str
    variances: AssumedVariances
    pessimistic: AssumedVariances | None
    n_items: int
    costs: Costs | None


def _plan(pilot: _Pilot, o: PlanOptions) -> Plan:
    assumed = _assumed(pilot.variances, o)
    costs = _costs(pilot.costs, o)
    n_items = o.items or pilot.n_items
    pessimistic = None if o.seed_sd is not None or not pilot.pessimistic else _assumed(pilot.pessimistic, o)
    repeats = sorted({*REPEATS, o.repeats})
    split = None
    if o.budget_hours is not None:
        if costs is None:
            raise DataError("a budget needs costs", "give --train-s and --response-s, or a pilot run")
        split = best_split(assumed, n_items=n_items, costs=costs, budget=o.budget_hours * 3600, level=o.level)
    return Plan(
        source=pilot.source,
        variances=assumed,
        pessimistic=pessimistic,
        costs=costs,
        level=o.level,
        power=o.power,
        designs=_designs(assumed, n_items, repeats, costs, o),
        pessimistic_designs=_designs(pessimistic, n_items, [o.repeats], costs, o) if pessimistic else (),
        wanted=o.wanted,
        seeds_for_width=None
        if o.wanted is None
        else seeds_needed(assumed, wanted=o.wanted, n_items=n_items, n_repeats=o.repeats, level=o.level),
        difference=o.difference,
        seeds_for_difference=None if o.difference is None else _seeds_for(assumed, n_items, o),
        split=split,
    )


def _assumed(variances: AssumedVariances, o: PlanOptions) -> AssumedVariances:
    given = {"seed": o.seed_sd, "seed_item": o.seed_item_sd, "repeat": o.repeat_sd}
    for name, sd in given.items():
        if sd is not None and not 0 <= sd <= 1:
            raise DataError(f"the SD of {name} is {sd}", "write shares between 0 and 1: 4 points are 0.04")
    return replace(variances, **{name: sd**2 for name, sd in given.items() if sd is not None})


def _costs(pilot: Costs | None, o: PlanOptions) -> Costs | None:
    train = o.train_s if o.train_s is not None else pilot.train if pilot else None
    response = o.response_s if o.response_s is not None else pilot.generate if pilot else None
    return None if train is None or response is None else Costs(train, response)


def _designs(
    variances: AssumedVariances, n_items: int, repeats: Sequence[int], costs: Costs | None, o: PlanOptions
) -> tuple[Design, ...]:
    found: list[Design] = []
    for n_seeds in SEEDS:
        for n_repeats in repeats:
            size = {"n_seeds": n_seeds, "n_items": n_items, "n_repeats": n_repeats}
            width = half_width(variances, **size, level=o.level)
            detects = detectable_difference(variances, **size, power=o.power, level=o.level)
            hours = None
            if costs is not None:
                hours = n_seeds * (costs.train + n_items * n_repeats * costs.generate) / 3600
            found.append(Design(**size, half_width=width, detectable=detects, hours=hours))
    return tuple(found)


def _seeds_for(variances: AssumedVariances, n_items: int, o: PlanOptions) -> int:
    """The fewest seeds at which the wanted difference is found."""
    assert o.difference is not None
    for n_seeds in range(2, _MOST_SEEDS + 1):
        size = {"n_seeds": n_seeds, "n_items": n_items, "n_repeats": o.repeats}
        if detectable_difference(variances, **size, power=o.power, level=o.level) <= abs(o.difference):
            return n_seeds
    raise ValueError(f"a difference of {o.difference:g} needs more than {_MOST_SEEDS} seeds")


def _answers(found: Plan) -> list[str]:
    lines: list[str] = []
    if found.wanted is not None:
        lines.append(f"for ±{found.wanted * 100:g} points: {found.seeds_for_width} seeds")
    if found.difference is not None:
        lines.append(
            f"to find {found.difference * 100:g} points with {found.power:.0%} power: "
            f"{found.seeds_for_difference} seeds"
        )
    if (s := found.split) is not None:
        lines.append(
            f"best split of the budget: {s.n_seeds} seeds × {s.n_repeats} repeats, ±{s.half_width * 100:.1f} "
            f"points for {s.cost / 3600:.2f} hours"
        )
    return lines


def _points(x: float) -> str:
    return "nothing" if x > 1 else f"{x * 100:.1f}"


def _pilot(directory: Path, o: PlanOptions) -> _Pilot:
    analysis, run = _analysed(directory, o)
    parts = _components(analysis, o.model)
    by_facet = {c.facet: c for c in parts}
    # One draw of an item cannot tell what a seed does to it from chance: all of it then counts as the seed's,
    # which repeats do not average away.
    mixed = by_facet.get("residual") if "repeat" not in by_facet else None
    seed_item = mixed or by_facet.get("seed×item")
    variances = AssumedVariances(
        seed=_variance(by_facet["seed"]),
        seed_item=_variance(seed_item),
        repeat=_variance(by_facet.get("repeat")),
    )
    upper = by_facet["seed"].ci_high
    cell = parts[0]
    rate = next(r for r in analysis.rates if _cell(r) == _cell(cell))
    where = f"{directory}: {cell.model}, {cell.task}, {cell.decoding}, {rate.n_seeds} seeds"
    pessimistic = None if upper is None else replace(variances, seed=upper)
    costs = None if run is None else _measured(run)
    return _Pilot(where, variances, pessimistic, rate.n_items, costs)


def _analysed(source: Path, o: PlanOptions) -> "tuple[Analysis, RunDirectory | None]":
    """The analysis of a run, of an import or of a table, and the run, which alone knows what it cost."""
    from aftertune.analysis import TableSpec, analyze
    from aftertune.analysis.stored import read_analysis
    from aftertune.analysis.table import read_table

    if source.is_file():
        spec = TableSpec(columns=columns_of(o.column or ()), ignore=o.ignore or ())
        return analyze(read_table(source), study=source.stem, table=spec), None
    if o.column or o.ignore:
        raise DataError(f"--column or --ignore, and {source} is no table", "leave it out")
    imported = ImportDirectory(source)
    run = None if imported.is_there() else run_at(source)
    return read_analysis(source), run


def _components(analysis: "Analysis", model: str | None) -> "list[Component]":
    """Of one recipe in the headline's cell, by default of the one whose seeds differ most."""
    from aftertune.report.select import headline

    p = headline(analysis)
    if p is None:
        raise StudyError(f"{analysis.study} has no rates", "give a pilot with judgments")
    place = (p.task, p.decoding, p.judge, p.metric)
    parts = [c for c in analysis.components if _cell(c)[1:] == place]
    seeds = {c.model: c.variance for c in parts if c.facet == "seed"}
    if not seeds:
        raise DataError(
            f"{analysis.study} has no recipe with several seeds whose values vary "
            f"in its cell {', '.join(place)}",
            "a pilot in which every response is alike tells nothing of seeds: give --seed-sd",
        )
    if model is not None and model not in seeds:
        raise DataError(f"the pilot has no recipe {model!r} with several seeds", nearest(model, list(seeds)))
    chosen = model or max(seeds, key=seeds.__getitem__)
    return [c for c in parts if c.model == chosen]


def _cell(c: Any) -> tuple[str, ...]:
    return (c.model, c.task, c.decoding, c.judge, c.metric)


def _variance(component: "Component | None") -> float:
    return max(component.variance, 0.0) if component is not None else 0.0


def _measured(run: RunDirectory) -> Costs | None:
    """Seconds of a training and of a response, from the manifest's stages; None where there are none."""
    stages = run.read_manifest().stages_s
    trained, files = set[str | None](), set[Path]()  # variations share them
    for part in parts_of(run).values():
        files |= set(part.responses.glob("*.parquet"))
        if part.checkpoint_list.is_file():
            found = [Checkpoint.from_json(entry) for entry in run.read_json(part.checkpoint_list)]
            trained |= {c.sha256 for c in found if c.seed is not None}
    n_responses = pl.scan_parquet(sorted(files)).select(pl.len()).collect().item() if files else 0
    if not (n_responses and stages.get("generate")):
        return None
    seconds = stages["generate"] + stages.get("judge", 0.0)
    return Costs(stages.get("tune", 0.0) / max(len(trained), 1), seconds / n_responses)
