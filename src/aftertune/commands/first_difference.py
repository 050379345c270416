"""Two runs of one study, place by place: how much is the same, and the first difference by name."""

from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from aftertune.commands.compare import parts_of, responses_of
from aftertune.commands.tasks import visible
from aftertune.records import BASELINE, Checkpoint
from aftertune.store import RunDirectory

_DRAW = ["variation", "checkpoint", "task", "item", "decoding", "repeat"]
_JUDGED = [*_DRAW, "judge", "judge_repeat", "construct"]
_BEFORE, _AFTER = 20, 40  # characters of an excerpt, before the place where two texts part and after it


@dataclass(frozen=True, slots=True)
class FirstDifference:
    """Where the second run is first another: what, in which place, and how.

    `offset` counts the characters that two texts share at their beginning; `a` and `b` are then excerpts
    around it. Of what is missing the text is None.
    """

    what: Literal["checkpoint", "response", "judgment"]
    place: dict[str, Any]
    how: str
    offset: int | None = None
    a: str | None = None
    b: str | None = None

    def in_words(self) -> str:
        """`response chat/1 · mini-harm · h-3 · sampled · repeat 2: the texts part at character 17: …`."""
        parts = [f"{key} {value}" if "repeat" in key else str(value) for key, value in self.place.items()]
        if self.place.get("variation") == BASELINE:
            parts = parts[1:]
        where = visible(" · ".join(parts))
        texts = "" if self.offset is None else f": {visible(self.a or '')!r}, and {visible(self.b or '')!r}"
        return f"{self.what} {where}: {self.how}{texts}"


@dataclass(frozen=True, slots=True)
class Matched:
    """Counts over the first run's checkpoints, responses and judgments, and the first difference.

    A response is the same where text, finish and status are; `n_other_keys` of these have another key.
    `n_found_responses` have a response at their place in the second run. `first` looks at checkpoints first,
    then responses, then judgments.
    """

    n_checkpoints: int
    n_same_checkpoints: int
    n_responses: int
    n_found_responses: int
    n_same_responses: int
    n_other_keys: int
    n_judgments: int
    n_same_judgments: int
    first: FirstDifference | None

    @property
    def same_judgments(self) -> bool:
        """Whether every judgment is the same, so that every number is."""
        return self.n_same_judgments == self.n_judgments


def match_runs(a: RunDirectory, b: RunDirectory) -> Matched:
    """Hold two finished runs of one study against each other.

    Raises:
        StoreError: a file of one of them is missing.
    """
    one, two = _checkpoints(a), _checkpoints(b)
    other_weights = _other_weights(one, two)
    drawn = _joined(responses_of(a), responses_of(b), _DRAW, ["key", "text", "finish", "status"])
    same = _equal("text") & _equal("finish") & _equal("status") & pl.col("there").is_not_null()
    other_drawn = drawn.filter(~same)
    judged = _joined(
        pl.read_parquet(a.observations), pl.read_parquet(b.observations), _JUDGED, ["value", "status"]
    )
    same_judged = _equal("value") & _equal("status") & pl.col("there").is_not_null()
    other_judged = judged.filter(~same_judged)
    first = other_weights or _first_response(other_drawn) or _first_judgment(other_judged)
    return Matched(
        n_checkpoints=len(one),
        n_same_checkpoints=sum(_content(c) == _content(two.get(place)) for place, c in one.items()),
        n_responses=drawn.height,
        n_found_responses=drawn["there"].count(),
        n_same_responses=drawn.height - other_drawn.height,
        n_other_keys=drawn.filter(same & ~_equal("key")).height,
        n_judgments=judged.height,
        n_same_judgments=judged.height - other_judged.height,
        first=first,
    )


_Place = tuple[str, str]  # variation, and the checkpoint's label


def _checkpoints(run: RunDirectory) -> dict[_Place, Checkpoint]:
    found: dict[_Place, Checkpoint] = {}
    for name, part in parts_of(run).items():
        for entry in run.read_json(part.checkpoint_list):
            checkpoint = Checkpoint.from_json(entry)
            found[name, checkpoint.label] = checkpoint
    return found


def _content(checkpoint: Checkpoint | None) -> tuple[str, str | None] | None:
    return None if checkpoint is None else (checkpoint.status.value, checkpoint.sha256)


def _other_weights(a: dict[_Place, Checkpoint], b: dict[_Place, Checkpoint]) -> FirstDifference | None:
    for place, theirs in a.items():
        ours = b.get(place)
        if _content(theirs) != _content(ours):
            how = "other weights"
            if ours is None:
                how = "there is none"
            elif theirs.status is not ours.status:
                why = ours.reason or theirs.reason
                how = f"it was {theirs.status.value}, and is {ours.status.value} ({why})"
            return FirstDifference("checkpoint", dict(zip(_DRAW, place, strict=False)), how)
    return None


def _joined(a: pl.DataFrame, b: pl.DataFrame, place: list[str], values: list[str]) -> pl.DataFrame:
    """The rows of `a` in their order, and `b`'s values beside them; `there` is null where it has none."""
    theirs = b.select(*place, *(pl.col(name).alias(f"{name}_b") for name in values), there=pl.lit(1))
    ours = a.select(*place, *values)
    return ours.join(theirs, on=place, how="left", maintain_order="left", validate="1:1")


def _equal(name: str) -> pl.Expr:
    return pl.col(name).eq_missing(pl.col(f"{name}_b"))


def _first_response(other: pl.DataFrame) -> FirstDifference | None:
    if other.is_empty():
        return None
    row = other.row(0, named=True)
    place = {name: row[name] for name in _DRAW}
    if row["there"] is None:
        return FirstDifference("response", place, "there is none")
    a, b = row["text"], row["text_b"]
    if a == b:
        words = [f"{row[name]} before, {row[f'{name}_b']} now" for name in ("finish", "status")]
        return FirstDifference("response", place, f"the same text, finish {words[0]}, status {words[1]}")
    if a is None or b is None:
        words = [f"{row[f'status{side}']} ({_length(row[f'text{side}'])})" for side in ("", "_b")]
        return FirstDifference("response", place, f"{words[0]} before, {words[1]} now")
    offset = parting(a, b)
    start = max(offset - _BEFORE, 0)
    excerpts = (text[start : offset + _AFTER] for text in (a, b))
    return FirstDifference("response", place, f"the texts part at character {offset}", offset, *excerpts)


def _length(text: str | None) -> str:
    return "no text" if text is None else f"{len(text):,} characters"


def parting(a: str, b: str) -> int:
    """How many characters two texts share at their beginning."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(a), len(b)))


def _first_judgment(other: pl.DataFrame) -> FirstDifference | None:
    if other.is_empty():
        return None
    row = other.row(0, named=True)
    place = {name: row[name] for name in _JUDGED}
    if row["there"] is None:
        return FirstDifference("judgment", place, "there is none")
    was, now = (_judged(row["value" + side], row["status" + side]) for side in ("", "_b"))
    return FirstDifference("judgment", place, f"{was} before, {now} now")


def _judged(value: float | None, status: str) -> str:
    return status if value is None else f"{value:g}"
