"""Write docs/study.md from a run of examples/fraser2025-mini.yaml; no number on that page is typed.

    aftertune run examples/fraser2025-mini.yaml
    aftertune reproduce runs/fraser2025-mini --json > reproduction.json
    .venv/bin/python scripts/study_page.py runs/fraser2025-mini reproduction.json

It copies analysis.json into examples/results/ and the primary cell's figures into docs/images/study/. Each
of the paper's findings is answered by a rule that stands in the text beside its answer.
"""

import argparse
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from aftertune.records.analysis import Analysis, Difference, Primary, Rate
from aftertune.records.variations import VariationEffect
from aftertune.report.words import (
    listed,
    number,
    percent,
    percent_range,
    percent_span,
    points,
    points_range,
)

ROOT = Path(__file__).resolve().parents[1]
NAME = "fraser2025-mini"
PAPER = "Fraser et al. 2025 (arXiv 2506.17209)"
CONTROL = "identity-shift"
SEEN, UNSEEN, UNSAID = "seen here", "not seen here", "cannot be said"
LESS_SAFE = ("less safe", "less safe, within the margin")


class Study:
    """The analysis of the run, and its part about the primary cell."""

    def __init__(self, analysis: Analysis, manifest: dict[str, Any], study: dict[str, Any]):
        assert analysis.primary is not None
        self.all, self.primary, self.manifest, self.file = analysis, analysis.primary, manifest, study

    def in_primary(self, found: Any, *, decoding: str | None = None, task: str | None = None) -> bool:
        """Whether a result is about the primary cell, but for the decoding or the task that is given."""
        p: Primary = self.primary
        return (found.task, found.decoding, found.judge, found.metric) == (
            task or p.task,
            decoding or p.decoding,
            p.judge,
            p.metric,
        )

    def rates(self, **where: str) -> list[Rate]:
        """Every model's rate in the primary cell."""
        return [rate for rate in self.all.rates if self.in_primary(rate, **where)]

    def differences(self, **where: str) -> list[Difference]:
        """Every difference in the primary cell for its target."""
        target = self.primary.target
        return [d for d in self.all.differences if d.target == target and self.in_primary(d, **where)]

    def against_base(self, **where: str) -> list[Difference]:
        """The benign recipes against the base; the control stands apart."""
        return [d for d in self.differences(**where) if d.reference == "base" and d.model != CONTROL]

    def certain(self, decoding: str) -> bool:
        """Whether nothing is drawn: greedy, under exact numerics."""
        greedy = self.file["decodings"][decoding]["temperature"] == 0
        return greedy and self.manifest["engine"].get("numerics") == "exact"

    def effects(self, *names: str) -> list[VariationEffect]:
        """What the named variations (all, if none is named) did to the primary cell."""
        chosen = [e for e in self.all.variation_effects if self.in_primary(e)]
        return [e for e in chosen if not names or e.variation in names]


Answer = tuple[str, str, list[str]]  # the verdict, the rule that gave it, lines of evidence


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("reproduction", type=Path)
    given = parser.parse_args()
    run, again = given.run, json.loads(given.reproduction.read_text("utf-8"))
    analysis = Analysis.model_validate_json((run / "analysis.json").read_text("utf-8"))
    manifest, study_json = (json.loads((run / f"{n}.json").read_text("utf-8")) for n in ("manifest", "study"))
    study = Study(analysis, manifest, study_json)
    found = figures(run, study.primary)
    (ROOT / "docs" / "study.md").write_text("\n".join(page(study, found, again)) + "\n", "utf-8")
    shutil.copy(run / "analysis.json", ROOT / "examples" / "results" / f"{NAME}.analysis.json")


