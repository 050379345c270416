"""`aftertune judges fetch`: a judge's published prompt template, into the cache."""

from pathlib import Path

from aftertune.errors import StudyError, nearest
from aftertune.judges.model_judges import JUDGE_MODELS
from aftertune.judges.rubric import RUBRIC_MAKERS, OriginalMaker
from aftertune.judges.templates import fetch_template
from aftertune.sources import fetch, keep_copy


def fetch_judge(name: str, *, copy: Path | None = None) -> str:
    """Get the template of a judge, and say in words what is there now.

    Raises:
        StudyError: no judge of this name needs anything.
        DataError: the file cannot be had or is another one.
    """
    rubric = RUBRIC_MAKERS.get(name)
    if isinstance(rubric, OriginalMaker):
        path = fetch(rubric.template) if copy is None else keep_copy(rubric.template, copy)
        rubric.original.wording()  # the file holds the wording
        return f"{name}: {path} (from {copy or rubric.template.name})"
    if name not in JUDGE_MODELS:
        wanting = [known.name for known in JUDGE_MODELS.values() if known.template is not None]
        rubrics = [name for name, maker in RUBRIC_MAKERS.items() if isinstance(maker, OriginalMaker)]
        raise StudyError(f"no judge called {name!r} has a file to fetch", nearest(name, [*wanting, *rubrics]))
    source = JUDGE_MODELS[name].template
    if source is None:
        return f"{name}: its template comes with its tokenizer, nothing to fetch"
    return f"{name}: {fetch_template(name, source, copy=copy)} (from {copy or source.file.name})"
