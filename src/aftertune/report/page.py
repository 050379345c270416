"""Writes the report: one self-contained page, Markdown, CSV tables, SVG figures, and what a paper needs."""

import base64
import hashlib
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from aftertune.foreign_text import visible
from aftertune.records.analysis import Analysis
from aftertune.records.manifest import Manifest
from aftertune.report import (
    contrast_tables,
    detail_tables,
    judge_tables,
    single_run_tables,
    tables,
    theme,
    variation_tables,
    words,
)
from aftertune.report.checklist import checklist
from aftertune.report.csv_tables import csv_files
from aftertune.report.examples import choose
from aftertune.report.explorer import Explorer, pack
from aftertune.report.figures import Figure, figures
from aftertune.report.headline import Lead, alerts, grouped, lead
from aftertune.report.latex import latex_tables
from aftertune.report.markdown import checklist_page, markdown
from aftertune.report.methods_paragraph import methods_paragraph
from aftertune.report.select import Headline, headline, models
from aftertune.report.tables import Table
from aftertune.store import replace

_TEMPLATES = Path(__file__).parent / "templates"
_SCRIPTS = ("hover", "pieces", "explorer", "item", "start")  # one script, in this order
_NOTHING = Lead(
    ("The analysis holds no rates: nothing was judged, or no metric fits the judges and tasks.",), ()
)


def write_report(
    analysis: Analysis,
    *,
    examples: pl.DataFrame | None,
    manifest: Manifest,
    out: Path,
    study: dict[str, Any] | None = None,
    n_items: int | None = None,
) -> Path:
    """Write index.html, report.md, tables/*.csv and figures/*.svg under `out`; same input, same bytes.

    For a paper: checklist.md, methods.md, methods.tex, references.bib and tables.tex.

    Args:
        analysis: what the report shows; nothing is computed here.
        examples: a row per judgment with its prompt and response (see `report.explorer.pack`), or None
            for a report without responses.
        manifest: what made the run or the import; every section that was recorded is shown.
        out: a directory, made where it is missing; files of an earlier report in it are written over.
        study: study.json, for the checklist and the methods paragraph; None where no study was run.
        n_items: how many items the study has, where `examples` may be of some of them.

    Returns:
        The path of index.html.

    Raises:
        StoreError: `out` cannot be written.
    """
    head = headline(analysis)
    drawn = figures(analysis, head) if head else []
    shown = _tables(analysis, head) if head else {}
    first = lead(analysis, head) if head else _NOTHING
    asked = checklist(analysis, manifest, study or {})
    methods = methods_paragraph(analysis, manifest, study or {})
    svgs = {f"figures/{p.name}.svg": theme.standalone(p.svg) for figure in drawn for p in figure.panels}
    csvs = {f"tables/{name}.csv": text for name, text in csv_files(analysis).items()}
    pages = {
        "index.html": _html(
            analysis=analysis,
            head=head,
            lead=first,
            alerts=alerts(analysis),
            figures=drawn,
            tables=shown,
            manifest=_manifest(manifest.recorded()),
            warnings=grouped(analysis, head),
            examples=choose(examples, head, base=analysis.base) if head and examples is not None else [],
            explorer=_explorer(analysis, head, examples),
            n_items=n_items,
            single_runs=single_run_tables.sentences(analysis, head) if head else [],
            checklist=asked,
            methods=methods,
        ),
        "report.md": markdown(
            analysis.study,
            lead=first,
            alerts=alerts(analysis),
            warnings=grouped(analysis, head),
            tables=[t for group in shown.values() for t in group],
            figures=[panel.name for figure in drawn for panel in figure.panels],
            checklist=asked,
            methods=methods.markdown,
        ),
        "checklist.md": checklist_page(analysis.study, asked),
        "methods.md": methods.markdown,
        "methods.tex": methods.latex,
        "references.bib": methods.bibtex,
        "tables.tex": latex_tables(analysis, head),
    }
    for name, text in (svgs | csvs | pages).items():
        replace(out / name, text.encode())
    return out / "index.html"


def _explorer(analysis: Analysis, head: Headline | None, frame: pl.DataFrame | None) -> Explorer | None:
    if head is None or frame is None:
        return None
    return pack(frame, head, models=models(analysis), base=analysis.base)


def _tables(analysis: Analysis, head: Headline) -> dict[str, list[Table]]:
    """The tables by section of the page, in its order."""
    return {
        "glance": [tables.glance(analysis, head)],
        "differences": [*tables.differences(analysis, head), *contrast_tables.beside(analysis)],
        "variations": variation_tables.tables(analysis, head),
        "single_runs": single_run_tables.tables(analysis, head),
        "rates": [*tables.rates(analysis, head), *judge_tables.corrected(analysis)],
        "coverage": [detail_tables.coverage(analysis), contrast_tables.design(analysis)],
        "flips": detail_tables.flips(analysis),
        "more": [
            detail_tables.consistency(analysis),
            detail_tables.components(analysis),
            detail_tables.agreement(analysis),
            judge_tables.rank_flips(analysis),
            judge_tables.splits(analysis),
            *detail_tables.held_out(analysis),
            detail_tables.seeds(analysis),
        ],
    }


def _html(*, head: Headline | None, **content: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Every text on its way into the page passes here: what cannot be seen is made visible, then escaped.
        finalize=_finalize,
    )
    style = environment.get_template("explorer.css.j2").render()
    style = environment.get_template("style.css.j2").render(
        explorer=Markup(style),
        light=Markup(theme.variables(theme.LIGHT)),
        dark=Markup(theme.variables(theme.DARK)),
        dark_figures=Markup(theme.dark_rules()),
        font=Markup(theme.FONT),
    )
    script = _script()
    words_of_head = words.changes(head.metric) if head else ("", "")
    return environment.get_template("index.html.j2").render(
        content,
        head=head,
        changes=words_of_head,
        style=Markup(style),
        script=Markup(script),
        # The one script of the page, by what it says: nothing that a model wrote can run beside it.
        script_hash=Markup(f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"),
        packed=Markup,
        svg=_svg,
        percent=words.percent,
        capital=words.capital,
        count=words.count,
    )


def _script() -> str:
    parts = [(_TEMPLATES / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS]
    return "\n".join(['"use strict";', *parts])


def _svg(figure: Figure) -> list[Markup]:
    """A figure's panels, which vl-convert has escaped already."""
    return [Markup(panel.svg) for panel in figure.panels]


def _finalize(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _manifest(manifest: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """The manifest's values by its top-level keys; single values together under `run`."""
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for key, value in manifest.items():
        if isinstance(value, dict | list) and value:
            groups[key] += _flat("", value)
        else:
            groups["run"].append((key, _scalar(value)))
    return dict(groups)


def _flat(key: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict) and value:
        return [pair for k, v in value.items() for pair in _flat(f"{key}.{k}" if key else str(k), v)]
    if isinstance(value, list) and any(isinstance(v, dict | list) for v in value):
        return [
            pair for i, v in enumerate(value) for pair in _flat(f"{key}.{i + 1}" if key else str(i + 1), v)
        ]
    return [(key or "values", _scalar(value))]


def _scalar(value: Any) -> str:
    if value is None or value == {} or value == []:
        return words.ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_scalar, value))
    return value if isinstance(value, str) else json.dumps(value, default=str)
