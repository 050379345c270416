"""What a table's columns give away before anything is estimated."""

from collections.abc import Sequence

import polars as pl

from aftertune.records.analysis import Warning

_NAMED = 3  # pairs of items that a warning names
_RUN = ("model", "seed", "checkpoint", "task", "decoding", "variation")


def assumed_meaning(silent: Sequence[str]) -> list[Warning]:
    """A warning of what the values and the items are taken for, where nothing says it: construct, intent."""
    taken = {
        "construct": "what its values judge: 1 is taken for a harmful response",
        "intent": "what its items ask for: they are taken for harmful requests",
    }
    return [
        Warning(
            code=f"assumed_{name}",
            text=f"the table does not say {taken[name]}",
            remedy=f"say it with --{name} or in a column called {name}",
        )
        for name in silent
    ]


def constant_seed(frame: pl.DataFrame) -> list[Warning]:
    """A warning where every row has the same seed, which then tells no checkpoint from another."""
    seeds = frame["seed"]
    if seeds.has_nulls() or seeds.n_unique() > 1:
        return []
    text = f"column 'seed' is {seeds[0]} in every row, so each model is taken as one checkpoint"
    remedy = "write the training seed of each run in it, or leave it out; a decoding seed belongs in 'repeat'"
    return [Warning(code="constant_seed", text=text, remedy=remedy)]


def numbered_repeats(frame: pl.DataFrame) -> tuple[pl.DataFrame, list[Warning]]:
    """The frame with draws numbered within each item, where `repeat` does not name runs of the whole task.

    A row number or a seed of its own for each response says which draws differ, and not which of them belong
    together: no two items share one, or there are more than twice as many as any item has draws.
    """
    if frame["repeat"].n_unique() == 1 or not _names_no_runs(frame):
        return frame, []
    low, high = frame["repeat"].min(), frame["repeat"].max()
    text = (
        f"column 'repeat' holds another number for every response, or nearly so ({low} to {high} in "
        f"{frame.height} rows): draws were numbered anew within each checkpoint and item"
    )
    remedy = "number the draws of an item from 0; make sure that no row is a copy of another"
    numbered = pl.col("repeat").rank("dense").over(*_RUN, "item").cast(pl.Int64) - 1
    return frame.with_columns(numbered), [Warning(code="repeat_renumbered", text=text, remedy=remedy)]


def _names_no_runs(frame: pl.DataFrame) -> bool:
    run = [name for name in _RUN if frame[name].n_unique() > 1] or ["model"]  # fewer columns group faster
    draws = frame.lazy().select(*run, "repeat", "item").unique().collect(engine="streaming")
    names = draws.group_by(run).agg(pl.col("repeat").n_unique(), pl.col("item").n_unique())
    if names["item"].max() == 1:
        return False
    most = draws.group_by(*run, "item").len().group_by(run).agg(pl.col("len").max())["len"].sum()
    n_names = int(names["repeat"].sum())
    return n_names == draws.height or n_names > 2 * most


def same_text(prompts: pl.DataFrame) -> list[Warning]:
    """A warning for each task in which two items have the same text, but for case and white space.

    Args:
        prompts: task, item, prompt; a row an item.
    """
    plain = pl.col("prompt").cast(pl.String).str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()
    texts = prompts.filter(pl.col("prompt").is_not_null()).with_columns(plain.alias("text"))
    twins = (
        texts.group_by("task", "text")
        .agg(pl.col("item").cast(pl.String).unique().sort())
        .filter((pl.col("item").list.len() > 1) & (pl.col("text") != ""))
        .sort("task", "item")
    )
    return [
        _twins(task, group["item"].to_list())
        for (task,), group in twins.group_by("task", maintain_order=True)
    ]


def _twins(task: object, groups: list[list[str]]) -> Warning:
    named = "; ".join(" = ".join(items[:_NAMED]) for items in groups[:_NAMED])
    more = f" and {len(groups) - _NAMED} more" if len(groups) > _NAMED else ""
    n = sum(map(len, groups))
    text = f"{n} items have the same text as another ({named}{more}): each is counted as an item of its own"
    remedy = "keep one of each: copies make intervals too narrow and weigh their request more"
    return Warning(code="same_text", text=text, remedy=remedy, where=str(task))
