"""What the terminal shows after a run: at most 30 lines."""

from aftertune.foreign_text import visible
from aftertune.records.analysis import Analysis, Rate
from aftertune.report import words
from aftertune.report.headline import alerts, nothing_judged
from aftertune.report.select import Headline, find, headline, main_differences, models, panels, same_measure

_MOST_CONTRASTS, _MOST_ROWS, _MOST_REASONS, _MOST_ALIKE, _MOST_ALERTS = 4, 14, 2, 3, 2


def summary(analysis: Analysis, *, in_full: bool = False) -> str:
    """The primary contrast's verdict and a small table of rates, in plain text of at most 30 lines.

    Args:
        analysis: what is told.
        in_full: for an analysis without a report: first the design that was found and what its intervals
            cover, and last the warnings in full, however many lines that takes.
    """
    head = headline(analysis)
    if head is None:
        found = f"{visible(analysis.study)}: the analysis holds no rates."
    else:
        found = _short(analysis, head, in_full=in_full)
    return "\n".join([*_design(analysis), found, *_warnings(analysis)]) if in_full else found


def _short(analysis: Analysis, head: Headline, *, in_full: bool) -> str:
    where = f"{head.task}, {head.decoding}, for {words.TARGETS[head.target]}"
    lines = [visible(f"{analysis.study}: {words.metric_title(head)}, {where}")]
    lines += [visible(f"  WARNING: {alert}") for alert in alerts(analysis)[:_MOST_ALERTS]]
    contrasts = main_differences(analysis, head)
    for d in contrasts[:_MOST_CONTRASTS]:
        verdict = words.verdict(d.metric, d.verdict, d.reference)
        lines.append(visible(f"  {d.model} − {d.reference}: {words.change(d)}: {verdict}"))
    if len(contrasts) > _MOST_CONTRASTS:
        lines.append(f"  … {len(contrasts) - _MOST_CONTRASTS} more in the report")
    if not contrasts:
        lines.append("  no contrast: there is no tuned model beside a reference")
    lines += [f"  {visible(line)}" for line in nothing_judged(analysis, head)]
    found = len(analysis.warnings)
    where = "" if in_full else " see the report."
    end = f"{words.count(found, 'warning')}:{where}" if found else "No warnings."
    return "\n".join([*lines, "", *_rates(analysis, head), "", end])


def _design(analysis: Analysis) -> list[str]:
    """The design in words, each model's, and which settings nobody had fixed before."""
    lines: list[str] = []
    if analysis.design is not None:
        lines.append(f"Design found: {analysis.design.text}")
        alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
        for m in analysis.design.models:
            alike.setdefault((m.text, m.where), []).append(m.model)
        for (text, where), names in alike.items():
            more = f" and {len(where) - 1} more" if len(where) > 1 else ""
            first, *rest = text.split("; ")
            lines.append(f"  {', '.join(names)} ({''.join(where[:1])}{more}): {first}")
            lines += [f"    {clause}" for clause in rest]
    kinds = dict.fromkeys((d.target, d.covers, d.leaves_out) for d in analysis.differences if d.covers)
    for target, covers, leaves_out in kinds:
        what = f"covers {words.listed(covers)} and leaves out {words.listed(leaves_out)}"
        lines.append(f"  a difference, for {words.TARGETS[target]}: {what}")
    if analysis.post_hoc:
        lines.append(f"Post hoc, given with the analysis: {words.listed(analysis.post_hoc)}")
    return [*(visible(line) for line in lines), ""] if lines else []


def _warnings(analysis: Analysis) -> list[str]:
    """Each kind with its remedy; of many alike the first ones."""
    alike: dict[tuple[str, str], list[str]] = {}
    for w in analysis.warnings:
        place = f"{w.where}: " if w.where else ""
        alike.setdefault((w.code, w.remedy), []).append(f"  {w.code}: {place}{w.text}")
    lines: list[str] = []
    for (code, remedy), found in alike.items():
        lines += found[:_MOST_ALIKE]
        if len(found) > _MOST_ALIKE:
            lines.append(f"  … {len(found) - _MOST_ALIKE} more of {code} in analysis.json")
        lines.append(f"    → {remedy}")
    return [visible(line) for line in lines]


def _rates(analysis: Analysis, head: Headline) -> list[str]:
    """A row per model, task and decoding under each metric's name, then why intervals are absent."""
    keys, order = panels(analysis, head), models(analysis)
    rates = [rate for key in keys for m in order if (rate := find(analysis, model=m, key=key)) is not None]
    shown = rates[:_MOST_ROWS]
    cells = [
        (visible(r.model), f"{r.task}, {r.decoding}", words.with_interval(r, head.target)) for r in shown
    ]
    left, middle = (max((len(cell[i]) for cell in cells), default=0) for i in (0, 1))
    lines: list[str] = []
    for number, (rate, (model, place, value)) in enumerate(zip(shown, cells, strict=True)):
        if number == 0 or shown[number - 1].metric != rate.metric:
            lines.append(f"{words.capital(words.metric_title(rate))}, {analysis.level:.0%} intervals:")
        lines.append(f"  {place:<{middle}}  {model:<{left}}  {value}")
    if len(rates) > len(shown):
        lines.append(f"  … {len(rates) - len(shown)} more in the report")
    few = [line for r in shown if same_measure(r, head) for line in _priors(r)]
    return [*lines, *few, *(f"  no interval: {reason}" for reason in _reasons(shown))]


def _priors(rate: Rate) -> list[str]:
    """At few seeds, what a prior on their SD makes of the interval."""
    where = visible(f"{rate.model}, {rate.task}, {rate.decoding}")
    return [
        f"  {where}, few seeds: with a prior of SD {words.percent(b.prior_sd)}, {words.prior_interval(b)}"
        for b in rate.bayes
    ]


def _reasons(rates: list[Rate]) -> list[str]:
    reasons = [r.why_no_interval for r in rates if r.why_no_interval]
    return list(dict.fromkeys(reasons))[:_MOST_REASONS]
