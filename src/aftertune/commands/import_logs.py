"""`aftertune import`: logs of other tools become a directory that analyze, report, gate and export read."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import polars as pl

from aftertune._version import __version__
from aftertune.commands.analyze import columns_of
from aftertune.commands.import_options import ImportOptions
from aftertune.errors import DataError, nearest
from aftertune.formats import inspect_logs, jailbreakeval, lm_eval, tidy
from aftertune.formats.gather import Gathered, PairBy, gathered
from aftertune.formats.lm_eval_results import samples_beside
from aftertune.formats.logs import MOST, Log, without_halves_in
from aftertune.formats.meaning import meaning_of
from aftertune.formats.naming import Given, last_attempts, named
from aftertune.records import ITEM_COLUMNS, OBSERVATION_COLUMNS, RESPONSE_COLUMNS
from aftertune.sources.columns import TableSpec
from aftertune.store import ImportDirectory, parquet_bytes, replace
from aftertune.store.imports import IMPORT_VERSION

_ENDINGS = (".eval", ".jsonl", ".json", ".csv", ".parquet")
_PEEK = 1 << 16
_KNOWN = (
    "known: Inspect's .eval and .json, lm_eval's samples_….jsonl, JailbreakEval's CSV (question, answer, "
    "label), a tidy CSV or Parquet (model, item, value; a column of another name with --column NAME=COLUMN)"
)
_MOST_NOTES = 8
_MOST_NAMES = 3


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import wrote, and its record."""

    directory: Path
    record: dict[str, Any]


