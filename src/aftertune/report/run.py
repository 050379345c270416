"""The report of a run directory: reads its files and hands them to the page."""

import shutil
from pathlib import Path

import polars as pl

from aftertune.records import BASELINE
from aftertune.records.analysis import Analysis
from aftertune.report.page import write_report
from aftertune.store import RunDirectory


def report(run: RunDirectory) -> Path:
    """Write the report of an analysed run; returns the path of its page.

    Raises:
        StoreError: the run has not been analysed yet, or its study cannot be read.
    """
    analysis = Analysis.model_validate(run.read_json(run.analysis), strict=False)
    # Without the timings, which differ from run to run: the same results give the same page.
    manifest = {name: entry for name, entry in run.read_manifest().items() if name != "stages_s"}
    study = run.read_json(run.study_json)
    for folder in ("figures", "tables"):  # an earlier analysis may have had others
        shutil.rmtree(run.report / folder, ignore_errors=True)
    return write_report(analysis, examples=_examples(run), manifest=manifest, out=run.report, study=study)


def _examples(run: RunDirectory) -> pl.DataFrame:
    """A row per judgment of the baseline procedure, with its prompt and response."""
    observations = run.read_table(run.observations).drop("finish")
    prompts = run.read_table(run.items).select("task", "item", "prompt")
    responses = run.read_responses().select(
        "key", "text", "finish", response_status="status", response_reason="reason"
    )
    return (
        observations.filter(pl.col("variation") == BASELINE)
        .join(prompts, on=["task", "item"], how="left", maintain_order="left")
        .join(responses, left_on="response_key", right_on="key", how="left", maintain_order="left")
    )
