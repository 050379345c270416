"""`aftertune export`: a run or an import as other tools' files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from aftertune.commands.exported import Source, source_at
from aftertune.errors import DataError, StoreError, nearest
from aftertune.records import OBSERVATION_COLUMNS
from aftertune.store import replace

ExportKind = Literal["inspect", "parquet", "csv", "hub", "model-card"]


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    to: ExportKind
    files: tuple[Path, ...]
    n_observations: int | None


def export(
    directory: Path, to: str, out: Path, *, models: Sequence[str] = (), datasets: Sequence[str] = ()
) -> Exported:
    """Write a run or an import in another form.

    Args:
        directory: a run directory, or an import.
        to: inspect (a folder of logs), parquet or csv (a tidy table with texts), hub (evaluation results of
            one model) or model-card (a section in Markdown).
        out: the folder or file.
        models: for hub and model-card, the models that it is about.
        datasets: for hub, `TASK=owner/name:task_id`.

    Raises:
        DataError: an option is wrong or missing, or does not go with the kind.
        StoreError: the directory lacks what is needed, or `out` cannot be written.
    """
    if to not in get_args(ExportKind):
        raise DataError(f"--to holds {to!r}", nearest(to, get_args(ExportKind)))
    if models and to not in ("hub", "model-card"):
        raise DataError(f"--model with --to {to}", "leave it out: all models are written")
    if datasets and to != "hub":
        raise DataError(f"--dataset with --to {to}", "leave it out: it is for --to hub")
    source = source_at(directory)
    if to == "inspect":
        return _inspect(source, out)
    if to == "parquet" or to == "csv":
        return _tidy(source, to, out)
    if to == "hub":
        return _hub(source, out, models, datasets)
    return _card(source, out, models)


def _inspect(source: Source, out: Path) -> Exported:
    from aftertune.formats.inspect_export import write_inspect
    from aftertune.formats.inspect_logs import require_inspect

    require_inspect("export --to inspect")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StoreError(f"{out} is there and not an empty folder", "give another one with --out")
    judged = source.judged()
    return Exported("inspect", tuple(write_inspect(judged, out)), judged.frame.height)


def _tidy(source: Source, to: Literal["parquet", "csv"], out: Path) -> Exported:
    from aftertune.formats.tidy import TEXTS, tidy_bytes

    if out.suffix != f".{to}":
        raise DataError(f"--out {out} with --to {to}", f"give a file whose name ends in .{to}")
    frame = source.judged().frame.select([*OBSERVATION_COLUMNS, *TEXTS])
    replace(out, tidy_bytes(frame, to))
    return Exported(to, (out,), frame.height)


def _hub(source: Source, out: Path, models: Sequence[str], datasets: Sequence[str]) -> Exported:
    from aftertune.formats.hub_results import hub_tasks, hub_yaml

    if out.suffix not in (".yaml", ".yml"):
        raise DataError(f"--out {out} with --to hub", "give a file whose name ends in .yaml")
    analysis = source.analysis()
    known = list(dict.fromkeys(rate.model for rate in analysis.rates))
    chosen = list(models) or [name for name in known if name != analysis.base]
    if len(chosen) != 1 or chosen[0] not in known:
        raise DataError(
            f"evaluation results are of one model's repository, got {', '.join(chosen) or 'none'}",
            f"choose one with --model: {', '.join(known)}",
        )
    target = analysis.primary.target if analysis.primary else "benchmark"
    replace(out, hub_yaml(analysis, chosen[0], hub_tasks(datasets), target).encode())
    return Exported("hub", (out,), None)


def _card(source: Source, out: Path, models: Sequence[str]) -> Exported:
    from aftertune.commands.model_card import model_card

    if out.suffix != ".md":
        raise DataError(f"--out {out} with --to model-card", "give a file whose name ends in .md")
    made = ""
    if source.imported is not None:
        tools = sorted({entry["tool"] for entry in source.imported.read()["sources"]})
        made = f"Responses and scores come from logs of {', '.join(tools)}."
    replace(out, model_card(source.analysis(), models, made=made).encode())
    return Exported("model-card", (out,), None)