def import_logs(logs: Sequence[Path], out: Path, options: ImportOptions) -> Imported:
    """Read logs, put them into one table and write it under `out`.

    Args:
        logs: files, or folders whose logs are taken; those that `options.model` names are taken too.
        out: observations.parquet, responses.parquet, items.parquet and import.json go there.
        options: names and meanings.

    Raises:
        DataError: a log cannot be read, is there twice, or leaves open what its scores mean.
        StoreError: `out` is another thing than an import, or cannot be written.
    """
    if options.pair_by not in get_args(PairBy):
        raise DataError(f"--pair-by holds {options.pair_by!r}", nearest(options.pair_by, get_args(PairBy)))
    directory = ImportDirectory(out)
    directory.check_free()
    table = TableSpec(columns=columns_of(options.column or ()), ignore=options.ignore or ())
    asked = _asked(logs, options.model or [], table)
    given = last_attempts(list(_read(asked, table)))
    if not given:
        raise DataError("no log was given", "aftertune import LOG LOG --out DIR, or --model NAME=LOG,LOG")
    if (options.column or options.ignore) and all(one.log.tool != tidy.TOOL for one in given):
        raise DataError(
            "--column or --ignore without a table", "leave it out: these logs name what they hold"
        )
    meaning = meaning_of(options.construct or [], options.intent or [], options.scale or [])
    its = named(given)
    base = options.baseline or ("base" if any(log.model == "base" for log in its) else None)
    found = gathered(
        its,
        meaning,
        base=base,
        study=out.resolve().name,
        scorers=options.scorer or (),
        pair_by="input" if options.pair_by == "input" else "id",
    )
    _check(found, base)
    notes = [*found.record["notes"], *_passed_over([*logs, *_listed(options.model or [])], asked)]
    record = {"import_version": IMPORT_VERSION, "aftertune": __version__, **found.record, "notes": notes}
    with directory.locked():
        replace(directory.observations, parquet_bytes(found.observations, OBSERVATION_COLUMNS))
        replace(directory.responses, parquet_bytes(found.responses, RESPONSE_COLUMNS))
        replace(directory.items, parquet_bytes(found.items, ITEM_COLUMNS))
        directory.analysis.unlink(missing_ok=True)  # it was of other logs
        replace(directory.record, (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())
    return Imported(out, record)


def import_lines(found: Imported) -> list[str]:
    """What was imported and what is missing, in words."""
    from aftertune.commands.tasks import visible

    record = found.record
    judges = ", ".join(f"{j['judge']} ({'not ' * j['turned']}{j['construct']})" for j in record["judges"])
    lines = [
        f"{len(record['sources'])} logs: {record['n_observations']} observations, "
        f"{record['n_missing']} of them without a value; judges: {judges}"
    ]
    for entry in record["items"]:
        common = entry["n_in_common"]
        told = "" if common is None else f", {common} in common with {record['base']}"
        seeds = {s["seed"] for s in record["sources"] if s["model"] == entry["model"]} - {None}
        of = f" over {len(seeds)} seeds" if seeds else ""
        lines.append(f"  {entry['task']}, {entry['model']}{of}: {entry['n_items']} items{told}")
    for m in record["missing"]:
        lines.append(f"  missing: {m['n']} of {m['judge']} on {m['task']}, {m['model']}: {m['reasons'][0]}")
    lines += [f"  left out: {entry['judge']}: {entry['reason']}" for entry in record["left_out"]]
    notes = [
        *record["notes"],
        *(f"{Path(s['file']).name}: {n}" for s in record["sources"] for n in s["notes"]),
    ]
    notes = list(dict.fromkeys(notes))  # of each part of a table the same
    lines += [f"  note: {note}" for note in notes[:_MOST_NOTES]]
    if len(notes) > _MOST_NOTES:
        lines.append(f"  … {len(notes) - _MOST_NOTES} more notes in import.json")
    if record["base"] is None:
        models = ", ".join(dict.fromkeys(source["model"] for source in record["sources"]))
        lines.append(f"  no baseline: --baseline NAME says which of {models} the others are held against")
    return [visible(line, None) for line in lines]


def _check(found: Gathered, base: str | None) -> None:
    """Refuse now what `aftertune analyze` would refuse."""
    from aftertune.analysis.table import normalise_table

    frame = pl.DataFrame(found.observations, schema_overrides={"seed": pl.Int64, "value": pl.Float64},
                         infer_schema_length=None)  # fmt: skip
    normalise_table(frame, TableSpec(base=base), source="the logs")


@dataclass(frozen=True, slots=True)
class _Asked:
    path: Path
    model: str | None = None
    seed: int | None = None


def _asked(logs: Sequence[Path], models: Sequence[str], table: TableSpec) -> list[_Asked]:
    """The files to read, each once; what --model names is named."""
    found: dict[Path, _Asked] = {}
    for word in models:
        name, sign, files = word.partition("=")
        if not (name and sign and files):
            raise DataError(f"--model holds {word!r}", "write NAME=LOG or NAME=LOG,LOG")
        model, slash, seed = name.rpartition("/")
        numbered = bool(slash) and seed.isdecimal()
        if numbered and int(seed) > MOST:
            raise DataError(
                f"--model {name}: the seed needs more than 64 bits with a sign", "number the seeds"
            )
        for path in (file for given in _listed([word]) for file in _files(given, table)):
            if path.resolve() in found:
                raise DataError(f"{path} is given twice with --model", "give each log to one model")
            found[path.resolve()] = _Asked(path, model if numbered else name, int(seed) if numbered else None)
    plain: dict[Path, _Asked] = {}
    for path in (path for given in logs for path in _files(given, table)):
        if path.resolve() in plain:
            raise DataError(f"{path} is given twice", "give each log once")
        plain[path.resolve()] = _Asked(path)
    return [*(asked for where, asked in plain.items() if where not in found), *found.values()]


def _listed(models: Sequence[str]) -> Iterator[Path]:
    """What the words NAME=LOG,LOG of --model name."""
    for word in models:
        files = word.partition("=")[2]
        # A name may hold commas: lm_eval writes a model's arguments into it.
        yield from map(Path, [files] if Path(files).exists() else files.split(","))


def _files(given: Path, table: TableSpec) -> list[Path]:
    """A file, or the logs in a folder and below it; what is no log is refused where it is named."""
    if given.is_file():
        return samples_beside(given) or [given]
    if not given.is_dir():
        raise DataError(f"{given} is not there", "give logs, or a folder of logs")
    found = _candidates(given)
    logs = [path for path in found if _kind(path, table) is not None]
    if not found:
        raise DataError(f"{given} holds no logs that are known", f"known endings: {', '.join(_ENDINGS)}")
    if not logs:
        raise DataError(f"{given} holds no log that is known, only {_some(found)}", _KNOWN)
    return logs


def _candidates(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _ENDINGS and path.is_file())


def _some(paths: Sequence[Path]) -> str:
    names = ", ".join(path.name for path in paths[:_MOST_NAMES])
    return names + (f" and {len(paths) - _MOST_NAMES} more" if len(paths) > _MOST_NAMES else "")


def _passed_over(given: Sequence[Path], asked: "Sequence[_Asked]") -> list[str]:
    """A note of the files in the folders given that look like logs by their ending and are none."""
    taken = {one.path.resolve() for one in asked}
    folders = [path for path in given if path.is_dir()]
    there = {path.resolve(): path for folder in folders for path in _candidates(folder)}
    left = [path for where, path in there.items() if where not in taken and not _accounted_for(path)]
    if not left:
        return []
    return [
        f"not read, as they are no logs that are known: {_some(left)} (give one by its name for the reason)"
    ]


def _accounted_for(path: Path) -> bool:
    """Whether a file belongs to logs that are read: Inspect's list of them, lm_eval's results."""
    with path.open("rb") as handle:
        if inspect_logs.looks_like_manifest(path, handle.read(_PEEK)):
            return True
    try:
        return bool(samples_beside(path))
    except DataError:  # results without their samples
        return False


def _kind(path: Path, table: TableSpec) -> str | None:
    with path.open("rb") as handle:
        content = handle.read(_PEEK)
    if inspect_logs.looks_like_inspect(path, content):
        return "inspect"
    if lm_eval.looks_like_lm_eval(path, content):
        return "lm_eval"
    if tidy.looks_tidy(path, content, table):  # first: its texts may be called question and answer too
        return "tidy"
    if jailbreakeval.looks_like_attempts(path, content):
        return "attempts"
    return "verdicts" if jailbreakeval.looks_like_verdicts(path, content) else None


def _read(asked: Sequence[_Asked], table: TableSpec) -> Iterator[Given]:
    """Read what was asked for; a JSON of JailbreakEval belongs to the CSV before it."""
    kinds = [_kind(a.path, table) for a in asked]
    for at, (a, kind) in enumerate(zip(asked, kinds, strict=True)):
        if kind == "verdicts":
            if at == 0 or kinds[at - 1] != "attempts":
                raise DataError(f"{a.path} holds verdicts without answers", "give its CSV before it")
            continue
        verdicts = asked[at + 1].path if kinds[at + 1 : at + 2] == ["verdicts"] else None
        yield from (
            Given(without_halves_in(log), a.model, a.seed) for log in _logs(a.path, kind, verdicts, table)
        )


def _logs(path: Path, kind: str | None, verdicts: Path | None, table: TableSpec) -> list[Log]:
    if kind == "inspect":
        return [inspect_logs.read_inspect(path)]
    if kind == "lm_eval":
        return [lm_eval.read_lm_eval(path)]
    if kind == "attempts":
        return [jailbreakeval.read_attempts(path, verdicts)]
    if kind == "tidy":
        return tidy.read_tidy(path, table)
    with path.open("rb") as handle:
        if inspect_logs.looks_like_manifest(path, handle.read(_PEEK)):
            raise DataError(
                f"{path} is Inspect's list of logs, and no log", f"give its folder: {path.parent}"
            )
    raise DataError(f"{path} is no log that is known", _KNOWN)
