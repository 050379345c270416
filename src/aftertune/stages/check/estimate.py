"""What a study will cost and how precise it will be, from the constants here and the machine's speed now."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aftertune.data.conversations import Conversation
from aftertune.engines.directory import weight_files
from aftertune.engines.source import ModelSource
from aftertune.errors import StudyError
from aftertune.records import BASELINE
from aftertune.stages.check.recipes import targeted
from aftertune.stages.check.resolve import Resolved
from aftertune.stats.planning import TYPICAL, detectable_difference, half_width
from aftertune.store import content_key
from aftertune.study import (
    CommandRecipe,
    GenerateSpec,
    OpenAISpec,
    Study,
    TransformersSpec,
    TuneRecipe,
    VllmSpec,
)
from aftertune.tuning.streams import drawn_rows

# Tokens a second × 2 × parameters over the speed of this machine's products, which check measures. In float32
# of parts of examples/fraser2025-mini.yaml on a quiet machine (docs/log.md, 2026-11-26); in bfloat16 of the
# loops before (docs/log.md, 2026-11-21): an upper bound.
DRAWN_SHARE = {"torch.float32": 0.55, "torch.bfloat16": 0.07}
TRAINED_SHARE = {"torch.float32": 0.35, "torch.bfloat16": 0.12}
# A prompt's token over a drawn one's cost, in the same measurement; what prompts share at their beginning is
# computed once, and they are where most of the time of short responses goes.
PROMPT_COST = 0.3
# Assumed, never measured by us: what a loop of small batches gets out of a data centre's GPU.
ASSUMED_GPU_FLOP_PER_S = 3e13
# Tokens of a response with room for all of it. With lengths spread as an exponential distribution this gives
# 24.8 of 32 and 47.9 of 96; measured 24.7 and 47.8 (docs/log.md, 2026-11-26).
TYPICAL_TOKENS = 60
# OpenAI's rule of thumb for English; an endpoint's tokenizer is not here to count.
CHARACTERS_PER_TOKEN = 4

# A response with its text, its request and its judgments, compressed; a float32 number of an adapter.
RESPONSE_BYTES = 1_000
ADAPTER_NUMBER_BYTES = 4
WEIGHT_BYTES = 2  # of a number in a model's files


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a study with its variations will cost and how precise it will be.

    Trainings, responses and judgments that variations share are counted once. `time_s` is None where an
    endpoint draws, `gpu_hours` beside it at an assumed speed, `usd` of an endpoint with prices.
    `attention_bytes` are kept for the backward pass of the largest training batch, on a CPU. `half_width` is
    that of a recipe's rate on the primary (or first) task; None below 2 seeds.
    """

    n_variations: int
    n_checkpoints: int
    n_items: int
    n_responses: int
    n_judgments: int
    n_training_tokens: int
    generated_tokens: int
    time_s: float | None
    gpu_hours: float | None
    usd: float | None
    disk_bytes: int
    attention_bytes: int
    half_width: float | None
    detectable_difference: float | None


@dataclass(slots=True)
class _Work:
    """What is to be done once, whatever number of variations asks for it; by the content that decides it."""

    tokens_of: dict[str, int] = field(default_factory=dict[str, int])  # a training's
    bytes_of: dict[str, int] = field(default_factory=dict[str, int])  # its checkpoint's
    flop_of: dict[str, float] = field(default_factory=dict[str, float])
    draws: dict[tuple[str, ...], "_Draws"] = field(default_factory=dict[tuple[str, ...], "_Draws"])
    judged: dict[tuple[str, ...], int] = field(default_factory=dict[tuple[str, ...], int])


@dataclass(frozen=True, slots=True)
class _Draws:
    """Repeated responses of one checkpoint to one task's items."""

    n_items: int
    n_repeats: int
    max_tokens: int
    prompt_characters: int  # of all items
    prompt_tokens: int  # of all items, each counted once: repeats share it; 0 of an endpoint's
    flop_per_token: float

    @property
    def n(self) -> int:
        return self.n_items * self.n_repeats

    @property
    def n_tokens(self) -> float:
        return self.n * _typical_tokens(self.max_tokens)

    @property
    def flop(self) -> float:
        return (self.n_tokens + PROMPT_COST * self.prompt_tokens) * self.flop_per_token


