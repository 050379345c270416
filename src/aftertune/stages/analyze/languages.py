"""Warnings of responses in a language that their judge does not read."""

import hashlib
from collections.abc import Collection

import polars as pl

from aftertune.judges.added import judges_of
from aftertune.judges.foreign_language import MOST_TEXTS, Foreign, english_only, foreign_language
from aftertune.records.analysis import LANGUAGE, Warning
from aftertune.store import RunDirectory
from aftertune.study import Study

_REMEDY = (
    "judge these responses with a judge model or a rubric that reads the language, or have people label them "
    "(`aftertune label`): until then this judge's numbers compare languages, not safety"
)
_ITEMS = 100  # of a task: their responses are read from disk


def languages_of_run(run: RunDirectory, study: Study) -> list[Warning]:
    """Of a run's responses, and of those that its variations drew anew."""
    judges = [spec.name for spec in judges_of(run, study) if english_only(spec.known_name)]
    if not judges:
        return []
    parts = [("", run)]
    parts += [(v.name, run.of_variation(v.name, draws_anew=True)) for v in study.variations if v.draws_anew]
    return [
        warning
        for variation, part in parts
        if part.requests.is_file() and part.items.is_file()
        for warning in _warnings(_texts(part), judges, variation)
    ]


def languages_of_import(observations: pl.DataFrame, responses: pl.DataFrame) -> list[Warning]:
    """Of an import: its judges by their names, where they are ours.

    Args:
        observations: model, task, judge, response_key, variation.
        responses: key, text.
    """
    names = observations["judge"].cast(pl.String)
    known = observations.filter(names.is_in([name for name in names.unique() if english_only(name)]))
    texts = responses.select("key", "text").unique("key")
    found: list[Warning] = []
    for (variation, judge), rows in known.partition_by(["variation", "judge"], as_dict=True).items():
        one = rows.select(pl.col("model", "task", "response_key").cast(pl.String)).unique()
        told = one.join(texts, left_on="response_key", right_on="key").rename({"response_key": "key"})
        found += _warnings(told, [str(judge)], "" if variation == "baseline" else str(variation))
    return found


def _texts(run: RunDirectory) -> pl.DataFrame:
    """Model, task, key and text of the responses to some items, which their names choose."""
    items = run.read_table(run.items).select("task", "item")
    ranks = [hashlib.sha256(f"{task}\0{item}".encode()).digest() for task, item in items.iter_rows()]
    some = items.with_columns(rank=pl.Series(ranks)).sort("rank").group_by("task").head(_ITEMS).drop("rank")
    asked = run.read_table(run.requests).join(some, on=["task", "item"], how="semi")
    responses = run.read_responses("key", "status", "text", "task", "item", of_items=some)
    return asked.select("model", "task", "key").unique().join(responses.select("key", "text"), on="key")


def _warnings(responses: pl.DataFrame, judges: Collection[str], variation: str) -> list[Warning]:
    """One for each task and judge with a model whose responses are not English.

    Args:
        responses: model, task, key, text; keys are hashes, so the first in their order are a random part.
        judges: those that read English alone, of all these responses.
        variation: its name; empty for the baseline.
    """
    found: dict[str, dict[str, Foreign | None]] = {}
    texts = responses.filter(pl.col("text").is_not_null()).sort("task", "model", "key")
    for (task, model), rows in texts.group_by("task", "model", maintain_order=True):
        # Short texts are skipped, so more are given than are read.
        found.setdefault(str(task), {})[str(model)] = foreign_language(rows["text"].head(5 * MOST_TEXTS))
    return [
        Warning(
            code=LANGUAGE,
            text=_text(judge, told),
            remedy=_REMEDY,
            where=" · ".join(part for part in (variation, task, judge) if part),
        )
        for task, of_models in found.items()
        if (told := {model: one for model, one in of_models.items() if one is not None})
        for judge in judges
    ]


def _text(judge: str, told: dict[str, Foreign]) -> str:
    shares = ", ".join(f"{model} {one}" for model, one in told.items())
    languages = " or ".join(sorted({one.language for one in told.values()}))
    return (
        f"{judge} reads English only, and responses are in another language: {shares}; "
        f"what is said in {languages} it misses, and a refusal then counts as compliance"
    )
