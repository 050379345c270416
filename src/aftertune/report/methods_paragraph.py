"""A methods paragraph that says what was done in this run, to be pasted into a paper, with its citations.

Every fact comes from the manifest, the study or the analysis. A sentence without its facts is left out, and
what a reader would miss is named as not recorded.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aftertune.records.analysis import Analysis
from aftertune.records.manifest import Manifest
from aftertune.report import words
from aftertune.report.checklist import layouts
from aftertune.report.latex import escape
from aftertune.report.markdown import plain
from aftertune.report.recorded import NOT_RECORDED, Record, look, named, said, shortened, text_of
from aftertune.report.references import REFERENCES, bibtex

_METHODS = {"lora": "LoRA", "qlora": "QLoRA", "full": "full fine-tuning"}


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence without its full stop, and the keys of what it cites."""

    text: str
    cites: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Methods:
    """The paragraph as Markdown and as LaTeX, and the BibTeX entries that it cites."""

    markdown: str
    latex: str
    bibtex: str


def methods_paragraph(analysis: Analysis, manifest: Manifest, study: Record) -> Methods:
    """The paragraph of a run.

    Args:
        analysis: counts, intervals, settings.
        manifest: of the run directory; without sections where there is none.
        study: study.json; empty where the analysis comes from a table.
    """
    parts: tuple[Callable[[Analysis, Manifest, Record], Iterable[Sentence]], ...] = (
        _models,
        _recipes,
        _measured,
        _engine,
        _judges,
        _rates,
        _differences,
        _margin,
        _variations,
        _single_runs,
        _repeats_and_judges,
        _absent,
    )
    found = [sentence for part in parts for sentence in part(analysis, manifest, study)]
    keys = sorted({key for sentence in found for key in sentence.cites})
    markdown = " ".join(map(_markdown, found))
    listed = "\n".join(f"- {plain(_entry(key))}" for key in keys)
    return Methods(
        markdown=f"{markdown}\n\n{listed}\n" if listed else f"{markdown}\n",
        latex="\n".join(map(_latex, found)) + "\n",
        bibtex=bibtex(keys),
    )


def _models(analysis: Analysis, manifest: Manifest, study: Record) -> Iterable[Sentence]:
    version = (manifest.versions or {}).get("aftertune")
    tool = f"aftertune {version}" if version else "aftertune"
    model = manifest.model
    if model is not None:
        weights = f" (sha256 {shortened(text_of(model.sha256))})"
        question = f"We measured with {tool} what fine-tuning changed in {model.name}{weights}"
    else:
        question = f"We analysed a table of observations with {tool}"
    yield Sentence(question, ("fraser2025finetuning",))


def _recipes(analysis: Analysis, manifest: Manifest, study: Record) -> Iterable[Sentence]:
    seeds = look(study, "seeds")
    each = text_of(seeds) if isinstance(seeds, int) else f"{len(seeds)} ({text_of(seeds)})" if seeds else None
    for name, recipe in named(study, "recipes").items():
        trained = f"from {each} training seed{'' if each == '1' else 's'}" if each else "over training seeds"
        method = look(recipe, "method")
        if "served" in recipe:
            yield Sentence(
                f"Recipe {name} is {words.count(len(recipe['served']), 'finished model')} of an endpoint"
            )
        elif "checkpoints" in recipe:
            n = words.count(len(recipe["checkpoints"]), "finished checkpoint")
            yield Sentence(f"Recipe {name} is {n} that we did not train")
        elif "command" in recipe:
            yield Sentence(f"Recipe {name} was trained {trained} by a command of our own")
        else:
            cites = {"lora": ("hu2021lora",), "qlora": ("dettmers2023qlora",)}.get(str(method), ())
            yield Sentence(f"Recipe {name} was trained {trained} {_how(name, recipe, manifest)}", cites)


def _how(name: str, recipe: Record, manifest: Manifest) -> str:
    method = look(recipe, "method")
    rank = f" of rank {recipe['rank']}" if method in ("lora", "qlora") and recipe.get("rank") else ""
    data = manifest.data.get(name)
    source = recipe.get("data") if data is None else data.source
    size = "" if data is None else f", {data.n_rows} rows"
    subset = f", of which each seed saw {recipe['n']}" if recipe.get("n") else ""
    answers = " with the base's own answers" if recipe.get("answers") == "self" else ""
    rate, epochs, batch = (text_of(recipe.get(k)) for k in ("learning_rate", "epochs", "batch_size"))
    return (
        f"with {_METHODS.get(str(method), text_of(method))}{rank} on {text_of(source)}{answers} (sha256 "
        f"{shortened(text_of(data and data.sha256))}{size}{subset}; learning rate {rate}, epochs "
        f"{epochs}, "
        f"batch size {batch})"
    )