def estimate(resolved: Mapping[str, Resolved]) -> Estimate:
    """Count the work of a study (BASELINE) and its variations, by name; what they share is counted once."""
    first = resolved[BASELINE]
    work = _Work()
    for name, one in resolved.items():
        _add(work, one, _anew(first.study, name))
    answers = _self_answer_tokens(resolved)
    n_trained, n_drawn = sum(work.tokens_of.values()), sum(draws.n_tokens for draws in work.draws.values())
    n_responses = sum(draws.n for draws in work.draws.values())
    local = isinstance(first.model, ModelSource)
    flop_drawn = sum(draws.flop for draws in work.draws.values())
    flop_drawn += answers * 2 * _parameters(first)
    flop_trained = sum(work.flop_of.values())
    width, difference = _precision(first)
    return Estimate(
        n_variations=len(resolved) - 1,
        n_checkpoints=len(work.tokens_of),
        n_items=sum(len(task.items) for task in first.tasks),
        n_responses=n_responses,
        n_judgments=sum(work.judged.values()),
        n_training_tokens=n_trained,
        generated_tokens=round(n_drawn + answers),
        time_s=_time_s(first, flop_drawn, flop_trained) if local else None,
        gpu_hours=(flop_drawn + 2 * flop_trained) / ASSUMED_GPU_FLOP_PER_S / 3600 if local else None,
        usd=_usd(first.study.engine, work, n_drawn),
        disk_bytes=n_responses * RESPONSE_BYTES + sum(work.bytes_of.values()),
        attention_bytes=max(one.attention_bytes for one in resolved.values()),
        half_width=width,
        detectable_difference=difference,
    )


def refuse_over_budget(study: Study, found: Estimate) -> None:
    """Refuse a study whose estimated time exceeds its `budget_hours`.

    Raises:
        StudyError: names both, or says that the time is not known.
    """
    if study.budget_hours is None:
        return
    if found.time_s is None:
        raise StudyError(
            f"budget_hours is {study.budget_hours:g}, and the time of an endpoint is not known",
            "leave budget_hours out; `check` prints the cost in money where prices are given",
        )
    hours = found.time_s / 3600
    if hours > study.budget_hours:
        raise StudyError(
            f"{study.name} would take about {hours:.1f} hours here, more than its budget_hours of "
            f"{study.budget_hours:g} ({found.n_training_tokens:,} tokens trained, "
            f"{found.generated_tokens:,} drawn)",
            "lower seeds, items, repeats or variations, or write a larger budget_hours",
        )


def _anew(study: Study, name: str) -> str:
    """What sets a variation's responses apart, though their content is the baseline's."""
    return next((v.name for v in study.variations if v.name == name and v.draws_anew), "")


def _add(work: _Work, resolved: Resolved, anew: str) -> None:
    study, parameters = resolved.study, _parameters(resolved)
    keys = {"base": content_key([resolved.model.sha256, anew])}
    for name, recipe in study.recipes.items():
        data = resolved.data.get(name)
        content = [resolved.model.sha256, name, recipe.model_dump(mode="json"), study.root_seed]
        tokens = resolved.training_tokens.get(name, 0)
        for seed, label in zip(study.seeds_of(name), study.labels_of(name), strict=True):
            key = content_key([*content, data.sha256 if data else None, seed])
            keys[label] = content_key([key, anew])
            if isinstance(recipe, TuneRecipe | CommandRecipe):  # the others are there already
                work.tokens_of[key] = tokens
                work.flop_of[key] = tokens * 2 * parameters
                work.bytes_of[key] = _checkpoint_bytes(resolved, name)
    for task in resolved.tasks:
        characters = sum(len(item.prompt) for item in task.items)
        for decoding in study.decodings.values():
            for label, key in keys.items():
                n = decoding.repeats_of(label)
                cell = (key, task.sha256, content_key(decoding.content()))
                system = len(decoding.system_prompt or "") * len(task.items)
                draws = _Draws(
                    n_items=len(task.items),
                    n_repeats=n,
                    max_tokens=decoding.max_tokens,
                    prompt_characters=characters + system,
                    prompt_tokens=resolved.prompt_tokens.get((task.name, decoding.system_prompt), 0),
                    flop_per_token=2 * parameters,
                )
                known = work.draws.get(cell)
                work.draws[cell] = draws if known is None or known.n_repeats < n else known
                for judge, spec in zip(resolved.judges, study.judges, strict=True):
                    times = draws.n * len(judge.constructs) * spec.repeats
                    place = (*cell, judge.name, judge.sha256)
                    work.judged[place] = max(times, work.judged.get(place, 0))


