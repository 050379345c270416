"""Commands of a study, from its file to its report."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from aftertune.cli.app import app
from aftertune.cli.completion import judge_names, preset_names
from aftertune.cli.printing import (
    Address,
    AsJson,
    ExecutorOption,
    JudgesFrom,
    Out,
    RunPath,
    StudyFile,
    StudyOrRun,
    Workers,
    opened_executor,
    print_analysis,
    print_cost,
    print_rows,
    say,
    say_json,
    say_result,
    shown_progress,
    tell,
)


@app.command()
def demo(
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Run directory; runs/demo, runs/demo-quick or runs/demo-full by default."),
    ] = None,
    size: Annotated[
        str,
        typer.Option(
            "--size",
            help="quick: a minute or two, shows that all works; standard: under ten minutes on two cores; "
            "full: all items and three repeats, about an hour.",
        ),
    ] = "standard",
    numerics: Annotated[
        str | None,
        typer.Option("--numerics", help="exact or fast; by default exact where this processor allows it."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", help="How many threads compute; by default all cores.", min=1)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the whole path on a small real model: tune, generate, judge, analyze, report."""
    from aftertune.commands.demo import STUDIES
    from aftertune.commands.demo import demo as run_demo

    if size not in STUDIES:
        raise typer.BadParameter(f"--size is {size!r}; known: {', '.join(STUDIES)}")
    if numerics not in (None, "exact", "fast"):
        raise typer.BadParameter(f"--numerics is {numerics!r}; known: exact, fast")
    directory = out or Path("runs") / STUDIES[size]
    with shown_progress() as progress:
        page = run_demo(
            directory, size=size, numerics=numerics, threads=threads, progress=progress, told=print_cost
        )
    tell(directory, page, as_json=as_json)


@app.command()
def preset(
    name: Annotated[
        str | None,
        typer.Argument(help="A packaged study; without it they are listed.", autocompletion=preset_names),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The file; NAME.yaml by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a packaged study file, to be changed and run; without a name, list them."""
    from aftertune.commands.preset import list_presets, write_preset

    if name is None:
        print_rows(list_presets(), as_json=as_json)
        return
    written = write_preset(name, out)
    say_result({"preset": name, "file": str(written)}, [f"{name}: {written}"], as_json=as_json)


@app.command()
def check(study: StudyFile, as_json: AsJson = False) -> None:
    """Check a study file and all that it names; print its cells, cost and precision. Runs nothing."""
    from aftertune.stages.check import check as check_study
    from aftertune.study import read_study

    resolved, estimate = check_study(read_study(study))
    if as_json:
        say_json(
            {
                "study": resolved.study.name,
                "model": resolved.model.sha256,
                **asdict(estimate),
                "notes": resolved.notes,
                "scan": [asdict(scan) for scan in resolved.scans],
                "messages": asdict(resolved.messages) if resolved.messages is not None else None,
                "languages": resolved.languages,
            }
        )
        return
    from aftertune.commands.estimate import estimate_lines

    say("\n".join(estimate_lines(resolved, estimate)))


@app.command()
def run(
    study: StudyFile,
    out: Out = None,
    executor: ExecutorOption = "local",
    workers: Workers = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Run a study from its file to its report. Finished work is kept and never repeated."""
    from aftertune.pipeline import STAGES

    _run_stages(study, out, STAGES, executor=(executor, workers, address), as_json=as_json)


@app.command()
def tune(
    study: StudyOrRun,
    out: Out = None,
    executor: ExecutorOption = "local",
    workers: Workers = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Fine-tune each recipe with each seed."""
    _run_stages(study, out, ("tune",), executor=(executor, workers, address), as_json=as_json)


@app.command()
def generate(
    study: StudyOrRun,
    out: Out = None,
    executor: ExecutorOption = "local",
    workers: Workers = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Draw the missing responses of the base and of every checkpoint."""
    _run_stages(study, out, ("generate",), executor=(executor, workers, address), as_json=as_json)


@app.command()
def judge(
    study: StudyOrRun,
    out: Out = None,
    judge: Annotated[
        list[str] | None,
        typer.Option(
            "--judge",
            help="Add a judge to the run directory, and judge with it too.",
            autocompletion=judge_names,
        ),
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option("--drop", help="Take away a judge that was added with --judge.")
    ] = None,
    judges_from: JudgesFrom = None,
    as_json: AsJson = False,
) -> None:
    """Judge the responses that have not been judged; generates nothing."""
    if judge or drop:
        _change_judges(study, judge or [], drop or [], judges_from)
    _run_stages(study, out, ("judge",), as_json=as_json)


@app.command()
def observe(
    study: StudyOrRun,
    out: Out = None,
    partial: Annotated[
        bool,
        typer.Option(
            "--partial", help="Take a half-finished study as far as it is balanced, and label it so."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Join responses and judgments into observations.parquet."""
    _run_stages(study, out, ("observe",), partial=partial, as_json=as_json)


@app.command()
def report(directory: RunPath, as_json: AsJson = False) -> None:
    """Write the report of an analysed run directory or import: HTML, Markdown, CSV, SVG."""
    from aftertune.store import ImportDirectory

    if ImportDirectory(directory).is_there():
        from aftertune.analysis.stored import read_analysis
        from aftertune.commands.report_import import report_import

        page = report_import(ImportDirectory(directory))
        print_analysis(read_analysis(directory), [page], as_json=as_json)
        return
    _run_stages(directory, None, ("report",), as_json=as_json)


@app.command()
def status(directory: RunPath, as_json: AsJson = False) -> None:
    """Say how far a run is and how long it will take; from another terminal too, while it goes on."""
    from aftertune.commands.status import status as status_of
    from aftertune.commands.status import status_lines

    found = status_of(directory)
    say_result(found, status_lines(found), as_json=as_json)


def _run_stages(
    target: Path,
    out: Path | None,
    stages: tuple[str, ...],
    *,
    partial: bool = False,
    executor: tuple[str, int | None, str | None] = ("local", None, None),
    as_json: bool,
) -> None:
    from aftertune.pipeline import run_stages
    from aftertune.store import run_at
    from aftertune.study import read_study

    if target.is_dir():
        if out is not None:
            raise typer.BadParameter(f"--out goes with a study file; {target} is already a run directory")
        study_file, directory = None, run_at(target).root
    else:
        study_file, directory = target, out or Path("runs") / read_study(target).name
    with shown_progress() as progress, opened_executor(*executor) as opened:
        page = run_stages(
            study_file,
            directory,
            stages,
            partial=partial,
            progress=progress,
            told=print_cost,
            executor=opened,
        )
    if "report" in stages:
        tell(directory, page, as_json=as_json)
    elif as_json:
        say_json({"run": str(directory), "stages": list(stages)})
    else:
        say(f"{', '.join(stages)}: done in {directory}")


def _change_judges(target: Path, add: list[str], drop: list[str], study_file: Path | None) -> None:
    from aftertune.judges.added import add_judges, drop_judges, named_specs
    from aftertune.store import run_at

    run = run_at(target)
    with run.locked():
        drop_judges(run, drop)
        add_judges(run, named_specs(add, study_file))
