"""The report's tables: rows of words, for the page and for Markdown."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from aftertune.records.analysis import Analysis, Difference, Rate
from aftertune.records.cell import Cell
from aftertune.report import words
from aftertune.report.select import Headline, find, glance_columns, models, same_measure


@dataclass(frozen=True, slots=True)
class Table:
    """A table in words: every cell is text, the first column names the row.

    `intro` says above it how to read it, `note` stands below.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    main: bool = False  # about the headline's measure
    intro: str = ""


def told_once(table: Table, *columns: str) -> Table:
    """The table without those of `columns` that say the same in every row: its title says it once."""
    same = [
        i for i, name in enumerate(table.columns) if name in columns and len({r[i] for r in table.rows}) == 1
    ]
    title = " · ".join([table.title, *(table.rows[0][i] for i in same)])
    names, *rows = (
        tuple(cell for i, cell in enumerate(row) if i not in same) for row in (table.columns, *table.rows)
    )
    return replace(table, title=title, columns=names, rows=tuple(rows))


def glance(analysis: Analysis, head: Headline) -> Table:
    """Every model's headline rate with its interval, beside over-refusal, incoherence and accuracy."""
    keys = glance_columns(analysis, head)
    cells = [
        next(r for r in analysis.rates if (r.task, r.decoding, r.judge, r.metric, r.note) == key)
        for key in keys
    ]
    rows: list[tuple[str, ...]] = []
    for model in models(analysis):
        found = [find(analysis, model=model, key=key) for key in keys]
        rows.append((model, *(words.with_interval(r, head.target) if r else "not run" for r in found)))
    target = f"{words.TARGETS[head.target]} ({head.target})"
    note = f"{analysis.level:.0%} intervals for {target}; decoding: {head.decoding}."
    columns = tuple(_column(cell) for cell in cells)
    return Table("At a glance", ("model", *columns), tuple(rows), note, main=True)


def rates(analysis: Analysis, head: Headline) -> list[Table]:
    """A table per metric, task and judge; the headline's measure first."""
    groups: dict[tuple[str, str, str, str], list[Rate]] = defaultdict(list)
    for rate in analysis.rates:
        groups[_measure(rate)].append(rate)
    columns = (
        "model, decoding",
        "rate",
        f"{analysis.level:.0%}, these items",
        f"{analysis.level:.0%}, requests like these",
        "seeds min–max",
        "next seed",
        "seeds × items × draws",
        "missing",
    )
    tables = [
        Table(
            _title(group[0]),
            columns,
            tuple(map(_rate_row, group)),
            _rate_note(group),
            same_measure(group[0], head),
        )
        for group in groups.values()
    ]
    return sorted(tables, key=lambda table: not table.main)


def differences(analysis: Analysis, head: Headline) -> list[Table]:
    """A table of contrasts per metric, task and judge, both targets."""
    groups: dict[tuple[str, str, str, str], list[Difference]] = defaultdict(list)
    for difference in sorted(analysis.differences, key=lambda d: not d.primary):
        groups[_measure(difference)].append(difference)
    columns = (
        "contrast",
        "decoding",
        "interval for",
        f"difference, {analysis.level:.0%} interval",
        "verdict",
        "p",
        "p, Holm",
        "90% interval held against the margin",
    )
    margin = words.points(analysis.margin).lstrip("+")
    late = ", chosen after the run (post hoc)" if "margin" in analysis.post_hoc else ""
    note = f"Model minus reference. The margin is {margin} points{late}."
    tables = [
        Table(
            _title(g[0]),
            columns,
            tuple(map(_difference_row, g)),
            f"{note} {words.direction(g[0]).capitalize()}.",
            same_measure(g[0], head),
        )
        for g in groups.values()
    ]
    return sorted(tables, key=lambda table: not table.main)


def _rate_row(rate: Rate) -> tuple[str, ...]:
    spread = rate.spread
    return (
        f"{rate.model}, {rate.decoding}",
        words.estimate(rate),
        words.interval(rate, "benchmark"),
        words.interval(rate, "population"),
        f"{words.percent(spread.minimum)}–{words.percent(spread.maximum)}" if spread else "one run",
        words.percent_range(spread.prediction_low, spread.prediction_high) if spread else "one run",
        f"{rate.n_seeds} × {rate.n_items} × {rate.n_repeats}",
        f"{rate.missing.n} of {rate.missing.n_observations}",
    )


def _rate_note(group: Sequence[Rate]) -> str:
    lines = [f"{words.direction(group[0]).capitalize()}."]
    if any(r.benchmark is not None and r.benchmark.ci_low == r.benchmark.ci_high for r in group):
        lines.append(
            "Exact: this decoding gives the same texts each time, so on these items there is one rate."
        )
    for rate in group:
        lines += [
            f"{rate.model}, {rate.decoding}, under a half-normal prior with SD {words.percent(b.prior_sd)} "
            f"on the seeds: {words.prior_interval(b)}."
            for b in rate.bayes
        ]
    return " ".join(lines)


def _difference_row(d: Difference) -> tuple[str, ...]:
    return (
        f"{d.model} − {d.reference}{' (primary)' if d.primary else ''}",
        d.decoding,
        words.TARGETS[d.target],
        words.change(d),
        words.verdict(d.metric, d.verdict),
        words.p_value(d.p_value),
        words.p_value(d.p_adjusted),
        words.points_range(d.margin_low, d.margin_high),
    )


def _column(cell: Cell) -> str:
    return f"{words.metric_title(cell)} · {cell.task}"


def _title(cell: Cell) -> str:
    return f"{words.metric_title(cell)} · {cell.task} · judge {cell.judge}"


def _measure(cell: Cell) -> tuple[str, str, str, str]:
    return (cell.metric, cell.note, cell.task, cell.judge)
