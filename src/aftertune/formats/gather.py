"""From logs to the tables of an import, and a record of what became of what."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from aftertune.errors import DataError, nearest
from aftertune.formats.logs import Log, Sample, Scored
from aftertune.formats.meaning import Meaning, ask_constructs
from aftertune.formats.naming import Named
from aftertune.records import BASELINE, ResponseStatus
from aftertune.sources.columns import UNNAMED

PairBy = Literal["id", "input"]
Row = dict[str, Any]
_REASONS = 3  # of a kind of missing judgments, so many are named


@dataclass(frozen=True, slots=True)
class Gathered:
    """The tables' rows, and the record that becomes import.json."""

    observations: list[Row]
    responses: list[Row]
    items: list[Row]
    record: dict[str, Any]


def gathered(
    logs: Sequence[Named],
    meaning: Meaning,
    *,
    base: str | None,
    study: str,
    scorers: Sequence[str] = (),
    pair_by: PairBy = "id",
) -> Gathered:
    """Put logs into one table. A judgment without a value stays in it, with a status and a reason.

    Args:
        logs: with their models and seeds.
        meaning: what scores say.
        base: the model that others are compared with; None where nobody says.
        study: the name of the table, where the logs are not of one study of aftertune.
        scorers: judges to take, by their name or their scorer's; all by default.
        pair_by: what an item is known by: the tool's own name of it, or what the model was asked.

    Raises:
        DataError: nobody says what a score means; a scorer or the base is not there; an item's name stands
            for different texts; nothing has a value.
    """
    judges = _chosen(logs, scorers)
    lost = _left_out(logs, judges, meaning)
    judges = [judge for judge in judges if judge not in lost]
    if not judges:
        raise DataError(
            f"no scores can be taken: {'; '.join(f'{judge}: {why}' for judge, why in lost.items())}",
            "say the scale of a scorer with --scale, or take another one with --scorer"
            if any("--scale" in why for why in lost.values())
            else "give logs whose samples were answered and scored",
        )
    _check_constructs(logs, judges, meaning)
    _check_base(logs, base)
    rows = _Rows(logs, judges, meaning, pair_by, _study(logs, study))
    observations = [row for log in logs for row in rows.observations(log)]
    record = {
        "study": rows.study,
        "base": base,
        "sources": [_source(log) for log in logs],
        "judges": _judges_told(logs, judges, meaning),
        "tasks": rows.intents,
        "pair_by": pair_by,
        "items": _in_common(observations, base),
        "missing": _missing(observations),
        "left_out": [{"judge": judge, "reason": reason} for judge, reason in lost.items()],
        "notes": [*_together(logs), *_setups(logs), *_decodings(observations, base)],
        "n_observations": len(observations),
        "n_missing": sum(row["value"] is None for row in observations),
    }
    responses = [row for log in logs for row in rows.responses(log)]
    return Gathered(observations, responses, rows.items(), record)


class _Rows:
    """What the rows of all logs share: the items' names and categories, and the tasks' intents."""

    def __init__(
        self, logs: Sequence[Named], judges: list[str], meaning: Meaning, pair_by: PairBy, study: str
    ):
        self.study, self._logs, self._judges, self._meaning = study, logs, set(judges), meaning
        self._by_input = pair_by == "input"
        self.intents = _intents(logs, judges, meaning)
        self._known: dict[tuple[str, str], Sample] = {}
        self._texts: dict[tuple[str, str], str] = {}
        for log in (named.log for named in logs):
            for sample in log.samples:
                if sample.prompt_sha256:
                    self._texts.setdefault((log.sha256 + log.part, sample.item), sample.prompt_sha256[:16])
                    self._known.setdefault((log.task, self._item(log, sample)), sample)
        if not self._by_input:
            _check_texts(logs)

    def _item(self, log: Log, sample: Sample) -> str:
        if not self._by_input:
            return sample.item
        # Of one that was not run there is no text, unless another epoch of this log has it.
        return sample.prompt_sha256[:16] or self._texts.get((log.sha256 + log.part, sample.item), sample.item)

    def observations(self, named: Named) -> Iterator[Row]:
        log = named.log
        for sample in log.samples:
            item = self._item(log, sample)
            known = self._known.get((log.task, item), sample)
            for score in sample.scores:
                if score.judge not in self._judges:
                    continue
                told = self._meaning.value(score)
                yield {
                    "study": self.study,
                    "model": named.model,
                    "seed": named.seed,
                    "checkpoint": named.checkpoint,
                    "task": log.task,
                    "item": item,
                    "category": known.category or UNNAMED,
                    "intent": self.intents[log.task],
                    "decoding": log.decoding,
                    "repeat": sample.repeat + named.first_repeat,
                    "variation": log.variation or BASELINE,
                    "judge": score.judge,
                    "judge_repeat": score.judge_repeat,
                    "construct": self._meaning.construct(score),
                    "value": told.value,
                    "status": str(told.status),
                    "reason": told.reason,
                    "finish": sample.finish,
                    "response_key": _key(log, sample),
                }

    def responses(self, named: Named) -> Iterator[Row]:
        log = named.log
        for sample in log.samples:
            if sample.text is None and not sample.reason:
                continue
            status = ResponseStatus.FAILED if sample.text is None else ResponseStatus.OK
            yield {
                "key": _key(log, sample),
                "checkpoint": named.checkpoint,
                "task": log.task,
                "item": self._item(log, sample),
                "decoding": log.decoding,
                "repeat": sample.repeat + named.first_repeat,
                "prompt_sha256": sample.prompt_sha256,
                "n_prompt_tokens": None,
                "text": sample.text or "",
                "n_tokens": sample.n_tokens,
                "finish": sample.finish,
                "status": (ResponseStatus.EMPTY if sample.text == "" else status).value,
                "reason": sample.reason,
            }

    def items(self) -> list[Row]:
        return [
            {
                "task": task,
                "intent": self.intents[task],
                "item": item,
                "prompt": sample.prompt,
                "category": sample.category or UNNAMED,
                "reference": sample.reference,
            }
            for (task, item), sample in self._known.items()
        ]


