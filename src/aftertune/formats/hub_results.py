"""Evaluation results of the Hugging Face hub: a YAML file under `.eval_results/` in a model's repository.

- Citation: Hugging Face, Evaluation Results, https://huggingface.co/docs/hub/eval-results, read 2026-11 from
  huggingface/hub-docs at commit 064c754.
- Licence: Apache-2.0 (of the documentation; nothing of it is copied here).
- Versions tried: huggingface_hub 2.4 reads it (`parse_eval_result_entries`).

`dataset.id` must be a data set that the hub knows as a benchmark, and `task_id` one of the tasks that its
eval.yaml names; no run can know either, so they are given. A value has no interval of its own there: it
stands in `notes`. The older `model-index` in a model card's front matter is superseded by it and not written.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from aftertune.errors import DataError
from aftertune.records.analysis import Analysis, Rate
from aftertune.records.cell import Target

_DATASET = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(?::(?P<task>[\w.-]+))?(?:@(?P<revision>[\w.-]+))?")
_NOTE = 1000  # characters


@dataclass(frozen=True, slots=True)
class HubTask:
    """Where a task's leaderboard lives."""

    dataset: str
    task: str
    revision: str | None


def hub_tasks(words: Sequence[str]) -> dict[str, HubTask]:
    """The option's words: `TASK=owner/name`, with `:task_id` and `@revision` behind it.

    Raises:
        DataError: a word is not written so.
    """
    found: dict[str, HubTask] = {}
    for word in words:
        name, sign, there = word.partition("=")
        match = _DATASET.fullmatch(there)
        if not (name and sign and match):
            raise DataError(
                f"--dataset holds {word!r}", "write TASK=owner/name:task_id, as in gsm8k=openai/gsm8k:gsm8k"
            )
        found[name] = HubTask(match["id"], match["task"] or "default", match["revision"])
    return found


def hub_yaml(analysis: Analysis, model: str, tasks: Mapping[str, HubTask], target: Target) -> str:
    """The file's text: an entry for each of the model's rates on a task that the hub knows.

    Where the study fixed a primary contrast, its judge, decoding and metric alone stand for a task that has
    them: a leaderboard shows one value.

    Args:
        analysis: every number, read and not computed.
        model: whose repository the file goes to.
        tasks: our task -> where its leaderboard lives.
        target: which of the two intervals goes into the notes.

    Raises:
        DataError: the model or a task is not there, or no rate has an estimate.
    """
    mine = [rate for rate in analysis.rates if rate.model == model and rate.task in tasks]
    known = list(dict.fromkeys(rate.task for rate in analysis.rates))
    for task in tasks:
        if task not in known:
            raise DataError(f"--dataset names the task {task!r}", f"the run has {', '.join(known)}")
    kept = [rate for task in tasks for rate in _of_task(analysis, [r for r in mine if r.task == task])]
    entries = [_entry(analysis, r, tasks[r.task], target) for r in kept if r.estimate is not None]
    if not entries:
        raise DataError(
            f"{model!r} has no rate with an estimate on {', '.join(tasks) or 'any task that the hub knows'}",
            "name the hub's data set of a task: --dataset TASK=owner/name:task_id; "
            "where too many judgments are missing there is no value to publish",
        )
    return yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=100)


def _of_task(analysis: Analysis, rates: list[Rate]) -> list[Rate]:
    primary = analysis.primary
    if primary is None:
        return rates
    fixed = (primary.decoding, primary.judge, primary.metric)
    return [rate for rate in rates if (rate.decoding, rate.judge, rate.metric) == fixed] or rates


def _entry(analysis: Analysis, rate: Rate, there: HubTask, target: Target) -> dict[str, Any]:
    dataset = {"id": there.dataset, "task_id": there.task}
    if there.revision is not None:
        dataset["revision"] = there.revision
    return {"dataset": dataset, "value": rate.estimate, "notes": _notes(analysis, rate, target)}


def _notes(analysis: Analysis, rate: Rate, target: Target) -> str:
    found = rate.population if target == "population" else rate.benchmark
    of = "requests like these" if target == "population" else "these items"
    parts = [f"{rate.metric}{f' ({rate.note})' if rate.note else ''}, a share; higher is {rate.higher_is}"]
    if found is None:
        parts.append(f"no interval: {rate.why_no_interval}")
    else:
        covers = ", ".join(found.covers) or "nothing that varies"
        parts.append(
            f"{analysis.level:.0%} interval {found.ci_low:.4f} to {found.ci_high:.4f} for {of} "
            f"({found.method}; covers {covers})"
        )
    seeds = f"{rate.n_seeds} training seeds, " if rate.n_seeds > 1 else "one checkpoint, "
    parts.append(f"{seeds}{rate.n_items} items, {rate.n_repeats} draws of each at most")
    parts.append(f"decoding {rate.decoding}, judge {rate.judge}")
    if rate.missing.n:
        n, bounds = rate.missing, rate.bounds
        parts.append(
            f"{n.n} of {n.n_observations} judgments missing, bounds {bounds.low:.4f} to {bounds.high:.4f}"
        )
    return " ".join("; ".join(parts).split())[:_NOTE] + " (aftertune)"
