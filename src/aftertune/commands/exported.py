"""What an export is made from: the judgments of a run or an import, each with its prompt and response."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from aftertune._version import __version__
from aftertune.analysis.stored import read_analysis
from aftertune.errors import StoreError
from aftertune.formats.inspect_export import Judged
from aftertune.records import JUDGMENT_COLUMNS, JudgmentStatus
from aftertune.records.analysis import Analysis
from aftertune.store import ImportDirectory, RunDirectory, read_shards
from aftertune.store.shards import empty_frame

# Of a manifest, what says how responses and judgments were made.
_MANIFEST = ("study_sha256", "root_seed", "versions", "model", "engine", "tasks", "judges", "git")
_JUDGMENT = ("response_key", "judge", "judge_repeat", "construct")
_ITEM = ("task", "item", "prompt", "reference")


@dataclass(frozen=True, slots=True)
class Source:
    """A run directory or an import."""

    root: Path

    @property
    def imported(self) -> ImportDirectory | None:
        """The import, None for a run."""
        found = ImportDirectory(self.root)
        return found if found.is_there() else None

    def analysis(self) -> Analysis:
        """The finished analysis.

        Raises:
            StoreError: there is none, or it is of other observations.
        """
        return read_analysis(self.root)

    def judged(self) -> Judged:
        """Every judgment, in the order of the observations.

        Raises:
            StoreError: the directory is no run and no import, or lacks a file.
        """
        if self.imported is not None:
            return _of_import(self.imported)
        return _of_run(RunDirectory(self.root))


def source_at(directory: Path) -> Source:
    """A run directory or an import.

    Raises:
        StoreError: it is neither.
    """
    if not (ImportDirectory(directory).is_there() or RunDirectory(directory).study_json.is_file()):
        raise StoreError(
            f"{directory} is neither a run directory nor an import",
            "give one that `aftertune run` or `import` made",
        )
    return Source(directory)


def _of_import(directory: ImportDirectory) -> Judged:
    record = directory.read()
    observations = pl.read_parquet(directory.observations)
    items = pl.read_parquet(directory.items).select(_ITEM)
    responses = _slim(pl.read_parquet(directory.responses))
    tools = sorted({source["tool"] for source in record["sources"]})
    digest = hashlib.sha256(directory.record.read_bytes()).hexdigest()
    told = {"aftertune": __version__, "imported_from": tools, "import_json_sha256": digest}
    frame = _joined(observations, items, responses, empty_frame(JUDGMENT_COLUMNS))
    return Judged(frame, {}, told, _made(directory.observations))


def _of_run(run: RunDirectory) -> Judged:
    study = run.study
    observations = run.read_table(run.observations)
    frames = [
        _joined(
            observations.filter(pl.col("variation") == part.variation),
            part.read_table(part.items).select(_ITEM),
            _slim(part.read_responses()),
            _evidence(part),
        )
        for part in run.parts()
        if part.items.is_file()
    ]
    decodings = {name: decoding.model_dump(mode="json") for name, decoding in study.decodings.items()}
    manifest = run.read_manifest().recorded()
    told = {"aftertune": __version__, **{key: manifest[key] for key in _MANIFEST if key in manifest}}
    return Judged(pl.concat(frames), decodings, told, _made(run.observations))


def _slim(responses: pl.DataFrame) -> pl.DataFrame:
    found = responses.unique("key", keep="first", maintain_order=True)
    return found.select("key", "text", "n_tokens", response_status="status", response_reason="reason")


def _evidence(run: RunDirectory) -> pl.DataFrame:
    """What the judges said in their own words; of one that was asked again after a failure, the last."""
    observed = run.read_manifest().judges_observed
    folders = [run.judgments(name, sha256) for name, sha256 in observed.items()]
    found = pl.concat(
        [
            empty_frame(JUDGMENT_COLUMNS),
            *(read_shards(f, JUDGMENT_COLUMNS, aside=run.aside) for f in folders),
        ]
    )
    return found.sort(pl.col("status") == JudgmentStatus.FAILED, maintain_order=True)


def _joined(
    observations: pl.DataFrame, items: pl.DataFrame, responses: pl.DataFrame, evidence: pl.DataFrame
) -> pl.DataFrame:
    said = evidence.unique(_JUDGMENT, keep="first", maintain_order=True).select(*_JUDGMENT, "raw")
    # Over the whole table, so that a judge's score has one name in all logs.
    counts = observations.group_by("judge").agg(pl.col("construct").n_unique().alias("n_constructs"))
    return (
        observations.join(items, on=["task", "item"], how="left", maintain_order="left")
        .join(responses, left_on="response_key", right_on="key", how="left", maintain_order="left")
        .join(counts, on="judge", how="left", maintain_order="left")
        .join(said, on=_JUDGMENT, how="left", maintain_order="left")
    )


def _made(observations: Path) -> datetime:
    return datetime.fromtimestamp(int(observations.stat().st_mtime), UTC)
