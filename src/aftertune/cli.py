"""The command: a thin twin of the Python functions. Everything heavy is imported inside the commands."""

import json
import logging
import os
import sys
import warnings
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from aftertune import __version__
from aftertune.commands.analyze import TableOptions, analyze_source
from aftertune.commands.calibrate import LabelOptions
from aftertune.commands.label import SampleOptions, draw_or_take
from aftertune.commands.options import spelled_out
from aftertune.commands.plan_options import PlanOptions
from aftertune.errors import AftertuneError

if TYPE_CHECKING:
    from collections.abc import Generator

    from aftertune.records import Progress
    from aftertune.records.analysis import Analysis
    from aftertune.stages.check import Estimate, Resolved
    from aftertune.store import RunDirectory

app = typer.Typer(
    name="aftertune",
    help="Know what your language model became after fine-tuning, and what that number is worth.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)

tasks_app = typer.Typer(add_completion=False)
app.add_typer(tasks_app, name="tasks")

TASK_COLUMNS = ("name", "intent", "items", "access", "licence")
JUDGE_COLUMNS = ("name", "constructs", "cost", "licence")
judges_app = typer.Typer(add_completion=False)
app.add_typer(judges_app, name="judges")

Out = Annotated[
    Path | None, typer.Option("--out", help="Run directory; runs/<name of the study> by default.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
StudyFile = Annotated[Path, typer.Argument(help="A study file (YAML).")]
StudyOrRun = Annotated[Path, typer.Argument(help="A study file, or the run directory that holds it.")]
JudgesFrom = Annotated[
    Path | None, typer.Option("--from", help="A study file that holds the settings of the judges named.")
]
RunPath = Annotated[Path, typer.Argument(help="A run directory.")]


def main() -> None:
    """Run the command; a fault that a user can mend is a message and exit code 2, never a traceback."""
    _log_to_stderr()
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    _quiet_libraries()
    try:
        app()
    except AftertuneError as error:
        if debug:
            raise
        _stop(str(error), 2)
    except Exception as error:
        if debug:
            raise
        _stop(
            f"{type(error).__name__}: {error}\n  → a fault of aftertune: run with --debug and report it",
            1,
        )


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"aftertune {__version__}")
        raise typer.Exit()


@app.command()
def demo(
    out: Annotated[
        Path | None, typer.Option("--out", help="Run directory; runs/demo or runs/demo-full.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="All items and three repeats (about an hour on two cores).")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the whole path on a small real model: tune, generate, judge, analyze, report."""
    from aftertune.commands.demo import demo as run_demo

    directory = out or Path("runs") / ("demo-full" if full else "demo")
    with _progress() as progress:
        page = run_demo(directory, full=full, progress=progress)
    _tell(directory, page, as_json=as_json)


@app.command()
def preset(
    name: Annotated[str | None, typer.Argument(help="A packaged study; without it they are listed.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The file; NAME.yaml by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a packaged study file, to be changed and run; without a name, list them."""
    from aftertune.commands.preset import list_presets, write_preset

    if name is None:
        _print_rows(list_presets(), as_json=as_json)
        return
    written = write_preset(name, out)
    print(json.dumps({"preset": name, "file": str(written)}) if as_json else f"{name}: {written}")


@app.command()
def check(study: StudyFile, as_json: AsJson = False) -> None:
    """Check a study file and all that it names; print its cells, cost and precision. Runs nothing."""
    from aftertune.stages.check import check as check_study
    from aftertune.study import read_study

    resolved, estimate = check_study(read_study(study))
    if as_json:
        print(
            json.dumps(
                {
                    "study": resolved.study.name,
                    "model": resolved.model.sha256,
                    **asdict(estimate),
                    "scan": [asdict(scan) for scan in resolved.scans],
                },
                indent=2,
            )
        )
        return
    from aftertune.commands.estimate import estimate_lines

    print("\n".join(estimate_lines(resolved, estimate)))


@app.command()
def run(study: StudyFile, out: Out = None, as_json: AsJson = False) -> None:
    """Run a study from its file to its report. Finished work is kept and never repeated."""
    from aftertune.pipeline import STAGES

    _run_stages(study, out, STAGES, as_json=as_json)


@app.command()
def tune(study: StudyOrRun, out: Out = None, as_json: AsJson = False) -> None:
    """Fine-tune each recipe with each seed."""
    _run_stages(study, out, ("tune",), as_json=as_json)


@app.command()
def generate(study: StudyOrRun, out: Out = None, as_json: AsJson = False) -> None:
    """Draw the missing responses of the base and of every checkpoint."""
    _run_stages(study, out, ("generate",), as_json=as_json)


@app.command()
def judge(
    study: StudyOrRun,
    out: Out = None,
    judge: Annotated[
        list[str] | None,
        typer.Option("--judge", help="Add a judge to the run directory, and judge with it too."),
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
@spelled_out(TableOptions)
def analyze(
    source: Annotated[
        Path, typer.Argument(help="A run directory, or a table of observations (Parquet or CSV).")
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
    if source.is_dir():
        _run_at(source)
    analysis, written = analyze_source(source, out, options, calibration)
    _print_analysis(analysis, [written], as_json=as_json, in_full=not source.is_dir())


@app.command()
@spelled_out(SampleOptions)
def label(study: RunPath, as_json: AsJson = False, *, options: SampleOptions) -> None:
    """Draw a random sample of responses for people to label, blind to the model; or take the labels back."""
    told = draw_or_take(_run_at(study), options)
    print(json.dumps(told.as_dict(), indent=2) if as_json else told.in_words())


@app.command()
def report(study: RunPath, as_json: AsJson = False) -> None:
    """Write the report of an analysed run directory: HTML, Markdown, CSV, SVG."""
    _run_stages(study, None, ("report",), as_json=as_json)


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
    if as_json:
        print(json.dumps({**asdict(found), "identical": found.identical}, indent=2))
        return
    print("\n".join(comparison_lines(found)))


@app.command()
def reproduce(
    study: RunPath,
    out: Annotated[
        Path | None, typer.Option("--out", help="The new run directory; RUN-reproduced by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a run's study anew and compare: exit 0 if it comes out again (fast: within noise), 1 if not."""
    from aftertune.commands.reproduce import reproduce as reproduce_run
    from aftertune.commands.reproduce import reproduction_lines

    with _progress() as progress:
        found = reproduce_run(study, out, progress=progress)
    shown = json.dumps({**asdict(found), "reproduced": found.reproduced}, indent=2)
    print(shown if as_json else "\n".join(reproduction_lines(found)))
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
    print(json.dumps(found.as_dict(), indent=2) if as_json else "\n".join(gate_lines(found)))
    if found.exit_code:
        raise typer.Exit(found.exit_code)


@app.command()
@spelled_out(PlanOptions)
def plan(
    pilot: Annotated[
        Path | None, typer.Argument(help="An analysed run whose variances and times are taken.")
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
    print(json.dumps(found.as_dict(), indent=2) if as_json else "\n".join(plan_lines(found)))


@app.command()
def schema(
    of: Annotated[str, typer.Argument(help="study or analysis.")] = "study",
) -> None:
    """Print the JSON Schema of a study file (for editors) or of analysis.json."""
    if of == "study":
        from aftertune.study import study_schema

        print(json.dumps(study_schema(), indent=2))
    elif of == "analysis":
        from aftertune.stages.analyze import analysis_schema

        print(json.dumps(analysis_schema(), indent=2))
    else:
        raise typer.BadParameter(f"there is a schema of study and of analysis, got {of!r}")


@tasks_app.callback(invoke_without_command=True)
def tasks(context: typer.Context, as_json: AsJson = False) -> None:
    """List the packaged tasks and the public benchmarks; `tasks show NAME` samples the items of one."""
    if context.invoked_subcommand is None:
        from aftertune.commands.tasks import list_tasks

        listed = list_tasks()
        shown = listed if as_json else [{k: row[k] for k in TASK_COLUMNS} for row in listed]
        _print_rows(shown, as_json=as_json)


@tasks_app.command(name="show")
def show_task(
    name: Annotated[str, typer.Argument(help="A packaged task or a public benchmark.")],
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="A local copy: the original's file, or its folder.")
    ] = None,
    revision: Annotated[
        str | None, typer.Option("--revision", help="The commit at which a benchmark is fetched.")
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="How many items to sample.")] = 5,
    root_seed: Annotated[int, typer.Option("--root-seed", min=0, help="What the sample depends on.")] = 2025,
    as_json: AsJson = False,
) -> None:
    """Show a task's citation, source and event, and sample its items."""
    from aftertune.commands.tasks import describe_task, task_lines

    shown = describe_task(name, data_dir=data_dir, revision=revision, n=n, root_seed=root_seed)
    print(json.dumps(shown, indent=2) if as_json else "\n".join(task_lines(shown)))


@judges_app.callback(invoke_without_command=True)
def judges(context: typer.Context, as_json: AsJson = False) -> None:
    """List the judges, what they judge and where their rules come from."""
    if context.invoked_subcommand is not None:
        return
    from aftertune.commands.judges import list_judges

    listed = list_judges()
    shown = listed if as_json else [{k: row[k] for k in JUDGE_COLUMNS} for row in listed]
    _print_rows(shown, as_json=as_json)


@judges_app.command()
@spelled_out(LabelOptions)
def calibrate(
    labels: Annotated[Path, typer.Argument(help="People's labels: CSV, JSONL or JSON.")],
    judge: Annotated[list[str], typer.Option("--judge", help="A judge to measure; may be repeated.")],
    out: Annotated[Path, typer.Option("--out", help="Where the calibration goes.")] = Path(
        "calibration.json"
    ),
    study: JudgesFrom = None,
    as_json: AsJson = False,
    *,
    options: LabelOptions,
) -> None:
    """Hold judges against people's labels: sensitivity, specificity, kappa and AC1, with intervals."""
    from aftertune.commands.calibrate import calibrate_labels, calibration_rows, printed
    from aftertune.judges.added import named_specs

    calibration = calibrate_labels(labels, named_specs(judge, study), out, options)
    if as_json:
        print(printed(calibration))
        return
    _print_rows(calibration_rows(calibration), as_json=False)
    print(f"{out.name}: {out}")


@judges_app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="The known name of a judge.")],
    file: Annotated[
        Path | None, typer.Option("--file", help="A local copy of the file, instead of the network.")
    ] = None,
) -> None:
    """Get a judge's published prompt template into the cache, at a pinned commit."""
    from aftertune.judges.fetch import fetch_judge

    print(fetch_judge(name, copy=file))


@app.command()
def models(as_json: AsJson = False) -> None:
    """List the packaged models."""
    from aftertune.engines.loading import PACKAGED_MODELS

    rows = [{"name": m.name, "licence": m.licence, "source": m.source} for m in PACKAGED_MODELS.values()]
    _print_rows(rows, as_json=as_json)


@app.command()
def data(as_json: AsJson = False) -> None:
    """List the packaged and the known tuning data, with their licences and where they come from."""
    from aftertune.data.listing import listed_data

    _print_rows(listed_data(), as_json=as_json)


def _run_stages(
    target: Path, out: Path | None, stages: tuple[str, ...], *, partial: bool = False, as_json: bool
) -> None:
    from aftertune.pipeline import run_stages
    from aftertune.study import read_study

    if target.is_dir():
        if out is not None:
            raise typer.BadParameter(f"--out goes with a study file; {target} is already a run directory")
        study_file, directory = None, _run_at(target).root
    else:
        study_file, directory = target, out or Path("runs") / read_study(target).name
    with _progress() as progress:
        page = run_stages(study_file, directory, stages, partial=partial, progress=progress, told=_print_cost)
    if "report" in stages:
        _tell(directory, page, as_json=as_json)
    elif as_json:
        print(json.dumps({"run": str(directory), "stages": list(stages)}))
    else:
        print(f"{', '.join(stages)}: done in {directory}")


def _print_cost(resolved: "Resolved", found: "Estimate") -> None:
    from aftertune.commands.estimate import estimate_lines

    print("\n".join(estimate_lines(resolved, found)), file=sys.stderr, flush=True)


def _change_judges(target: Path, add: list[str], drop: list[str], study_file: Path | None) -> None:
    from aftertune.judges.added import add_judges, drop_judges, named_specs

    run = _run_at(target)
    with run.locked():
        drop_judges(run, drop)
        add_judges(run, named_specs(add, study_file))


def _run_at(directory: Path) -> "RunDirectory":
    from aftertune.errors import StoreError
    from aftertune.store import RunDirectory

    run = RunDirectory(directory)
    if not run.study_json.is_file():
        raise StoreError(
            f"{directory} is not a run directory: it has no study.json", "give a study file, or run one first"
        )
    return run


def _tell(directory: Path, page: Path, *, as_json: bool) -> None:
    from aftertune.records.analysis import Analysis

    run = _run_at(directory)
    analysis = Analysis.model_validate_json(run.analysis.read_text(encoding="utf-8"))
    _print_analysis(analysis, [run.analysis, page], as_json=as_json)


def _print_analysis(analysis: "Analysis", paths: list[Path], *, as_json: bool, in_full: bool = False) -> None:
    if as_json:
        print(analysis.model_dump_json(indent=2))
        return
    from aftertune.report import summary

    print(summary(analysis, in_full=in_full))
    for path in paths:
        print(f"{path.name}: {path}")


def _print_rows(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for column in rows[0]:
        table.add_column(column, no_wrap=column == "name")
    for row in rows:
        table.add_row(*(str(value)[:80] for value in row.values()))
    Console().print(table)


@contextmanager
def _progress() -> "Generator[Progress]":
    """Progress on standard error; an interruption is told here, since typer would end without our word."""
    from aftertune.commands.progress import progress_bars

    try:
        with progress_bars() as progress:
            yield progress
    except KeyboardInterrupt:
        _stop("interrupted; what was finished is kept: run the same command again to go on", 130)


def _log_to_stderr() -> None:
    # On our own logger: other libraries' advice must not come under our name.
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("aftertune: %(message)s"))
    logging.getLogger("aftertune").addHandler(handler)


def _quiet_libraries() -> None:
    # Their bars and advice would stand between ours; faults still arrive as exceptions.
    warnings.filterwarnings("ignore", module=r"(transformers|peft|torch|bitsandbytes)\b")
    logging.getLogger("bitsandbytes").setLevel(logging.CRITICAL)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def _stop(message: str, code: int) -> NoReturn:
    print(f"aftertune: {message}", file=sys.stderr)
    raise SystemExit(code)
