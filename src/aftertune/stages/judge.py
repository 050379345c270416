"""Judge: every judgment that is missing, of every response of the study; no model under study is touched."""

import logging
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from aftertune.errors import EngineError
from aftertune.judges import Case, Judge, Judgments, get_judge, needs_reference
from aftertune.judges.added import judges_of
from aftertune.judges.base import judge_without_text, no_values
from aftertune.records import (
    JUDGMENT_COLUMNS,
    RESPONSE_COLUMNS,
    Finish,
    Intent,
    Item,
    JudgmentStatus,
    Progress,
    Response,
    ResponseStatus,
)
from aftertune.store import RunDirectory, read_shards, shard_told, write_shard
from aftertune.study import JudgeSpec

log = logging.getLogger(__name__)

_SHARD_RESPONSES = 2000
_SHARD_S = 60.0  # what a slow judge loses when it is interrupted


def judge(run: RunDirectory, *, progress: Progress) -> None:
    """Judge the responses that each judge, of the study or added, has not judged yet.

    Args:
        run: a run directory with responses.
        progress: told (stage, done, total), in responses × judges × judge repeats.

    A judge whose endpoint is down holds up no other: its judgments are failed ones with the reason, which
    the next run asks for again.

    Raises:
        EngineError: the endpoints of all judges are down.
    """
    study = run.study
    specs, responses = judges_of(run, study), _responses(run)
    works = [_Work.of(run, spec, responses) for spec in specs]
    total = sum(work.concerned.height * work.spec.repeats for work in works)
    n_done = 0
    down: dict[str, EngineError] = {}
    for work in works:
        try:
            for n_judged in work.done():
                n_done += n_judged
                progress("judge", n_done, total)
        except EngineError as error:
            if work.spec.endpoint is None:
                raise
            down[work.spec.name] = error
        else:
            if work.spec.endpoint is not None and (reason := work.all_failed()):
                remedy = "remove the cause, and run the same command again"
                what = f"every judgment of {work.spec.name} failed: {reason}"
                down[work.spec.name] = EngineError(what, remedy)
    for work in works:
        if work.spec.name in down and len(down) == len(works):
            raise down[work.spec.name]
        if work.spec.name in down:
            reason = str(down[work.spec.name]).splitlines()[0]
            n_failed = work.given_up(reason)
            log.warning(
                "judge %s did not finish: %s; %d judgments count as failed, "
                "and the same command asks for them again",
                work.spec.name,
                reason,
                n_failed,
            )


