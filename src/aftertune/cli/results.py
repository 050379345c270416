"""Commands on results: statistics, labels, comparisons, the gate and the plan."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from aftertune.cli.app import app
from aftertune.cli.completion import schema_names
from aftertune.cli.printing import (
    AsJson,
    RunPath,
    print_analysis,
    print_cost,
    say_json,
    say_result,
    shown_progress,
    tell,
)
from aftertune.commands.analyze import TableOptions, analyze_source
from aftertune.commands.audit_options import AuditOptions
from aftertune.commands.label import SampleOptions, draw_or_take
from aftertune.commands.options import spelled_out
from aftertune.commands.plan_options import PlanOptions


@app.command()
@spelled_out(TableOptions)
def analyze(
    source: Annotated[
        Path, typer.Argument(help="A run directory, an import, or a table of observations (Parquet or CSV).")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Where analysis.json goes; beside the table by default.")
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", help="Correct rates by what `judges calibrate` wrote (run directory)."),
    ] = None,
    as_json: AsJson = False,
    *,
    options: TableOptions,
) -> None:
    """Statistics of a run directory or a table of observations; writes analysis.json. Touches no model."""
    from aftertune.store import ImportDirectory, run_at

    imported = ImportDirectory(source).is_there()
    if source.is_dir() and not imported:
        run_at(source)
    analysis, written = analyze_source(source, out, options, calibration)
    print_analysis(analysis, [written], as_json=as_json, in_full=imported or not source.is_dir())


@app.command()
@spelled_out(SampleOptions)
def label(directory: RunPath, as_json: AsJson = False, *, options: SampleOptions) -> None:
    """Draw a random sample of responses for people to label, blind to the model; or take the labels back."""
    from aftertune.store import run_at

    told = draw_or_take(run_at(directory), options)
    say_result(told.as_dict(), [told.in_words()], as_json=as_json)


@app.command()
@spelled_out(AuditOptions)
def audit(
    base: Annotated[
        str, typer.Argument(help="What was tuned: a packaged name, a directory, owner/name@commit, an API's.")
    ],
    candidates: Annotated[
        list[str] | None,
        typer.Argument(help="Finished checkpoints: adapters, models, owner/name@commit, an API's names."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Run directory; runs/audit-<first candidate> by default.")
    ] = None,
    as_json: AsJson = False,
    *,
    options: AuditOptions,
) -> None:
    """Hold finished checkpoints against their base: same items, prompts, decoding and judges for all."""
    from aftertune.commands.audit import audit as run_audit
    from aftertune.commands.audit import audit_study

    study = audit_study(base, candidates or (), options)
    directory = out or Path("runs") / study.name
    with shown_progress() as progress:
        page = run_audit(study, directory, progress=progress, told=print_cost)
    tell(directory, page, as_json=as_json)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="A run directory.")],
    b: Annotated[Path, typer.Argument(help="Another; differences are this one minus the first.")],
    as_json: AsJson = False,
) -> None:
    """Say which settings differ between two runs, and whether their numbers differ beyond noise."""
    from aftertune.commands.compare import compare as compare_runs
    from aftertune.commands.compare import comparison_lines

    found = compare_runs(a, b)
    shown = {**asdict(found), "identical": found.identical}
    say_result(shown, comparison_lines(found), as_json=as_json)


@app.command()
def reproduce(
    directory: RunPath,
    out: Annotated[
        Path | None, typer.Option("--out", help="The new run directory; RUN-reproduced by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a run's study anew and compare: exit 0 if it comes out again (fast: within noise), 1 if not."""
    from aftertune.commands.reproduce import reproduce as reproduce_run
    from aftertune.commands.reproduce import reproduction_lines

    with shown_progress() as progress:
        found = reproduce_run(directory, out, progress=progress)
    shown = {**asdict(found), "reproduced": found.reproduced}
    say_result(shown, reproduction_lines(found), as_json=as_json)
    if not found.reproduced:
        raise typer.Exit(1)


@app.command()
@spelled_out(TableOptions)
def gate(
    source: Annotated[Path, typer.Argument(help="A run directory, or a table of observations.")],
    model: Annotated[
        list[str] | None, typer.Option("--model", help="Only this model must pass; may be repeated.")
    ] = None,
    junit: Annotated[
        Path | None, typer.Option("--junit", help="Write the outcome as JUnit XML to this file.")
    ] = None,
    as_json: AsJson = False,
    *,
    options: TableOptions,
) -> None:
    """Hold the primary contrast against its margin: exit 0 pass, 1 fail, 3 insufficient evidence."""
    from aftertune.commands.gate import gate as gate_source
    from aftertune.commands.gate import gate_lines, write_junit

    found = gate_source(source, model or (), options)
    if junit is not None:
        write_junit(found, junit)
    say_result(found.as_dict(), gate_lines(found), as_json=as_json)
    if found.exit_code:
        raise typer.Exit(found.exit_code)


@app.command()
@spelled_out(PlanOptions)
def plan(
    pilot: Annotated[
        Path | None,
        typer.Argument(help="An analysed run or import, or a table: its variances are taken, a run's times."),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Write precision against cost as SVG to this file.")
    ] = None,
    as_json: AsJson = False,
    *,
    options: PlanOptions,
) -> None:
    """Seeds, items, repeats and hours for a precision or a difference, from a pilot or assumed variances."""
    from aftertune.commands.plan import plan as plan_study
    from aftertune.commands.plan import plan_lines, write_picture

    found = plan_study(pilot, options)
    if picture is not None:
        write_picture(found, picture)
    say_result(found.as_dict(), plan_lines(found), as_json=as_json)


@app.command()
def schema(
    of: Annotated[
        str, typer.Argument(help="study, analysis or status.", autocompletion=schema_names)
    ] = "study",
) -> None:
    """Print the JSON Schema of a study file (for editors), of analysis.json, or of `status --json`."""
    if of == "study":
        from aftertune.study import study_schema

        say_json(study_schema())
    elif of == "analysis":
        from aftertune.analysis import analysis_schema

        say_json(analysis_schema())
    elif of == "status":
        from aftertune.records.progress import RunProgress

        say_json(RunProgress.model_json_schema())
    else:
        raise typer.BadParameter(f"there is a schema of study, analysis and status, got {of!r}")
