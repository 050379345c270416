"""The manifest of a run directory: what made the run, in sections that each have one writer.

A key that is absent was not written (yet): by an earlier stage, or by the version of aftertune that made the
run. Keys that this version does not know are kept when the file is rewritten.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict

MANIFEST_VERSION = 1


class Section(BaseModel):
    """A part of the manifest; unknown keys are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")


class GitState(Section):
    """Commit of the working directory when the run was prepared, and whether there were changes."""

    commit: str
    changed: bool


class ModelEntry(Section):
    """The base model; `path` is None where an endpoint has it, and `sha256` then that of place and name."""

    name: str
    path: str | None
    sha256: str
    source: str
    licence: str


class TemplateEntry(Section):
    """The chat template; without a hash where it was not seen."""

    text: str
    sha256: str | None = None


class TaskEntry(Section):
    """A task of the study; the hash is that of its items."""

    name: str
    intent: str
    n_items: int
    source: str
    licence: str
    sha256: str


class DataEntry(Section):
    """The tuning data of a recipe; the licence is None where the study does not say it."""

    source: str
    licence: str | None
    n_rows: int
    sha256: str


class HeldOutEntry(Section):
    """The rows of a recipe's data that no seed trains on."""

    n_rows: int
    sha256: str


class FinishedEntry(Section):
    """A finished checkpoint of a recipe."""

    name: str
    kind: str
    sha256: str | None


class ScanEntry(Section):
    """What was found in a recipe's rows; `refusing` is None where the base gives the answers."""

    recipe: str
    overlaps: tuple[dict[str, Any], ...]
    refusing: tuple[int, ...] | None
    dangerous: bool


class MarkedEntry(Section):
    """A prompt or a row that spells out marks of the chat template."""

    control_tokens: tuple[str, ...]
    plain_marks: tuple[str, ...]


class MessagesEntry(Section):
    """What the chat template does to the study's messages."""

    items: tuple[MarkedEntry, ...]
    rows: tuple[MarkedEntry, ...]


class JudgeEntry(Section):
    """A judge of the study, with its identity."""

    name: str
    constructs: tuple[str, ...]
    source: str
    licence: str
    cost: str
    agreement: str
    sha256: str


class EngineEntry(Section):
    """The engine's identity, which is part of each response's key; the other keys are the engine's own."""

    engine: str | None = None
    name: str | None = None
    numerics: str | None = None
    dtype: str | None = None


class ReproducibilityEntry(Section):
    """What the engine promises of the responses' bytes; `exact_refused` says why it is not `exact`."""

    promise: str | None = None
    checked: str | None = None
    exact_refused: str | None = None


class EndpointSeedEntry(Section):
    """What was found of an endpoint's seed."""

    finding: str


class ServedEntry(Section):
    """What an endpoint said beside its responses; counts are None where it did not tell them."""

    usd: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class LeftOutEntry(Section):
    """What a half-finished study was cut by; without a judge where nothing of a variation is there."""

    variation: str
    judge: str | None = None
    n_blocks: int | None


class Manifest(Section):
    """What made a run, in the order in which it is written."""

    manifest_version: int = MANIFEST_VERSION
    # The check stage.
    study_folder: str | None = None
    study: str | None = None
    study_sha256: str | None = None
    root_seed: int | None = None
    versions: dict[str, str] | None = None
    hardware: dict[str, Any] | None = None
    git: GitState | None = None
    model: ModelEntry | None = None
    template: TemplateEntry | None = None
    tasks: tuple[TaskEntry, ...] = ()
    data: dict[str, DataEntry] = {}
    held_out: dict[str, HeldOutEntry] = {}
    finished: dict[str, tuple[FinishedEntry, ...]] = {}
    scan: tuple[ScanEntry, ...] = ()
    messages: MessagesEntry | None = None
    judges: tuple[JudgeEntry, ...] = ()
    # The pipeline: seconds by stage, and counts of each stage's shards.
    stages_s: dict[str, float] = {}
    shards: dict[str, dict[str, float]] = {}
    # The generate stage.
    engine: EngineEntry | None = None
    reproducibility: ReproducibilityEntry | None = None
    endpoint_requests: dict[str, Any] | None = None
    endpoint_seed: EndpointSeedEntry | None = None
    served: ServedEntry | None = None
    # The observe stage: the identity of each judge by name, and what a half-finished study lacks.
    judges_observed: dict[str, str] = {}
    left_out: tuple[LeftOutEntry, ...] = ()
    observations_sha256: str | None = None

    def recorded(self) -> dict[str, Any]:
        """The sections that were written, as JSON has them."""
        return self.model_dump(mode="json", exclude_unset=True)
