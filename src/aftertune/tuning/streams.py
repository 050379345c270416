"""What a training seed moves, each factor with a named stream of its own."""

from dataclasses import dataclass

import numpy as np

from aftertune.errors import DataError
from aftertune.seeds import derive, stream
from aftertune.study import ALL_VARY, Study, TuneRecipe, Vary


@dataclass(frozen=True, slots=True)
class TrainingStreams:
    """The streams of one training: a factor in `vary` follows the seed, the others are drawn once for all."""

    root_seed: int
    recipe: str
    seed: int
    vary: tuple[Vary, ...] = ALL_VARY

    def generator(self, factor: Vary, *part: str) -> np.random.Generator:
        """The generator of a factor, or of a named part of it (one adapter matrix)."""
        return stream(self.root_seed, *self._name(factor), *part)

    def integer(self, factor: Vary) -> int:
        """A 63-bit seed for torch's own generators."""
        return derive(self.root_seed, *self._name(factor))

    def subset(self, n_rows: int, n: int | None) -> tuple[int, ...]:
        """Indices of `n` rows, drawn without replacement, in ascending order; of all rows if n is None.

        Raises:
            DataError: there are fewer rows than n.
        """
        if n is None:
            return tuple(range(n_rows))
        if n > n_rows:
            raise DataError(
                f"recipe {self.recipe}: n is {n}, but the data have {n_rows} rows", "lower n or add rows"
            )
        return tuple(sorted(self.generator("subset").choice(n_rows, size=n, replace=False).tolist()))

    def _name(self, factor: Vary) -> tuple[str | int, ...]:
        return ("tune", self.recipe, factor, self.seed if factor in self.vary else "fixed")


def drawn_rows(study: Study, name: str, *, n_rows: int) -> frozenset[int]:
    """Indices of the rows, of `n_rows` in the data, that any seed of the recipe draws."""
    recipe = study.recipes[name]
    assert isinstance(recipe, TuneRecipe)
    streams = [TrainingStreams(study.root_seed, name, seed, recipe.vary) for seed in study.seed_list]
    return frozenset(row for each in streams for row in each.subset(n_rows, recipe.n))


def moved_by(recipe: TuneRecipe, *, n_rows: int | None = None) -> tuple[Vary, ...]:
    """The factors in `vary` that do change a training; with none of them all seeds would be identical.

    Initialisation and dropout belong to adapters; the subset needs `n`. Where the number of rows of the data
    is given, a subset of all rows and an order within one single step of all rows count as moving nothing.
    """
    n_used = n_rows if recipe.n is None else recipe.n
    one_step_is_all = (
        n_used is not None
        and n_used <= recipe.batch_size * recipe.accumulation
        and float(recipe.epochs).is_integer()
    )
    adapter = recipe.method != "full"
    moves: dict[Vary, bool] = {
        "init": adapter,
        "order": not one_step_is_all,
        "dropout": adapter and recipe.dropout > 0,
        "subset": recipe.n is not None and recipe.n != n_rows,
    }
    return tuple(factor for factor in ALL_VARY if factor in recipe.vary and moves[factor])