def _measured(analysis: Analysis, manifest: Manifest, study: Record) -> Iterable[Sentence]:
    tasks = [
        f"{text_of(task.name)} ({task.n_items} items, {text_of(task.intent)}; {text_of(task.source)})"
        for task in manifest.tasks
    ]
    if tasks:
        yield Sentence(f"The checkpoints answered {words.listed(tasks)}")
    drawn = [f"{name} ({_decoding(d)})" for name, d in named(study, "decodings").items()]
    if drawn:
        yield Sentence(f"Responses were drawn with {words.listed(drawn)}")
    alike: dict[str, list[str]] = defaultdict(list)
    for task, decoding, layout in layouts(analysis):
        alike[layout].append(f"{task} ({decoding})")
    sizes = [f"{layout} on {words.listed(where)}" for layout, where in alike.items()]
    if sizes:
        yield Sentence(f"Checkpoints × items × draws of each: {'; '.join(sizes)}")


def _decoding(decoding: Record) -> str:
    if decoding.get("temperature") == 0:
        draw = "temperature 0"
    else:
        draw = f"temperature {said(decoding, 'temperature')}, top-p {said(decoding, 'top_p')}"
    return f"{draw}, at most {said(decoding, 'max_tokens')} tokens"


def _engine(analysis: Analysis, manifest: Manifest, study: Record) -> Iterable[Sentence]:
    engine, promised = manifest.engine, manifest.reproducibility
    if engine is not None and (name := engine.engine or engine.name):
        dtype = f" in {engine.dtype}" if engine.dtype else ""
        numerics = f" under {engine.numerics} numerics" if engine.numerics else ""
        yield Sentence(f"The engine was {name}{dtype}{numerics}")
    if promised is not None and promised.promise:
        yield Sentence(f"What it promises of another run: {text_of(promised.promise).rstrip('.')}")


def _judges(analysis: Analysis, manifest: Manifest, study: Record) -> Iterable[Sentence]:
    judges = [
        f"{text_of(j.name)} ({text_of(list(j.constructs))}; sha256 {shortened(text_of(j.sha256))})"
        for j in manifest.judges
    ] or list(dict.fromkeys(r.judge for r in analysis.rates))
    if judges:
        yield Sentence(f"Responses were judged by {words.listed(judges)}")
    gaps = sum(1 for r in analysis.rates if r.missing.n)
    where = f"judgments were missing in {gaps} of {len(analysis.rates)} cells" if gaps else "none was missing"
    yield Sentence(
        f"A judgment without a value counts as missing and never as 0 or 1, and a cell with more than "
        f"{words.percent(analysis.max_missing)} of them gets no estimate; {where}"
    )


def _rates(analysis: Analysis, manifest: Manifest, study: Record) -> Iterable[Sentence]:
    methods = dict.fromkeys(
        i.method for r in analysis.rates for i in (r.benchmark, r.population) if i is not None
    )
    if not methods:
        yield Sentence("Rates are means over draws, items and training seeds; none has an interval")
        return
    of_wilson = any("Wilson" in method or "score form" in method for method in methods)
    yield Sentence(
        "Rates are means over draws, items and training seeds, in this order, with intervals at "
        f"{analysis.level:.0%} ({'; '.join(methods)})",
        ("wilson1927probable", "miller2024adding") if of_wilson else ("miller2024adding",),
    )
    if any(r.bayes for r in analysis.rates):
        yield Sentence(
            "At two to four seeds an interval under a half-normal prior on the seeds' SD stands beside it"
        )


def _differences(analysis: Analysis, manifest: Manifest, study: Record) -> Iterable[Sentence]:
    given = [d for d in analysis.differences if d.ci_low is not None]
    methods = dict.fromkeys(d.method for d in given)
    cites: list[str] = []
    if any("MOVER" in method for method in methods):
        cites += ["newcombe1998interval", "zou2008construction"]
    if any("McNemar" in method for method in methods):
        cites += ["mcnemar1947note", "newcombe1998paired"]
    if methods:
        yield Sentence(
            f"Differences from the reference have intervals at {analysis.level:.0%} by: {'; '.join(methods)}",
            tuple(cites),
        )
    for target, covers, out in dict.fromkeys((d.target, d.covers, d.leaves_out) for d in given):
        yield Sentence(
            f"For {words.TARGETS[target]} ({target}) they cover {words.listed(covers)} and leave out "
            f"{words.listed(out)}"
        )
    if any(d.p_adjusted is not None for d in given):
        yield Sentence("Their p values are adjusted in each cell by Holm's method", ("holm1979simple",))
    if analysis.categories:
        yield Sentence(
            "P values of categories are adjusted by the method of Benjamini and Hochberg",
            ("benjamini1995controlling",),
        )


