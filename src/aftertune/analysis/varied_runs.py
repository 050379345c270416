"""What a run directory says of its variations beside their observations: class, and changed responses."""

import polars as pl

from aftertune.analysis.variations import Varied
from aftertune.records.analysis import Warning
from aftertune.store import RunDirectory
from aftertune.study import ALL_VARY, Study, Variation, variants_of

_DRAW = ["checkpoint", "task", "item", "decoding", "repeat"]


def load_variations(run: RunDirectory, study: Study) -> tuple[Varied, ...]:
    """The study's variations that its run has observations of, in the study's order."""
    if not study.variations:
        return ()  # and the table need not say which
    observed = set(pl.read_parquet(run.observations, columns=["variation"])["variation"].unique())
    variants = variants_of(study)
    return tuple(
        _varied(run, variation, variants[variation.name])
        for variation in study.variations
        if variation.name in observed
    )


def greedy_and_exact(run: RunDirectory, study: Study) -> frozenset[str]:
    """The decodings with temperature 0 of a run that drew under exact numerics: nothing in them is by chance.

    What nobody wrote down is taken as not exact.
    """
    engine = run.read_manifest().engine
    made = engine.numerics if engine is not None and engine.numerics is not None else study.numerics
    greedy = frozenset(name for name, decoding in study.decodings.items() if decoding.temperature == 0)
    return greedy if made == "exact" else frozenset()


def half_finished(run: RunDirectory) -> list[Warning]:
    """One where the study was observed before it was finished; says what the analysis is not about."""
    left_out = run.read_manifest().left_out
    if not left_out:
        return []
    lost = "; ".join(
        f"{entry.variation}: "
        + ("nothing is there" if entry.n_blocks is None else f"{entry.judge} {entry.n_blocks}")
        for entry in left_out
    )
    text = (
        "the study is half finished: draws of a whole task from one checkpoint that are not all there, or "
        f"not all judged, were left out ({lost}); models may have fewer seeds and repeats than planned"
    )
    return [Warning(code="half_finished", text=text, remedy="run the study to its end, and analyze again")]


def _varied(run: RunDirectory, variation: Variation, variant: Study) -> Varied:
    part = run.of_variation(variation.name, draws_anew=variation.draws_anew)
    n_compared, n_changed, first = _texts_changed(run, part) if variation.draws_anew else (None, None, None)
    return Varied(
        name=variation.name,
        kind=variation.kind,
        deterministic=greedy_and_exact(part, variant),
        n_compared=n_compared,
        n_changed=n_changed,
        first_changed=first,
        vary=_one_source(variation),
    )


def _texts_changed(run: RunDirectory, part: RunDirectory) -> tuple[int, int, str | None]:
    """How many responses both have, how many of these differ in text or in their end, and the first."""
    theirs, mine = _texts(run), _texts(part)
    both = mine.join(theirs, on=_DRAW, how="inner", suffix="_baseline", maintain_order="left")
    same = pl.col("text").eq_missing(pl.col("text_baseline")) & pl.col("finish").eq_missing(
        pl.col("finish_baseline")
    )
    changed = both.filter(~same)
    first = None if changed.is_empty() else " · ".join(str(changed[name][0]) for name in _DRAW)
    return both.height, changed.height, first


def _texts(run: RunDirectory) -> pl.DataFrame:
    """Text and end of every response that the run asked for, in the order in which it asked."""
    requests = run.read_table(run.requests).select("key", *_DRAW)
    texts = run.read_responses().select("key", "text", "finish")
    return requests.join(texts, on="key", how="inner", maintain_order="left")


def _one_source(variation: Variation) -> tuple[str, str] | None:
    """Recipe and source of chance, where the variation lets a recipe's seed move that one alone."""
    if len(variation.change) != 1:
        return None
    ((dotted, value),) = variation.change.items()
    path = dotted.split(".")
    if len(path) == 3 and path[0] == "recipes" and path[2] == "vary" and len(value) == 1:
        return path[1], next(source for source in ALL_VARY if source == value[0])
    return None
