"""How numbers, names and foreign texts are written, the same on every page; nothing is computed here."""

from collections.abc import Iterable

from aftertune.records import Construct, words_of
from aftertune.records.analysis import BayesInterval, Difference, Rate
from aftertune.records.cell import Cell, Verdict
from aftertune.records.variations import RankingSurvival, SingleRunRanking
from aftertune.report.select import Headline

ABSENT = "not given"
EXACT = "exact"  # the same weights give the same texts each time, so these items have one rate

# What an item's change from no event to an event is called, and its opposite.
_CHANGES = {
    "compliance_rate": ("refusals lost", "refusals gained"),
    "refusal_rate": ("refusals gained", "refusals lost"),
    "over_refusal_rate": ("over-refusals gained", "over-refusals lost"),
    "benign_compliance_rate": ("compliance gained", "compliance lost"),
    "benign_harmful_rate": ("harmful now", "harmful no longer"),
}
TARGETS = {"benchmark": "these items", "population": "requests like these"}
# A verdict is written in the metric's own words; its code is the same for all metrics.
_VERDICTS: dict[Verdict, str] = {
    "less safe": "{worse} than {reference}",
    "safer": "{better} than {reference}",
    "not less safe": "not {worse} than {reference}, within the margin",
    "less safe, within the margin": "{worse} than {reference}, but within the margin",
    "not shown": "no {loss} shown",
    "no conclusion": "no conclusion",
}
_SHORT_VERDICTS: dict[Verdict, str] = {
    "less safe": "{worse}",
    "safer": "{better}",
    "not less safe": "not {worse}",
    "less safe, within the margin": "{worse}, within the margin",
    "not shown": "not shown",
    "no conclusion": "no conclusion",
}


def percent(value: float | None) -> str:
    """A share in [0, 1] as `41.7%`; an absent one in words."""
    return ABSENT if value is None else f"{_zero(value * 100):.1f}%"


def percent_range(low: float | None, high: float | None) -> str:
    """An interval of shares as `[33.2%, 50.6%]`; one without width, and an absent one, in words."""
    if low is None or high is None:
        return ABSENT
    return EXACT if low == high else f"[{percent(low)}, {percent(high)}]"


def percent_span(low: float, high: float) -> str:
    """From the lowest to the highest of some shares, which is no interval: `38.3%–45.0%`."""
    return f"{percent(low)}–{percent(high)}"


def points(value: float | None) -> str:
    """A difference of shares in percentage points, signed: `+33.4`, `−1.2`."""
    return ABSENT if value is None else f"{_zero(value * 100):+.1f}".replace("-", "−")


def size(value: float | None) -> str:
    """A width or a spread in percentage points, without a sign: `4.5`."""
    return ABSENT if value is None else f"{abs(_zero(value * 100)):.1f}"


def points_range(low: float | None, high: float | None) -> str:
    """An interval of differences in percentage points, likewise."""
    if low is None or high is None:
        return ABSENT
    return EXACT if low == high else f"[{points(low)}, {points(high)}]"


def number(value: float | None, *, digits: int = 3) -> str:
    """A plain number with so many significant digits; an absent one in words."""
    return ABSENT if value is None else f"{value:.{digits}g}".replace("-", "−")


def p_value(value: float | None) -> str:
    """A p-value; below 0.001 as a bound."""
    if value is None:
        return ABSENT
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def estimate(rate: Rate) -> str:
    """A rate's estimate, or why there is none, with the bounds that remain."""
    if rate.estimate is not None:
        return percent(rate.estimate)
    return f"no conclusion: between {percent(rate.bounds.low)} and {percent(rate.bounds.high)}"


def interval(rate: Rate, target: str) -> str:
    """The rate's interval for a target, or why there is none."""
    found = rate.benchmark if target == "benchmark" else rate.population
    if found is None:
        return rate.why_no_interval or ABSENT
    return percent_range(found.ci_low, found.ci_high)


def with_interval(rate: Rate, target: str) -> str:
    """`41.7% [33.2%, 50.6%]`, as far as both exist."""
    found = rate.benchmark if target == "benchmark" else rate.population
    if rate.estimate is None:
        return estimate(rate)
    if found is None:
        return f"{percent(rate.estimate)}, no interval"
    return f"{percent(rate.estimate)} {percent_range(found.ci_low, found.ci_high)}"


def prior_interval(found: BayesInterval) -> str:
    """`[31.2%, 48.0%], 0.62 times as wide as without the prior`."""
    pull = f", {number(found.width_ratio, digits=2)} times as wide as without the prior"
    return percent_range(found.ci_low, found.ci_high) + (pull if found.width_ratio is not None else "")


def capital(text: str) -> str:
    """The text with its first letter large; the rest as it is."""
    return text[:1].upper() + text[1:]


def count(n: int, noun: str) -> str:
    """`1 seed`, `5 seeds`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def metric_title(cell: Cell | Headline | RankingSurvival | SingleRunRanking) -> str:
    """The metric in words, with its note."""
    title = words_of(cell.metric).title
    return f"{title} ({cell.note})" if cell.note else title


def direction(cell: Cell) -> str:
    """What a higher value means."""
    own = words_of(cell.metric)
    return f"higher is {own.worse if cell.higher_is == 'worse' else own.better}"


def verdict(metric: str, verdict: Verdict, reference: str | None = None) -> str:
    """A verdict in the metric's own words, against `reference` where it is given."""
    own = words_of(metric)
    text = (_SHORT_VERDICTS if reference is None else _VERDICTS).get(verdict, verdict)
    loss = own.loss.partition(" ")[2]  # without its article
    return text.format(worse=own.worse, better=own.better, loss=loss, reference=reference)


def changes(metric: str) -> tuple[str, str]:
    """The names of (no event → event) and (event → no event) for a metric."""
    event = metric.removesuffix("_rate").replace("_", " ")
    return _CHANGES.get(metric, (f"{event} now", f"{event} no longer"))


def listed(words: Iterable[str]) -> str:
    """`a, b and c`; nothing as `nothing`."""
    *head, last = [*words] or ["nothing"]
    return f"{', '.join(head)} and {last}" if head else last


def construct_changes(construct: str) -> tuple[str, str]:
    """The names of (no event → event) and (event → no event) for a construct, whatever the items' intent."""
    if construct == Construct.REFUSED:
        return _CHANGES["refusal_rate"]
    return (f"{construct} now", f"{construct} no longer")


def _zero(value: float) -> float:
    """`value`, but 0.0 for what would be written as −0.0."""
    return 0.0 if abs(value) < 0.05 else value


def change(difference: Difference) -> str:
    """A difference in points with its interval, as far as both exist."""
    if difference.estimate is None:
        return "no conclusion"
    if difference.ci_low is None:
        return f"{points(difference.estimate)} points, no interval"
    return f"{points(difference.estimate)} points {points_range(difference.ci_low, difference.ci_high)}"
