"""Which design a table holds, in words: it decides what is reported (METHODS section 3)."""

from collections import defaultdict

from aftertune.records.analysis import Design, DesignKind, Interval, ModelDesign, Rate, WholeDesign

_FOR = {"benchmark": "these items", "population": "requests like these"}


def design_of(rates: list[Rate], base: str | None) -> Design:
    """The design of the whole table, and of each model as far as its cells differ."""
    groups: dict[tuple[str, str, str], list[Rate]] = defaultdict(list)
    for rate in rates:
        groups[rate.model, _kind(rate, base), _text(rate, base)].append(rate)
    models = tuple(_model(text, _kind(found[0], base), found) for (_, _, text), found in groups.items())
    kind = _whole(models, base)
    return Design(kind=kind, text=_words(kind, models, rates), models=models)


def _kind(rate: Rate, base: str | None) -> DesignKind:
    if rate.n_seeds > 1:
        return "recipe over seeds"
    of_recipe = rate.model != base and rate.per_seed[0].seed is not None
    return "one checkpoint of a recipe" if of_recipe else "one checkpoint"


def _model(text: str, kind: DesignKind, found: list[Rate]) -> ModelDesign:
    first = found[0]
    return ModelDesign(
        model=first.model,
        kind=kind,
        n_seeds=first.n_seeds,
        n_items=first.n_items,
        n_repeats=first.n_repeats,
        where=tuple(dict.fromkeys(f"{r.task} · {r.decoding} · {r.judge}" for r in found)),
        text=text,
    )


def _whole(models: tuple[ModelDesign, ...], base: str | None) -> WholeDesign:
    tuned = {m.model: m for m in models if m.model != base}
    places = {place for m in models for place in m.where}
    if len(tuned) > 1 or (tuned and len(places) > 1):
        return "grid"
    if not tuned:
        return "one model"
    if any(m.kind == "recipe over seeds" for m in tuned.values()):
        return "recipe over seeds"
    return "base and one checkpoint" if base is not None else "one model"


def _words(kind: WholeDesign, models: tuple[ModelDesign, ...], rates: list[Rate]) -> str:
    """`grid: 3 models (base, 1 checkpoint; …) × 2 tasks × 1 decoding × 2 judges`."""
    seeds: dict[str, int] = {}
    for m in models:
        seeds[m.model] = max(seeds.get(m.model, 0), m.n_seeds)
    named = "; ".join(f"{name}, {n} seeds" if n > 1 else f"{name}, 1 checkpoint" for name, n in seeds.items())
    counts = [_count(len({getattr(r, name) for r in rates}), name) for name in ("task", "decoding", "judge")]
    return f"{kind}: {_count(len(seeds), 'model')} ({named}) × {' × '.join(counts)}"


def _text(rate: Rate, base: str | None) -> str:
    """What one model's cell is made of and what its intervals cover."""
    kind = _kind(rate, base)
    runs = {
        "recipe over seeds": f"a recipe over {rate.n_seeds} seeds",
        "one checkpoint of a recipe": "one checkpoint of a recipe",
        "one checkpoint": "one checkpoint",
    }[kind]
    draws = f"{_count(rate.n_repeats, 'draw')} of each"
    found = [f"{runs}, {_count(rate.n_items, 'item')}, {draws}"]
    for target in ("benchmark", "population"):
        interval: Interval | None = getattr(rate, target)
        if interval is not None:
            found.append(
                f"the interval for {_FOR[target]} covers {_listed(interval.covers)} "
                f"and leaves out {_listed(interval.leaves_out)}"
            )
    if kind == "one checkpoint":
        found.append("it does not include training-seed variation")
    if rate.why_no_interval:
        found.append(f"no interval: {rate.why_no_interval}")
    return "; ".join(found)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _listed(facets: tuple[str, ...]) -> str:
    *head, last = facets or ("nothing",)
    return f"{', '.join(head)} and {last}" if head else last
