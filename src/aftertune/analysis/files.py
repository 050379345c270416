"""The stage's two doors on disk: a run directory, and a table from anywhere."""

from pathlib import Path

import polars as pl

from aftertune.analysis.analyze import analyze_observations
from aftertune.analysis.correction_sources import load_corrections
from aftertune.analysis.held_out import held_out_losses
from aftertune.analysis.languages import check_run_languages, check_table_languages
from aftertune.analysis.table import normalise_table, read_table
from aftertune.analysis.varied_runs import greedy_and_exact, half_finished, load_variations
from aftertune.analysis.warnings import same_text
from aftertune.errors import DataError, StoreError
from aftertune.records import CheckpointStatus
from aftertune.records.analysis import Analysis, Warning
from aftertune.sources.columns import TableSpec
from aftertune.store import RunDirectory, file_sha256, replace
from aftertune.study import AnalysisSpec


def analyze_run(
    run: RunDirectory, *, calibration: Path | None = None, late: AnalysisSpec | None = None
) -> Analysis:
    """Analyse a run's observations by what its study fixed beforehand; writes `analysis.json`.

    Args:
        run: a run directory with observations.
        calibration: what `aftertune judges calibrate` wrote, in place of what the study names; it is marked
            as given afterwards.
        late: settings in place of the study's; they are marked as given afterwards, and nothing is written.

    Raises:
        DataError: there are no observations yet, or they or the calibration cannot be read.
        StoreError: the observations are not those that were observed.
    """
    study = run.study
    observed_sha256 = _unchanged(run)
    named = study.analysis.calibration if calibration is None else str(calibration)
    # A key for each response is half of a table's memory, and seldom asked for.
    needed = study.variations or any(run.labels("any").parent.glob("*.parquet"))
    without = () if needed else ("response_key",)
    observations = normalise_table(
        read_table(run.observations, without=without), source=str(run.observations)
    )
    replaced = {} if late is None else {name: getattr(late, name) for name in late.model_fields_set}
    corrections, label_warnings = load_corrections(run, observations.frame, named)
    analysis = analyze_observations(
        observations,
        study=study.name,
        spec=study.analysis.model_copy(update=replaced),
        deterministic=greedy_and_exact(run, study),
        fixed=True,
        varied=load_variations(run, study),
        corrections=corrections,
    )
    warnings = (
        *check_run_languages(run, study),
        *half_finished(run),
        *_unfinished(run),
        *_fast_numerics(run),
        *_spelled_out(run),
        *_same_text(run),
        *analysis.warnings,
        *label_warnings,
    )
    given = (*replaced, *(() if calibration is None else ("calibration",)))
    losses = held_out_losses(run, level=analysis.level)
    more = {
        "observations_sha256": observed_sha256,
        "warnings": warnings,
        "post_hoc": (*analysis.post_hoc, *given),
        "held_out": losses,
    }
    analysis = analysis.model_copy(update=more)
    if late is None:
        _write(analysis, run.analysis)
    return analysis


def _unchanged(run: RunDirectory) -> str | None:
    """The hash of the observations, which must be what `observe` wrote; None where there are none."""
    if not run.observations.is_file():
        return None
    found = file_sha256(run.observations)
    if run.read_manifest().observations_sha256 not in (None, found):
        raise StoreError(
            f"{run.observations} is not what `aftertune observe` wrote: somebody changed it",
            f"run `aftertune observe {run.root}`; to analyse a table of your own, copy it out of the run",
        )
    return found


def _same_text(run: RunDirectory) -> list[Warning]:
    if not run.items.is_file():
        return []
    return same_text(run.read_table(run.items).select("task", "item", "prompt"))


