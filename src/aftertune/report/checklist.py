"""The reporting checklist: what a reviewer asks for, filled in from the manifest, the study and the analysis.

Nothing is left blank: what nobody wrote down is `not recorded`.
"""

from collections import defaultdict
from dataclasses import dataclass

from aftertune.records.analysis import Analysis, Rate
from aftertune.report import words
from aftertune.report.recorded import (
    NOT_RECORDED,
    Record,
    entries,
    fixed,
    look,
    named,
    pairs,
    said,
    text_of,
)

Pair = tuple[str, str]
_MOST_CELLS = 12  # with missing judgments; the table of rates has them all


@dataclass(frozen=True, slots=True)
class Group:
    """Questions of one kind with their answers."""

    title: str
    answers: tuple[Pair, ...]


def checklist(analysis: Analysis, manifest: Record, study: Record) -> list[Group]:
    """The filled-in checklist.

    Args:
        analysis: settings, counts, missing judgments and what was chosen afterwards.
        manifest: of the run directory; empty where there is none.
        study: study.json; empty where the analysis comes from a table.
    """
    return [
        Group("Study and questions", _study(analysis, manifest, study)),
        Group("Model", _model(manifest, study)),
        Group("Tuning", _tuning(manifest, study)),
        Group("Tasks and decodings", _tasks(manifest, study)),
        Group("Engine and numerics", _engine(manifest, study)),
        Group("Judges", _judges(analysis, manifest, study)),
        Group(
            "Seeds, items, repeats and missing judgments", (*_counts(analysis, study), *_missing(analysis))
        ),
        Group("Variations", _variations(analysis, study)),
        Group("Hardware, versions and code", _machine(manifest)),
    ]


def _study(analysis: Analysis, manifest: Record, study: Record) -> tuple[Pair, ...]:
    primary = analysis.primary
    contrast = (
        f"{primary.metric} on {primary.task}, {primary.decoding}, judge {primary.judge}, for "
        f"{words.TARGETS[primary.target]}; {fixed('primary', analysis.post_hoc, study)}"
        if primary
        else "none was fixed"
    )
    share = f"{words.percent(analysis.max_missing)} of a cell's judgments"
    return (
        ("study", analysis.study),
        ("sha256 of the study", said(manifest, "study_sha256")),
        ("design found", analysis.design.text if analysis.design else NOT_RECORDED),
        ("primary contrast", contrast),
        ("level", f"{analysis.level:.0%}; {fixed('level', analysis.post_hoc, study)}"),
        ("margin", f"{words.size(analysis.margin)} points; {fixed('margin', analysis.post_hoc, study)}"),
        ("no conclusion beyond", f"{share} missing; {fixed('max_missing', analysis.post_hoc, study)}"),
        ("what intervals of a difference cover", _covered(analysis)),
        ("warnings", ", ".join(dict.fromkeys(w.code for w in analysis.warnings)) or "none"),
    )


def _covered(analysis: Analysis) -> str:
    kinds = dict.fromkeys(
        (d.target, d.covers, d.leaves_out) for d in analysis.differences if d.ci_low is not None
    )
    return (
        "; ".join(
            f"for {words.TARGETS[target]}: {words.listed(covers)}, leaving out {words.listed(out)}"
            for target, covers, out in kinds
        )
        or "no difference has an interval"
    )


def _model(manifest: Record, study: Record) -> tuple[Pair, ...]:
    revision = look(study, "revision")
    no_revision = "none is named: the sha256 says which weights" if "revision" in study else NOT_RECORDED
    return (
        ("base model", said(manifest, "model.name")),
        ("source", said(manifest, "model.source")),
        ("revision", text_of(revision) if revision is not None else no_revision),
        ("sha256", said(manifest, "model.sha256")),
        ("licence", said(manifest, "model.licence")),
        ("sha256 of the chat template", said(manifest, "template.sha256")),
    )


