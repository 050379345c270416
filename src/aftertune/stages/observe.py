"""Observe: join requests, responses and judgments into the one table that all statistics start from."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from aftertune.errors import StoreError
from aftertune.judges import Judge, get_judge, needs_reference
from aftertune.judges.added import judges_of
from aftertune.records import JUDGMENT_COLUMNS, OBSERVATION_COLUMNS, JudgmentStatus
from aftertune.store import RunDirectory, parquet_of, read_shards, replace
from aftertune.study import JudgeSpec

# What a half-finished study is cut to: a judge's judgments of one draw of a whole task from one checkpoint.
_REQUESTS_AT_A_TIME = 20_000
_JUDGED = ("response_key", "judge_repeat", "construct", "value", "status", "reason")
_BLOCK = ("checkpoint", "task", "decoding", "repeat")


def observe(run: RunDirectory, *, partial: bool = False) -> None:
    """Write `observations.parquet`, the baseline's rows first and then each variation's.

    The same study gives the same bytes, however its run was interrupted.

    Args:
        run: a run directory with responses and judgments.
        partial: take a half-finished study as far as it is balanced: draws of a whole task from one
            checkpoint, judged by one judge, are in the table whole or not at all. What is left out is counted
            in the manifest, and the analysis is labelled.

    Raises:
        StoreError: responses or judgments of the study are not there yet (of a partial one: all of them).
    """
    study = run.study
    left_out: list[dict[str, Any]] = []
    sizes: list[int] = []

    def rows() -> Iterator[pl.DataFrame]:
        for part in run.parts():
            if partial and not part.requests.is_file():
                left_out.append({"variation": part.variation, "judge": None, "n_blocks": None})
                continue
            table = _Table.read(part)
            judged, lost = table.judged(partial=partial)
            left_out.extend({"variation": part.variation, "judge": j, "n_blocks": n} for j, n in lost.items())
            named = {"study": study.name, "variation": part.variation}
            for frame in table.rows(judged):
                sizes.append(frame.height)
                yield frame.with_columns(*(pl.lit(value).alias(name) for name, value in named.items()))
            # A judge's rules may change before the analysis: what was observed is what these versions judged.
            part.update_manifest(judges_observed=table.versions)

    content = parquet_of(rows(), OBSERVATION_COLUMNS)
    if not any(sizes):
        raise StoreError(
            f"{run.root} has no draw of a whole task that a judge has judged", "run `aftertune run`"
        )
    replace(run.observations, content)
    run.update_manifest(left_out=left_out, observations_sha256=hashlib.sha256(content).hexdigest())


@dataclass(frozen=True, eq=False)
class _Judged:
    """A judge's judgments of the requests that concern it: `asked` is order and id, `found` is by id."""

    judge: str
    asked: pl.DataFrame
    found: pl.DataFrame