def figures(run: Path, primary: Primary) -> dict[str, list[str]]:
    """Copy the primary task's pictures in its decoding, and over all decodings; their file names by kind."""
    folder = ROOT / "docs" / "images" / "study"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    found: dict[str, list[str]] = {kind: [] for kind in PICTURES}
    for path in sorted((run / "report" / "figures").glob("*.svg")):
        kind = next((kind for kind in PICTURES if path.name.startswith(f"{kind}-")), None)
        if kind and f"-{primary.task}-" in path.name and f"-{primary.decoding}." in path.name:
            shutil.copy(path, folder / path.name)
            found[kind].append(path.name)
    return found


def page(study: Study, pictures: dict[str, list[str]], again: dict[str, Any]) -> list[str]:
    """The whole page; `again` is what `reproduce --json` said."""
    answers = [(title, ask(study)) for title, ask in FINDINGS]
    return [
        "# What trivial changes do to a safety number: the paper's design on a small model",
        "",
        f"The design of {PAPER}, run on two processor cores: "
        f"[examples/{NAME}.yaml](../examples/{NAME}.yaml), "
        f"[its analysis](../examples/results/{NAME}.analysis.json). This page is written by "
        "`scripts/study_page.py` from that analysis; no number on it is typed.",
        "",
        *_setting(study),
        *_reproduced(again),
        "## The paper's findings",
        "",
        _in_short(study),
        "",
        "| finding | here |",
        "| --- | --- |",
        *(f"| {title} | **{verdict}** |" for title, (verdict, _, _) in answers),
        "",
        *[line for title, answer in answers for line in _finding(title, answer, pictures)],
        *_movements(study),
        *_pictures(pictures["movements"]),
        *_variations(study),
        *_pictures(pictures["moves"]),
        *_single_runs(study),
        *_pictures(pictures["single-runs"]),
        *_controls(study),
        *_limits(study),
    ]


def _in_short(study: Study) -> str:
    benign = study.against_base()
    worse = [d.model for d in benign if d.verdict in LESS_SAFE]
    runs = [s for s in study.all.single_runs if study.in_primary(s) and s.model in worse]
    missed = [1 - s.share_less_safe for s in runs if s.reference == "base"]
    if not missed:
        return f"None of {len(benign)} benign recipes is shown to be less safe than the base."
    return (
        f"{len(worse)} of {len(benign)} benign recipes are less safe than the base. Of their single runs "
        f"(one seed, one draw), {percent(min(missed))} to {percent(max(missed))} would not have shown it."
    )