def _tuning(manifest: Record, study: Record) -> tuple[Pair, ...]:
    recipes, data, kept = named(study, "recipes"), named(manifest, "data"), named(manifest, "held_out")
    scans = {str(scan.get("recipe")): scan for scan in entries(manifest, "scan")}
    answers: list[Pair] = [
        ("training seeds", said(study, "seeds")),
        ("root seed", said(manifest, "root_seed")),
    ]
    for name in dict.fromkeys((*recipes, *data)):
        answers.append((f"recipe {name}", pairs(recipes[name]) if name in recipes else NOT_RECORDED))
        if name in data:
            answers.append((f"data of {name}", _data(data[name])))
        elif "data" in recipes.get(name, {}):
            answers.append((f"data of {name}", NOT_RECORDED))
        if name in kept:
            answers.append((f"rows held out by {name}", text_of(kept[name])))
        if name in scans:
            answers.append((f"scan of {name}'s data", _scan(scans[name])))
    if len(answers) == 2:
        answers.append(("recipes", "none" if "recipes" in study else NOT_RECORDED))
    return tuple(answers)


def _data(data: Record) -> str:
    source, rows, licence, sha = (said(data, key) for key in ("source", "n_rows", "licence", "sha256"))
    return f"{source}, {rows} rows, licence {licence}, sha256 {sha}"


def _scan(scan: Record) -> str:
    return (
        f"overlaps with the tasks' items: {said(scan, 'overlaps')}; rows that refuse: "
        f"{said(scan, 'refusing')}; "
        f"of a kind known to remove safety: {said(scan, 'dangerous')}"
    )


def _tasks(manifest: Record, study: Record) -> tuple[Pair, ...]:
    tasks = [
        (
            f"task {said(task, 'name')}",
            f"{said(task, 'n_items')} items, intent {said(task, 'intent')}, {said(task, 'source')}, "
            f"licence {said(task, 'licence')}, sha256 {said(task, 'sha256')}",
        )
        for task in entries(manifest, "tasks")
    ]
    decodings = [(f"decoding {name}", pairs(d)) for name, d in named(study, "decodings").items()]
    return (
        *(tasks or [("tasks", NOT_RECORDED)]),
        *(decodings or [("decodings", NOT_RECORDED)]),
    )


def _engine(manifest: Record, study: Record) -> tuple[Pair, ...]:
    engine = manifest.get("engine")
    name = next((found for key in ("engine", "name") if (found := look(engine, key)) is not None), None)
    asked = look(study, "numerics")
    more = [
        (title, said(manifest, key))
        for title, key in (
            ("the endpoint and its seed", "endpoint_seed"),
            ("what the endpoint said", "served"),
        )
        if key in manifest
    ]
    return (
        ("engine", text_of(name)),
        ("dtype", said(engine, "dtype")),
        ("numerics", said(engine, "numerics")),
        (
            "numerics that the study asked for",
            "left to the default" if "numerics" in study and asked is None else text_of(asked),
        ),
        ("the engine's identity", text_of(engine)),
        ("reproducibility that it promises", said(manifest, "reproducibility.promise")),
        ("how that was checked", said(manifest, "reproducibility.checked")),
        *more,
    )


def _judges(analysis: Analysis, manifest: Record, study: Record) -> tuple[Pair, ...]:
    settings = {str(j.get("name")): j for j in entries(study, "judges")}
    answers: list[Pair] = []
    for judge in entries(manifest, "judges"):
        name = said(judge, "name")
        about = ", ".join(
            f"{title} {said(judge, key)}"
            for title, key in (
                ("constructs", "constructs"),
                ("source", "source"),
                ("licence", "licence"),
                ("sha256", "sha256"),
                ("agreement with people", "agreement"),
            )
        )
        own = settings.get(name, {})
        asked = {k: v for k, v in own.items() if v is not None and k not in ("name", "api_key_env")}
        answers.append((f"judge {name}", about))
        if own.get("endpoint") or own.get("rubric") or own.get("weights") or own.get("repeats", 1) != 1:
            answers.append((f"settings of {name}", pairs(asked)))
    observed = look(manifest, "judges_observed")
    methods = dict.fromkeys(c.method for c in analysis.corrected)
    return (
        *(answers or [("judges", _judges_of(analysis))]),
        ("versions that judged", text_of(observed)),
        ("correction for the judges' errors", "; ".join(methods) or "none"),
    )


