"""Commands that list what is known: tasks, judges, models, data."""

from pathlib import Path
from typing import Annotated

import typer

from aftertune.cli.app import app
from aftertune.cli.completion import judge_names, task_names
from aftertune.cli.printing import AsJson, JudgesFrom, print_rows, say, say_json, say_result
from aftertune.commands.calibrate import LabelOptions
from aftertune.commands.options import spelled_out

TASK_COLUMNS = ("name", "intent", "items", "access", "licence")
JUDGE_COLUMNS = ("name", "constructs", "cost", "licence")

tasks_app = typer.Typer(add_completion=False)
app.add_typer(tasks_app, name="tasks")
judges_app = typer.Typer(add_completion=False)
app.add_typer(judges_app, name="judges")


@tasks_app.callback(invoke_without_command=True)
def tasks(context: typer.Context, as_json: AsJson = False) -> None:
    """List the packaged tasks and the public benchmarks; `tasks show NAME` samples the items of one."""
    if context.invoked_subcommand is None:
        from aftertune.commands.tasks import list_tasks

        listed = list_tasks()
        shown = listed if as_json else [{k: row[k] for k in TASK_COLUMNS} for row in listed]
        print_rows(shown, as_json=as_json)


@tasks_app.command(name="show")
def show_task(
    name: Annotated[
        str, typer.Argument(help="A packaged task or a public benchmark.", autocompletion=task_names)
    ],
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
    say_result(shown, task_lines(shown), as_json=as_json)


@judges_app.callback(invoke_without_command=True)
def judges(context: typer.Context, as_json: AsJson = False) -> None:
    """List the judges, what they judge and where their rules come from."""
    if context.invoked_subcommand is not None:
        return
    from aftertune.commands.judges import list_judges

    listed = list_judges()
    shown = listed if as_json else [{k: row[k] for k in JUDGE_COLUMNS} for row in listed]
    print_rows(shown, as_json=as_json)


@judges_app.command()
@spelled_out(LabelOptions)
def calibrate(
    labels: Annotated[Path, typer.Argument(help="People's labels: CSV, JSONL or JSON.")],
    judge: Annotated[
        list[str],
        typer.Option("--judge", help="A judge to measure; may be repeated.", autocompletion=judge_names),
    ],
    out: Annotated[Path, typer.Option("--out", help="Where the calibration goes.")] = Path(
        "calibration.json"
    ),
    study: JudgesFrom = None,
    as_json: AsJson = False,
    *,
    options: LabelOptions,
) -> None:
    """Hold judges against people's labels: sensitivity, specificity, kappa and AC1, with intervals."""
    from aftertune.commands.calibrate import calibrate_labels, calibration_rows
    from aftertune.judges.added import named_specs

    calibration = calibrate_labels(labels, named_specs(judge, study), out, options)
    if as_json:
        say_json(calibration.model_dump(mode="json", by_alias=True))
        return
    print_rows(calibration_rows(calibration), as_json=False)
    say(f"{out.name}: {out}")


@judges_app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="The known name of a judge.", autocompletion=judge_names)],
    file: Annotated[
        Path | None, typer.Option("--file", help="A local copy of the file, instead of the network.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Get a judge's published prompt template into the cache, at a pinned commit."""
    from aftertune.judges.fetch import fetch_judge

    told = fetch_judge(name, copy=file)
    say_result({"judge": name, "told": told}, [told], as_json=as_json)


@app.command()
def models(as_json: AsJson = False) -> None:
    """List the packaged models."""
    from aftertune.engines.source import PACKAGED_MODELS

    rows = [{"name": m.name, "licence": m.licence, "source": m.source} for m in PACKAGED_MODELS.values()]
    print_rows(rows, as_json=as_json)


@app.command()
def data(as_json: AsJson = False) -> None:
    """List the packaged and the known tuning data, with their licences and where they come from."""
    from aftertune.data.listing import listed_data

    print_rows(listed_data(), as_json=as_json)
