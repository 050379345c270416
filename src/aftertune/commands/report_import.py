"""The report of an import: that of any table, with the responses that the logs hold."""

import shutil
from pathlib import Path
from typing import Any

import polars as pl

from aftertune.analysis.stored import read_analysis
from aftertune.records import BASELINE
from aftertune.records.manifest import Manifest
from aftertune.store import ImportDirectory


def report_import(directory: ImportDirectory) -> Path:
    """Write the report of an analysed import; returns the path of its page.

    Raises:
        StoreError: its observations have not been analysed yet, or it cannot be written.
    """
    from aftertune.report import write_report

    analysis = read_analysis(directory.root)
    for folder in ("figures", "tables"):  # an earlier analysis may have had others
        shutil.rmtree(directory.report / folder, ignore_errors=True)
    manifest = _manifest(directory.read())
    return write_report(analysis, examples=examples_of(directory), manifest=manifest, out=directory.report)


def examples_of(directory: ImportDirectory) -> pl.DataFrame:
    """A row per judgment of the baseline procedure, with its prompt and response."""
    observations = pl.read_parquet(directory.observations).drop("finish")
    if observations["variation"].n_unique() > 1:  # one alone is a baseline, whatever its name
        observations = observations.filter(pl.col("variation") == BASELINE)
    prompts = pl.read_parquet(directory.items).select("task", "item", "prompt")
    responses = pl.read_parquet(directory.responses).unique("key", maintain_order=True)
    responses = responses.select("key", "text", "finish", response_status="status", response_reason="reason")
    return observations.join(prompts, on=["task", "item"], how="left", maintain_order="left").join(
        responses, left_on="response_key", right_on="key", how="left", maintain_order="left"
    )


def _manifest(record: dict[str, Any]) -> Manifest:
    """What the page shows of where its numbers come from."""
    tools = sorted({source["tool"] for source in record["sources"]})
    found = {
        "study": record["study"],
        "imported_from": tools,
        "versions": {"aftertune": record["aftertune"]},
        "sources": record["sources"],
        "judges_imported": record["judges"],
        "notes": record["notes"],
    }
    return Manifest.model_validate(found)
