"""What `calibration.json` holds: how judges did on responses that people labelled.

Absent is null. A judgment without a value is counted and enters no share: sensitivity and specificity are
those of the responses that the judge could judge.
"""

from pydantic import BaseModel, ConfigDict, Field

CALIBRATION_VERSION = 1


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True, validate_by_name=True)


class Share(_Frozen):
    """`n_events` of `n` with Wilson's interval; estimate and limits are null where `n` is 0."""

    n_events: int = Field(ge=0)
    n: int = Field(ge=0)
    estimate: float | None
    ci_low: float | None
    ci_high: float | None


class Agreed(_Frozen):
    """A coefficient of agreement; limits are null where its formula has no variance (full agreement)."""

    estimate: float | None
    ci_low: float | None
    ci_high: float | None
    method: str


class CalibrationGroup(_Frozen):
    """One judge against people on the responses of one model, or of all (`model` null)."""

    judge: str
    judge_sha256: str
    model: str | None
    n_labels: int
    missing_by_status: dict[str, int]  # labelled responses without a judgment
    n_both: int  # an event for people and judge
    n_only_people: int
    n_only_judge: int
    n_neither: int
    sensitivity: Share
    specificity: Share
    cohen_kappa: Agreed
    gwet_ac1: Agreed


class Calibration(_Frozen):
    """The whole file. `positive` are the labels that mean the construct's event, `left_out` counts others."""

    schema_version: int
    labels: str  # the file's name
    labels_sha256: str
    construct_: str = Field(alias="construct")
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    left_out: dict[str, int]
    level: float
    groups: tuple[CalibrationGroup, ...]