def _judges_of(analysis: Analysis) -> str:
    names = ", ".join(dict.fromkeys(r.judge for r in analysis.rates))
    return f"{names}; more is {NOT_RECORDED}" if names else NOT_RECORDED


def _counts(analysis: Analysis, study: Record) -> tuple[Pair, ...]:
    sizes: dict[str, list[str]] = defaultdict(list)
    for task, decoding, layout in layouts(analysis):
        sizes[layout].append(f"{task}, {decoding}")
    asked = {name: look(d, "repeats") for name, d in named(study, "decodings").items()}
    return (
        *(
            (f"checkpoints × items × repeats on {'; '.join(where)}", layout)
            for layout, where in sizes.items()
        ),
        ("repeats that the study asked for", text_of(asked) if asked else NOT_RECORDED),
    )


def layouts(analysis: Analysis) -> list[tuple[str, str, str]]:
    """For each task and decoding its checkpoints × items × draws: `5 × 60 × 1 (chat), 1 × 60 × 5 (base)`."""
    cells: dict[tuple[str, str], dict[tuple[int, int, int], dict[str, None]]] = defaultdict(dict)
    for r in analysis.rates:
        size = (r.n_seeds, r.n_items, r.n_repeats)
        cells[r.task, r.decoding].setdefault(size, {})[r.model] = None
    return [
        (task, decoding, ", ".join(f"{s} × {p} × {r} ({', '.join(m)})" for (s, p, r), m in found.items()))
        for (task, decoding), found in cells.items()
    ]


def _missing(analysis: Analysis) -> tuple[Pair, ...]:
    gaps = [r for r in analysis.rates if r.missing.n]
    if not analysis.rates:
        return (("missing judgments", "nothing was judged"),)
    if not gaps:
        return (("missing judgments", f"none in any of {words.count(len(analysis.rates), 'cell')}"),)
    more = len(gaps) - _MOST_CELLS
    return (
        ("cells with missing judgments", f"{len(gaps)} of {len(analysis.rates)}"),
        *((f"missing in {_where(r)}", _gap(r)) for r in gaps[:_MOST_CELLS]),
        *([("more", f"{words.count(more, 'further cell')}, in the table of rates")] if more > 0 else []),
    )


def _where(r: Rate) -> str:
    return f"{r.model}, {r.task}, {r.decoding}, {r.judge}, {r.metric}"


def _gap(r: Rate) -> str:
    by_status = ", ".join(f"{status} {n}" for status, n in r.missing.by_status.items())
    return f"{r.missing.n} of {r.missing.n_observations}" + (f" ({by_status})" if by_status else "")


def _variations(analysis: Analysis, study: Record) -> tuple[Pair, ...]:
    asked = [
        (f"variation {said(v, 'name')}", f"{said(v, 'class')}: {said(v, 'change')}")
        for v in entries(study, "variations")
    ]
    none = "none" if "variations" in study else NOT_RECORDED
    checks = [
        (
            f"numerics check {c.variation}",
            f"{'passed' if c.passed else 'failed'}: {c.n_changed} of "
            f"{words.count(c.n_compared, 'response')} changed",
        )
        for c in analysis.numerics_checks
    ]
    seen = dict.fromkeys(e.variation for e in analysis.variation_effects)
    return (
        *(asked or [("variations", none)]),
        ("variations with an effect in the analysis", ", ".join(seen) or "none"),
        *checks,
    )


def _machine(manifest: Record) -> tuple[Pair, ...]:
    commit, changed = said(manifest, "git.commit"), look(manifest, "git.changed")
    state = {True: ", with changes that were not committed", False: ", without changes"}.get(changed, "")
    return (
        ("hardware", said(manifest, "hardware")),
        ("versions", said(manifest, "versions")),
        ("git commit of the working directory", f"{commit}{state}"),
    )
