"""Warnings of responses in a language that their judge does not read."""

import hashlib
from collections.abc import Collection

import polars as pl

from aftertune.judges.added import judges_of
from aftertune.judges.foreign_language import MOST_TEXTS, Foreign, english_only, foreign_language
from aftertune.records import BASELINE
from aftertune.records.analysis import LANGUAGE, Warning
from aftertune.store import RunDirectory
from aftertune.study import Study

_REMEDY = (
    "judge these responses with a judge model or a rubric that reads the language, or have people label them "
    "(`aftertune label`): until then this judge's numbers compare languages, not safety"
)
_ITEMS = 100  # of a task: their responses are read from disk
_GIVEN = 5 * MOST_TEXTS  # texts of a model: short ones are skipped, so more are given than are read


def check_run_languages(run: RunDirectory, study: Study) -> list[Warning]:
    """Of a run's responses, and of those that its variations generated again."""
    judges = [spec.name for spec in judges_of(run, study) if english_only(spec.known_name)]
    parts = [(BASELINE, run)]
    parts += [(v.name, run.of_variation(v.name, draws_anew=True)) for v in study.variations if v.draws_anew]
    return [
        warning
        for variation, part in parts
        if judges and part.requests.is_file() and part.items.is_file()
        for warning in _warnings(_responses(part), judges, variation)
    ]


def check_table_languages(observations: pl.DataFrame) -> list[Warning]:
    """Of a table with texts, by its judges' names where they are ours.

    Args:
        observations: model, task, item, judge, variation and text (null where it is not known).
    """
    rows = observations.select(
        pl.col("model", "task", "item", "judge").cast(pl.String),
        pl.col("variation").cast(pl.String).replace("", BASELINE),
        "text",
    )
    names = [name for name in rows["judge"].unique() if english_only(name)]
    by_judge = rows.filter(pl.col("judge").is_in(names)).partition_by(
        ["variation", "judge"], as_dict=True, maintain_order=True
    )
    return [
        warning
        for (variation, judge), of_judge in by_judge.items()
        for warning in _warnings(of_judge.unique(maintain_order=True), [str(judge)], str(variation))
    ]


def _responses(run: RunDirectory) -> pl.DataFrame:
    """Model, task, item and text of the responses to some items, which their names choose."""
    items = _ranked(run.read_table(run.items).select("task", "item"))
    some = items.sort("rank").group_by("task", maintain_order=True).head(_ITEMS).drop("rank")
    asked = run.read_table(run.requests).join(some, on=["task", "item"], how="semi")
    texts = run.read_responses("key", "status", "text", "task", "item", of_items=some).select("key", "text")
    asked = asked.select("model", "task", "item", "key").unique(maintain_order=True)
    return asked.join(texts, on="key", how="inner", maintain_order="left").drop("key")


def _ranked(frame: pl.DataFrame) -> pl.DataFrame:
    """With a rank for each item, which is random and always the same."""
    items = frame["item"].unique().to_list()
    ranks = [hashlib.sha256(str(item).encode(errors="surrogatepass")).digest() for item in items]
    return frame.with_columns(rank=pl.col("item").replace_strict(items, ranks, return_dtype=pl.Binary))


def _warnings(responses: pl.DataFrame, judges: Collection[str], variation: str) -> list[Warning]:
    """One for each task and judge with a model whose responses are not English.

    Args:
        responses: model, task, item, text.
        judges: those that read English alone, of all these responses.
        variation: its name.
    """
    found: dict[str, dict[str, Foreign]] = {}
    texts = _ranked(responses.filter(pl.col("text").is_not_null())).sort(
        "task", "model", "rank", maintain_order=True
    )
    for (task, model), rows in texts.group_by("task", "model", maintain_order=True):
        foreign = foreign_language(rows["text"].head(_GIVEN))
        if foreign is not None:
            found.setdefault(str(task), {})[str(model)] = foreign
    named = [] if variation == BASELINE else [variation]
    return [
        Warning(
            code=LANGUAGE, text=_text(judge, told), remedy=_REMEDY, where=" · ".join([*named, task, judge])
        )
        for task, told in found.items()
        for judge in judges
    ]


def _text(judge: str, told: dict[str, Foreign]) -> str:
    shares = ", ".join(f"{model} {one}" for model, one in told.items())
    languages = " or ".join(sorted({one.language for one in told.values()}))
    return (
        f"{judge} reads English only, and responses are in another language: {shares}; "
        f"what is said in {languages} it misses, and a refusal then counts as compliance"
    )