def _key(log: Log, sample: Sample) -> str:
    named = f"{log.sha256}:{log.part}:{log.task}:{sample.item}:{sample.repeat}"
    return sample.key or hashlib.sha256(named.encode("utf-8", "surrogatepass")).hexdigest()


def _study(logs: Sequence[Named], name: str) -> str:
    known = {named.log.study for named in logs}
    return known.pop() or name if len(known) == 1 else name


def _scores(logs: Sequence[Named]) -> Iterator[tuple[Named, Sample, Scored]]:
    return ((log, sample, score) for log in logs for sample in log.log.samples for score in sample.scores)


def _chosen(logs: Sequence[Named], scorers: Sequence[str]) -> list[str]:
    judges = list(dict.fromkeys(score.judge for _, _, score in _scores(logs)))
    if not judges:
        raise DataError(
            "the logs hold no scores", "score them first (`inspect score LOG`), and give those logs"
        )
    for name in scorers:
        if not any(name in (judge, judge.partition("/")[0]) for judge in judges):
            raise DataError(f"no log has a scorer {name!r}", nearest(name, judges))
    return [j for j in judges if not scorers or j in scorers or j.partition("/")[0] in scorers]


def _left_out(logs: Sequence[Named], judges: list[str], meaning: Meaning) -> dict[str, str]:
    """The judges whose scores cannot be taken, each with the reason.

    One number outside [0, 1] says that a judge's scale is another, and then its 1 may be the lowest grade of
    five: until a scale is given, none of its scores means what it seems to.
    """
    scores: dict[str, list[Scored]] = {judge: [] for judge in judges}
    for _, _, score in _scores(logs):
        if score.judge in scores:
            scores[score.judge].append(score)
    found: dict[str, str] = {}
    for judge, mine in scores.items():
        numbers = [score.value for score in mine if score.value is not None]
        outside = [value for value in numbers if not 0 <= value <= 1]
        if outside and meaning.scale(judge) is None:
            found[judge] = (
                f"{len(outside)} of its {len(numbers)} scores are outside [0, 1] ({min(numbers):g} to "
                f"{max(numbers):g}): --scale {judge}=LOW:HIGH takes it, 0:1 if those are faults"
            )
        elif not any(meaning.value(score).value is not None for score in mine):
            reason, n = Counter(meaning.value(score).reason for score in mine).most_common(1)[0]
            found[judge] = f"it has no value: {reason} ({n} times)"
    return found


def _check_constructs(logs: Sequence[Named], judges: list[str], meaning: Meaning) -> None:
    silent = [
        score.judge for _, _, score in _scores(logs) if score.judge in judges and not meaning.construct(score)
    ]
    if silent:
        raise ask_constructs(list(dict.fromkeys(silent)))


def _check_base(logs: Sequence[Named], base: str | None) -> None:
    models = list(dict.fromkeys(log.model for log in logs))
    if base is not None and base not in models:
        raise DataError(
            f"no log is of the model {base!r}, which was to be the baseline", nearest(base, models)
        )


def _check_texts(logs: Sequence[Named]) -> None:
    """An item's name that stands for two texts would pair answers to different questions."""
    first: dict[tuple[str, str], str] = {}
    wrong: dict[str, list[tuple[Log, Sample]]] = {}
    for log in (named.log for named in logs):
        for sample in (s for s in log.samples if s.prompt_sha256):
            if first.setdefault((log.task, sample.item), sample.prompt_sha256) != sample.prompt_sha256:
                wrong.setdefault(log.task, []).append((log, sample))
    for task, found in wrong.items():
        log, sample = found[0]
        raise DataError(
            f"{log.name}: the item {sample.item!r} of the task {task!r} has another text than in the logs "
            f"before it ({len({s.item for _, s in found})} items have)",
            "if the same texts stand under other names, write --pair-by input; "
            "if the template differs, the logs do not measure the same thing",
        )


