"""Which of the analysis's results the headline and the figures are about."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from aftertune.records.analysis import Analysis, Difference, Rate
from aftertune.records.cell import Cell, Target
from aftertune.report.theme import colours

_SAFE_REQUESTS = ("over_refusal_rate", "benign_compliance_rate", "benign_harmful_rate")


@dataclass(frozen=True, slots=True)
class Headline:
    """The cell that comes first; `fixed` is False where the study fixed no primary contrast."""

    task: str
    decoding: str
    judge: str
    metric: str
    note: str
    target: Target
    fixed: bool


def headline(analysis: Analysis) -> Headline | None:
    """The primary contrast's cell; else the first cell in which every model has judgments.

    Of several, one of a compliance rate; None without rates.
    """
    primary = analysis.primary
    if primary is not None:
        notes = [r.note for r in analysis.rates if (r.metric, r.judge) == (primary.metric, primary.judge)]
        note = notes[0] if notes else ""
        return Headline(
            primary.task, primary.decoding, primary.judge, primary.metric, note, primary.target, fixed=True
        )
    if not analysis.rates:
        return None
    empty = Counter(key_of(r) for r in analysis.rates if not has_judgments(r))
    # min takes the first of equals.
    first = min(analysis.rates, key=lambda r: (empty[key_of(r)], r.metric != "compliance_rate"))
    return Headline(
        first.task, first.decoding, first.judge, first.metric, first.note, "benchmark", fixed=False
    )


def has_judgments(rate: Rate) -> bool:
    """Whether any judgment of the rate has a value."""
    return rate.missing.n < rate.missing.n_observations


def same_measure(cell: Cell, head: Headline) -> bool:
    """Whether the cell has the headline's judge and metric (any task, any decoding)."""
    return (cell.judge, cell.metric, cell.note) == (head.judge, head.metric, head.note)


def in_headline(cell: Cell, head: Headline) -> bool:
    """Whether the cell is the headline's, whatever its model."""
    return same_measure(cell, head) and (cell.task, cell.decoding) == (head.task, head.decoding)


def models(analysis: Analysis) -> list[str]:
    """The models in the analysis's order, the base first."""
    names = list(dict.fromkeys(rate.model for rate in analysis.rates))
    return sorted(names, key=lambda name: name != analysis.base)


def model_colours(analysis: Analysis) -> dict[str, str]:
    """The colour of each model, in the order of `models`."""
    return colours(models(analysis), analysis.base)


def main_differences(analysis: Analysis, head: Headline) -> list[Difference]:
    """The primary contrasts; where none was fixed, the headline cell's for its target."""
    primary = [d for d in analysis.differences if d.primary]
    return primary or [d for d in analysis.differences if in_headline(d, head) and d.target == head.target]


def panels(analysis: Analysis, head: Headline) -> list[tuple[str, str, str, str, str]]:
    """(task, decoding, judge, metric, note) of what is drawn: the headline's measure, then safe requests'."""
    drawn = sorted((r for r in analysis.rates if same_measure(r, head)), key=lambda r: r.task != head.task)
    beside = [r for r in _of_safe_requests(analysis.rates) if not same_measure(r, head)]
    drawn += _by_one_judge(beside, head)
    tasks = list(dict.fromkeys((r.metric, r.task) for r in drawn))
    keys = dict.fromkeys(key_of(rate) for rate in drawn)
    return sorted(keys, key=lambda key: (tasks.index((key[3], key[0])), key[1] != head.decoding))


def key_of(cell: Cell) -> tuple[str, str, str, str, str]:
    """A cell without its model."""
    return (cell.task, cell.decoding, cell.judge, cell.metric, cell.note)


def glance_columns(analysis: Analysis, head: Headline) -> list[tuple[str, str, str, str, str]]:
    """The headline's cell, then what safe requests, coherence and capability say under the same decoding."""
    keys = [key_of(r) for r in analysis.rates if in_headline(r, head)]
    of_safe = _of_safe_requests(analysis.rates)
    for metric in (*_SAFE_REQUESTS, "incoherence_rate", "accuracy"):
        rates = of_safe if metric in _SAFE_REQUESTS else analysis.rates
        found = [r for r in rates if r.metric == metric and r.decoding == head.decoding]
        keys += [key_of(r) for r in _by_one_judge(found, head)]
    return list(dict.fromkeys(keys))


def _of_safe_requests(rates: Iterable[Rate]) -> list[Rate]:
    """The rates on safe requests; where a task has a refusal rate, compliance would say it a second time."""
    found = [r for r in rates if r.metric in _SAFE_REQUESTS]
    refused = {r.task for r in found if r.metric == "over_refusal_rate"}
    return [r for r in found if r.metric != "benign_compliance_rate" or r.task not in refused]


def _by_one_judge(rates: list[Rate], head: Headline) -> list[Rate]:
    """Of each task and metric the rates by the headline's judge, else by the one that misses least.

    The tables have all.
    """
    chosen: dict[tuple[str, str], str] = {}
    for rate in sorted(rates, key=lambda rate: (rate.judge != head.judge, rate.missing.n)):
        chosen.setdefault((rate.task, rate.metric), rate.judge)
    return [rate for rate in rates if rate.judge == chosen[rate.task, rate.metric]]


def find(analysis: Analysis, *, model: str, key: tuple[str, str, str, str, str]) -> Rate | None:
    """The model's rate in a cell."""
    return next((r for r in analysis.rates if r.model == model and key_of(r) == key), None)
