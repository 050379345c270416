"""Judge: every judgment that is missing, of every response of the study; no model under study is touched."""

from dataclasses import asdict

import polars as pl

from aftertune.judges import get_judge
from aftertune.judges.base import Judge
from aftertune.records import (
    JUDGMENT_COLUMNS,
    RESPONSE_COLUMNS,
    Finish,
    Intent,
    Item,
    Progress,
    Response,
    ResponseStatus,
)
from aftertune.store import RunDirectory, read_shards, write_shard
from aftertune.study import Study

_SHARD_RESPONSES = 2000


def judge(run: RunDirectory, *, progress: Progress) -> None:
    """Judge the responses that each of the study's judges has not judged yet.

    Args:
        run: a run directory with responses.
        progress: told (stage, done, total), in responses × judges.
    """
    study = Study.model_validate_json(run.study_json.read_text(encoding="utf-8"))
    responses = _responses(run)
    total = responses.height * len(study.judges)
    n_done = 0
    for name in study.judges:
        a_judge = get_judge(name)
        folder = run.judgments(a_judge.name, a_judge.sha256)
        judged = set(read_shards(folder, JUDGMENT_COLUMNS, aside=run.aside)["response_key"])
        missing = responses.filter(~pl.col("key").is_in(list(judged)))
        n_done += responses.height - missing.height
        progress("judge", n_done, total)
        for part in missing.iter_slices(_SHARD_RESPONSES):
            rows = [row for entry in part.iter_rows(named=True) for row in _judge_one(a_judge, entry)]
            write_shard(folder, rows, JUDGMENT_COLUMNS)
            n_done += part.height
            progress("judge", n_done, total)


def _responses(run: RunDirectory) -> pl.DataFrame:
    """The study's responses that are there, with their items."""
    requests = run.read_table(run.requests).select("key", "task", "item")
    items = run.read_table(run.items).select("task", "item", "prompt", "category", "intent")
    responses = read_shards(run.responses, RESPONSE_COLUMNS, aside=run.aside).unique("key", keep="first")
    return (
        requests.unique("key", keep="first", maintain_order=True)
        .join(responses.drop("task", "item"), on="key", how="inner", maintain_order="left")
        .join(items, on=["task", "item"], how="left", maintain_order="left")
    )


def _judge_one(a_judge: Judge, entry: dict[str, object]) -> list[dict[str, object]]:
    item = Item(str(entry["item"]), str(entry["prompt"]), str(entry["category"]))
    fields = {name: entry[name] for name in RESPONSE_COLUMNS}
    finish = fields["finish"]
    fields["finish"] = None if finish is None else Finish(str(finish))
    fields["status"] = ResponseStatus(str(fields["status"]))
    response = Response(**fields)  # pyright: ignore[reportArgumentType]
    return [asdict(judgment) for judgment in a_judge.judge(item, Intent(str(entry["intent"])), response)]