def _intents(logs: Sequence[Named], judges: list[str], meaning: Meaning) -> dict[str, str]:
    found: dict[str, str] = {}
    for task in dict.fromkeys(log.log.task for log in logs):
        mine = [log for log in logs if log.log.task == task]
        constructs = {meaning.construct(s) or "" for _, _, s in _scores(mine) if s.judge in judges}
        known = next((log.log.intent for log in mine if log.log.intent), None)
        found[task] = meaning.intent(task, known, sorted(constructs))
    return found


def _source(named: Named) -> Row:
    log = named.log
    return {
        "file": str(log.path),
        "sha256": log.sha256,
        "tool": log.tool,
        "part": log.part,
        "evaluation": log.identity,
        "created": log.created,
        "model_there": log.model,
        "checkpoint_there": log.checkpoint,
        "model": named.model,
        "seed": named.seed,
        "task": log.task,
        "decoding": log.decoding,
        "n_samples": len(log.samples),
        "repeats": sorted({sample.repeat + named.first_repeat for sample in log.samples}),
        "setup": dict(log.setup),
        "notes": list(log.notes),
    }


def _judges_told(logs: Sequence[Named], judges: list[str], meaning: Meaning) -> list[Row]:
    told: dict[tuple[str, str], Row] = {}
    for _, _, score in _scores(logs):
        if score.judge in judges:
            construct = meaning.construct(score) or ""
            row = {"judge": score.judge, "construct": construct, "turned": meaning.turned(score)}
            told.setdefault(
                (score.judge, construct), row | {"scale": meaning.scale(score.judge) or (0.0, 1.0)}
            )
    return list(told.values())


def _in_common(observations: list[Row], base: str | None) -> list[Row]:
    """For each task and model its number of items, and how many of them the base has too."""
    items: dict[tuple[str, str], set[str]] = {}
    for row in observations:
        items.setdefault((row["task"], row["model"]), set()).add(row["item"])
    return [
        {
            "task": task,
            "model": model,
            "n_items": len(mine),
            "n_in_common": len(mine & items.get((task, base), set())) if base is not None else None,
        }
        for (task, model), mine in items.items()
    ]


def _missing(observations: list[Row]) -> list[Row]:
    """The judgments without a value, counted by where they are and why."""
    reasons: dict[tuple[str, ...], Counter[str]] = {}
    for row in observations:
        if row["value"] is None:
            key = (row["model"], row["task"], row["judge"], row["status"])
            reasons.setdefault(key, Counter())[row["reason"]] += 1
    return [
        {
            "model": model,
            "task": task,
            "judge": judge,
            "status": status,
            "n": found.total(),
            "reasons": [reason for reason, _ in found.most_common(_REASONS)],
        }
        for (model, task, judge, status), found in reasons.items()
    ]


def _together(logs: Sequence[Named]) -> Iterator[str]:
    """Which logs are of one checkpoint, and so more draws of it."""
    cells: dict[tuple[object, ...], list[Named]] = {}
    for log in logs:
        cell = (log.checkpoint, log.log.task, log.log.decoding, log.log.variation)
        cells.setdefault(cell, []).append(log)
    for mine in cells.values():
        if len(mine) > 1:
            first = mine[0]
            yield (
                f"{', '.join(log.log.name for log in mine)}: one checkpoint of {first.model} drawn again on "
                f"{first.log.task}, so their draws are repeats and not seeds"
            )


def _setups(logs: Sequence[Named]) -> Iterator[str]:
    """What else than the model differs between logs of a task."""
    for task in dict.fromkeys(log.log.task for log in logs):
        mine = [log.log for log in logs if log.log.task == task]
        for name in dict.fromkeys(name for log in mine for name in log.setup):
            found = {log.setup[name]: log.name for log in mine if name in log.setup}
            if len(found) > 1:
                shown = "; ".join(f"{file}: {value[:80]}" for value, file in list(found.items())[:2])
                yield f"{task}: not the model alone differs, but also the {name} ({shown})"


def _decodings(observations: list[Row], base: str | None) -> Iterator[str]:
    """Models that share no task and decoding with the base, and are therefore not compared with it."""
    cells: dict[str, set[tuple[str, str]]] = {}
    for row in observations:
        cells.setdefault(row["model"], set()).add((row["task"], row["decoding"]))
    for model, mine in cells.items():
        if base is not None and not mine & cells.get(base, set()):
            theirs, ours = (" and ".join(sorted(d for _, d in c)[:3]) for c in (cells[base], mine))
            yield f"{model} and {base} have no task with the same decoding ({ours}; {theirs}): not compared"
