"""`aftertune status`: how far a run is, from its files alone, while it goes on or after.

It takes no lock, writes nothing and sets nothing aside, so that it never disturbs the process at work.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from aftertune.commands.tasks import visible
from aftertune.errors import StoreError
from aftertune.judges import Judge, get_judge, needs_reference
from aftertune.judges.added import judges_of
from aftertune.records import BASELINE, JudgmentStatus, ResponseStatus
from aftertune.records.manifest import Manifest, ServedEntry
from aftertune.records.progress import Left, Part, RunProgress, Spent, State
from aftertune.store import RunDirectory, content_key, read_events, run_at
from aftertune.study import FinishedRecipe, ServedRecipe, Study

_LOCKS = Path("/proc/locks")
_REASONS = 3
_HINTS = {"interrupted": "; run the same command again to go on", "not begun": "; `aftertune run` begins it"}


def status(directory: Path) -> RunProgress:
    """Where a run stands.

    Raises:
        StoreError: the directory is no run, or of a newer aftertune.
    """
    run = run_at(directory)
    study, manifest = run.study, run.read_manifest()
    # The log first: a shard is there before its line, so what is told of is among what is then counted.
    process, events = _holder(run), _Events.of(run)
    watched = _Watched(run)
    runs = run.parts()
    parts = tuple(part for one in runs if one.study_json.is_file() for part in watched.parts(one))
    written = {name: getattr(run, name).exists() for name in ("observations", "analysis", "report")}
    whole = all(part.missing == 0 for part in parts) and all(written.values())
    state: State = "at work" if process is not None else "finished" if whole else "interrupted"
    if state == "interrupted" and not events.last:
        state = "not begun"
    stage = events.stage if process is not None else None
    return RunProgress(
        run=str(directory),
        study=study.name,
        state=state,
        process=process,
        stage=stage,
        since=events.began if process is not None else None,
        last_event=events.last.get("event"),
        last_event_at=events.last.get("at"),
        parts=parts,
        written=written,
        spent=_spent(manifest, events, at_work=process is not None),
        left=_left(stage, parts, events),
        unreadable=tuple(watched.unreadable),
    )


def status_lines(found: RunProgress) -> list[str]:
    """The state in words."""
    who = f", process {found.process} since {found.since}" if found.process is not None else ""
    lines = [f"{visible(found.study)}: {found.state}{who}{_HINTS.get(found.state, '')}"]
    for part in found.parts:
        of = "" if part.wanted is None else f" of {part.wanted}"
        more = f", {part.failed} failed" if part.failed else ""
        more += f", {part.missing} missing" if part.missing else ""
        varied = "" if part.variation == BASELINE else f" · {visible(part.variation)}"
        lines.append(f"  {part.stage}{varied}: {part.done}{of} {visible(part.what)}{more}")
        lines += [f"    {n} × {visible(reason, 160)}" for reason, n in part.reasons.items()]
    there = [name for name, is_there in found.written.items() if is_there]
    lines.append(f"  written: {', '.join(there) or 'nothing yet'}")
    spent = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in found.spent.stages_s.items())
    lines.append(f"  spent: {spent or 'nothing yet'}")
    if found.spent.tokens_in is not None:
        usd = "" if found.spent.usd is None else f", {found.spent.usd:.2f} USD"
        lines.append(f"  endpoint: {found.spent.tokens_in} tokens in, {found.spent.tokens_out} out{usd}")
    if found.left.seconds is not None:
        lines.append(f"  left of {found.left.stage}: about {found.left.seconds:.0f} s")
    elif found.state == "at work":
        lines.append(f"  left: unknown, {found.left.why_not}")
    if found.last_event is not None:
        lines.append(f"  last event: {visible(found.last_event)} at {found.last_event_at}")
    lines += [f"  cannot be read: {visible(path)}" for path in found.unreadable]
    return lines


@dataclass(eq=False)
class _Watched:
    """Counts what is there; keeps the names of files that cannot be read."""

    run: RunDirectory
    unreadable: list[str] = field(default_factory=list)

    def parts(self, run: RunDirectory) -> Iterator[Part]:
        """The trainings, the responses and each judge's judgments of the study or of a variation."""
        study = run.study
        yield self._trainings(run, study)
        wanted = self._requests(run)
        yield self._responses(run, study, wanted)
        for spec in judges_of(run, study):
            judge = get_judge(spec)
            keys = wanted if wanted is None or not needs_reference(judge) else self._answerable(run, wanted)
            yield self._judgments(run, judge, keys, spec.repeats)

    def _trainings(self, run: RunDirectory, study: Study) -> Part:
        trained = [
            name for name, r in study.recipes.items() if not isinstance(r, FinishedRecipe | ServedRecipe)
        ]
        wanted = {(name, seed) for name in trained for seed in study.seed_list}
        found: dict[tuple[str, int], dict[str, Any]] = {}
        for name in trained:
            for record in (run.checkpoints / name).glob("seed-*/checkpoint.json"):
                entry = self._json(record)
                if isinstance(entry, dict) and (name, entry.get("seed")) in wanted:
                    found[name, entry["seed"]] = entry
        bad = [entry for entry in found.values() if entry.get("status") != "ok"]
        reasons = Counter(f"{entry.get('status')}: {entry.get('reason')}" for entry in bad)
        return _part("tune", "trainings", run, len(wanted), len(found) - len(bad), len(bad), reasons)

    def _requests(self, run: RunDirectory) -> pl.DataFrame | None:
        """The keys that are wanted, and their items; None before they were written."""
        if not run.requests.is_file():
            return None
        found = self._table(run.requests, ["key", "task", "item"])
        return None if found is None else found.unique("key")

    def _answerable(self, run: RunDirectory, wanted: pl.DataFrame) -> pl.DataFrame:
        items = self._table(run.items, ["task", "item", "reference"])
        assert items is not None
        return wanted.join(items.drop_nulls("reference"), on=["task", "item"], how="semi")

    def _responses(self, run: RunDirectory, study: Study, wanted: pl.DataFrame | None) -> Part:
        found = self._shards(run.responses, ["key", "status", "reason"])
        if wanted is None:
            items = self._table(run.items, ["item"]) if run.items.is_file() else None
            n = None if items is None else _planned(study, items.height)
            return _part("generate", "responses", run, n, 0, 0, Counter[str]())
        found = found.join(wanted, on="key", how="semi")
        good = found.filter(pl.col("status") != ResponseStatus.FAILED)["key"].n_unique()
        failed = found.filter(
            (pl.col("status") == ResponseStatus.FAILED)
            & ~pl.col("key").is_in(found.filter(pl.col("status") != ResponseStatus.FAILED)["key"].implode())
        ).unique("key")
        return _part(
            "generate", "responses", run, wanted.height, good, failed.height, Counter(failed["reason"])
        )

    def _judgments(self, run: RunDirectory, judge: Judge, wanted: pl.DataFrame | None, repeats: int) -> Part:
        folder = run.judgments(judge.name, judge.sha256)
        found = self._shards(folder, ["response_key", "judge_repeat", "status", "reason"])
        cell = ["response_key", "judge_repeat"]
        if wanted is not None:
            found = found.join(wanted, left_on="response_key", right_on="key", how="semi")
        found = found.filter(pl.col("judge_repeat") < repeats)
        good = found.filter(pl.col("status") != JudgmentStatus.FAILED).unique(cell)
        failed = found.join(good, on=cell, how="anti").unique(cell)
        n = None if wanted is None else wanted.height * repeats
        what = f"responses judged by {judge.name}"
        return _part("judge", what, run, n, good.height, failed.height, Counter(failed["reason"]))

    def _shards(self, folder: Path, columns: list[str]) -> pl.DataFrame:
        frames = [pl.DataFrame(schema={c: pl.Int64 if c == "judge_repeat" else pl.String for c in columns})]
        frames += [
            f for path in sorted(folder.glob("*.parquet")) if (f := self._table(path, columns)) is not None
        ]
        return pl.concat(frames)

    def _table(self, path: Path, columns: list[str]) -> pl.DataFrame | None:
        try:
            return pl.read_parquet(path, columns=columns)
        except (OSError, pl.exceptions.PolarsError):
            if path.exists():  # it may have been replaced meanwhile
                self.unreadable.append(str(path))
            return None

    def _json(self, path: Path) -> Any:
        try:
            return self.run.read_json(path)
        except StoreError:
            self.unreadable.append(str(path))
            return None