def _margin(analysis: Analysis, manifest: Manifest, study: Record) -> Iterable[Sentence]:
    if any(d.margin_low is not None for d in analysis.differences):
        late = {
            True: "was chosen after the run (post hoc)",
            False: "was fixed in the study file" if study else f"was chosen at a time that is {NOT_RECORDED}",
        }["margin" in analysis.post_hoc]
        yield Sentence(
            f"The margin of {words.size(analysis.margin)} points {late}; it is held against the two-sided "
            "90% "
            "interval",
            ("schuirmann1987comparison",),
        )
    if analysis.primary is not None:
        p = analysis.primary
        late = " (chosen after the run, post hoc)" if "primary" in analysis.post_hoc else ""
        yield Sentence(
            f"The primary contrast{late} is {p.metric} on {p.task}, {p.decoding}, by {p.judge}, for "
            f"{words.TARGETS[p.target]}"
        )


def _variations(analysis: Analysis, manifest: Manifest, study: Record) -> Iterable[Sentence]:
    kinds = {e.variation: e.kind for e in analysis.variation_effects}
    kinds |= {c.variation: "numerics" for c in analysis.numerics_checks}
    if not kinds:
        return
    names = words.listed(f"{name} ({kind})" for name, kind in kinds.items())
    yield Sentence(f"One at a time around this baseline, these were varied: {names}")
    if any(e.p_adjusted is not None for e in analysis.variation_effects):
        yield Sentence(
            "Their effects are paired on the items and seeds that both have, with Holm's adjustment over all "
            "of them",
            ("holm1979simple",),
        )


def _single_runs(analysis: Analysis, manifest: Manifest, study: Record) -> Iterable[Sentence]:
    if analysis.single_runs:
        yield Sentence(
            "What a single run would have said was found from one training seed and one draw of each item "
            "at a "
            f"time, each judged by the exact McNemar test at {1 - analysis.level:.2g}",
            ("mcnemar1947note",),
        )


def _repeats_and_judges(analysis: Analysis, manifest: Manifest, study: Record) -> Iterable[Sentence]:
    if analysis.consistency:
        yield Sentence(
            "The consistency of repeated draws is the share of pairs of draws for one item that differ",
            ("fraser2025finetuning",),
        )
    if analysis.agreement:
        yield Sentence(
            "Judges of one construct are compared by Cohen's κ and Gwet's AC1",
            ("cohen1960coefficient", "gwet2008computing"),
        )
    methods = dict.fromkeys(c.method for c in analysis.corrected)
    if methods:
        cites = ["rogan1978estimating"] if any("Rogan" in m for m in methods) else []
        cites += ["angelopoulos2023ppi"] if any("PPI" in m for m in methods) else []
        yield Sentence(f"Rates were corrected for the judges' errors by: {'; '.join(methods)}", tuple(cites))


def _absent(analysis: Analysis, manifest: Manifest, study: Record) -> Iterable[Sentence]:
    missing = [
        name
        for name, there in (
            ("the base model", manifest.model),
            ("tuning and decodings", study),
            ("the engine", manifest.engine),
            ("the judges' versions", manifest.judges),
        )
        if not there
    ]
    if missing:
        yield Sentence(f"{words.capital(NOT_RECORDED)}: {words.listed(missing)}")


def _markdown(sentence: Sentence) -> str:
    cited = "; ".join(REFERENCES[key].short for key in sentence.cites)
    return f"{plain(sentence.text)}{f' ({plain(cited)})' if cited else ''}."


def _latex(sentence: Sentence) -> str:
    cited = f"~\\cite{{{','.join(sentence.cites)}}}" if sentence.cites else ""
    return f"{escape(sentence.text)}{cited}."


def _entry(key: str) -> str:
    """A reference in one line, its braces and dashes as print has them."""
    reference = REFERENCES[key]
    fields = {
        name: value.replace("{", "").replace("}", "").replace("--", "–")
        for name, value in reference.fields.items()
    }
    authors = fields["author"].replace(" and ", "; ").rstrip(".")
    where = fields.get("journal") or fields.get("booktitle") or ""
    volume = f" {fields['volume']}({fields['number']}):{fields['pages']}" if "volume" in fields else ""
    preprint = f"arXiv {fields['eprint']}" if "eprint" in fields else ""
    place = ", ".join(part for part in (f"{where}{volume}", preprint) if part)
    return f"{reference.short}: {authors}. {fields['title']}. {place}, {fields['year']}."
