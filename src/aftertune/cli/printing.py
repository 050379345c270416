"""What commands share: their common options, progress, and how results are printed."""

import json
import signal
import sys
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from aftertune.foreign_text import for_terminal, without_secrets

if TYPE_CHECKING:
    from collections.abc import Generator

    from aftertune.executors import Executor
    from aftertune.records import Progress
    from aftertune.records.analysis import Analysis
    from aftertune.stages.check import Estimate, Resolved

Out = Annotated[
    Path | None, typer.Option("--out", help="Run directory; runs/<name of the study> by default.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
StudyFile = Annotated[Path, typer.Argument(help="A study file (YAML).")]
StudyOrRun = Annotated[Path, typer.Argument(help="A study file, or the run directory that holds it.")]
JudgesFrom = Annotated[
    Path | None, typer.Option("--from", help="A study file that holds the settings of the judges named.")
]
RunPath = Annotated[Path, typer.Argument(metavar="DIR", help="A run directory.")]
ExecutorOption = Annotated[
    str,
    typer.Option(
        "--executor", help="Who trains and draws: local (processes of this machine) or ray (a cluster)."
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", help="How many at a time; local: 1 by default, ray: as many as fit the cluster.", min=1
    ),
]
Address = Annotated[
    str | None,
    typer.Option("--address", help="Of the Ray cluster (auto, host:port); without it one is started here."),
]


class Interrupted(KeyboardInterrupt):
    """A signal that asks the process to end, other than Ctrl-C's."""

    def __init__(self, signum: int):
        super().__init__()
        self.signum = signum


def say(text: str, *, err: bool = False) -> None:
    """Print a text; the only way to a terminal, whoever wrote what is in it."""
    print(for_terminal(text), file=sys.stderr if err else sys.stdout, flush=err)


def say_json(value: Any) -> None:
    """Print a value or a record as JSON in ASCII, so that it holds no control sequence either."""
    if hasattr(value, "model_dump_json"):  # a record; pydantic is not imported for the help
        value = json.loads(value.model_dump_json())
    print(without_secrets(json.dumps(value, indent=2)))


def say_result(value: Any, lines: Iterable[str], *, as_json: bool) -> None:
    """Print what a command found: for a program, or in lines for a person."""
    if as_json:
        say_json(value)
    else:
        say("\n".join(lines))


def tell(directory: Path, page: Path, *, as_json: bool) -> None:
    """Print the analysis of a run, and where it and the page are."""
    from aftertune.analysis.stored import read_analysis
    from aftertune.store import run_at

    run = run_at(directory)
    print_analysis(read_analysis(run.root), [run.analysis, page], as_json=as_json)


def print_analysis(analysis: "Analysis", paths: list[Path], *, as_json: bool, in_full: bool = False) -> None:
    """Print an analysis, and the paths of what was written."""
    if as_json:
        say_json(analysis)
        return
    from aftertune.report import summary

    say(summary(analysis, in_full=in_full))
    for path in paths:
        say(f"{path.name}: {path}")


def print_cost(resolved: "Resolved", found: "Estimate") -> None:
    """Say on standard error what a study is and costs, before it begins."""
    from aftertune.commands.estimate import estimate_lines

    say("\n".join(estimate_lines(resolved, found)), err=True)


def print_rows(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    """Print rows as a table, by the keys of the first."""
    if as_json:
        say_json(rows)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold")
    for column in rows[0]:
        table.add_column(column, no_wrap=column == "name")
    for row in rows:
        table.add_row(*(Text(for_terminal(str(value))[:80]) for value in row.values()))
    Console().print(table)


@contextmanager
def shown_progress() -> "Generator[Progress]":
    """Progress on standard error; an interruption is told here, since typer would end without our word."""
    from aftertune.commands.progress import progress_bars

    try:
        with progress_bars() as progress:
            yield progress
    except KeyboardInterrupt as error:
        signum = error.signum if isinstance(error, Interrupted) else signal.SIGINT
        stop(
            f"interrupted ({signal.Signals(signum).name}); "
            "what was finished is kept: run the same command again to go on",
            128 + signum,
        )


@contextmanager
def opened_executor(name: str, workers: int | None, address: str | None) -> "Generator[Executor | None]":
    """The executor that the options name, closed on every way out; None where this process does all.

    Raises:
        typer.BadParameter: there is no such executor, or an option that goes with another.
        EngineError: it cannot be had here.
    """
    from typing import cast, get_args

    from aftertune.executors import ExecutorName, open_executor

    if name not in get_args(ExecutorName):
        raise typer.BadParameter(f"--executor is {name!r}; known: {', '.join(get_args(ExecutorName))}")
    if address is not None and name != "ray":
        raise typer.BadParameter("--address goes with --executor ray")
    executor = open_executor(cast(ExecutorName, name), workers=workers, address=address)
    try:
        yield executor
    finally:
        if executor is not None:
            executor.close()


def stop(message: str, code: int) -> NoReturn:
    """End with a message and an exit code."""
    say(f"aftertune: {message}", err=True)
    raise SystemExit(code)
