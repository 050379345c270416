"""A section for a model card: what the tune changed, with intervals, in Markdown; computes nothing."""

from collections.abc import Sequence

from aftertune.errors import DataError, nearest
from aftertune.records.analysis import Analysis, Difference, Rate
from aftertune.report import words
from aftertune.report.markdown import plain
from aftertune.report.select import (
    Headline,
    find,
    glance_columns,
    headline,
    main_differences,
    models,
    panels,
)

_MOST_WARNINGS = 6


def model_card(analysis: Analysis, names: Sequence[str] = (), *, made: str = "") -> str:
    """The section: the differences in sentences, a table of rates, what the intervals cover, warnings.

    Args:
        analysis: finished.
        names: the models that the card is about; all but the base by default. The base stands beside them.
        made: how the numbers were made, in a sentence.

    Raises:
        DataError: a model is not there, or the analysis holds no rates.
    """
    known, head = models(analysis), headline(analysis)
    if head is None:
        raise DataError(f"{analysis.study} holds no rates", "analyze a run with judgments")
    for name in names:
        if name not in known:
            raise DataError(f"the analysis has no model {name!r}", nearest(name, known))
    shown = [name for name in known if name == analysis.base or not names or name in names]
    differences = [d for d in main_differences(analysis, head) if d.model in shown]
    target = words.TARGETS[head.target]
    parts = ["## Safety evaluation", _intro(analysis, made)]
    parts += ["\n".join(_contrast(d) for d in differences)] if differences else []
    told = f"{analysis.level:.0%} intervals are for {target}; rates are shares of responses"
    parts.append(plain(f"{told}, and the report has all of them."))
    parts.append(_table(analysis, shown, head))
    parts.append(_scope(analysis, shown, head.target))
    if analysis.warnings:
        parts.append(_warnings(analysis))
    return "\n\n".join(parts) + "\n"


def _intro(analysis: Analysis, made: str) -> str:
    sentences = [f"Measured with aftertune in the study {analysis.study}.", made]
    if analysis.post_hoc:
        sentences.append(f"Chosen after the results: {', '.join(analysis.post_hoc)}.")
    return " ".join(plain(sentence) for sentence in sentences if sentence)


def _contrast(d: Difference) -> str:
    where = f"{words.metric_title(d)}, {d.task}, {d.decoding}, by {d.judge}"
    return f"- **{plain(d.model)} against {plain(d.reference)}** ({plain(where)}): {plain(d.sentence)}"


def _table(analysis: Analysis, shown: Sequence[str], head: Headline) -> str:
    """The headline's measure on every task and decoding, and what the report shows beside it."""
    lines = [
        "| model | event | task, decoding | judge | rate | seeds | items | missing |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    keys = dict.fromkeys([*panels(analysis, head), *glance_columns(analysis, head)])
    rates = [find(analysis, model=name, key=key) for key in keys for name in shown]
    return "\n".join([*lines, *(_line(rate, head.target) for rate in rates if rate is not None)])


def _line(rate: Rate, target: str) -> str:
    title = f"{words.metric_title(rate)}; {words.direction(rate)}"
    cells = (
        rate.model,
        title,
        f"{rate.task}, {rate.decoding}",
        rate.judge,
        words.with_interval(rate, target),
        str(rate.n_seeds),
        str(rate.n_items),
        str(rate.missing.n),
    )
    return f"| {' | '.join(plain(cell) for cell in cells)} |"


def _scope(analysis: Analysis, shown: Sequence[str], target: str) -> str:
    """What the intervals of the differences cover, which is not the same for all."""
    kinds = dict.fromkeys(
        (d.covers, d.leaves_out)
        for d in analysis.differences
        if d.model in shown and d.target == target and d.covers
    )
    told = [f"covers {words.listed(covers)} and leaves out {words.listed(out)}" for covers, out in kinds]
    return plain(f"The interval of a difference {'; or '.join(told)}.") if told else "No model is compared."


def _warnings(analysis: Analysis) -> str:
    lines = ["**What to know about these numbers**", ""]
    lines += [
        f"- {plain(f'{w.where}: ' if w.where else '')}{plain(w.text)}"
        for w in analysis.warnings[:_MOST_WARNINGS]
    ]
    more = len(analysis.warnings) - _MOST_WARNINGS
    return "\n".join([*lines, f"- … {more} more in the report"] if more > 0 else lines)
