"""What a recipe asks of the model and of its rows, before anything is trained."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aftertune.data import TuningData
from aftertune.errors import DataError, StudyError, nearest
from aftertune.study import Study, TuneRecipe
from aftertune.tuning.encode import IGNORED, encode_all
from aftertune.tuning.streams import drawn_rows, moved_by

if TYPE_CHECKING:
    from aftertune.engines.transformers import TransformersEngine

# A score is kept as a float32 weight for softmax and as a bfloat16 one for the product with the values.
_SCORE_BYTES = 6


def check_methods(study: Study, linear: dict[str, tuple[int, int]]) -> None:
    """Refuse target modules that the model does not have, and QLoRA where it cannot run.

    Raises:
        StudyError: a recipe names such a module.
    """
    recipes = {name: recipe for name, recipe in study.recipes.items() if isinstance(recipe, TuneRecipe)}
    for name, recipe in recipes.items():
        if not isinstance(recipe.target_modules, str):
            for module in recipe.target_modules:
                if not targeted(linear, (module,)):
                    known = sorted({layer.rpartition(".")[2] for layer in linear})
                    raise StudyError(
                        f"recipes.{name}.target_modules names {module!r}, which the model does not have",
                        nearest(module, known),
                    )
    if any(recipe.method == "qlora" for recipe in recipes.values()):
        from aftertune.tuning.trainable import require_qlora

        require_qlora()


def targeted(linear: dict[str, tuple[int, int]], modules: Iterable[str] | None) -> dict[str, tuple[int, int]]:
    """The layers that an adapter on `modules` changes (the ends of their names; None for all)."""
    if modules is None:
        return linear
    ends = tuple(f".{module}" for module in modules)
    return {layer: shape for layer, shape in linear.items() if f".{layer}".endswith(ends)}


@dataclass(frozen=True, slots=True)
class RowSizes:
    """Of a recipe's rows: one seed's tokens over all epochs, the rows of a batch, the longest's length."""

    n_tokens: int
    n_in_batch: int
    longest: int


def check_recipe(
    study: Study, name: str, rows: TuningData, engine: "TransformersEngine", *, context: int
) -> RowSizes:
    """The sizes of a recipe's rows.

    Raises:
        DataError: there are too few rows, or one is too long or holds a token that the model does not know.
        StudyError: the recipe's seeds move nothing.
    """
    recipe = study.recipes[name]
    assert isinstance(recipe, TuneRecipe)
    n_rows = len(rows.conversations)
    if recipe.n is not None and recipe.n > n_rows:
        raise DataError(
            f"recipes.{name}.n is {recipe.n}, but {rows.source} has {n_rows} rows", "lower n, or add rows"
        )
    if len(study.seed_list) > 1 and not moved_by(recipe, n_rows=n_rows):
        raise StudyError(
            f"recipes.{name}: its seeds move nothing (method {recipe.method}, "
            f"vary {', '.join(recipe.vary)}), all its checkpoints would be identical",
            "name in `vary` what the seed shall move: init, order, dropout, subset",
        )
    limit = token_limit(study, name, context)
    examples = encode_all(rows, engine.tokenizer, max_length=limit)
    for row, example in enumerate(examples, start=1):
        engine.refuse_unknown_tokens(example.input_ids, f"{rows.source}, row {row}")
    chosen = drawn_rows(study, name, n_rows=n_rows)
    longest = max(len(examples[row].input_ids) for row in chosen)
    if recipe.answers == "self":
        # What is not the answer, the answer at its longest, its end token.
        prompts = [examples[row].labels.count(IGNORED) for row in chosen if row < rows.n_own]
        given = [len(examples[row].input_ids) for row in chosen if row >= rows.n_own]
        longest = max([*given, *(n + recipe.self_max_tokens + 1 for n in prompts)])
        if longest > limit:
            raise DataError(
                f"recipes.{name}: a row with an answer of self_max_tokens {recipe.self_max_tokens} has "
                f"{longest} tokens, more than {limit} "
                f"(max_length {recipe.max_length}, the model's context {context})",
                "lower self_max_tokens, or drop the longest rows",
            )
    mean = sum(len(example.input_ids) for example in examples) / n_rows
    n_tokens = round(mean * (recipe.n or n_rows) * recipe.epochs)
    return RowSizes(n_tokens, min(recipe.batch_size, recipe.n or n_rows), longest)


def token_limit(study: Study, name: str, context: int) -> int:
    """The most tokens that a recipe's row may have."""
    recipe = study.recipes[name]
    assert isinstance(recipe, TuneRecipe)
    return min(recipe.max_length, context)


def check_memory(study: Study, name: str, size: RowSizes, config: Any) -> int:
    """Bytes of attention scores that a batch of the longest rows keeps.

    Attention as matrix products keeps rows × heads × length² scores a layer (of one layer where activations
    are recomputed). It is not all that a training needs, so what is refused here could not have been trained.

    Raises:
        StudyError: they are more than the machine's memory.
    """
    import psutil

    recipe, text = study.recipes[name], config.get_text_config()
    assert isinstance(recipe, TuneRecipe)
    layers = 1 if recipe.gradient_checkpointing else text.num_hidden_layers
    scores = size.n_in_batch * text.num_attention_heads * size.longest**2 * layers
    needed, there = scores * _SCORE_BYTES, psutil.virtual_memory().total
    if needed > there:
        switch = "" if recipe.gradient_checkpointing else "`gradient_checkpointing: true`, "
        raise StudyError(
            f"recipes.{name}: batches of {size.n_in_batch} rows of up to {size.longest} tokens keep "
            f"{needed / 1e9:.0f} GB of attention scores; this machine has {there / 1e9:.0f} GB",
            f"write {switch}a smaller batch_size with more accumulation, or drop the longest rows",
        )
    return needed