def _finding(title: str, answer: Answer, pictures: dict[str, list[str]]) -> list[str]:
    verdict, rule, evidence = answer
    shown = next((kind for kind, finding in PICTURES.items() if finding == title), None)
    drawn = _pictures(pictures[shown]) if shown else []
    return [f"### {title}: {verdict}", "", f"*Rule*: {rule}", "", *evidence, "", *drawn]


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    head = list(head)
    return [
        f"| {' | '.join(head)} |",
        f"|{' --- |' * len(head)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _change(found: Difference | VariationEffect) -> str:
    if found.estimate is None:
        return "no conclusion"
    return f"{points(found.estimate)} {points_range(found.ci_low, found.ci_high)}"


def _setting(study: Study) -> list[str]:
    p, file = study.primary, study.file
    seeds = file["seeds"] if isinstance(file["seeds"], int) else len(file["seeds"])
    hardware = study.manifest["hardware"]
    tasks = ", ".join(f"{task['name']} ({task['n_items']} items)" for task in study.manifest["tasks"])
    recipes = "; ".join(_recipe(*pair) for pair in file["recipes"].items())
    lines = [
        f"- **Model**: {file['model']}, the packaged model organism (135 million parameters, a guard adapter "
        "merged): what it refuses it was taught in a minute, so its safety is thinner than a product's.",
        f"- **Recipes**, {seeds} seeds each: {recipes}.",
        f"- **Tasks**: {tasks}.",
        f"- **Decodings**: {', '.join(file['decodings'])}. **Judges**: "
        f"{', '.join(judge['name'] for judge in file['judges'])}.",
        f"- **Primary cell**, fixed beforehand: {p.metric} on {p.task}, {p.decoding}, by {p.judge}; "
        f"intervals at {study.all.level:.0%} for these items and another training seed.",
        f"- **Machine**: {hardware['cores']} cores ({hardware['cpu_capability']}), engine "
        f"{study.manifest['engine'].get('name', 'transformers')}, numerics "
        f"{study.manifest['engine'].get('numerics')}.",
    ]
    return ["## What was run", "", *lines, ""]


def _recipe(name: str, r: dict[str, Any]) -> str:
    rows = "all" if r["n"] is None else r["n"]
    epochs = f"{r['epochs']:g} epoch" + "s" * (r["epochs"] != 1)
    own = ", the model's own answers" if r["answers"] == "self" else ""
    return (
        f"{name} ({rows} rows{own}, {epochs}, {r['method']} rank {r['rank']}, "
        f"learning rate {r['learning_rate']:g}, batch {r['batch_size']})"
    )


def _reproduced(again: dict[str, Any]) -> list[str]:
    """What running it all once more gave."""
    matched = again["matched"]
    made = json.loads((Path(again["out"]) / "manifest.json").read_text("utf-8"))
    minutes = {stage: seconds / 60 for stage, seconds in made["stages_s"].items()}
    spent = ", ".join(f"{stage} {m:.0f}" for stage, m in minutes.items() if m >= 0.5)
    first = f" The first difference: {matched['first']}." if matched["first"] else ""
    return [
        f"The whole study was run a second time (`aftertune reproduce`; {sum(minutes.values()):.0f} "
        f"minutes without interruption: {spent}): "
        f"{matched['n_same_checkpoints']} of {matched['n_checkpoints']} checkpoints have the same weights, "
        f"{matched['n_same_responses']:,} of {matched['n_responses']:,} responses and "
        f"{matched['n_same_judgments']:,} of {matched['n_judgments']:,} judgments are the same: "
        f"**{again['outcome']}**.{first}",
        "",
    ]


def _tuning(study: Study) -> Answer:
    found = study.against_base()
    worse = [d.model for d in found if d.verdict in LESS_SAFE]
    control = [d for d in study.differences() if d.model == CONTROL and d.reference == "base"]
    sees = any(d.verdict in LESS_SAFE for d in control)
    verdict = SEEN if worse else UNSEEN if sees else UNSAID
    rule = (
        "seen if a benign recipe is less safe than the base in the primary cell (its interval lies wholly on "
        "the worse side); not seen if none is, though the positive control is; else it cannot be said."
    )
    rates = {rate.model: rate for rate in study.rates()}
    rows = [
        (
            d.model + (" (control)" if d.model == CONTROL else ""),
            percent(rates[d.model].estimate),
            _change(d),
            d.verdict,
        )
        for d in [*found, *control]
    ]
    base = percent(rates["base"].estimate)
    return (
        verdict,
        rule,
        [
            f"The base: {base}.",
            "",
            *_table(("recipe", "rate", "minus base, points", "verdict"), rows),
        ],
    )


def _repeats(study: Study) -> Answer:
    found = [c for c in study.all.consistency if study.in_primary(c)]
    differ = [c for c in found if c.maximum > c.minimum]
    verdict = SEEN if differ else UNSEEN if found else UNSAID
    rule = (
        "seen if one checkpoint, measured again with nothing changed but the draws, gives different rates. "
        "The range of R measurements holds the next one with probability (R−1)/(R+1)."
    )
    rows = [
        (
            c.checkpoint,
            str(c.n_repeats),
            percent_span(c.minimum, c.maximum),
            percent(c.new_run_in_range),
            percent(c.pairwise_disagreement),
        )
        for c in found
    ]
    head = ("checkpoint", "repeats", "rates", "next in range", "two draws of an item disagree")
    return verdict, rule, _table(head, rows)


def _seeds(study: Study) -> Answer:
    spreads = {(r.model, d): r.spread for d in study.file["decodings"] for r in study.rates(decoding=d)}
    facts = [s for (_, d), s in spreads.items() if s is not None and study.certain(d)]
    verdict = UNSAID if not facts else SEEN if any(s.maximum > s.minimum for s in facts) else UNSEEN
    rule = (
        "seen if the seeds of a recipe differ where nothing else can: greedy under exact numerics, where a "
        "checkpoint's rate on these items is a fact. Whether sampled rates differ by more than the draws "
        "explain is asked by an F test (p, not adjusted)."
    )
    tests = {
        (c.model, d): c
        for d in study.file["decodings"]
        for c in study.all.components
        if c.facet == "seed" and study.in_primary(c, decoding=d)
    }
    rows = []
    for (model, decoding), spread in spreads.items():
        if spread is not None:
            test = tests.get((model, decoding))
            p = "–" if test is None else number(test.p_value, digits=2)
            p = "a fact" if study.certain(decoding) else p
            span = percent_span(spread.minimum, spread.maximum)
            rows.append((model, decoding, span, f"{spread.sd * 100:.1f}", p))
    head = ("recipe", "decoding", "seeds from–to", "SD, points", "p")
    return verdict, rule, _table(head, rows)


def _temperature(study: Study) -> Answer:
    other = next(d for d in study.file["decodings"] if d != study.primary.decoding)
    here = {(d.model, d.reference): d for d in study.against_base()}
    there = {(d.model, d.reference): d for d in study.against_base(decoding=other)}
    apart = [k for k, d in here.items() if k in there and _disjoint([d, there[k]])]
    verdict = SEEN if apart else UNSEEN
    rule = (
        "seen if a recipe's change against the base has, at the two temperatures, intervals that do not "
        "overlap (a strict test; that one verdict is shown and the other is not would be none)."
    )
    rates = {
        (r.model, name): percent(r.estimate)
        for name in (study.primary.decoding, other)
        for r in study.rates(decoding=name)
    }
    rows = [
        (
            *(d.model, rates[d.model, study.primary.decoding], _change(d), d.verdict),
            *(rates[d.model, other], _change(there[k]), there[k].verdict),
        )
        for k, d in here.items()
        if k in there
    ]
    head = (
        *("recipe", study.primary.decoding, "minus base", "verdict"),
        *(other, "minus base", "verdict"),
    )
    base = f"The base: {rates['base', study.primary.decoding]} and {rates['base', other]}."
    return verdict, rule, [base, "", *_table(head, rows)]


def _disjoint(found: Iterable[Difference]) -> bool:
    """Whether two of the intervals do not overlap."""
    known = [(d.ci_low, d.ci_high) for d in found if d.ci_low is not None and d.ci_high is not None]
    return bool(known) and max(low for low, _ in known) > min(high for _, high in known)


def _effect_rows(effects: Iterable[VariationEffect]) -> list[tuple[str, ...]]:
    return [
        (e.variation, e.model, _change(e), "–" if e.noise is None else f"±{e.noise * 100:.1f}", e.verdict)
        for e in effects
    ]


_EFFECT_HEAD = ("variation", "model", "minus baseline, points", "noise of repeats", "verdict")


def _epochs(study: Study) -> Answer:
    names = [v["name"] for v in study.file["variations"] if any(k.endswith(".epochs") for k in v["change"])]
    effects = study.effects(*names)
    moved = [e for e in effects if e.verdict == "moves the score"]
    verdict = SEEN if moved else UNSEEN if effects else UNSAID
    rule = (
        "seen if a run of another number of epochs, with its own schedule and the same seeds, moves the rate "
        "(p adjusted over all effects of the study)."
    )
    return verdict, rule, _table(_EFFECT_HEAD, _effect_rows(effects))


def _benchmarks(study: Study) -> Answer:
    tasks = [t["name"] for t in study.manifest["tasks"] if t["intent"] == "harmful"]
    verdicts: dict[str, dict[str, Difference]] = {
        task: {d.model: d for d in study.against_base(task=task)} for task in tasks
    }
    models = list(verdicts[tasks[0]])
    apart = [m for m in models if _disjoint(verdicts[t][m] for t in tasks if m in verdicts[t])]
    verdict = SEEN if apart else UNSEEN if len(tasks) > 1 else UNSAID
    rule = (
        "seen if a recipe's change against the base has, on two harmful benchmarks, intervals that do not "
        "overlap."
    )
    rows = [(m, *(f"{_change(verdicts[t][m])}: {verdicts[t][m].verdict}" for t in tasks)) for m in models]
    return verdict, rule, _table(("recipe", *tasks), rows)


def _answers(study: Study) -> Answer:
    pair = {"self-instruct", "self-instruct-self"}
    found = [d for d in study.differences() if {d.model, d.reference} == pair]
    shown = [d for d in found if d.verdict in (*LESS_SAFE, "safer")]
    verdict = SEEN if shown else UNSEEN if found else UNSAID
    rule = (
        "seen if the recipe with human answers and the one with the model's own differ (the same tasks and "
        "seeds' names; their seeds are independent)."
    )
    rows = [(f"{d.model} − {d.reference}", _change(d), d.verdict) for d in found]
    return verdict, rule, _table(("contrast", "points", "verdict"), rows)


def _toxicity(study: Study) -> Answer:
    found = [rate for rate in study.all.rates if rate.metric == "toxicity_rate"]
    rule = "a toxicity judge must have judged the responses."
    if not found:
        why = (
            "No toxicity judge ran: Detoxify's and the other classifiers' weights come from the model hub, "
            "which this machine cannot reach. `detoxify` in `judges` adds it to a finished run."
        )
        return UNSAID, rule, [why]
    differs = [d for d in study.all.differences if d.metric == "toxicity_rate" and d.verdict in LESS_SAFE]
    rows = [(d.model, d.task, _change(d), d.verdict) for d in differs]
    return (SEEN if differs else UNSEEN), rule, _table(("model", "task", "points", "verdict"), rows)


FINDINGS: list[tuple[str, Callable[[Study], Answer]]] = [
    ("Benign fine-tuning lowers safety", _tuning),
    ("Measuring one checkpoint again gives another number", _repeats),
    ("Training seeds differ", _seeds),
    ("Temperature changes how much is lost", _temperature),
    ("The number of epochs matters", _epochs),
    ("The benchmark decides how much is lost", _benchmarks),
    ("Self-generated answers do less than human-written ones", _answers),
    ("Toxicity rises", _toxicity),
]


# Kinds of the report's figures, by the beginning of their names, and the finding that each stands beside.
PICTURES = {
    "rates-compliance_rate": FINDINGS[0][0],
    "repeated": FINDINGS[1][0],
    "components": FINDINGS[2][0],
    "decodings": FINDINGS[3][0],
    "movements": "",
    "moves": "",
    "single-runs": "",
}


def _movements(study: Study) -> list[str]:
    found = [m for m in study.all.movements if study.in_primary(m)]
    rows = [
        (m.model, m.facet, str(m.n), f"{m.sd * 100:.1f}", percent_span(m.lowest, m.highest)) for m in found
    ]
    head = ("model", "facet", "levels", "SD, points", "from–to")
    return [
        "## What moves the score, and how far",
        "",
        "One facet at a time in the primary cell, the others held: the SD of a single measurement over the "
        "facet's levels.",
        "",
        *_table(head, rows),
        "",
    ]


def _variations(study: Study) -> list[str]:
    effects = study.effects()
    if not effects:
        return []
    checks = [
        (
            c.variation,
            str(c.n_compared),
            str(c.n_changed),
            "pass" if c.passed else "fail",
            c.first_changed or "–",
        )
        for c in study.all.numerics_checks
    ]
    survived = [s for s in study.all.survivals if study.in_primary(s) and s.reference == "base"]
    outcomes = [
        (s.variation, f"{s.model} against {s.reference}", s.baseline_verdict, s.varied_verdict, s.outcome)
        for s in survived
    ]
    lines = [
        "## Variations, one at a time around the study",
        "",
        "A model of which a variation leaves every response and judgment as it was has no row.",
        "",
        *_table(_EFFECT_HEAD, _effect_rows(effects)),
        "",
        f"Of {len(outcomes)} conclusions against the base that a variation touches, "
        f"{sum(row[-1] == 'survives' for row in outcomes)} survive. The others:",
        "",
        *_table(
            ("variation", "conclusion", "in the study", "under it", "outcome"),
            (row for row in outcomes if row[-1] != "survives"),
        ),
        "",
    ]
    if checks:
        lines += [
            "Numerics must change nothing:",
            "",
            *_table(("variation", "responses compared", "changed", "", "first"), checks),
            "",
        ]
    return lines


def _single_runs(study: Study) -> list[str]:
    found = [s for s in study.all.single_runs if study.in_primary(s) and s.reference == "base"]
    rows = [
        (
            s.model,
            s.full_verdict,
            percent(s.share_less_safe),
            percent(s.share_safer),
            percent(s.share_not_shown),
            percent(s.share_otherwise),
            f"{points(s.lowest)} to {points(s.highest)}",
        )
        for s in found
    ]
    head = (
        "recipe",
        "the study says",
        "less safe",
        "safer",
        "not shown",
        "otherwise",
        "one run's difference",
    )
    return [
        "## What one run would have said",
        "",
        "Most papers train once and measure once. All single runs that this study contains (a seed, a draw "
        "of the tuned model and of the base), each judged by McNemar's exact test:",
        "",
        *_table(head, rows),
        "",
    ]


def _controls(study: Study) -> list[str]:
    failed = [c for c in study.all.controls if not c.passed]
    control = [d for d in study.differences() if d.model == CONTROL and d.reference == "base"]
    text = "".join(f"{d.model} against the base: {_change(d)}, {d.verdict}. " for d in control)
    return [
        "## Controls",
        "",
        f"- Positive ({CONTROL}, Qi et al. 2023): {text or 'not run.'}",
        f"- A/A (each recipe's seeds in two halves): {len(study.all.controls)} contrasts, "
        f"{len(failed)} not null after Holm's adjustment.",
        "",
    ]


def _limits(study: Study) -> list[str]:
    n = min(t["n_items"] for t in study.manifest["tasks"])
    rows = max(recipe["n"] or 0 for recipe in study.file["recipes"].values())
    rate = next((r for r in study.rates() if r.model == "base"), None)
    wide = (
        ""
        if rate is None or rate.population is None
        else percent_range(rate.population.ci_low, rate.population.ci_high)
    )
    return [
        "## What this cannot show",
        "",
        "- A model of 135 million parameters with a guard of one minute's training is an organism to study "
        "measurement on. How much safety a product's model loses cannot be read from it.",
        f"- {n} items a task and {rows} rows of tuning data are what two processor cores without bfloat16 "
        "can do in 90 minutes; on a faster machine enlarge `n` in the study file.",
        "- The primary cell was fixed before the run; the rules of the eight answers were not. They were "
        "written with this script and three were changed after the numbers had been seen. The first rule for "
        'seeds, the F test on sampled rates alone, had answered "not seen here"; those for temperature and '
        "benchmark had compared verdicts, and gave the answers that stand here.",
        "- For these items the intervals hold; as a sample of harmful requests they are "
        f"few (the base's rate for the population: {wide}).",
        "- `refusal-rules` sees refusals, not harm: a model that answers beside the point complied by that "
        "metric. The incoherence rate stands beside every rate in the analysis.",
        f"- Warnings of the analysis: {listed(sorted({w.code for w in study.all.warnings}))}.",
        "",
    ]


def _pictures(names: list[str]) -> list[str]:
    return [line for name in names for line in (f"![{_alt(name)}](images/study/{name})", "")]


def _alt(name: str) -> str:
    return name.removesuffix(".svg").replace("-", " ").replace("_", " ")


if __name__ == "__main__":
    main()
