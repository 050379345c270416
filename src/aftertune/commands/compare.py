"""`aftertune compare`: which settings differ between two runs, and whether their numbers do beyond noise."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from aftertune.analysis import read_observations
from aftertune.analysis.cells import MetricCells, ModelCell, Settings, build_cells
from aftertune.analysis.differences import Pair, pair_cells, positive_p
from aftertune.commands.made_of import Changed, makings_changed, settings_changed
from aftertune.commands.tasks import visible
from aftertune.errors import DataError, StoreError
from aftertune.records import BASELINE
from aftertune.stats import holm, point_estimate
from aftertune.store import RunDirectory, run_at

_RESPONSE = ("text", "finish", "status")


@dataclass(frozen=True, slots=True)
class CellChange:
    """One cell in both runs: rates in [0, 1] on the items that have a value in both, b − a, and its interval.

    The interval is for these items (the benchmark target), and for another training seed where a model has
    several in a run. `p_adjusted` is Holm's over all cells of the comparison; it is None, as `p_value` is,
    where nothing was drawn, and a difference is then a fact. All numbers are None where `why_not` says so.
    """

    variation: str
    model: str
    task: str
    decoding: str
    judge: str
    metric: str
    note: str
    higher_is: str
    n_items: int
    n_seeds: tuple[int, int]
    a: float | None
    b: float | None
    estimate: float | None
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    p_adjusted: float | None
    beyond_noise: bool | None
    method: str
    why_not: str

    @property
    def where(self) -> str:
        """The cell in one line."""
        varied = "" if self.variation == BASELINE else f"{self.variation} · "
        metric = f"{self.metric} {self.note}".strip()
        return f"{varied}{self.model} · {self.task} · {self.decoding} · {self.judge} · {metric}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs held against each other.

    `n_responses` are the responses that each asked for and has; `n_same` those of one key whose text, finish
    and status are the same in both. `only_in_a` and `only_in_b` name cells that the other does not have.
    """

    a: str
    b: str
    level: float
    settings: tuple[Changed, ...]
    made_of: tuple[Changed, ...]
    n_responses: tuple[int, int]
    n_same: int
    cells: tuple[CellChange, ...]
    only_in_a: tuple[str, ...]
    only_in_b: tuple[str, ...]

    @property
    def identical(self) -> bool:
        """Whether both hold the same responses to the byte."""
        return self.n_responses == (self.n_same, self.n_same)

    @property
    def beyond_noise(self) -> tuple[CellChange, ...]:
        """The cells whose numbers differ by more than chance explains."""
        return tuple(cell for cell in self.cells if cell.beyond_noise)


def compare(a: Path, b: Path) -> Comparison:
    """Which settings differ between two runs, and in which cells their numbers differ beyond noise.

    Items are matched by task and id. The seeds of the two runs count as independent draws. Where both drew
    from the very same checkpoints, the intervals are therefore too wide rather than too narrow.

    Args:
        a: a run directory with observations; its level and the stricter max_missing are used.
        b: another; differences are b − a.

    Raises:
        StoreError: one is no run directory, or has no observations.
        DataError: the two have no cell in common, or observations cannot be read.
    """
    one, two = _observed(a), _observed(b)
    also = frozenset(p.metric for run in (one, two) if (p := run.study.analysis.primary) is not None)
    theirs, ours = _groups(one, also), _groups(two, also)
    level = one.study.analysis.level
    cells = tuple(_adjusted(_changes(one, two, theirs, ours), level))
    names = _names(theirs), _names(ours)
    if not cells:
        known = (", ".join(sorted(found)[:3]) for found in names)
        raise DataError(
            f"{a} and {b} have no cell in common: the first has {'; the second has '.join(known)}",
            "compare runs with the same names of models, tasks, decodings and judges",
        )
    drawn = responses_of(one), responses_of(two)
    same = drawn[0].join(drawn[1], on=["key", *_RESPONSE], how="semi", nulls_equal=True)
    return Comparison(
        a=str(a),
        b=str(b),
        level=level,
        settings=settings_changed(one, two),
        made_of=makings_changed(one.read_manifest(), two.read_manifest()),
        n_responses=(drawn[0].height, drawn[1].height),
        n_same=same.height,
        cells=cells,
        only_in_a=tuple(sorted(names[0] - names[1])),
        only_in_b=tuple(sorted(names[1] - names[0])),
    )


