"""Observe: join requests, responses and judgments into the one table that all statistics start from."""

import io

import polars as pl

from aftertune.errors import StoreError
from aftertune.judges import Judge, get_judge, needs_reference
from aftertune.judges.added import judges_of
from aftertune.records import JUDGMENT_COLUMNS, OBSERVATION_COLUMNS, JudgmentStatus
from aftertune.store import RunDirectory, read_shards, replace
from aftertune.study import JudgeSpec, Study

BASELINE = "baseline"  # the name of no variation


def observe(run: RunDirectory) -> None:
    """Write `observations.parquet`; the same study gives the same bytes, however its run was interrupted.

    Raises:
        StoreError: responses or judgments of the study are not there yet.
    """
    study = Study.model_validate_json(run.study_json.read_text(encoding="utf-8"))
    requests = run.read_table(run.requests).with_row_index("order")
    items = run.read_table(run.items).select("task", "item", "category", "intent", "reference")
    responses = run.read_responses()
    drawn = requests.join(responses.select("key", "finish"), on="key", how="inner")
    drawn = drawn.join(items, on=["task", "item"], how="left")
    _refuse_gaps(requests.height - drawn.height, requests.height, "responses", "aftertune generate")
    judges = [(spec, get_judge(spec)) for spec in judges_of(run, study)]
    versions = {spec.name: a_judge.sha256 for spec, a_judge in judges}
    judged = _judgments(run, judges, versions, drawn)
    rows = (
        drawn.join(judged, left_on="key", right_on="response_key", how="inner")
        .sort("order", "judge_order", "judge_repeat", "construct")
        .with_columns(pl.lit(study.name).alias("study"), pl.lit(BASELINE).alias("variation"))
        .rename({"key": "response_key"})
    )
    sink = io.BytesIO()
    rows.select(list(OBSERVATION_COLUMNS)).write_parquet(sink, compression="zstd")
    replace(run.observations, sink.getvalue())
    # A judge's rules may change before the analysis: what was observed is what these versions judged.
    run.update_manifest(judges_observed=versions)


def _judgments(
    run: RunDirectory,
    judges: list[tuple[JudgeSpec, Judge]],
    versions: dict[str, str],
    drawn: pl.DataFrame,
) -> pl.DataFrame:
    """What each judge said of the responses that concern it; a gap is refused."""
    frames: list[pl.DataFrame] = []
    for order, (spec, a_judge) in enumerate(judges):
        concerned = drawn.filter(pl.col("reference").is_not_null()) if needs_reference(a_judge) else drawn
        keys = concerned["key"]
        folder = run.judgments(spec.name, versions[spec.name])
        judged = read_shards(folder, JUDGMENT_COLUMNS, aside=run.aside)
        asked = (pl.col("judge_repeat") < spec.repeats) & pl.col("response_key").is_in(keys.implode())
        # A judge that failed was asked again: what it said then stands.
        judged = judged.filter(asked).sort(pl.col("status") == JudgmentStatus.FAILED, maintain_order=True)
        cell = ["response_key", "judge_repeat", "construct"]
        judged = judged.unique(cell, keep="first", maintain_order=True)
        n_wanted = keys.n_unique() * spec.repeats
        n_there = judged.select("response_key", "judge_repeat").n_unique()
        _refuse_gaps(n_wanted - n_there, n_wanted, f"judgments by {spec.name}", "aftertune judge")
        frames.append(judged.with_columns(pl.lit(order).alias("judge_order")))
    return pl.concat(frames)


def _refuse_gaps(n_missing: int, n: int, what: str, command: str) -> None:
    if n_missing:
        raise StoreError(
            f"{n_missing} of {n} {what} are not there yet", f"run `{command}`, or `aftertune run`"
        )
