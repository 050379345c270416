"""The first thing a reader sees, in words."""

from dataclasses import dataclass

from aftertune.records.analysis import LANGUAGE, Analysis, Difference
from aftertune.report import words
from aftertune.report.select import Headline, has_judgments, in_headline, main_differences

_WARNINGS = {
    LANGUAGE: "Responses are in a language that the judge does not read",
    "max_tokens": "Responses were cut at max_tokens",
    "seed_sd_large": "The seeds differ widely for their rate",
    "unfinished_trainings": "Some trainings left no checkpoint",
    "no_metric": "Observations are in no number",
    "no_base": "There is no base",
    "identical_repeats": "Repeated draws are identical",
    "missing_judgments": "Judgments are missing",
    "saturated_rate": "A rate is 0% or 100%",
    "half_finished": "The study is half finished",
    "variations_of_no_class": "No study says what the variations are",
    "variation_changed_nothing": "A variation changed nothing",
    "variation_fewer_seeds": "A variation has fewer seeds",
    "variation_not_comparable": "A variation cannot be compared",
    "same_variation_twice": "Two variations are the same",
    "numerics_changed": "Numerics changed responses",
    "unbalanced_cells": "Items were drawn unequally often",
    "too_many_missing": "Too many judgments are missing",
    "shared_decoding_seed": "Repeated draws move all items together",
    "same_text": "Items have the same text",
    "aa_control": "A recipe differs from itself",
    "columns_ignored": "Columns of the table were not used",
    "constant_seed": "The seed is the same in every row",
    "repeat_renumbered": "Repeats were numbered anew",
}


@dataclass(frozen=True, slots=True)
class Contrast:
    """One contrast of the headline; `kind` is its verdict as a CSS class."""

    title: str
    kind: str
    sentence: str
    numbers: str
    scope: str


@dataclass(frozen=True, slots=True)
class Lead:
    """What was asked, in lines, and what was found, a contrast each."""

    lines: tuple[str, ...]
    contrasts: tuple[Contrast, ...]


def lead(analysis: Analysis, head: Headline) -> Lead:
    """The headline in words: the question that was fixed, the answers, or why there are none."""
    what = words.metric_title(head)
    question = f"{words.capital(what)} on {head.task}, {head.decoding}, for {words.TARGETS[head.target]}."
    lines = [question]
    if not head.fixed:
        lines.append(
            "No primary contrast was fixed before the run; this one is the first that the analysis holds."
        )
    elif "primary" in analysis.post_hoc:
        lines.append("This contrast was chosen with the analysis, and not before the run (post hoc).")
    found = main_differences(analysis, head)
    if not found:
        lines.append(
            "There is no contrast: the analysis holds no tuned model beside a reference for this measure."
        )
    lines += nothing_judged(analysis, head)
    return Lead(tuple(lines), tuple(_contrast(analysis, d) for d in found))


def nothing_judged(analysis: Analysis, head: Headline) -> list[str]:
    """A line for models without any judgment in the headline's cell."""
    empty = [r for r in analysis.rates if in_headline(r, head) and not has_judgments(r)]
    names = words.listed(f"{r.model} ({words.count(r.missing.n, 'judgment')})" for r in empty)
    return [f"Every judgment is missing here of {names}, so there is no number for it."] if empty else []


def _contrast(analysis: Analysis, d: Difference) -> Contrast:
    # Without an estimate the verdict and the sentence say all there is.
    numbers, scope = words.change(d) if d.estimate is not None else "", ""
    if d.ci_low is not None:
        numbers += f", {analysis.level:.0%} interval" if d.ci_low != d.ci_high else ""
        scope = f"The interval covers {words.listed(d.covers)}; it leaves out {words.listed(d.leaves_out)}."
    title = f"{d.model}: {words.verdict(d.metric, d.verdict, d.reference)}"
    return Contrast(title, d.verdict.replace(",", "").replace(" ", "-"), d.sentence, numbers, scope)


def alerts(analysis: Analysis) -> list[str]:
    """What a reader must know before the first number, a sentence each."""
    return [
        f"{w.where}: {w.text}. {words.capital(w.remedy)}." for w in analysis.warnings if w.code == LANGUAGE
    ]


@dataclass(frozen=True, slots=True)
class WarningGroup:
    """Warnings with one code and one remedy: what to do, and where it was found."""

    title: str
    remedy: str
    entries: tuple[str, ...]


def grouped(analysis: Analysis, head: Headline | None) -> list[WarningGroup]:
    """The warnings, those alike together, what concerns the headline first."""
    near = [head.task, head.decoding, head.judge, head.metric] if head else []
    groups: dict[tuple[str, str], list[str]] = {}
    for w in sorted(analysis.warnings, key=lambda w: sum(word not in w.where for word in near)):
        entry = f"{w.where}: {w.text}" if w.where else words.capital(w.text)
        groups.setdefault((w.code, w.remedy), []).append(entry)
    return [
        WarningGroup(_warning_title(code), words.capital(remedy.rstrip(".")) + ".", tuple(entries))
        for (code, remedy), entries in groups.items()
    ]


def _warning_title(code: str) -> str:
    return _WARNINGS.get(code, words.capital(code.replace("_", " ")))
