"""Recipes of a study file: how a model is tuned, or where what was tuned is found."""

import shlex
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from aftertune.study.strict import Commit, Strict

Vary = Literal["init", "order", "dropout", "subset"]
ALL_VARY: tuple[Vary, ...] = ("init", "order", "dropout", "subset")
_Modules = Annotated[
    Annotated[Literal["all-linear"], Tag("<or a list>")]
    | Annotated[tuple[str, ...], Field(strict=False, min_length=1), Tag("<many>")],
    Discriminator(lambda value: "<many>" if isinstance(value, list | tuple) else "<or a list>"),
]


_Texts = Annotated[
    Annotated[str, Tag("<or a list>")]
    | Annotated[tuple[str, ...], Field(strict=False, min_length=1), Tag("<many>")],
    Discriminator(lambda value: "<many>" if isinstance(value, list | tuple) else "<or a list>"),
]


class Columns(Strict):
    """Which columns of a table make a conversation of one question and one answer."""

    user: str = Field(min_length=1)
    input: str | None = None  # put below the user's text, where it is not blank
    assistant: str = Field(min_length=1)
    category: str | None = None  # what `where: {category: …}` looks at
    instruction: str | None = None  # a text of the study's own, put above every user's text


class DataSpec(Strict):
    """Tuning data: a known set (`name`), a file (`path`) or a file of the hub, and what is done to its rows.

    `name` with `path` is a local copy of a known set. The order: columns, where, length, safety mix.
    """

    name: str | None = Field(default=None, min_length=1)  # packaged:NAME, or a name of `aftertune data`
    path: str | None = Field(default=None, min_length=1)  # .jsonl, .json, .csv or .parquet
    hub: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")] | None = None  # owner/name
    file: str | None = Field(default=None, min_length=1)  # of the hub's data set
    revision: Commit | None = None  # of the hub's
    columns: Columns | None = None  # without it, the columns' names say the shape
    drop_blank: bool = False  # leave out rows whose question or answer is blank, instead of refusing them
    where: dict[str, _Texts] = Field(default={})  # keep rows whose column has the value, or one of the values
    min_chars: int | None = Field(default=None, ge=1)  # of the user's and assistant's texts together
    max_chars: int | None = Field(default=None, ge=1)
    safety_mix: float = Field(default=0.0, ge=0, lt=1)  # share of refusals among the final rows

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [key for key in ("name", "path", "hub") if getattr(self, key) is not None]
        if given not in (["name"], ["path"], ["hub"], ["name", "path"]):
            raise ValueError(
                f"data needs a name, a path or a hub data set, got {' and '.join(given) or 'none of them'}"
            )
        if (self.hub is not None) != (self.file is not None and self.revision is not None) or (
            self.hub is None and (self.file or self.revision)
        ):
            raise ValueError("a hub data set needs hub, file and revision (a full commit): write all three")
        if self.name is not None and self.columns is not None:
            raise ValueError(
                f"the columns of {self.name!r} are known: leave columns out, or give only a path"
            )
        return self

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        if self.min_chars is not None and self.max_chars is not None and self.min_chars > self.max_chars:
            raise ValueError(f"min_chars {self.min_chars} is more than max_chars {self.max_chars}")
        return self


_Data = Annotated[
    Annotated[str, Field(min_length=1), Tag("<or keys and values>")] | Annotated[DataSpec, Tag("<many>")],
    Discriminator(lambda value: "<many>" if isinstance(value, dict | DataSpec) else "<or keys and values>"),
]


class TuneRecipe(Strict):
    """A fine-tune that aftertune runs itself. Learning rate per step of AdamW; lengths in tokens."""

    data: _Data  # packaged:NAME, a known name, a path with its ending, or keys and values
    answers: Literal["data", "self"] = "data"
    n: int | None = Field(default=None, ge=1)  # a subset of so many rows, drawn by the seed
    held_out: int = Field(default=0, ge=0)  # rows that no seed trains on; the loss is measured on them
    method: Literal["lora", "qlora", "full"] = "lora"
    rank: int = Field(default=8, ge=1)
    alpha: float | None = Field(default=None, gt=0)  # default: 2 × rank
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: _Modules = "all-linear"
    epochs: float = Field(default=1, gt=0)
    learning_rate: float = Field(default=2e-4, gt=0)
    batch_size: int = Field(default=8, ge=1)
    accumulation: int = Field(default=1, ge=1)  # batches per optimizer step
    warmup: float = Field(default=0.1, ge=0, lt=1)  # share of the steps
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    max_length: int = Field(default=1024, ge=8)  # longer rows are an error at check
    gradient_checkpointing: bool = False
    self_max_tokens: int = Field(default=192, ge=1)  # length limit of `answers: self`
    vary: Annotated[tuple[Vary, ...], Field(strict=False, min_length=1)] = (
        ALL_VARY  # what the seed moves; the rest is drawn once for all seeds
    )


class CommandRecipe(Strict):
    """The user's own trainer, run once a seed without a shell; it leaves a checkpoint in {output}."""

    command: str
    timeout_s: float | None = Field(default=None, gt=0)

    @field_validator("command")
    @classmethod
    def _has_fields(cls, command: str) -> str:
        for field in ("{seed}", "{output}"):
            if field not in command:
                raise ValueError(f"the command must contain {field}, got {command!r}")
        try:
            shlex.split(command)
        except ValueError as error:
            raise ValueError(f"the command cannot be read ({error}), got {command!r}") from error
        return command


class ServedRecipe(Strict):
    """Finished fine-tunes of one recipe that the engine's endpoint serves: a model's name for each seed."""

    served: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False, min_length=1)]


class FinishedRecipe(Strict):
    """Finished fine-tunes of one recipe, a checkpoint for each seed: nothing is tuned.

    A checkpoint is a directory with an adapter or a whole model, or a hub id with its commit (owner/name@…).
    """

    checkpoints: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False, min_length=1)]


RECIPE_KEYS = {"command": CommandRecipe, "served": ServedRecipe, "checkpoints": FinishedRecipe}


def _recipe_kind(value: Any) -> str:
    for key, recipe in RECIPE_KEYS.items():
        if key in value if isinstance(value, dict) else isinstance(value, recipe):
            return f"<{key}>"
    return "<tune>"


Recipe = Annotated[
    Annotated[TuneRecipe, Tag("<tune>")]
    | Annotated[CommandRecipe, Tag("<command>")]
    | Annotated[ServedRecipe, Tag("<served>")]
    | Annotated[FinishedRecipe, Tag("<checkpoints>")],
    Discriminator(_recipe_kind),
]


def finished_names(recipe: Recipe) -> tuple[str, ...] | None:
    """What a recipe names that is finished; None where it trains."""
    if isinstance(recipe, ServedRecipe):
        return recipe.served
    return recipe.checkpoints if isinstance(recipe, FinishedRecipe) else None
