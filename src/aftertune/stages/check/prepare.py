"""The run directory's first files: the study, its items and the manifest."""

import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aftertune.engines.served import ServedModel
from aftertune.engines.source import ModelSource
from aftertune.records import BASELINE, ITEM_COLUMNS
from aftertune.records.manifest import (
    DataEntry,
    FinishedEntry,
    GitState,
    HeldOutEntry,
    JudgeEntry,
    ModelEntry,
    TaskEntry,
    TemplateEntry,
)
from aftertune.stages.check.estimate import Estimate, estimate, refuse_over_budget
from aftertune.stages.check.machine import hardware, versions
from aftertune.stages.check.resolve import Resolved, resolve_all
from aftertune.store import RunDirectory, content_key, replace
from aftertune.store.shards import parquet_bytes
from aftertune.study import Study, read_study


def prepare(run: RunDirectory, study_file: Path) -> tuple[Resolved, Estimate]:
    """Check a study and write the files that its stages start from; the same study writes the same files.

    Raises:
        StudyError: something is missing or wrong, or the study exceeds its budget. Once a study has begun its
            run it may go on: what is left is less, and a machine that is busy now looks slow.
    """
    study = read_study(study_file)
    resolved = resolve_all(study)
    found = estimate(resolved)
    if not _begun(run, study):
        refuse_over_budget(study, found)
    text = study_file.read_bytes()
    if not run.study_file.is_file() or run.study_file.read_bytes() != text:
        replace(run.study_file, text)
    kinds = {variation.name: variation for variation in study.variations}
    for name, one in resolved.items():
        of = run if name == BASELINE else run.of_variation(name, draws_anew=kinds[name].draws_anew)
        of.root.mkdir(parents=True, exist_ok=True)
        _write(of, one, study_file)
    return resolved[BASELINE], found


def _begun(run: RunDirectory, study: Study) -> bool:
    return run.manifest.is_file() and run.read_manifest().study_sha256 == _content(study)


def _content(study: Study) -> str:
    return content_key(study.model_dump(mode="json", by_alias=True))


def _write(run: RunDirectory, resolved: Resolved, study_file: Path) -> None:
    replace(run.study_json, resolved.study.model_dump_json(indent=2, by_alias=True).encode())
    rows = [
        {
            "task": task.name,
            "intent": task.intent.value,
            "item": item.id,
            "prompt": item.prompt,
            "category": item.category,
            "reference": item.reference,
        }
        for task in resolved.tasks
        for item in task.items
    ]
    replace(run.items, parquet_bytes(rows, ITEM_COLUMNS))
    run.update_manifest(study_folder=str(study_file.resolve().parent), **_manifest(resolved))


def _manifest(resolved: Resolved) -> dict[str, Any]:
    study = resolved.study
    return {
        "study": study.name,
        "study_sha256": _content(study),
        "root_seed": study.root_seed,
        "versions": versions(),
        "hardware": hardware(),
        "git": _git(),
        "model": _model(resolved.model),
        "template": _template(resolved.chat_template),
        "tasks": [
            TaskEntry(
                name=t.name,
                intent=t.intent,
                n_items=len(t.items),
                source=t.source,
                licence=t.licence,
                sha256=t.sha256,
            )
            for t in resolved.tasks
        ],
        "data": {
            name: DataEntry(source=d.source, licence=d.licence, n_rows=len(d.conversations), sha256=d.sha256)
            for name, d in resolved.data.items()
        },
        "held_out": {
            name: HeldOutEntry(n_rows=len(d.conversations), sha256=d.sha256)
            for name, d in resolved.held_out.items()
        },
        "finished": {
            name: [FinishedEntry(name=f.name, kind=f.kind, sha256=f.sha256) for f in found]
            for name, found in resolved.finished.items()
        },
        "scan": [asdict(found) for found in resolved.scans],
        "messages": asdict(resolved.messages) if resolved.messages is not None else None,
        "judges": [
            JudgeEntry(
                name=j.name,
                constructs=tuple(j.constructs),
                source=j.source,
                licence=j.licence,
                cost=j.cost,
                agreement=j.agreement,
                sha256=j.sha256,
            )
            for j in resolved.judges
        ],
    }


def _model(model: ModelSource | ServedModel) -> ModelEntry:
    return ModelEntry(
        name=model.name,
        path=str(model.path) if isinstance(model, ModelSource) else None,
        sha256=model.sha256,
        source=model.source,
        licence=model.licence,
    )


def _template(text: str | None) -> TemplateEntry:
    if text is None:
        return TemplateEntry(text="not seen: that of the endpoint, or of whoever recorded the responses")
    return TemplateEntry(sha256=content_key(text), text=text)


def _git() -> GitState | None:
    """Commit of the working directory and whether it has changes; None outside a checkout."""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        )
        state = subprocess.run(
            ["git", "status", "--porcelain"], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return GitState(commit=commit.stdout.strip(), changed=bool(state.stdout.strip()))
