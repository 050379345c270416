"""Commands that take results in from other tools and give them out."""

from pathlib import Path
from typing import Annotated

import typer

from aftertune.cli.app import app
from aftertune.cli.printing import AsJson, say, say_json
from aftertune.commands.import_options import ImportOptions
from aftertune.commands.options import spelled_out


@app.command(name="import")
@spelled_out(ImportOptions)
def import_(
    logs: Annotated[
        list[Path] | None,
        typer.Argument(help="Logs or folders of them: Inspect, lm_eval samples, JailbreakEval, tidy tables."),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", help="Where the tables and import.json go: a directory of its own.")
    ] = Path("runs/imported"),
    as_json: AsJson = False,
    *,
    options: ImportOptions,
) -> None:
    """Take in logs of other tools; then `aftertune analyze DIR`. Runs no model and makes no score up."""
    from aftertune.commands.import_logs import import_lines, import_logs

    found = import_logs(logs or [], out, options)
    if as_json:
        say_json({"directory": str(out), **found.record})
        return
    say("\n".join([*import_lines(found), f"import.json: {out / 'import.json'}"]))


@app.command()
def export(
    source: Annotated[Path, typer.Argument(help="A run directory, or an import.")],
    to: Annotated[str, typer.Option("--to", help="inspect, parquet, csv, hub or model-card.")],
    out: Annotated[Path, typer.Option("--out", help="The file, or for inspect the folder, to write.")],
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="hub, model-card: the model that it is about; may be repeated."),
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option("--dataset", help="hub: TASK=owner/name:task_id, the benchmark's place there."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a run or an import for other tools; numbers come from its finished analysis."""
    from aftertune.commands.export import export as export_source

    found = export_source(source, to, out, models=model or (), datasets=dataset or ())
    if as_json:
        files = [str(file) for file in found.files]
        say_json({"to": found.to, "files": files, "n_observations": found.n_observations})
        return
    n = "" if found.n_observations is None else f", {found.n_observations} judgments"
    say(f"{found.to}: {len(found.files)} {'file' if len(found.files) == 1 else 'files'}{n}: {out}")
