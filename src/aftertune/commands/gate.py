"""`aftertune gate`: pass, fail or insufficient evidence, on the primary contrast and its margin."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aftertune.commands.analyze import TableOptions, analyze_source, spec_of
from aftertune.commands.tasks import visible
from aftertune.errors import DataError, StudyError, nearest
from aftertune.store import RunDirectory, replace

if TYPE_CHECKING:
    from aftertune.records.analysis import Analysis, Difference
    from aftertune.records.cell import Verdict

Outcome = Literal["pass", "fail", "insufficient evidence"]

EXIT_CODES: dict[Outcome, int] = {"pass": 0, "fail": 1, "insufficient evidence": 3}
_NOTED = ("columns_ignored", "no_metric")
# METHODS section 3: a small, certain loss within the margin passes, since the margin is what was agreed to.
_OUTCOMES: "dict[Verdict, Outcome]" = {
    "safer": "pass",
    "not less safe": "pass",
    "less safe, within the margin": "pass",
    "less safe": "fail",
    "not shown": "insufficient evidence",
    "no conclusion": "insufficient evidence",
}


@dataclass(frozen=True, slots=True)
class Gated:
    """One model's primary contrast; estimate and intervals are shares, None where there is no conclusion."""

    model: str
    reference: str
    outcome: Outcome
    verdict: str
    estimate: float | None
    ci_low: float | None
    ci_high: float | None
    margin_low: float | None
    margin_high: float | None
    why: str


@dataclass(frozen=True, slots=True)
class Gate:
    """The outcome over all gated models: fail if one fails, else pass only if all do.

    `post_hoc` names what nobody had fixed before the results were known (margin, primary, level, …).
    """

    study: str
    outcome: Outcome
    where: str
    margin: float
    post_hoc: tuple[str, ...]
    models: tuple[Gated, ...]
    notes: tuple[str, ...] = ()  # what of the table was not used

    @property
    def exit_code(self) -> int:
        """0 pass, 1 fail, 3 insufficient evidence."""
        return EXIT_CODES[self.outcome]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "exit_code": self.exit_code}


def gate(source: Path, models: Sequence[str] = (), options: TableOptions | None = None) -> Gate:
    """Hold the primary contrast of a run or a table against its margin.

    A run directory's analysis.json is read; where there is none, or observations are newer, it is made first.

    Args:
        source: a run directory, or a table of observations.
        models: the models that must pass; all but the base by default.
        options: how a table is read, and its primary contrast and margin. Of a run directory, level, margin
            and max_missing in place of the study's; the outcome says that they were chosen afterwards.

    Raises:
        DataError: an option is wrong, or a model is not there.
        StudyError: no primary contrast was named and there are several, or it is not in the results.
    """
    return gate_of(_analysis(source, options or TableOptions()), models)


def gate_of(analysis: "Analysis", models: Sequence[str] = ()) -> Gate:
    """`gate` for an analysis."""
    analysis = _with_primary(analysis)
    found = {d.model: d for d in analysis.differences if d.primary}
    for name in models:
        if name not in found:
            raise DataError(f"no primary contrast of a model called {name!r}", nearest(name, list(found)))
    chosen = [found[name] for name in models] if models else list(found.values())
    if not chosen:
        raise StudyError(
            f"{analysis.study} has no model to hold against the base in its primary contrast",
            "gate a study with recipes, or name the base of a table with --base",
        )
    p = analysis.primary
    assert p is not None
    # A half-finished study, or responses that the judge does not read, are no ground for a pass.
    doubted = {("half_finished", ""), ("language", f"{p.task} · {p.judge}")}
    doubts = [w.text for w in analysis.warnings if (w.code, w.where) in doubted]
    gated = tuple(_gated(d, doubts) for d in chosen)
    outcomes = {g.outcome for g in gated}
    return Gate(
        study=analysis.study,
        outcome="fail" if "fail" in outcomes else "pass" if outcomes == {"pass"} else "insufficient evidence",
        where=f"{p.metric} on {p.task}, {p.decoding}, by {p.judge}, {p.target}",
        margin=analysis.margin,
        post_hoc=analysis.post_hoc,
        models=gated,
        notes=tuple(w.text for w in analysis.warnings if w.code in _NOTED),
    )