def _time_s(resolved: Resolved, flop_drawn: float, flop_trained: float) -> float:
    """From the speed of this machine's products, measured now."""
    from aftertune.engines.loading import pick_device, pick_dtype
    from aftertune.engines.speed import products_flop_per_s

    engine = resolved.study.engine
    device = pick_device(engine.device if isinstance(engine, TransformersSpec | GenerateSpec) else "auto")
    asked = engine.dtype if isinstance(engine, TransformersSpec | GenerateSpec | VllmSpec) else "auto"
    dtype = pick_dtype(asked, device)
    speed, name = products_flop_per_s(dtype, device), str(dtype)
    drawn = DRAWN_SHARE.get(name, DRAWN_SHARE["torch.bfloat16"])
    trained = TRAINED_SHARE.get(name, TRAINED_SHARE["torch.bfloat16"])
    return flop_drawn / (drawn * speed) + flop_trained / (trained * speed)


def _parameters(resolved: Resolved) -> float:
    """Of the base, from the size of its files; 0 of an endpoint's."""
    return _weights(resolved) / WEIGHT_BYTES


def _weights(resolved: Resolved) -> int:
    if not isinstance(resolved.model, ModelSource):
        return 0
    return sum(file.stat().st_size for file in weight_files(resolved.model.path))


def _usd(engine: Any, work: _Work, n_drawn: float) -> float | None:
    if not isinstance(engine, OpenAISpec) or engine.usd_per_million_tokens is None:
        return None
    prompt, answer = engine.usd_per_million_tokens
    prompted = sum(d.n_repeats * d.prompt_characters for d in work.draws.values()) / CHARACTERS_PER_TOKEN
    return (prompted * prompt + n_drawn * answer) / 1e6


def _self_answer_tokens(resolved: Mapping[str, Resolved]) -> int:
    """Tokens of the base's own answers to the rows that a seed draws; recipes of one length share them."""
    asked: defaultdict[int, set[Conversation]] = defaultdict(set)  # by length limit, without the answers
    for one in resolved.values():
        for name, recipe in one.study.recipes.items():
            if isinstance(recipe, TuneRecipe) and recipe.answers == "self":
                data, held = one.data[name], one.held_out.get(name)
                rows = drawn_rows(one.study, name, n_rows=len(data.conversations))
                drawn = [data.conversations[row] for row in rows if row < data.n_own]
                drawn += held.conversations if held else ()
                asked[recipe.self_max_tokens] |= {row[:-1] for row in drawn}
    return round(sum(len(rows) * _typical_tokens(n) for n, rows in asked.items()))


def _typical_tokens(max_tokens: int) -> float:
    """Of a response under this limit."""
    return TYPICAL_TOKENS * (1 - math.exp(-max_tokens / TYPICAL_TOKENS))


def _checkpoint_bytes(resolved: Resolved, name: str) -> int:
    """Of one seed's checkpoint; all are there at once: they are dropped, if at all, after the last draw.

    An adapter has rank × (rows + columns) numbers for each matrix; what a user's own trainer leaves is taken
    for a whole model.
    """
    recipe = resolved.study.recipes[name]
    if not isinstance(recipe, TuneRecipe) or recipe.method == "full":
        return _weights(resolved)  # 0 of an endpoint's, which keeps them
    modules = None if isinstance(recipe.target_modules, str) else recipe.target_modules
    sides = sum(sum(shape) for shape in targeted(resolved.linear, modules).values())
    return recipe.rank * sides * ADAPTER_NUMBER_BYTES


def _precision(resolved: Resolved) -> tuple[float | None, float | None]:
    study = resolved.study
    if not study.recipes:
        return None, None
    # Of the first recipe; a checkpoint that is drawn more often than the others adds little.
    recipe = next(iter(study.recipes))
    labels = study.labels_of(recipe)
    if len(labels) < 2:
        return None, None
    primary = study.analysis.primary
    task = next((t for t in resolved.tasks if primary and t.name == primary.task), resolved.tasks[0])
    decoding = study.decodings[primary.decoding] if primary else next(iter(study.decodings.values()))
    n_repeats = min(decoding.repeats_of(label) for label in labels)
    n_seeds, n_items, level = len(labels), len(task.items), study.analysis.level
    return (
        half_width(TYPICAL, n_seeds=n_seeds, n_items=n_items, n_repeats=n_repeats, level=level),
        detectable_difference(TYPICAL, n_seeds=n_seeds, n_items=n_items, n_repeats=n_repeats, level=level),
    )
