"""The reporting checklist: what a reviewer asks for, filled in from the manifest, the study and the analysis.

Nothing is left blank: what nobody wrote down is `not recorded`.
"""

from collections import defaultdict
from dataclasses import dataclass

from aftertune.records.analysis import Analysis, Rate
from aftertune.records.manifest import DataEntry, JudgeEntry, Manifest, ScanEntry
from aftertune.report import words
from aftertune.report.recorded import (
    NOT_RECORDED,
    Record,
    entries,
    fixed,
    look,
    named,
    pairs,
    recorded,
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


def checklist(analysis: Analysis, manifest: Manifest, study: Record) -> list[Group]:
    """The filled-in checklist.

    Args:
        analysis: settings, counts, missing judgments and what was chosen afterwards.
        manifest: of the run directory; without sections where there is none.
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


def _study(analysis: Analysis, manifest: Manifest, study: Record) -> tuple[Pair, ...]:
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
        ("sha256 of the study", text_of(manifest.study_sha256)),
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


def _model(manifest: Manifest, study: Record) -> tuple[Pair, ...]:
    revision, model = look(study, "revision"), manifest.model
    no_revision = "none is named: the sha256 says which weights" if "revision" in study else NOT_RECORDED
    return (
        ("base model", text_of(model and model.name)),
        ("source", text_of(model and model.source)),
        ("revision", text_of(revision) if revision is not None else no_revision),
        ("sha256", text_of(model and model.sha256)),
        ("licence", text_of(model and model.licence)),
        ("sha256 of the chat template", text_of(manifest.template and manifest.template.sha256)),
    )


def _tuning(manifest: Manifest, study: Record) -> tuple[Pair, ...]:
    recipes, data, kept = named(study, "recipes"), manifest.data, manifest.held_out
    scans = {scan.recipe: scan for scan in manifest.scan}
    answers: list[Pair] = [
        ("training seeds", said(study, "seeds")),
        ("root seed", text_of(manifest.root_seed)),
    ]
    for name in dict.fromkeys((*recipes, *data)):
        answers.append((f"recipe {name}", pairs(recipes[name]) if name in recipes else NOT_RECORDED))
        if name in data:
            answers.append((f"data of {name}", _data(data[name])))
        elif "data" in recipes.get(name, {}):
            answers.append((f"data of {name}", NOT_RECORDED))
        if name in kept:
            answers.append((f"rows held out by {name}", text_of(recorded(kept[name]))))
        if name in scans:
            answers.append((f"scan of {name}'s data", _scan(scans[name])))
    if len(answers) == 2:
        answers.append(("recipes", "none" if "recipes" in study else NOT_RECORDED))
    return tuple(answers)


def _data(data: DataEntry) -> str:
    rows, licence = text_of(data.n_rows), text_of(data.licence)
    return f"{text_of(data.source)}, {rows} rows, licence {licence}, sha256 {text_of(data.sha256)}"


def _scan(scan: ScanEntry) -> str:
    return (
        f"overlaps with the tasks' items: {text_of(list(scan.overlaps))}; rows that refuse: "
        f"{text_of(None if scan.refusing is None else list(scan.refusing))}; "
        f"of a kind known to remove safety: {text_of(scan.dangerous)}"
    )


def _tasks(manifest: Manifest, study: Record) -> tuple[Pair, ...]:
    tasks = [
        (
            f"task {text_of(task.name)}",
            f"{task.n_items} items, intent {text_of(task.intent)}, {text_of(task.source)}, "
            f"licence {text_of(task.licence)}, sha256 {text_of(task.sha256)}",
        )
        for task in manifest.tasks
    ]
    decodings = [(f"decoding {name}", pairs(d)) for name, d in named(study, "decodings").items()]
    return (
        *(tasks or [("tasks", NOT_RECORDED)]),
        *(decodings or [("decodings", NOT_RECORDED)]),
    )


def _engine(manifest: Manifest, study: Record) -> tuple[Pair, ...]:
    engine, promised = manifest.engine, manifest.reproducibility
    asked = look(study, "numerics")
    said = (
        ("the endpoint and its seed", manifest.endpoint_seed),
        ("what the endpoint said", manifest.served),
    )
    return (
        ("engine", text_of(engine and (engine.engine or engine.name))),
        ("dtype", text_of(engine and engine.dtype)),
        ("numerics", text_of(engine and engine.numerics)),
        (
            "numerics that the study asked for",
            "left to the default" if "numerics" in study and asked is None else text_of(asked),
        ),
        ("the engine's identity", text_of(engine and recorded(engine))),
        ("reproducibility that it promises", text_of(promised and promised.promise)),
        ("how that was checked", text_of(promised and promised.checked)),
        *((title, text_of(recorded(section))) for title, section in said if section is not None),
    )


def _judges(analysis: Analysis, manifest: Manifest, study: Record) -> tuple[Pair, ...]:
    settings = {str(j.get("name")): j for j in entries(study, "judges")}
    answers: list[Pair] = []
    for judge in manifest.judges:
        own = settings.get(judge.name, {})
        asked = {k: v for k, v in own.items() if v is not None and k not in ("name", "api_key_env")}
        answers.append((f"judge {text_of(judge.name)}", _judge(judge)))
        if own.get("endpoint") or own.get("rubric") or own.get("weights") or own.get("repeats", 1) != 1:
            answers.append((f"settings of {text_of(judge.name)}", pairs(asked)))
    methods = dict.fromkeys(c.method for c in analysis.corrected)
    return (
        *(answers or [("judges", _judges_of(analysis))]),
        ("versions that judged", text_of(manifest.judges_observed or None)),
        ("correction for the judges' errors", "; ".join(methods) or "none"),
    )


def _judge(judge: JudgeEntry) -> str:
    return (
        f"constructs {text_of(list(judge.constructs))}, source {text_of(judge.source)}, "
        f"licence {text_of(judge.licence)}, sha256 {text_of(judge.sha256)}, "
        f"agreement with people {text_of(judge.agreement)}"
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


def _machine(manifest: Manifest) -> tuple[Pair, ...]:
    git = manifest.git
    state = (
        ""
        if git is None
        else ", with changes that were not committed"
        if git.changed
        else ", without changes"
    )
    return (
        ("hardware", text_of(manifest.hardware)),
        ("versions", text_of(manifest.versions)),
        ("git commit of the working directory", f"{text_of(git and git.commit)}{state}"),
    )
