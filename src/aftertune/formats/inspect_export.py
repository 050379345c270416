"""Writes logs of Inspect by inspect_ai's own classes: one a checkpoint, task, decoding and variation.

The citation and the licence stand in inspect_logs.py. A repeat is an epoch, a judge a scorer. What Inspect
has no place for goes into metadata under `aftertune`, from where the import takes it back. A judgment without
a value is a score that was not scored (NaN, Inspect's own mark), with the status and the reason beside it,
and a response that failed is an error of its sample: nothing becomes a 0.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from aftertune.formats.inspect_logs import OURS, inspect_module
from aftertune.records import Finish, ResponseStatus

_CELL: tuple[str, ...] = ("variation", "checkpoint", "task", "decoding")
_STOP = {Finish.STOP.value: "stop", Finish.LENGTH.value: "max_tokens"}
_SETTINGS = ("temperature", "top_p", "max_tokens")


@dataclass(frozen=True, eq=False)
class Judged:
    """What is written, from a run or an import.

    `frame` has a row a judgment, with the observations' columns and prompt, reference, text, n_tokens,
    response_status, response_reason, n_constructs (of the row's judge) and raw (the judge's own words);
    `decodings` the settings of each decoding, where they are known;
    `record` what else is known of how it was made.
    """

    frame: pl.DataFrame
    decodings: Mapping[str, Mapping[str, Any]]
    record: Mapping[str, Any]
    made: datetime


def write_inspect(judged: Judged, out: Path) -> Iterator[Path]:
    """Write a log for each cell; gives their paths as they are written.

    Names of models and tasks are foreign text: of a file's name they are made plain, and a hash of all of it
    tells files apart.
    """
    write = inspect_module("log").write_eval_log
    out.mkdir(parents=True, exist_ok=True)
    for cell, rows in judged.frame.group_by(_CELL, maintain_order=True):
        named: dict[str, str] = dict(zip(_CELL, map(str, cell), strict=True))
        log = _log(judged, named, rows)
        path = out / _file_name(judged.made, named, log.eval.eval_id)
        write(log, str(path.resolve()), format="eval")
        yield path


def _file_name(made: datetime, named: dict[str, str], identity: str) -> str:
    # The form by which `inspect view` knows a log without opening it: time_task_id.eval.
    plain = re.sub(r"[^A-Za-z0-9]+", "-", f"{named['task']}-{named['checkpoint']}-{named['decoding']}").strip(
        "-"
    )
    return f"{made:%Y-%m-%dT%H-%M-%S+00-00}_{plain[:80]}_{identity}.eval"


def _log(judged: Judged, named: dict[str, str], rows: pl.DataFrame) -> Any:
    log = inspect_module("log")
    first = rows.row(0, named=True)
    identity = _identity(judged, named, first)
    samples = [_sample(group) for _, group in rows.group_by("item", "repeat", maintain_order=True)]
    judges = list(dict.fromkeys(name for sample in samples for name in sample.scores))
    model = named["checkpoint"]
    n_epochs = rows["repeat"].n_unique()
    spec = log.EvalSpec(
        eval_id=identity,
        run_id=identity,
        task_id=identity,
        created=judged.made.isoformat(),
        task=named["task"],
        dataset=log.EvalDataset(
            name=named["task"],
            samples=rows["item"].n_unique(),
            sample_ids=rows["item"].unique(maintain_order=True).to_list(),
        ),
        model=model,
        model_generate_config=_settings(judged, named["decoding"]),
        config=log.EvalConfig(epochs=n_epochs),
        packages={"aftertune": str(judged.record.get("aftertune", ""))},
        metadata={OURS: _ours(judged, named, first)},
        scorers=[{"name": name} for name in judges],
    )
    n_failed = sum(sample.error is not None for sample in samples)
    results = log.EvalResults(
        total_samples=len(samples),
        completed_samples=len(samples) - n_failed,
        scores=[log.EvalScore(name=name, scorer=name) for name in judges],
    )
    stamp = judged.made.isoformat()
    return log.EvalLog(
        status="success",
        eval=spec,
        results=results,
        stats=log.EvalStats(started_at=stamp, completed_at=stamp),
        samples=samples,
    )


def _identity(judged: Judged, named: dict[str, str], first: dict[str, Any]) -> str:
    content = json.dumps([first["study"], named, judged.record], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:22]


def _settings(judged: Judged, decoding: str) -> Any:
    known = judged.decodings.get(decoding, {})
    given = {name: known[name] for name in _SETTINGS if known.get(name) is not None}
    if known.get("system_prompt"):
        given["system_message"] = known["system_prompt"]
    return inspect_module("model").GenerateConfig(**given)


def _ours(judged: Judged, named: dict[str, str], first: dict[str, Any]) -> dict[str, Any]:
    told = {name: first[name] for name in ("study", "model", "seed", "intent")}
    return {**told, **named, "record": dict(judged.record)}


def _sample(rows: pl.DataFrame) -> Any:
    """One response with all its judgments."""
    log, model = inspect_module("log"), inspect_module("model")
    first = rows.row(0, named=True)
    text = first["text"] or ""
    failed = first["response_status"] == ResponseStatus.FAILED.value
    prompt = first["prompt"] or ""
    messages = [model.ChatMessageUser(content=prompt)]
    output = model.ModelOutput(model=first["checkpoint"])
    if not failed and first["response_status"] is not None:
        stop = _STOP.get(first["finish"], "unknown")
        output = model.ModelOutput.from_content(first["checkpoint"], text, stop_reason=stop)
        messages.append(output.message)
        if first["n_tokens"] is not None:
            output.usage = model.ModelUsage(output_tokens=first["n_tokens"])
    error = None
    if failed:
        reason = first["response_reason"] or "no reason given"
        error = log.EvalError(message=reason, traceback="", traceback_ansi="")
    return log.EvalSample(
        id=first["item"],
        epoch=first["repeat"],
        input=prompt,
        target=first["reference"] or "",
        messages=messages,
        output=output,
        scores=dict(_score(row) for row in rows.iter_rows(named=True)),
        metadata={
            "category": first["category"],
            OURS: {"response_key": first["response_key"], "finish": first["finish"]},
        },
        error=error,
    )


def _score(row: dict[str, Any]) -> tuple[str, Any]:
    """A judge's score under its name; of one that judges more, under each construct's."""
    name = row["judge"] if row["n_constructs"] == 1 else f"{row['judge']}/{row['construct']}"
    name += f"#{row['judge_repeat']}" if row["judge_repeat"] else ""
    told = {key: row[key] for key in ("judge", "construct", "judge_repeat", "status", "reason")}
    value = float("nan") if row["value"] is None else row["value"]
    why = row["raw"] or row["reason"] or None
    return name, inspect_module("scorer").Score(value=value, explanation=why, metadata={OURS: told})