@dataclass(frozen=True, eq=False)
class _Work:
    """One judge, and the responses that it says something of."""

    run: RunDirectory
    spec: JudgeSpec
    judge: Judge
    concerned: pl.DataFrame

    @classmethod
    def of(cls, run: RunDirectory, spec: JudgeSpec, responses: pl.DataFrame) -> "_Work":
        judge = get_judge(spec)
        return cls(run, spec, judge, _concerned(judge, responses))

    @property
    def folder(self) -> Path:
        """Where its judgments are kept."""
        return self.run.judgments(self.judge.name, self.judge.sha256)

    def done(self) -> Iterator[int]:
        """Judge what is missing; yields how many responses are done, first those that were before."""
        judged = self._judged()
        for repeat in range(self.spec.repeats):
            missing = _missing(self.concerned, judged.filter(pl.col("judge_repeat") == repeat))
            yield self.concerned.height - missing.height
            for cases in _cases(missing):
                yield from self._kept_as_they_come(self.judge.judge(cases, repeat=repeat))

    def given_up(self, reason: str) -> int:
        """Write down that the endpoint gave no judgment of the rest; how many there are of one construct."""
        n_failed = 0
        for repeat in range(self.spec.repeats):
            said = self._judged().filter(pl.col("judge_repeat") == repeat)["response_key"]
            rest = self.concerned.filter(~pl.col("key").is_in(said.implode()))
            n_failed += rest.height
            for cases in _cases(rest):
                failed = (
                    judge_without_text(case, self.judge, repeat=repeat)
                    or no_values(case, self.judge, JudgmentStatus.FAILED, reason=reason, repeat=repeat)
                    for case in cases
                )
                for _ in self._kept_as_they_come(failed):
                    pass
        return n_failed

    def all_failed(self) -> str:
        """The most frequent reason, where the judgment of every response with a text failed; "" elsewhere."""
        texts = self.concerned.filter(pl.col("status") == ResponseStatus.OK)["key"]
        said = self._judged().filter(pl.col("response_key").is_in(texts.implode()))
        failed = said.filter(pl.col("status") == JudgmentStatus.FAILED)
        if failed.is_empty() or failed["response_key"].n_unique() < texts.n_unique():
            return ""
        good = said.filter(pl.col("status") != JudgmentStatus.FAILED)
        return "" if good.height else str(Counter(failed["reason"]).most_common(1)[0][0])

    def _judged(self) -> pl.DataFrame:
        return read_shards(self.folder, JUDGMENT_COLUMNS, aside=self.run.aside)

    def _kept_as_they_come(self, judged: Iterator[Judgments]) -> Iterator[int]:
        """Write shards as judgments come, also those before a fault; yields how many responses each has."""
        rows: list[dict[str, object]] = []
        n_waiting, last = 0, time.monotonic()

        def publish() -> None:
            nonlocal rows, n_waiting, last
            if rows:
                path = write_shard(self.folder, rows, JUDGMENT_COLUMNS)
                seconds = time.monotonic() - last
                shard_told(self.run, "judge", path, len(rows), seconds, done=n_waiting)
            rows, n_waiting, last = [], 0, time.monotonic()

        try:
            for judgments in judged:
                rows += [asdict(judgment) for judgment in judgments]
                n_waiting += 1
                if time.monotonic() - last > _SHARD_S:
                    n_published = n_waiting
                    publish()
                    yield n_published
        finally:
            n_published = n_waiting
            publish()
        yield n_published


def _concerned(a_judge: Judge, responses: pl.DataFrame) -> pl.DataFrame:
    """The responses that a judge says something of."""
    return responses.filter(pl.col("reference").is_not_null()) if needs_reference(a_judge) else responses


def _missing(responses: pl.DataFrame, judged: pl.DataFrame) -> pl.DataFrame:
    """What was not judged, and what a judge failed on though there is a response: it may have been down."""
    failed = judged.filter(pl.col("status") == JudgmentStatus.FAILED)["response_key"].implode()
    again = pl.col("key").is_in(failed) & (pl.col("status") != ResponseStatus.FAILED)
    return responses.filter(~pl.col("key").is_in(judged["response_key"].implode()) | again)


def _responses(run: RunDirectory) -> pl.DataFrame:
    """The study's responses that are there, with their items."""
    requests = run.read_table(run.requests).select("key", "task", "item")
    items = run.read_table(run.items).select("task", "item", "prompt", "category", "reference", "intent")
    responses = run.read_responses()
    return (
        requests.unique("key", keep="first", maintain_order=True)
        .join(responses.drop("task", "item"), on="key", how="inner", maintain_order="left")
        .join(items, on=["task", "item"], how="left", maintain_order="left")
    )


def _cases(responses: pl.DataFrame) -> Iterator[list[Case]]:
    """So many at a time that an interruption costs little."""
    for part in responses.iter_slices(_SHARD_RESPONSES):
        yield [_case(entry) for entry in part.iter_rows(named=True)]


def _case(entry: dict[str, Any]) -> Case:
    item = Item(entry["item"], entry["prompt"], entry["category"], entry["reference"])
    fields = {name: entry[name] for name in RESPONSE_COLUMNS}
    fields["finish"] = None if fields["finish"] is None else Finish(fields["finish"])
    fields["status"] = ResponseStatus(fields["status"])
    return Case(item, Intent(entry["intent"]), Response(**fields))
