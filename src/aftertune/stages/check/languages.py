"""What a study asks in, or holds responses in, that its judges do not read."""

from collections.abc import Iterable, Mapping

from aftertune.data import TuningData
from aftertune.judges.foreign_language import english_only, foreign_language
from aftertune.records import Task
from aftertune.study import Study

_REMEDY = (
    "a refusal in {language} would count as compliance: add a judge model or a rubric that reads it, or have "
    "people label a sample"
)


def language_notes(
    study: Study,
    tasks: Iterable[Task],
    *,
    recorded: Mapping[str, Iterable[str]],
    data: Mapping[str, TuningData],
) -> tuple[str, ...]:
    """A sentence for each task, recipe's data and model's recorded responses that are not English.

    Args:
        study: its judges say what they read; tasks and recordings concern those that read English alone.
        tasks: with their items.
        recorded: texts by model's name, where the study judges what was generated before.
        data: by recipe; refusal-rules has counted the answers that refuse.
    """
    scanned = tuple(
        f"LANGUAGE: answers of {recipe}'s data are {found}, and refusal-rules reads English only: how many "
        "of them refuse is not known"
        for recipe, rows in data.items()
        if (found := foreign_language(row[-1].content for row in rows.conversations[: rows.n_own]))
    )
    return (*_judged(study, tasks, recorded), *scanned)


def _judged(study: Study, tasks: Iterable[Task], recorded: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    judges = [spec.name for spec in study.judges if english_only(spec.known_name)]
    if not judges:
        return ()
    reads = f"{', '.join(judges)} {'reads' if len(judges) == 1 else 'read'} English only"
    asked = {f"items of {task.name}": (item.prompt for item in task.items) for task in tasks}
    given = {f"recorded responses of {name}": texts for name, texts in recorded.items()}
    return tuple(
        f"LANGUAGE: {what} are {found}, and {reads}; {_REMEDY.format(language=found.language)}"
        for what, texts in (asked | given).items()
        if (found := foreign_language(texts)) is not None
    )