@dataclass(frozen=True)
class _Events:
    """Of the log: its last line, and the last process's stage with what it did there."""

    last: dict[str, Any]
    began: str | None
    stage: str | None
    stage_at: str | None
    shards: int
    rows: int

    @classmethod
    def of(cls, run: RunDirectory) -> "_Events":
        last: dict[str, Any] = {}
        began = stage = stage_at = None
        shards = rows = 0
        for entry in read_events(run.log):
            last = entry
            if entry["event"] == "run begins":
                began, stage, stage_at = entry.get("at"), None, None
            elif entry["event"] == "stage begins":
                stage, stage_at, shards, rows = entry.get("stage"), entry.get("at"), 0, 0
            elif entry["event"] in ("shard", "training") and entry.get("stage") == stage:
                shards, rows = shards + 1, rows + int(entry.get("done", 1))
        return cls(last, began, stage, stage_at, shards, rows)

    @property
    def stage_s(self) -> float | None:
        """Seconds since the stage began, None where the clock jumped back behind it."""
        if self.stage_at is None:
            return None
        seconds = (datetime.now(UTC) - datetime.fromisoformat(self.stage_at)).total_seconds()
        return seconds if seconds > 0 else None


def _part(
    stage: Any,
    what: str,
    run: RunDirectory,
    wanted: int | None,
    done: int,
    failed: int,
    reasons: Counter[str],
) -> Part:
    return Part(
        stage=stage,
        what=what,
        variation=run.variation,
        wanted=wanted,
        done=done,
        failed=failed,
        missing=None if wanted is None else max(0, wanted - done - failed),
        reasons=dict(reasons.most_common(_REASONS)),
    )


