"""What `aftertune tasks` lists and shows."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aftertune.study import TaskSpec
from aftertune.tasks import BENCHMARKS, load_task, packaged_task_names
from aftertune.tasks.packaged_tasks import EVENTS
from aftertune.tasks.subset import stratified_subset

_SHOWN_CHARACTERS = 300


def list_tasks() -> list[dict[str, Any]]:
    """All packaged tasks and public benchmarks; nothing is fetched."""
    packaged = [load_task(TaskSpec(name=name), root_seed=0) for name in packaged_task_names()]
    return [
        {
            "name": task.name,
            "intent": task.intent.value,
            "items": len(task.items),
            "access": "packaged",
            "licence": task.licence,
            "event": EVENTS[task.name],
            "citation": task.source,
            "page": None,
            "sha256": task.sha256,
        }
        for task in packaged
    ] + [
        {
            "name": known.name,
            "intent": known.intent.value,
            "items": known.n_items,
            "access": known.access,
            "licence": known.licence,
            "event": known.event,
            "citation": known.citation,
            "page": known.page,
            "sha256": None,
        }
        for known in BENCHMARKS.values()
    ]


def describe_task(
    name: str, *, data_dir: Path | None, revision: str | None, n: int, root_seed: int
) -> dict[str, Any]:
    """A task's provenance and `n` of its items (or all, if fewer), drawn as a study would draw them.

    Raises:
        DataError: the task is unknown, or cannot be had.
    """
    spec = TaskSpec(name=name, data_dir=None if data_dir is None else str(data_dir), revision=revision)
    task = load_task(spec, root_seed=root_seed)
    sample = stratified_subset(task.items, min(n, len(task.items)), root_seed=root_seed, task=name)
    known = next(row for row in list_tasks() if row["name"] == name)
    return {
        **known,
        "items": len(task.items),
        "source": task.source,
        "sha256": task.sha256,
        "categories": dict(Counter(item.category for item in task.items)),
        "sample": [asdict(item) for item in sample],
    }


def task_lines(shown: dict[str, Any]) -> list[str]:
    """The description in words; what comes from the data is escaped, so that it cannot steer a terminal."""
    categories = ", ".join(f"{visible(name)} ({count})" for name, count in shown["categories"].items())
    lines = [
        f"{shown['name']}: {shown['items']} {shown['intent']} items, {shown['access']}",
        f"citation: {shown['citation']}",
        f"source: {visible(shown['source'])}",
        f"licence: {shown['licence']}",
        f"event: {shown['event']}",
        f"sha256: {shown['sha256']}",
        f"categories: {categories}",
        "",
    ]
    for item in shown["sample"]:
        lines.append(f"{visible(item['id'])} [{visible(item['category'])}] {visible(item['prompt'])}")
        if item["reference"] is not None:
            lines.append(f"  → {visible(item['reference'])}")
    return lines


def visible(text: str, limit: int | None = _SHOWN_CHARACTERS) -> str:
    """The text on one line, cut after `limit` characters; control and direction characters as escapes."""
    shown = text if limit is None or len(text) <= limit else text[:limit] + " …"
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in shown
    )