def parts_of(run: RunDirectory) -> dict[str, RunDirectory]:
    """The baseline's directory and each variation's, by name."""
    return {part.variation: part for part in run.parts()}


def responses_of(run: RunDirectory) -> pl.DataFrame:
    """Every response that a run asked for and has: its place in the study, key, text, finish and status.

    Two decodings of one content share a key; each of them is a row, as are a variation's. A variation that a
    half-finished run has not come to has none.
    """
    frames: list[pl.DataFrame] = []
    for name, part in parts_of(run).items():
        if name != BASELINE and not part.requests.is_file():
            continue
        asked = run.read_table(part.requests).with_columns(pl.lit(name).alias("variation"))
        drawn = part.read_responses().select("key", *_RESPONSE)
        frames.append(asked.join(drawn, on="key", how="inner", maintain_order="left"))
    return pl.concat(frames)


def comparison_lines(found: Comparison) -> list[str]:
    """The comparison in words."""
    lines = [f"a: {found.a}", f"b: {found.b}", ""]
    for title, entries in (("settings", found.settings), ("made with", found.made_of)):
        lines += [f"{title} that differ, a and b:"] if entries else [f"{title}: the same"]
        lines += [f"  {entry.in_words()}" for entry in entries]
    lines += ["", responses_line(found), ""]
    n_beyond, level = len(found.beyond_noise), f"{found.level:.0%}"
    lines.append(
        f"{n_beyond} of {len(found.cells)} cells differ beyond noise (b − a, points; {level} intervals, Holm)"
    )
    lines += [f"  {_cell_line(cell)}" for cell in sorted(found.cells, key=_order)]
    for side, names in (("a", found.only_in_a), ("b", found.only_in_b)):
        lines += [f"only in {side}: {visible(name)}" for name in names]
    return lines


def responses_line(found: Comparison) -> str:
    """How many responses are the same to the byte."""
    n_a, n_b = found.n_responses
    if found.identical:
        return f"identical to the byte: {found.n_same:,} of {n_a:,} responses"
    of = f"{n_a:,} responses" if n_a == n_b else f"{n_a:,} and {n_b:,} responses"
    return f"the same to the byte: {found.n_same:,} of {of}"


def _order(cell: CellChange) -> tuple[bool, float]:
    return not cell.beyond_noise, -abs(cell.estimate or 0.0)


def _cell_line(cell: CellChange) -> str:
    if (
        cell.a is None
        or cell.b is None
        or cell.estimate is None
        or cell.ci_low is None
        or cell.ci_high is None
    ):
        return f"{visible(cell.where)}: no conclusion, {cell.why_not}"
    mark = "beyond noise" if cell.beyond_noise else "within noise"
    p = "nothing was drawn: a fact" if cell.p_adjusted is None else f"adjusted p {cell.p_adjusted:.2g}"
    change, low, high = (f"{x * 100:+.1f}" for x in (cell.estimate, cell.ci_low, cell.ci_high))
    rates = f"{cell.a * 100:.1f} and {cell.b * 100:.1f}"
    return f"{visible(cell.where)}: {rates}, {change} [{low}, {high}], {p}: {mark}"


def _observed(directory: Path) -> RunDirectory:
    run = run_at(directory)
    if not run.observations.is_file():
        raise StoreError(
            f"{directory} has no observations yet",
            f"run `aftertune run` on its study, or `aftertune observe {directory}`",
        )
    return run


_Key = tuple[str, str, str, str, str, str]


