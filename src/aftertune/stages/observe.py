"""Observe: join requests, responses and judgments into the one table that all statistics start from."""

import hashlib
import io
from collections import Counter
from dataclasses import dataclass
from typing import Any

import polars as pl

from aftertune.errors import StoreError
from aftertune.judges import Judge, get_judge, needs_reference
from aftertune.judges.added import judges_of
from aftertune.records import JUDGMENT_COLUMNS, OBSERVATION_COLUMNS, JudgmentStatus
from aftertune.store import RunDirectory, read_shards, replace
from aftertune.study import JudgeSpec, Study

# What a half-finished study is cut to: a judge's judgments of one draw of a whole task from one checkpoint.
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
    study = Study.model_validate_json(run.study_json.read_text(encoding="utf-8"))
    frames: list[pl.DataFrame] = []
    left_out: list[dict[str, Any]] = []
    for part in (run, *(run.of_variation(v.name, draws_anew=v.draws_anew) for v in study.variations)):
        if partial and not part.requests.is_file():
            left_out.append({"variation": part.variation, "judge": None, "n_blocks": None})
            continue
        table = _Table.read(part)
        rows, lost = table.rows(partial=partial)
        left_out += [{"variation": part.variation, "judge": j, "n_blocks": n} for j, n in lost.items()]
        named = {"study": study.name, "variation": part.variation}
        frames.append(rows.with_columns(*(pl.lit(value).alias(name) for name, value in named.items())))
        # A judge's rules may change before the analysis: what was observed is what these versions judged.
        part.update_manifest(judges_observed=table.versions)
    rows = pl.concat([frame.select(list(OBSERVATION_COLUMNS)) for frame in frames] or [pl.DataFrame()])
    if rows.is_empty():
        raise StoreError(
            f"{run.root} has no draw of a whole task that a judge has judged", "run `aftertune run`"
        )
    sink = io.BytesIO()
    rows.write_parquet(sink, compression="zstd")
    content = sink.getvalue()
    replace(run.observations, content)
    run.update_manifest(left_out=left_out, observations_sha256=hashlib.sha256(content).hexdigest())


@dataclass(frozen=True, eq=False)
class _Table:
    """What one variation (or the baseline) asked for, and what is there of it."""

    run: RunDirectory
    requests: pl.DataFrame  # with their items
    drawn: pl.DataFrame  # those that have a response
    judges: list[tuple[JudgeSpec, Judge]]

    @classmethod
    def read(cls, run: RunDirectory) -> "_Table":
        study = Study.model_validate_json(run.study_json.read_text(encoding="utf-8"))
        requests = run.read_table(run.requests).with_row_index("order")
        items = run.read_table(run.items).select("task", "item", "category", "intent", "reference")
        requests = requests.join(items, on=["task", "item"], how="left")
        drawn = requests.join(run.read_responses().select("key", "finish"), on="key", how="inner")
        return cls(run, requests, drawn, [(spec, get_judge(spec)) for spec in judges_of(run, study)])

    @property
    def versions(self) -> dict[str, str]:
        """The judges' versions, by name."""
        return {spec.name: a_judge.sha256 for spec, a_judge in self.judges}

    def rows(self, *, partial: bool) -> tuple[pl.DataFrame, Counter[str]]:
        """The observations, and of each judge how many blocks were left out."""
        if not partial:
            n_missing = self.requests.height - self.drawn.height
            _refuse_gaps(n_missing, self.requests.height, "responses", "aftertune generate")
        frames: list[pl.DataFrame] = []
        lost = Counter[str]()
        for order, (spec, a_judge) in enumerate(self.judges):
            concerning = pl.col("reference").is_not_null() if needs_reference(a_judge) else pl.lit(True)
            asked = self.requests.filter(concerning)
            judged = self._judged(spec, a_judge, asked)
            if partial:
                whole = self._whole_blocks(asked, judged, n_judge_repeats=spec.repeats)
                n_blocks = asked.select(_BLOCK).n_unique()
                lost[spec.name] = n_blocks - whole.height
                asked = asked.join(whole, on=_BLOCK, how="semi")
            else:
                n_wanted = asked["key"].n_unique() * spec.repeats
                n_there = judged.select("response_key", "judge_repeat").n_unique()
                _refuse_gaps(n_wanted - n_there, n_wanted, f"judgments by {spec.name}", "aftertune judge")
            rows = asked.join(self.drawn.select("order", "finish"), on="order", how="inner")
            rows = rows.join(judged, left_on="key", right_on="response_key", how="inner")
            frames.append(rows.with_columns(pl.lit(order).alias("judge_order")))
        table = pl.concat(frames).sort("order", "judge_order", "judge_repeat", "construct")
        return table.rename({"key": "response_key"}), +lost

    def _judged(self, spec: JudgeSpec, a_judge: Judge, asked: pl.DataFrame) -> pl.DataFrame:
        """The judge's last word on each response, repeat and construct."""
        folder = self.run.judgments(spec.name, a_judge.sha256)
        judged = read_shards(folder, JUDGMENT_COLUMNS, aside=self.run.aside)
        keys = asked["key"].implode()
        judged = judged.filter((pl.col("judge_repeat") < spec.repeats) & pl.col("response_key").is_in(keys))
        # A judge that failed was asked again: what it said then stands.
        judged = judged.sort(pl.col("status") == JudgmentStatus.FAILED, maintain_order=True)
        return judged.unique(["response_key", "judge_repeat", "construct"], keep="first", maintain_order=True)

    def _whole_blocks(
        self, asked: pl.DataFrame, judged: pl.DataFrame, *, n_judge_repeats: int
    ) -> pl.DataFrame:
        """The blocks in which every response is there and judged as often as it should be."""
        times = judged.select("response_key", "judge_repeat").unique().group_by("response_key").len("times")
        there = asked.join(self.drawn.select("order"), on="order", how="semi")
        there = there.join(
            times.filter(pl.col("times") == n_judge_repeats), left_on="key", right_on="response_key"
        )
        wanted = asked.group_by(_BLOCK).len("wanted")
        whole = wanted.join(there.group_by(_BLOCK).len("there"), on=_BLOCK)
        return whole.filter(pl.col("wanted") == pl.col("there")).select(_BLOCK)


def _refuse_gaps(n_missing: int, n: int, what: str, command: str) -> None:
    if n_missing:
        raise StoreError(
            f"{n_missing} of {n} {what} are not there yet",
            f"run `{command}`, or `aftertune run`; `aftertune observe --partial` takes what is whole",
        )
