"""Judge: every judgment that is missing, of every response of the study; no model under study is touched."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from aftertune.judges import Case, Judge, Judgments, get_judge, needs_reference
from aftertune.judges.added import judges_of
from aftertune.records import (
    JUDGMENT_COLUMNS,
    RESPONSE_COLUMNS,
    Finish,
    Intent,
    Item,
    JudgmentStatus,
    Progress,
    Response,
    ResponseStatus,
)
from aftertune.store import RunDirectory, read_shards, write_shard
from aftertune.study import Study

_SHARD_RESPONSES = 2000
_SHARD_S = 60.0  # what a slow judge loses when it is interrupted


def judge(run: RunDirectory, *, progress: Progress) -> None:
    """Judge the responses that each judge, of the study or added, has not judged yet.

    Args:
        run: a run directory with responses.
        progress: told (stage, done, total), in responses × judges × judge repeats.
    """
    study = Study.model_validate_json(run.study_json.read_text(encoding="utf-8"))
    specs, responses = judges_of(run, study), _responses(run)
    judges = [get_judge(spec) for spec in specs]
    concerned = [_concerned(a_judge, responses) for a_judge in judges]
    total = sum(one.height * spec.repeats for one, spec in zip(concerned, specs, strict=True))
    n_done = 0
    for spec, a_judge, concerning in zip(specs, judges, concerned, strict=True):
        folder = run.judgments(a_judge.name, a_judge.sha256)
        judged = read_shards(folder, JUDGMENT_COLUMNS, aside=run.aside)
        for repeat in range(spec.repeats):
            missing = _missing(concerning, judged.filter(pl.col("judge_repeat") == repeat))
            n_done += concerning.height - missing.height
            progress("judge", n_done, total)
            for part in missing.iter_slices(_SHARD_RESPONSES):
                cases = [_case(entry) for entry in part.iter_rows(named=True)]
                for judgments in _kept_as_they_come(folder, a_judge.judge(cases, repeat=repeat)):
                    n_done += judgments
                    progress("judge", n_done, total)


def _concerned(a_judge: Judge, responses: pl.DataFrame) -> pl.DataFrame:
    """The responses that a judge says something of."""
    return responses.filter(pl.col("reference").is_not_null()) if needs_reference(a_judge) else responses


def _missing(responses: pl.DataFrame, judged: pl.DataFrame) -> pl.DataFrame:
    """What was not judged, and what a judge failed on though there is a response: it may have been down."""
    failed = judged.filter(pl.col("status") == JudgmentStatus.FAILED)["response_key"].implode()
    again = pl.col("key").is_in(failed) & (pl.col("status") != ResponseStatus.FAILED)
    return responses.filter(~pl.col("key").is_in(judged["response_key"].implode()) | again)


def _kept_as_they_come(folder: Path, judged: Iterator[Judgments]) -> Iterator[int]:
    """Write shards as judgments come, also those that came before a fault; yields how many responses each."""
    rows: list[dict[str, object]] = []
    n_waiting, last = 0, time.monotonic()
    try:
        for judgments in judged:
            rows += [asdict(judgment) for judgment in judgments]
            n_waiting += 1
            if time.monotonic() - last > _SHARD_S:
                write_shard(folder, rows, JUDGMENT_COLUMNS)
                yield n_waiting
                rows, n_waiting, last = [], 0, time.monotonic()
    finally:
        if rows:
            write_shard(folder, rows, JUDGMENT_COLUMNS)
    yield n_waiting


def _responses(run: RunDirectory) -> pl.DataFrame:
    """The study's responses that are there, with their items."""
    requests = run.read_table(run.requests).select("key", "task", "item")
    items = run.read_table(run.items).select("task", "item", "prompt", "category", "reference", "intent")
    responses = run.read_responses()
    return (
        requests.unique("key", keep="first", maintain_order=True)
        .join(responses.drop("task", "item"), on="key", how="inner", maintain_order="left")
        .join(items, on=["task", "item"], how="left", maintain_order="left")
    )


def _case(entry: dict[str, Any]) -> Case:
    item = Item(entry["item"], entry["prompt"], entry["category"], entry["reference"])
    fields = {name: entry[name] for name in RESPONSE_COLUMNS}
    fields["finish"] = None if fields["finish"] is None else Finish(fields["finish"])
    fields["status"] = ResponseStatus(fields["status"])
    return Case(item, Intent(entry["intent"]), Response(**fields))