def _groups(run: RunDirectory, also: frozenset[str]) -> dict[_Key, MetricCells]:
    """All models' cells of a variation × task × decoding × judge × metric; a mirror image is left out."""
    frame = read_observations(run.observations)
    found: dict[_Key, MetricCells] = {}
    for name in parts_of(run):
        rows = frame.filter(pl.col("variation").cast(pl.String) == name)
        for group in build_cells(rows, also=also) if rows.height else ():
            if group.contrasted:
                cell = group.any
                key = (name, cell.task, cell.decoding, cell.judge, cell.metric.name, cell.metric.note)
                found[key] = group
    return found


def _changes(
    a: RunDirectory, b: RunDirectory, theirs: dict[_Key, MetricCells], ours: dict[_Key, MetricCells]
) -> list[CellChange]:
    """The cells that both have."""
    one, two = parts_of(a), parts_of(b)
    settings = {name: _settings(one[name], two[name]) for name in one if name in two}
    return [
        _change(key[0], cell, ours[key].cells[model], settings[key[0]])
        for key, group in theirs.items()
        for model, cell in group.cells.items()
        if key in ours and model in ours[key].cells
    ]


def _names(groups: dict[_Key, MetricCells]) -> set[str]:
    return {
        cell.where if key[0] == BASELINE else f"{key[0]} · {cell.where}"
        for key, group in groups.items()
        for cell in group.cells.values()
    }


def _settings(a: RunDirectory, b: RunDirectory) -> Settings:
    one, two = a.study.analysis, b.study.analysis
    return Settings(
        one.level, one.margin, min(one.max_missing, two.max_missing), deterministic=_certain(a) & _certain(b)
    )


def _certain(run: RunDirectory) -> frozenset[str]:
    """The decodings without draws: greedy, under numerics that the run wrote down as exact."""
    engine = run.read_manifest().engine
    exact = engine is not None and engine.numerics == "exact"
    return frozenset(name for name, d in run.study.decodings.items() if exact and d.temperature == 0)


def _change(variation: str, theirs: ModelCell, ours: ModelCell, settings: Settings) -> CellChange:
    pair = pair_cells(ours, theirs)
    empty = CellChange(
        variation=variation,
        model=ours.model,
        task=ours.task,
        decoding=ours.decoding,
        judge=ours.judge,
        metric=ours.metric.name,
        note=ours.metric.note,
        higher_is=ours.metric.higher_is.value,
        n_items=len(pair.places),
        n_seeds=(len(theirs.checkpoints), len(ours.checkpoints)),
        **dict.fromkeys(("a", "b", "estimate", "ci_low", "ci_high", "p_value", "p_adjusted", "beyond_noise")),
        method="none",
        why_not=_why_not(pair, settings),
    )
    if empty.why_not:
        return empty
    contrast = pair.contrast(settings, target="benchmark")
    return replace(
        empty,
        a=point_estimate(pair.b),
        b=point_estimate(pair.a),
        estimate=contrast.estimate,
        ci_low=contrast.ci_low,
        ci_high=contrast.ci_high,
        p_value=positive_p(contrast),
        method=contrast.method,
    )


def _why_not(pair: Pair, settings: Settings) -> str:
    if not len(pair.places):
        return "no item has a value in both"
    for run, cell in (("a", pair.reference), ("b", pair.model)):
        if cell.exceeds_missing_limit(settings):
            return f"{cell.n_missing} of {cell.n_observations} judgments are missing in {run}"
    return ""


def _adjusted(cells: list[CellChange], level: float) -> Iterator[CellChange]:
    """The cells with Holm's p over all that have one; without one, any difference is a fact."""
    for cell, p in zip(cells, holm([cell.p_value for cell in cells]), strict=True):
        if cell.estimate is None:
            yield cell
        elif p is not None:
            yield replace(cell, p_adjusted=p, beyond_noise=p < 1 - level)
        else:
            yield replace(cell, beyond_noise=cell.estimate != 0)