@dataclass(frozen=True, eq=False)
class _Table:
    """What one variation (or the baseline) asked for, and what is there of it.

    A response is known by a number, its `id`: keys are long, there are millions, and two decodings of one
    content share one.
    """

    run: RunDirectory
    requests: pl.DataFrame  # in their order, which is a number
    items: pl.DataFrame
    keys: pl.DataFrame  # key and id
    drawn: pl.DataFrame  # id and finish of those that have a response
    judges: list[tuple[JudgeSpec, Judge]]

    @classmethod
    def read(cls, run: RunDirectory) -> "_Table":
        study = run.study
        requests = run.read_table(run.requests).with_row_index("order")
        items = run.read_table(run.items).select("task", "item", "category", "intent", "reference")
        keys = requests.select("key").unique(maintain_order=True).with_row_index("id")
        drawn = run.read_responses("key", "status", "finish").join(keys, on="key").select("id", "finish")
        requests = requests.join(keys, on="key", how="left", maintain_order="left")
        judges = [(spec, get_judge(spec)) for spec in judges_of(run, study)]
        return cls(run, requests, items, keys, drawn, judges)

    @property
    def versions(self) -> dict[str, str]:
        """The judges' versions, by name."""
        return {spec.name: a_judge.sha256 for spec, a_judge in self.judges}

    def judged(self, *, partial: bool) -> tuple[list[_Judged], Counter[str]]:
        """What each judge judged, and how many of its blocks were left out.

        Raises:
            StoreError: responses or judgments are missing, and not `partial`.
        """
        if not partial:
            n_drawn = self.requests.join(self.drawn, on="id", how="semi").height
            n = self.requests.height
            _refuse_gaps(n - n_drawn, n, "responses", "aftertune generate")
        parts: list[_Judged] = []
        lost = Counter[str]()
        for spec, a_judge in self.judges:
            asked = self._asked(a_judge)
            found = self._found(spec, a_judge, asked)
            if partial:
                whole = self._whole_blocks(asked, found, n_judge_repeats=spec.repeats)
                blocks = asked.join(self.requests.select("order", *_BLOCK), on="order")
                lost[spec.name] = blocks.select(_BLOCK).n_unique() - whole.height
                asked = blocks.join(whole, on=_BLOCK, how="semi").select("order", "id")
            else:
                n_wanted = asked["id"].n_unique() * spec.repeats
                n_there = found.select("id", "judge_repeat").n_unique()
                _refuse_gaps(n_wanted - n_there, n_wanted, f"judgments by {spec.name}", "aftertune judge")
            parts.append(_Judged(spec.name, asked, found))
        return parts, +lost

    def rows(self, judged: list[_Judged]) -> Iterator[pl.DataFrame]:
        """The observations, so many requests at a time: a table of millions is never in memory whole."""
        for start in range(0, self.requests.height, _REQUESTS_AT_A_TIME):
            requests = self.requests.slice(start, _REQUESTS_AT_A_TIME)
            requests = requests.join(self.items, on=["task", "item"], how="left")
            here = pl.col("order").is_between(start, start + requests.height - 1)
            frames = [
                one.asked.filter(here)
                .join(self.drawn, on="id")
                .join(one.found, on="id")
                .with_columns(pl.lit(place).alias("judge_order"), pl.lit(one.judge).alias("judge"))
                for place, one in enumerate(judged)
            ]
            table = pl.concat(frames).sort("order", "judge_order", "judge_repeat", "construct")
            table = table.join(requests.drop("id"), on="order", how="left", maintain_order="left")
            yield table.rename({"key": "response_key"})

    def _asked(self, judge: Judge) -> pl.DataFrame:
        """Order and id of the requests that concern a judge."""
        if not needs_reference(judge):
            return self.requests.select("order", "id")
        concerning = self.items.filter(pl.col("reference").is_not_null())
        return self.requests.join(concerning, on=["task", "item"], how="semi").select("order", "id")

    def _found(self, spec: JudgeSpec, a_judge: Judge, asked: pl.DataFrame) -> pl.DataFrame:
        """The judge's last word on each response, repeat and construct."""
        folder = self.run.judgments(spec.name, a_judge.sha256)
        found = read_shards(folder, JUDGMENT_COLUMNS, aside=self.run.aside, only=_JUDGED)
        found = found.filter(pl.col("judge_repeat") < spec.repeats)
        found = found.join(self.keys, left_on="response_key", right_on="key", maintain_order="left")
        found = found.drop("response_key").join(asked, on="id", how="semi", maintain_order="left")
        # A judge that failed was asked again: what it said then stands.
        found = found.sort(pl.col("status") == JudgmentStatus.FAILED, maintain_order=True)
        return found.unique(["id", "judge_repeat", "construct"], keep="first", maintain_order=True)

    def _whole_blocks(
        self, asked: pl.DataFrame, found: pl.DataFrame, *, n_judge_repeats: int
    ) -> pl.DataFrame:
        """The blocks in which every response is there and judged as often as it should be."""
        times = found.select("id", "judge_repeat").unique().group_by("id").len("times")
        blocks = asked.join(self.requests.select("order", *_BLOCK), on="order")
        there = blocks.join(self.drawn, on="id", how="semi")
        there = there.join(times.filter(pl.col("times") == n_judge_repeats), on="id")
        wanted = blocks.group_by(_BLOCK).len("wanted")
        whole = wanted.join(there.group_by(_BLOCK).len("there"), on=_BLOCK)
        return whole.filter(pl.col("wanted") == pl.col("there")).select(_BLOCK)


def _refuse_gaps(n_missing: int, n: int, what: str, command: str) -> None:
    if n_missing:
        raise StoreError(
            f"{n_missing} of {n} {what} are not there yet",
            f"run `{command}`, or `aftertune run`; `aftertune observe --partial` takes what is whole",
        )
