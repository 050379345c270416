"""`aftertune judges fetch`: a judge's published prompt template, into the cache."""

from pathlib import Path

from aftertune.errors import StudyError, nearest
from aftertune.judges.model_judges import JUDGE_MODELS
from aftertune.judges.rubric_originals import ORIGINALS
from aftertune.judges.templates import fetch_template


def fetch_judge(name: str, *, copy: Path | None = None) -> str:
    """Get the template of a judge, and say in words what is there now.

    Raises:
        StudyError: no judge of this name needs anything.
        DataError: the file cannot be had or is another one.
    """
    rubrics = {original.name: original.file for original in ORIGINALS}
    if name in rubrics:
        source = rubrics[name]
        return f"{name}: {fetch_template(name, source, copy=copy)} (from {copy or source.file.name})"
    if name not in JUDGE_MODELS:
        raise StudyError(
            f"no judge model is called {name!r}",
            nearest(
                name,
                [*rubrics, *(known.name for known in JUDGE_MODELS.values() if known.template is not None)],
            ),
        )
    source = JUDGE_MODELS[name].template
    if source is None:
        return f"{name}: its template comes with its tokenizer, nothing to fetch"
    return f"{name}: {fetch_template(name, source, copy=copy)} (from {copy or source.file.name})"
