"""The report of a run directory: reads its files and hands them to the page."""

import hashlib
import shutil
from pathlib import Path

import polars as pl

from aftertune.analysis.stored import read_analysis
from aftertune.records import BASELINE
from aftertune.records.manifest import Manifest
from aftertune.report.page import write_report
from aftertune.store import RunDirectory

_MOST_RESPONSES = 100_000  # that `make bench-page` opens and searches; docs/benchmarks.md


def report(run: RunDirectory) -> Path:
    """Write the report of an analysed run; returns the path of its page.

    Raises:
        StoreError: its observations have not been analysed yet, or its study cannot be read.
    """
    analysis = read_analysis(run.root)
    # Without the timings, which differ from run to run: the same results give the same page.
    manifest = run.read_manifest()
    manifest = Manifest.model_validate(
        {name: entry for name, entry in manifest.recorded().items() if name != "stages_s"}
    )
    study = run.read_json(run.study_json)
    for folder in ("figures", "tables"):  # an earlier analysis may have had others
        shutil.rmtree(run.report / folder, ignore_errors=True)
    examples, n_items = _examples(run)
    return write_report(
        analysis, examples=examples, n_items=n_items, manifest=manifest, out=run.report, study=study
    )


def _examples(run: RunDirectory) -> tuple[pl.DataFrame, int]:
    """A row per judgment of the baseline procedure, with its prompt and response; how many items there are.

    Of a large study they are those of some items: a page that a browser can hold has an end.
    """
    observed = pl.scan_parquet(run.observations).filter(pl.col("variation") == BASELINE)
    sizes = observed.group_by("task", "item").agg(pl.col("response_key").n_unique().alias("n"))
    items = sizes.collect(engine="streaming")
    shown = items_shown(items, most=_MOST_RESPONSES)
    observations = observed.drop("finish").join(shown.lazy(), on=["task", "item"], how="semi").collect()
    prompts = run.read_table(run.items).select("task", "item", "prompt")
    columns = ("key", "task", "item", "text", "finish", "status", "reason")
    responses = run.read_responses(*columns, of_items=shown)
    responses = responses.select("key", "text", "finish", response_status="status", response_reason="reason")
    joined = observations.join(prompts, on=["task", "item"], how="left", maintain_order="left").join(
        responses, left_on="response_key", right_on="key", how="left", maintain_order="left"
    )
    return joined, items.height


def items_shown(sizes: pl.DataFrame, *, most: int) -> pl.DataFrame:
    """The items whose responses a page shows, all or so many that they are at most `most` responses.

    Which ones depends on their names alone (a hash of them), and on nothing that was answered.

    Args:
        sizes: task, item, n (responses); a row an item.
        most: responses.
    """
    if sizes["n"].sum() <= most:
        return sizes.select("task", "item")
    ranks = [
        hashlib.sha256(f"{len(task)}:{task}{item}".encode()).digest()
        for task, item in sizes.select("task", "item").iter_rows()
    ]
    ranked = sizes.with_columns(pl.Series("rank", ranks)).sort("rank")
    return ranked.filter(pl.col("n").cum_sum() <= most).select("task", "item")
