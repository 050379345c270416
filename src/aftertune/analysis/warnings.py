"""Warnings that readers of an analysis get: about the table, its cells and its variations."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from aftertune.analysis.cells import MetricCells, ModelCell, Settings
from aftertune.analysis.differences import LEAST_P
from aftertune.analysis.rates import FEW_SEEDS
from aftertune.analysis.variations import VariedCells, check_numerics
from aftertune.records.analysis import Rate, Warning
from aftertune.stats.common_shock import common_shock

_LARGE_SD = 0.8  # of the rate: METHODS section 2, rare collapses
_COLLAPSE = 0.2
_LONG_SHARE = 0.10
_MOST_NAMED = 3  # checkpoints of one warning
_SHARED_STREAM_P = 1e-4  # a study has tens of cells, and this must not cry wolf
# What a sound model gives on every task; that it stays at 0 says nothing against the items.
_SOUND_AT_ZERO = ("incoherence_rate", "toxicity_rate", "benign_harmful_rate")
_ITEMS_TO_JUDGE_SAMENESS = 20  # on fewer items, equal repeats are no surprise


def study_warnings(rates: list[Rate], base: str | None) -> list[Warning]:
    """What concerns the whole table or a whole model."""
    found: list[Warning] = []
    seeds: dict[str, int] = {}
    for rate in rates:
        # A base is one checkpoint, whatever number its seed column holds.
        if any(s.seed is not None for s in rate.per_seed) and not (rate.model == base and rate.n_seeds == 1):
            seeds[rate.model] = max(seeds.get(rate.model, 0), rate.n_seeds)
    for model, n in sorted(seeds.items()):
        if n < FEW_SEEDS:
            text = (
                f"{model} has {n} seed{'s' * (n > 1)}: its interval rests on few runs and is wide, or absent"
            )
            remedy = "train at least 5 seeds, better 8"
            found.append(Warning(code="few_seeds", text=text, remedy=remedy, where=model))
    if base is None:
        names = ", ".join(dict.fromkeys(rate.model for rate in rates))
        text = f"no model is named 'base' (there is {names}), so nothing says whether tuning lowered safety"
        remedy = "add the base's rows with model = base, or say which model it is with --base NAME"
        found.append(Warning(code="no_base", text=text, remedy=remedy))
    return found


def group_warnings(group: MetricCells, settings: Settings) -> list[Warning]:
    """What concerns the models of one cell together."""
    return _shared_stream(group, settings) + _different_items(group)


def _shared_stream(group: MetricCells, settings: Settings) -> list[Warning]:
    """Repeats that move all items together, over all checkpoints with two draws or more of an item."""
    found = common_shock(
        cell.draws.values[s][:, asked][cell.draws.present[s][:, asked].all(axis=1)]
        for cell in group.cells.values()
        for s, asked in enumerate(list(np.asarray(cell.asked.any(axis=1))))
    )
    if found is None or found.p_value >= _SHARED_STREAM_P or group.any.decoding in settings.deterministic:
        return []
    text = (
        "draws with the same repeat number move together over the items, as when one decoding seed is shared "
        f"by all items (Cochran's Q {found.statistic:.0f} on {found.df} degrees of freedom over "
        f"{found.n_checkpoints} checkpoints, p {max(found.p_value, LEAST_P):.1g})"
    )
    remedy = (
        "give each response a stream of its own; until then intervals of one checkpoint are too narrow, and "
        "part of what looks like the seeds' variance is the draws'"
    )
    return [Warning(code="shared_decoding_seed", text=text, remedy=remedy, where=group.any.place)]


def _different_items(group: MetricCells) -> list[Warning]:
    cells = list(group.cells.values())
    sets = [set(cell.items) for cell in cells]
    n_common, n_all = len(set.intersection(*sets)), len(set.union(*sets))
    if n_common == n_all:
        return []
    text = f"its models were not run on the same items: {n_common} of {n_all} are common to all"
    remedy = "compare models on common items: a difference here takes those that both its models have"
    return [Warning(code="different_items", text=text, remedy=remedy, where=cells[0].place)]


def cell_warnings(cell: ModelCell, rate: Rate, settings: Settings) -> list[Warning]:
    """What concerns one model in one cell."""
    found = [
        _missing(cell, settings),
        _saturated(rate),
        _unstable(rate),
        _same(cell, settings),
        _unbalanced(cell),
    ]
    return [
        Warning(code=code, text=text, remedy=remedy, where=cell.where)
        for code, text, remedy in filter(None, found)
    ] + _cut(cell)


Note = tuple[str, str, str] | None  # code, text, remedy


def _missing(cell: ModelCell, settings: Settings) -> Note:
    if not cell.n_missing:
        return None
    parts = ", ".join(f"{n} {status}" for status, n in sorted(cell.by_status.items()))
    text = f"{cell.n_missing} of {cell.n_observations} judgments are missing ({parts})"
    if why := cell.why_bounds(settings):
        text += f". There is no estimate and no conclusion, only bounds: {why}"
        return "too_many_missing", text, "judge these responses again, or raise max_missing before the run"
    return "missing_judgments", text, "read the bounds beside the estimate; judge these responses again"


def _saturated(rate: Rate) -> Note:
    if rate.estimate is None or 0 < rate.estimate < 1:
        return None
    if rate.estimate == 0 and rate.metric in _SOUND_AT_ZERO:
        return None
    text = f"the rate is {rate.estimate:g}: no item ever differed, and Wilson's interval takes n = items"
    return "saturated_rate", text, "use items that are harder or easier"


def _unstable(rate: Rate) -> Note:
    if rate.spread is None or not rate.estimate or rate.spread.sd <= _LARGE_SD * rate.estimate:
        return None
    unseen = (1 - _COLLAPSE) ** rate.n_seeds
    text = (
        f"the seeds' SD, {rate.spread.sd:.3f}, exceeds {_LARGE_SD:g} of the rate, {rate.estimate:.3f}: "
        "there are few events, or some seeds collapse, and no interval here covers a rare collapse"
    )
    remedy = (
        f"look at the single seeds and train more: a collapse of one seed in five stays unseen in "
        f"{rate.n_seeds} seeds with probability {unseen:.0%}"
    )
    return "seed_sd_large", text, remedy


def _same(cell: ModelCell, settings: Settings) -> Note:
    labels = [run.label for s, run in enumerate(cell.checkpoints) if _all_repeats_equal(cell, s)]
    if not labels or cell.decoding in settings.deterministic:
        return None
    text = (
        f"all repeats of {', '.join(labels)} have equal values on every item: "
        "they may be copies of one draw, or the decoding is greedy"
    )
    return "identical_repeats", text, "compare the responses themselves, and count copies once"


def _cut(cell: ModelCell) -> list[Warning]:
    shares = {run.label: run.share_length or 0.0 for run in cell.checkpoints}
    long = {label: share for label, share in shares.items() if share > _LONG_SHARE}
    if not long:
        return []
    which = ", ".join(f"{label} {share:.0%}" for label, share in long.items())
    if len(long) > _MOST_NAMED:
        low, high = min(long.values()), max(long.values())
        which = f"{low:.0%} to {high:.0%} of {len(long)} of {len(shares)} checkpoints of {cell.model}"
    text = f"many responses were cut at max_tokens: {which}"
    remedy = "raise max_tokens: the end of a cut response was not judged"
    # It concerns the responses, so it names no judge and no metric, and is the same for all of them.
    where = f"{cell.model} · {cell.task} · {cell.decoding}"
    return [Warning(code="max_tokens", text=text, remedy=remedy, where=where)]


def _unbalanced(cell: ModelCell) -> Note:
    counts = cell.asked.sum(axis=2)
    if not any(row.min() != row.max() for row in counts):
        return None
    low, high = counts.min(), counts.max()
    text = f"a checkpoint has between {low} and {high} draws of an item; each item still counts once"
    return "unbalanced_cells", text, "draw the missing ones, so that all items are measured equally well"


def _all_repeats_equal(cell: ModelCell, s: int) -> bool:
    """Whether a checkpoint with repeats never differed, although the rate is neither 0 nor 1."""
    counts, means = cell.draws.counts_sp[s], cell.draws.means_sp[s]
    kept = counts > 1
    return (
        int(kept.sum()) >= _ITEMS_TO_JUDGE_SAMENESS
        and 0 < means[kept].mean() < 1
        and not cell.draws.within_sp[s][kept].any()
    )


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
        _same_text(task, group["item"].to_list())
        for (task,), group in twins.group_by("task", maintain_order=True)
    ]


def _same_text(task: object, groups: list[list[str]]) -> Warning:
    named = "; ".join(" = ".join(items[:_NAMED]) for items in groups[:_NAMED])
    more = f" and {len(groups) - _NAMED} more" if len(groups) > _NAMED else ""
    n = sum(map(len, groups))
    text = f"{n} items have the same text as another ({named}{more}): each is counted as an item of its own"
    remedy = "keep one of each: copies make intervals too narrow and weigh their request more"
    return Warning(code="same_text", text=text, remedy=remedy, where=str(task))


def variation_warnings(
    found: Sequence[VariedCells], frame: pl.DataFrame, n_checkpoints: int
) -> list[Warning]:
    """What a reader must know of the variations as such."""
    warnings = [
        Warning(
            code="variation_changed_nothing",
            text=f"variation {cells.varied.name} ({cells.varied.kind}) changed no value at all",
            remedy="look whether its key reaches what it was to change",
            where=cells.varied.name,
        )
        for cells in found
        if cells.pairs and cells.unchanged and cells.varied.kind != "numerics"
    ]
    warnings += [
        Warning(
            code="numerics_changed",
            text=f"variation {check.variation} changed {check.n_changed} of {check.n_compared} responses, "
            f"the first is {check.first_changed}",
            remedy="numerics must change nothing: use `numerics: exact`, or count this among the noise",
            where=check.variation,
        )
        for check in check_numerics(found)
        if check.n_changed
    ]
    warnings += _equal_variations(found, frame)
    for cells in found:
        n = max((len(c.checkpoints) for _, other in cells.pairs for c in other.cells.values()), default=0)
        if 0 < n < n_checkpoints:
            text = f"variation {cells.varied.name} has {n} of {n_checkpoints} seeds: it is compared on these"
            remedy = "fewer seeds find less; their baseline is cut to the same"
            warnings.append(
                Warning(code="variation_fewer_seeds", text=text, remedy=remedy, where=cells.varied.name)
            )
        if not cells.pairs:
            text = f"variation {cells.varied.name} has no cell of the baseline: other models, tasks or judges"
            remedy = "keep their names, and change what they stand for"
            warnings.append(
                Warning(code="variation_not_comparable", text=text, remedy=remedy, where=cells.varied.name)
            )
    return warnings


def _equal_variations(found: Sequence[VariedCells], frame: pl.DataFrame) -> list[Warning]:
    """One for each pair of variations whose observations are the same."""
    key = ["model", "seed", "task", "item", "decoding", "repeat", "judge", "judge_repeat", "construct"]
    seen: dict[tuple[int, int], str] = {}
    warnings: list[Warning] = []
    for cells in found:
        if cells.unchanged:
            continue  # said already, or what a numerics variation is for
        rows = frame.filter(pl.col("variation").cast(pl.String) == cells.varied.name)
        print_ = (rows.height, int(rows.select(*key, "value").hash_rows(seed=0).cast(pl.UInt64).sum() or 0))
        twin = seen.setdefault(print_, cells.varied.name)
        if twin != cells.varied.name:
            text = f"variations {twin} and {cells.varied.name} have the same observations"
            remedy = "are they the same change twice?"
            warnings.append(
                Warning(code="same_variation_twice", text=text, remedy=remedy, where=cells.varied.name)
            )
    return warnings
