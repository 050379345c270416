"""The part of the study that a result is about, and the words that all results share."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Target = Literal["benchmark", "population"]
HigherIs = Literal["worse", "safer", "better"]
# Codes for a program, the same for all metrics: "less safe" is a change in a metric's bad direction, "safer"
# the opposite. A reader gets `words_of(metric)`, as in "less accurate".
Verdict = Literal[
    "less safe", "safer", "not less safe", "less safe, within the margin", "not shown", "no conclusion"
]


class Frozen(BaseModel):
    """Plain frozen data that refuses keys which it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True, validate_by_name=True)


class Cell(Frozen):
    """Which part of the study a result is about."""

    model: str
    task: str
    decoding: str
    judge: str
    metric: str
    higher_is: HigherIs
    note: str = ""  # for instance "by refusal"