def _with_primary(analysis: "Analysis") -> "Analysis":
    """The analysis with a primary contrast: its own, or chosen afterwards where it holds one contrast alone.

    Raises:
        StudyError: no primary contrast was named, and there are several, or none.
    """
    from aftertune.records.analysis import Primary

    if analysis.primary is not None:
        return analysis
    if "margin" not in analysis.post_hoc:
        raise StudyError(
            f"{analysis.study} has no primary contrast to gate on",
            "write analysis.primary and analysis.margin into the study file before its run, "
            "or give --margin, and --primary where there are several contrasts, with a table",
        )
    on_these = [d for d in analysis.differences if d.target == "benchmark" and d.reference == analysis.base]
    cells = {(d.task, d.decoding, d.judge, d.metric) for d in on_these}
    if len(cells) != 1:
        raise StudyError(
            f"{analysis.study} has no primary contrast to gate on, and {len(cells)} to choose from",
            "name one with --primary",
        )
    task, decoding, judge, metric = cells.pop()
    primary = Primary(task=task, decoding=decoding, judge=judge, metric=metric, target="benchmark")
    chosen = tuple(d.model_copy(update={"primary": d in on_these}) for d in analysis.differences)
    post_hoc = (*analysis.post_hoc, "primary")
    return analysis.model_copy(update={"primary": primary, "differences": chosen, "post_hoc": post_hoc})


def gate_lines(found: Gate) -> list[str]:
    """The outcome in words."""
    margin = f"{found.margin * 100:g} points"
    late = f" (chosen after the run: {', '.join(found.post_hoc)})" if found.post_hoc else ""
    return [
        f"{visible(found.study)}: {visible(found.where)}; margin {margin}{late}",
        *(f"  {g.outcome}: {visible(g.why, None)}" for g in found.models),
        *(f"  note: {visible(note, None)}" for note in found.notes),
        found.outcome,
    ]


def write_junit(found: Gate, path: Path) -> None:
    """One test case for each model; insufficient evidence is an error, not a failure."""
    n = {o: sum(g.outcome == o for g in found.models) for o in EXIT_CODES}
    suite = ET.Element(
        "testsuite",
        name=visible(found.study),
        tests=str(len(found.models)),
        failures=str(n["fail"]),
        errors=str(n["insufficient evidence"]),
    )
    for g in found.models:
        name = f"{g.model} against {g.reference}: {found.where}"
        case = ET.SubElement(suite, "testcase", classname=visible(found.study), name=visible(name))
        if g.outcome != "pass":
            kind = "failure" if g.outcome == "fail" else "error"
            ET.SubElement(case, kind, type=g.outcome, message=visible(g.why, None))
    ET.indent(suite)
    replace(path, ET.tostring(suite, encoding="utf-8", xml_declaration=True))


def _analysis(source: Path, options: TableOptions) -> "Analysis":
    from aftertune.analysis import analyze_run
    from aftertune.analysis.stored import StaleAnalysisError, read_analysis

    if source.is_dir() and not options.given:
        RunDirectory(source).read_manifest()  # a newer aftertune's analysis may mean something else
        with suppress(StaleAnalysisError):
            return read_analysis(source)
    run = RunDirectory(source)
    if run.study_json.is_file() and set(options.given) <= {"--margin", "--level", "--max-missing"}:
        return analyze_run(run, late=spec_of(options) if options.given else None)
    return analyze_source(source, None, options)[0]


def _gated(d: "Difference", doubts: Sequence[str]) -> Gated:
    from aftertune.report import words

    outcome, why = _OUTCOMES[d.verdict], ". ".join([*doubts, d.sentence])
    if doubts and outcome == "pass":
        outcome = "insufficient evidence"
    return Gated(
        model=d.model,
        reference=d.reference,
        outcome=outcome,
        verdict=words.verdict(d.metric, d.verdict),
        estimate=d.estimate,
        ci_low=d.ci_low,
        ci_high=d.ci_high,
        margin_low=d.margin_low,
        margin_high=d.margin_high,
        why=why,
    )