def _unfinished(run: RunDirectory) -> list[Warning]:
    """One for each recipe of which some trainings left no checkpoint (docs/decisions/04)."""
    checkpoints = run.listed_checkpoints()
    warnings: list[Warning] = []
    for recipe in dict.fromkeys(c.model for c in checkpoints if c.seed is not None):
        mine = [c for c in checkpoints if c.model == recipe]
        lost = [c for c in mine if c.status is not CheckpointStatus.OK]
        if lost:
            reasons = "; ".join(f"{c.label} {c.status.value}: {c.reason.splitlines()[0]}" for c in lost)
            text = (
                f"{len(lost)} of {len(mine)} trainings of {recipe} left no checkpoint, "
                f"and its rates are about the others ({reasons})"
            )
            remedy = "look at their logs; a recipe that fails for some seeds is not the recipe of the others"
            warnings.append(Warning(code="unfinished_trainings", text=text, remedy=remedy, where=recipe))
    return warnings


def _fast_numerics(run: RunDirectory) -> list[Warning]:
    """Whether exact numerics were left to the engine, and this processor has no way to them."""
    promised = run.read_manifest().reproducibility
    if promised is None or promised.exact_refused is None:
        return []
    text = (
        "the responses were generated with fast numerics: exact ones cannot be promised there "
        f"({promised.exact_refused}), so a response may change with what stands beside it"
    )
    remedy = "what it moves is counted with the repeats; greedy decoding is not taken as a fact"
    return [Warning(code="fast_numerics", text=text, remedy=remedy)]


def _spelled_out(run: RunDirectory) -> list[Warning]:
    """Whether prompts or tuning rows hold the chat template's own marks, as `check` found them."""
    marked = run.read_manifest().messages
    if marked is None:
        return []
    found: list[Warning] = []
    for what, rows in (("prompts", marked.items), ("tuning rows", marked.rows)):
        marks = sorted({mark for row in rows for mark in (*row.control_tokens, *row.plain_marks)})
        if rows:
            text = f"{len(rows)} {what} spell out marks of the chat template ({', '.join(marks)})"
            remedy = (
                "control tokens were encoded as text; no tokenizer tells plain marks ([INST]) from the "
                "template's own: leave such texts out where that matters"
            )
            found.append(Warning(code="spelled_out_marks", text=text, remedy=remedy, where=what))
    return found


def analyze_file(
    table: Path,
    written: Path,
    *,
    spec: AnalysisSpec | None = None,
    columns: TableSpec | None = None,
    study: str | None = None,
    responses: Path | None = None,
) -> Analysis:
    """Analyse a Parquet or CSV table and write the result to `written`.

    Args:
        table: with model, item and value at least.
        written: where analysis.json goes.
        spec: level, margin, max_missing, primary; what it sets is marked as chosen after the run.
        columns: which column is which, and what the table does not say.
        study: its name; the table's by default.
        responses: a table of the texts (key, text), where `table` has no column of them.

    Raises:
        DataError: for a table that cannot be read without guessing.
    """
    found = normalise_table(read_table(table), columns, source=str(table))
    if found.frame["value"].is_null().all():
        raise DataError(
            f"{table}: none of its {found.frame.height} rows has a value",
            "give at least one judgment: without one there is no number",
        )
    analysis = analyze_observations(
        found, study=study or table.stem, spec=spec or AnalysisSpec(), fixed=False
    )
    texts = found.texts if responses is None else _texts_of(found.frame, responses)
    noticed = [] if texts is None else check_table_languages(found.frame.with_columns(text=texts))
    more = {"observations_sha256": file_sha256(table), "warnings": (*noticed, *analysis.warnings)}
    analysis = analysis.model_copy(update=more)
    _write(analysis, written)
    return analysis


def _texts_of(observed: pl.DataFrame, responses: Path) -> pl.Series:
    """The text that each observation is of, from a table of texts by key."""
    texts = pl.read_parquet(responses, columns=["key", "text"]).unique("key")
    keys = observed.select(pl.col("response_key").cast(pl.String).alias("key"))
    return keys.join(texts, on="key", how="left", maintain_order="left")["text"]


def _write(analysis: Analysis, path: Path) -> None:
    replace(path, (analysis.model_dump_json(indent=2) + "\n").encode())