def _planned(study: Study, n_items: int) -> int:
    """The responses that a study wants, before its requests are written."""
    labels = ["base", *(label for name in study.recipes for label in study.labels_of(name))]
    repeats: dict[tuple[str, str], int] = {}  # two decodings of one content share their responses
    for decoding in study.decodings.values():
        content = content_key(decoding.content())
        for label in labels:
            repeats[content, label] = max(repeats.get((content, label), 0), decoding.repeats_of(label))
    return n_items * sum(repeats.values())


def _left(stage: str | None, parts: tuple[Part, ...], events: _Events) -> Left:
    def unknown(why: str) -> Left:
        return Left(stage=stage, seconds=None, why_not=why)

    if stage is None:
        return unknown("no process is at work on this machine")
    concerned = [part for part in parts if part.stage == stage]
    if not concerned or any(part.missing is None for part in concerned):
        return unknown(f"{stage} does not say how much it will do")
    spent = events.stage_s
    if not events.rows or spent is None:
        return unknown(f"nothing of {stage} is finished since this process began it")
    missing = sum(part.missing or 0 for part in concerned)
    return Left(stage=stage, seconds=round(missing * spent / events.rows, 1), why_not="")


def _spent(manifest: Manifest, events: _Events, *, at_work: bool) -> Spent:
    stages = dict(manifest.stages_s)
    if at_work and events.stage is not None and events.stage_s is not None:
        stages[events.stage] = round(stages.get(events.stage, 0.0) + events.stage_s, 1)
    served = manifest.served or ServedEntry()
    return Spent(
        stages_s=stages,
        usd=served.usd,
        tokens_in=served.prompt_tokens,
        tokens_out=served.completion_tokens,
    )


def _holder(run: RunDirectory) -> int | None:
    """The process that holds the run's lock, without touching the lock; None where nobody does here.

    Linux lists locks in /proc; elsewhere the number in the lock's file is believed while that process lives.
    """
    lock = run.root / "lock"
    try:
        place, number = lock.stat(), lock.read_text(encoding="ascii", errors="replace").strip()
        held = _LOCKS.read_text(encoding="ascii") if _LOCKS.exists() else None
    except OSError:
        return None
    if held is not None:
        inode = f":{place.st_ino}"
        for line in held.splitlines():
            words = line.split()
            if len(words) > 5 and words[1] == "FLOCK" and words[5].endswith(inode) and words[4].isdigit():
                return int(words[4])
        return None
    if not number.isdigit():
        return None
    import psutil

    return int(number) if psutil.pid_exists(int(number)) else None
