"""`aftertune audit`: finished checkpoints held against their base, as a study that tunes nothing."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from aftertune.commands.audit_options import AuditOptions
from aftertune.errors import StudyError
from aftertune.records import Progress, metrics_of
from aftertune.store import replace
from aftertune.study import JudgeSpec, Study, TaskSpec, parse_study, read_study

if TYPE_CHECKING:
    from aftertune.stages.check import Estimate, Resolved

_REPLACED = {"name", "model", "revision", "recipes", "seeds", "variations"}


def audit_study(base: str, candidates: Sequence[str], options: AuditOptions | None = None) -> Study:
    """The study that an audit is: the base, a recipe for each candidate or group, and nothing to tune.

    Args:
        base: a packaged model, a directory, a hub id as owner/name@commit, or the API's name of it.
        candidates: checkpoints, each a recipe of its own with one seed.
        options: groups of seeds, and what is asked.

    Raises:
        StudyError: no candidate, two of one name, or the settings do not fit together.
    """
    options = options or AuditOptions()
    groups = _groups(candidates, options.group or ())
    content = _settings(options)
    key = "checkpoints" if options.endpoint is None else "served"
    model, _, revision = base.partition("@")
    if options.endpoint is not None or Path(base).exists():
        model, revision = base, ""
    content |= {
        "name": f"audit-{next(iter(groups))}"[:64],
        "model": model,
        "recipes": {name: {key: checkpoints} for name, checkpoints in groups.items()},
        "seeds": max(len(checkpoints) for checkpoints in groups.values()),
    }
    if revision:
        content["revision"] = revision
    return parse_study(content, source="audit", folder=Path.cwd())


def audit(
    study: Study,
    out: Path,
    *,
    progress: Progress,
    told: "Callable[[Resolved, Estimate], None]",
) -> Path:
    """Run an audit's study from its checkpoints to its report; what was drawn is never drawn again.

    Args:
        study: of `audit_study`.
        out: its run directory, in which the study's file is left: `aftertune run` takes it too.
        progress: told (stage, done, total).
        told: the study and its cost, before anything is done.

    Returns:
        The path of the report's page.

    Raises:
        AftertuneError: a checkpoint is not found, or cannot stand beside the base.
    """
    from aftertune.pipeline import STAGES, run_stages

    file = out / "study.yaml"
    out.mkdir(parents=True, exist_ok=True)
    replace(file, study_file(study))
    return run_stages(file, out, STAGES, progress=progress, told=told)


def study_file(study: Study) -> bytes:
    """The study as a file that `aftertune run` takes, with absolute paths and what is no default."""
    return yaml.safe_dump(_written(study), sort_keys=False, allow_unicode=True).encode()


def _groups(candidates: Sequence[str], grouped: Sequence[str]) -> dict[str, list[str]]:
    """Recipe names and their checkpoints."""
    groups: dict[str, list[str]] = {}
    for word in grouped:
        name, sign, listed = word.partition("=")
        checkpoints = [part.strip() for part in listed.split(",") if part.strip()]
        if not (name and sign and checkpoints):
            raise StudyError(f"--group holds {word!r}", "write NAME=CHECKPOINT,CHECKPOINT,…")
        if name in groups:
            raise StudyError(f"--group gives {name!r} twice", "name each group once, with all its seeds")
        groups[name] = checkpoints
    names = [_name(candidate) for candidate in candidates]
    twins = [name for name, n in Counter([*names, *groups]).items() if n > 1]
    if twins:
        raise StudyError(
            f"two candidates would be called {twins[0]!r}",
            f"name them: --group {twins[0]}-a=CHECKPOINT --group {twins[0]}-b=CHECKPOINT, "
            "or put seeds of one recipe into one group",
        )
    groups |= {name: [candidate] for name, candidate in zip(names, candidates, strict=True)}
    if not groups:
        raise StudyError("no candidate to hold against the base", "name a checkpoint, or give --group")
    return groups


def _name(candidate: str) -> str:
    """A recipe's name from a path, a hub id or an API's name of a model."""
    last = Path(candidate.rstrip("/")).name if Path(candidate).exists() else candidate.partition("@")[0]
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", last.rpartition("/")[2]).strip(".-_")[:64]
    return f"{plain}-tuned" if plain in ("base", "default") else plain or "candidate"


def _settings(options: AuditOptions) -> dict[str, Any]:
    """Tasks, decodings, judges, analysis and engine."""
    content = _like(options.like)
    for key, names in (("tasks", options.task), ("judges", options.judge)):
        if names:
            content[key] = [{"name": name} for name in names]
    if options.n is not None:
        content["tasks"] = [{**task, "n": options.n} for task in content["tasks"]]
    for decoding in content["decodings"].values():
        if options.max_tokens is not None:
            decoding["max_tokens"] = options.max_tokens
        repeats = options.repeats or decoding.get("repeats", 1)
        # Repeats by label name checkpoints of another study.
        decoding["repeats"] = 1 if decoding["temperature"] == 0 else _count(repeats)
    analysis = content.setdefault("analysis", {})
    if options.margin is not None:
        analysis["margin"] = options.margin
    analysis["primary"] = _primary(content, analysis.get("primary"))
    if options.endpoint is not None:
        content.pop("numerics", None)
        content["engine"] = {"name": "openai", "endpoint": options.endpoint}
        content["engine"] |= {"api_key_env": options.api_key_env} if options.api_key_env else {}
    return content


def _like(file: Path | None) -> dict[str, Any]:
    if file is None:
        with as_file(files("aftertune.commands") / "studies" / "audit.yaml") as packaged:
            return _like(packaged)
    return {key: value for key, value in _written(read_study(file)).items() if key not in _REPLACED}


def _written(study: Study) -> dict[str, Any]:
    content = study.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    if "engine" in content:
        content["engine"] = {"name": study.engine.name, **content["engine"]}  # the default of its own kind
    return content


def _count(repeats: int | dict[str, int]) -> int:
    return repeats if isinstance(repeats, int) else repeats.get("default", 1)


def _primary(content: dict[str, Any], primary: dict[str, Any] | None) -> dict[str, Any] | None:
    """The study's contrast, or where its task or judge is not asked, the first that there is.

    It is the first judge's first construct on the first task, in the last decoding, on these items.
    """
    from aftertune.judges import get_judge
    from aftertune.tasks import load_task

    tasks, judges = ([entry["name"] for entry in content[key]] for key in ("tasks", "judges"))
    if primary is not None and primary["task"] in tasks and primary["judge"] in judges:
        return primary
    first = TaskSpec.model_validate(content["tasks"][0])
    intent = load_task(first, root_seed=content.get("root_seed", 2025)).intent
    for entry in content["judges"]:
        judge = get_judge(JudgeSpec.model_validate(entry))
        for metric in (m for construct in judge.constructs for m in metrics_of(intent, construct)):
            return {
                "task": tasks[0],
                "decoding": list(content["decodings"])[-1],
                "judge": entry["name"],
                "metric": metric.name,
                "target": "benchmark",
            }
    return None
