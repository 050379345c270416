"""What a study will cost and how precise it will be; time and disk follow from the constants here."""

from collections import defaultdict
from dataclasses import dataclass

from aftertune.data.conversations import Conversation
from aftertune.engines.loading import ModelSource
from aftertune.stages.check.resolve import Resolved, targeted
from aftertune.stats.planning import TYPICAL, detectable_difference, half_width
from aftertune.study import OpenAISpec, TuneRecipe
from aftertune.tuning.streams import drawn_rows

# Measured on two cores of an AMD EPYC (Zen 4) with SmolLM2-135M in bfloat16; docs/log.md, 2026-11-21.
GENERATED_TOKENS_PER_S = 200.0
TRAINED_TOKENS_PER_S = 350.0
MEASURED_PARAMETERS = 135e6
# Refusals stop early and other answers run to the limit: on the demo's tasks about this share of it is used.
USED_SHARE_OF_MAX_TOKENS = 0.55
# OpenAI's rule of thumb for English; an endpoint's tokenizer is not here to count.
CHARACTERS_PER_TOKEN = 4

# A response with its text, its request and its judgments, compressed; a float32 number of an adapter.
RESPONSE_BYTES = 1_000
ADAPTER_NUMBER_BYTES = 4


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a study will cost and how precise it will be, under the assumptions named in this module."""

    n_checkpoints: int
    n_items: int
    n_responses: int
    n_judgments: int
    n_training_tokens: int
    generated_tokens: int
    time_s: float | None  # None where an endpoint draws
    usd: float | None  # of an endpoint with prices
    disk_bytes: int
    attention_bytes: int  # kept for the backward pass of the largest training batch, on a CPU
    half_width: float | None  # of a recipe's rate on the primary (or first) task; None below 2 seeds
    detectable_difference: float | None


def estimate(resolved: Resolved) -> Estimate:
    """Count the work; time and disk follow from the constants of this module."""
    study = resolved.study
    n_items = sum(len(task.items) for task in resolved.tasks)
    labels = ["base", *(f"{recipe}/{seed}" for recipe in study.recipes for seed in study.seed_list)]
    n_responses, prompted, tokens = 0, 0, _self_answer_tokens(resolved)
    characters = sum(len(item.prompt) for task in resolved.tasks for item in task.items)
    for decoding in study.decodings.values():
        n_draws = sum(decoding.repeats_of(label) for label in labels)
        n = n_items * n_draws
        n_responses += n
        prompted += (
            n_draws * (characters + n_items * len(decoding.system_prompt or "")) / CHARACTERS_PER_TOKEN
        )
        tokens += round(n * decoding.max_tokens * USED_SHARE_OF_MAX_TOKENS)
    weights, time_s = 0, None
    if isinstance(resolved.model, ModelSource):
        weights = sum(file.stat().st_size for file in resolved.model.path.glob("*.safetensors"))
        scale = weights / 2 / MEASURED_PARAMETERS
        time_s = scale * (tokens / GENERATED_TOKENS_PER_S + resolved.n_training_tokens / TRAINED_TOKENS_PER_S)
    width, difference = _precision(resolved)
    return Estimate(
        n_checkpoints=len(labels) - 1,
        n_items=n_items,
        n_responses=n_responses,
        n_judgments=n_responses
        * sum(
            len(judge.constructs) * spec.repeats
            for judge, spec in zip(resolved.judges, study.judges, strict=True)
        ),
        n_training_tokens=resolved.n_training_tokens,
        generated_tokens=tokens,
        time_s=time_s,
        usd=_usd(study.engine, prompted, tokens),
        disk_bytes=n_responses * RESPONSE_BYTES + _checkpoint_bytes(resolved, weights),
        attention_bytes=resolved.attention_bytes,
        half_width=width,
        detectable_difference=difference,
    )


def _usd(engine: object, n_prompt: float, n_drawn: int) -> float | None:
    if not isinstance(engine, OpenAISpec) or engine.usd_per_million_tokens is None:
        return None
    prompt, answer = engine.usd_per_million_tokens
    return (n_prompt * prompt + n_drawn * answer) / 1e6


def _self_answer_tokens(resolved: Resolved) -> int:
    """Tokens of the base's own answers to the rows that a seed draws; recipes of one length share them."""
    study = resolved.study
    asked: defaultdict[int, set[Conversation]] = defaultdict(set)  # by length limit, without the answers
    for name, recipe in study.recipes.items():
        if isinstance(recipe, TuneRecipe) and recipe.answers == "self":
            data, held = resolved.data[name], resolved.held_out.get(name)
            rows = drawn_rows(study, name, n_rows=len(data.conversations))
            drawn = [data.conversations[row] for row in rows if row < data.n_own]
            drawn += held.conversations if held else ()
            asked[recipe.self_max_tokens] |= {row[:-1] for row in drawn}
    return round(sum(len(rows) * n for n, rows in asked.items()) * USED_SHARE_OF_MAX_TOKENS)


def _checkpoint_bytes(resolved: Resolved, weights: int) -> int:
    """All checkpoints at once: they are dropped, if at all, after the last is trained.

    An adapter has rank × (rows + columns) numbers for each matrix; what a user's own trainer leaves is taken
    for a whole model.
    """
    one_of_each = 0
    for recipe in resolved.study.recipes.values():
        if isinstance(recipe, TuneRecipe) and recipe.method != "full":
            modules = None if isinstance(recipe.target_modules, str) else recipe.target_modules
            sides = sum(sum(shape) for shape in targeted(resolved.linear, modules).values())
            one_of_each += recipe.rank * sides * ADAPTER_NUMBER_BYTES
        else:
            one_of_each += weights  # 0 of an endpoint's, which keeps them
    return one_of_each * len(resolved.study.seed_list)


def _precision(resolved: Resolved) -> tuple[float | None, float | None]:
    study = resolved.study
    if len(study.seed_list) < 2 or not study.recipes:
        return None, None
    primary = study.analysis.primary
    task = next((t for t in resolved.tasks if primary and t.name == primary.task), resolved.tasks[0])
    decoding = study.decodings[primary.decoding] if primary else next(iter(study.decodings.values()))
    # Of the first recipe; a checkpoint that is drawn more often than the others adds little.
    recipe = next(iter(study.recipes))
    n_repeats = min(decoding.repeats_of(f"{recipe}/{seed}") for seed in study.seed_list)
    n_seeds, n_items, level = len(study.seed_list), len(task.items), study.analysis.level
    return (
        half_width(TYPICAL, n_seeds=n_seeds, n_items=n_items, n_repeats=n_repeats, level=level),
        detectable_difference(TYPICAL, n_seeds=n_seeds, n_items=n_items, n_repeats=n_repeats, level=level),
    )
