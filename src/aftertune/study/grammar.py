"""What may stand in a study file: plain frozen data (DESIGN section 4)."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)

from aftertune.errors import nearest
from aftertune.foreign_text import half_pair
from aftertune.records import BASELINE, Intent
from aftertune.records.analysis import Primary
from aftertune.records.variations import VariationClass
from aftertune.study.engines import ENGINES, SERVING, Engine, GenerateSpec, OpenAISpec, TransformersSpec
from aftertune.study.recipes import Recipe, ServedRecipe, finished_names
from aftertune.study.strict import Commit, Name, Prices, Strict

_Count = Annotated[int, Field(ge=1)]
_Seed = Annotated[int, Field(ge=0, lt=2**63)]  # a column of 64-bit integers holds it
_Seeds = Annotated[
    Annotated[int, Field(ge=1, le=10_000), Tag("<or a list>")]
    | Annotated[tuple[_Seed, ...], Field(strict=False, min_length=1), Tag("<many>")],
    Discriminator(lambda value: "<many>" if isinstance(value, list | tuple) else "<or a list>"),
]
_Repeats = Annotated[
    Annotated[_Count, Tag("<or keys and values>")] | Annotated[dict[str, _Count], Tag("<many>")],
    Discriminator(lambda value: "<many>" if isinstance(value, dict) else "<or keys and values>"),
]


class TaskSpec(Strict):
    """A task: a packaged one or a public benchmark by its name, or a user's table by column names.

    A benchmark is fetched from where it is published, at the commit that aftertune knows or at `revision`; or
    read from a local copy: `data_dir` in the original's own format, `file` in any other, with its columns.
    Columns, intent and `where` that are not written are the benchmark's.
    """

    name: Name
    file: str | None = None  # a table, or a folder of tables, whose names become the column "file"
    data_dir: str | None = None  # a benchmark's original file, or the folder that holds it
    revision: Commit | None = None  # the commit at which a benchmark is fetched
    sha256: str | None = Field(default=None, min_length=64, max_length=64)  # the items must have this hash
    intent: Intent | None = Field(default=None, strict=False)  # of a benchmark: its own
    prompt_column: str = "prompt"
    id_column: str | None = "id"  # null: the id is made from the prompt's hash
    category_column: str | None = "category"  # null: one category for all
    context_column: str | None = None  # stands before the prompt where it is not empty
    reference_column: str | None = None  # the expected answer: what follows the last ####, or all of it
    where: dict[str, str] = Field(default={})  # keep rows whose column equals the value
    n: int | None = Field(
        default=None, ge=1
    )  # so many items, spread over the categories, drawn from root_seed
    source: str = ""
    licence: str = ""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [key for key in ("file", "data_dir", "revision") if getattr(self, key) is not None]
        if len(given) > 1:
            raise ValueError(f"task {self.name!r} has {' and '.join(given)}: write one of them")
        return self

    @model_serializer(mode="wrap")
    def _only_what_was_written(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A default that is dumped and read again would count as written, and win over the benchmark's own.
        return {key: value for key, value in dump(self).items() if key in self.model_fields_set}


class Decoding(Strict):
    """How responses are drawn. `repeats` is a count, or {default: 1, base: 5, chat/1: 5} by checkpoint."""

    temperature: float = Field(ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(ge=1)
    system_prompt: str | None = None
    repeats: _Repeats = 1

    @model_validator(mode="after")
    def _greedy_once(self) -> Self:
        if self.temperature == 0 and self.repeats != 1:
            raise ValueError(
                "temperature 0 gives the same response every time: leave repeats out, or raise it"
            )
        if (wrong := half_pair(self.system_prompt or "")) is not None:
            raise ValueError(f"system_prompt holds {wrong}: write the whole character")
        return self

    def repeats_of(self, checkpoint: str) -> int:
        """How many draws the checkpoint with this label gets."""
        if isinstance(self.repeats, int):
            return self.repeats
        return self.repeats.get(checkpoint, self.repeats.get("default", 1))

    def content(self) -> dict[str, Any]:
        """What decides a response's bytes: everything but the number of repeats."""
        return self.model_dump(exclude={"repeats"})


class JudgeSpec(Strict):
    """A judge: a known name, or a user's own rubric (`rubric`, a YAML file).

    A model judge takes its weights from the hub at the revision that it is known by, or from a directory
    (`weights`). A rubric judge asks `model` at an OpenAI-compatible `endpoint`.
    """

    name: Name  # what the study calls it by
    judge: Name | None = None  # the known judge that it is; default: its name
    weights: str | None = None  # a directory with the model judge's weights
    rubric: str | None = None  # a YAML file; this judge is then the user's own
    endpoint: str | None = None  # base URL, as https://api.openai.com/v1
    model: str | None = None  # the endpoint's name of the model that judges
    api_key_env: Name = "OPENAI_API_KEY"  # the environment variable that holds the key; never the key
    temperature: float = Field(default=0.0, ge=0)
    max_tokens: int = Field(default=512, ge=1)
    usd_per_million_tokens: Prices = None
    repeats: int = Field(default=1, ge=1)  # judge_repeat: each response is judged so often

    @model_validator(mode="after")
    def _endpoint_and_model(self) -> Self:
        if (self.endpoint is None) != (self.model is None):
            raise ValueError(f"judge {self.name!r}: endpoint and model belong together, write both")
        if self.rubric is not None and self.endpoint is None:
            raise ValueError(f"judge {self.name!r} has a rubric: write the endpoint and model that it asks")
        return self

    @property
    def settings(self) -> frozenset[str]:
        """The keys that differ from their defaults; study.json writes every default out, so not those set."""
        return frozenset(self.model_dump(exclude_defaults=True))

    @property
    def known_name(self) -> str:
        """The name that the judge is known by."""
        return self.judge or self.name


class Variation(Strict):
    """One deliberate change to the baseline, by dotted keys of the study file.

    A list's entries go by their names (`judges.refusal-rules.judge`). Procedure ought not to matter, numerics
    must not (no change is their pass), design may.
    """

    name: Name
    kind: VariationClass = Field(alias="class")
    change: dict[str, Any] = Field(min_length=1)

    @property
    def draws_anew(self) -> bool:
        """Whether its responses are drawn although the baseline has them: that they agree is the claim."""
        return self.kind == "numerics"


class AnalysisSpec(Strict):
    """What was fixed before the run."""

    primary: Primary | None = None
    level: float = Field(default=0.95, gt=0.5, lt=1)
    margin: float = Field(default=0.05, gt=0, lt=1)
    max_missing: float = Field(default=0.05, ge=0, lt=1)
    calibration: str | None = None  # what `aftertune judges calibrate` wrote; rates are corrected by it


class Study(Strict):
    """One study file."""

    name: Name
    model: str = Field(min_length=1)
    revision: Commit | None = None  # of a hub model
    root_seed: int = Field(default=2025, ge=0, lt=2**63)
    numerics: Literal["exact", "fast"] | None = None  # default: exact on CPU, fast on CUDA
    recipes: dict[Name, Recipe] = Field(default={})
    seeds: _Seeds = 5
    tasks: tuple[TaskSpec, ...] = Field(strict=False, min_length=1)
    decodings: dict[Name, Decoding] = Field(min_length=1)
    judges: tuple[JudgeSpec, ...] = Field(strict=False, min_length=1)
    variations: tuple[Variation, ...] = Field(default=(), strict=False)
    analysis: AnalysisSpec = AnalysisSpec()
    engine: Engine = TransformersSpec()
    keep_checkpoints: Literal["all", "none", "last"] = "all"
    budget_hours: float | None = Field(default=None, gt=0)  # check refuses a study that would take longer

    @field_validator("tasks", "judges", mode="before")
    @classmethod
    def _bare_names(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        return [{"name": entry} if isinstance(entry, str) else entry for entry in value]

    @field_validator("engine", mode="before")
    @classmethod
    def _known_engine(cls, value: Any) -> Any:
        name = value.get("name", "transformers") if isinstance(value, dict) else "transformers"
        if name not in list(ENGINES):
            raise ValueError(f"no engine is called {name!r}; {nearest(str(name), ENGINES)}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _refuse_twins("tasks", [task.name for task in self.tasks])
        _refuse_twins("judges", [judge.name for judge in self.judges])
        _refuse_twins("seeds", [str(seed) for seed in self.seed_list])
        _refuse_twins("variations", [variation.name for variation in self.variations])
        if any(variation.name == BASELINE for variation in self.variations):
            raise ValueError(f"a variation cannot be called {BASELINE!r}: that is the study without any")
        if "base" in self.recipes:
            raise ValueError("a recipe cannot be called 'base': that is the name of the model it starts from")
        labels = {"default", "base", *(label for name in self.recipes for label in self.labels_of(name))}
        for name, decoding in self.decodings.items():
            for label in decoding.repeats if isinstance(decoding.repeats, dict) else ():
                if label not in labels:
                    raise ValueError(
                        f"decodings.{name}.repeats names {label!r}; {nearest(label, sorted(labels))}"
                    )
        self._check_primary()
        self._check_served()
        self._check_finished()
        if isinstance(self.engine, GenerateSpec) and self.numerics == "exact":
            raise ValueError(
                "numerics: exact cannot be promised by transformers' generate: leave it out, or leave "
                "`engine.name` out"
            )
        return self

    def _check_served(self) -> None:
        served = {name: recipe for name, recipe in self.recipes.items() if isinstance(recipe, ServedRecipe)}
        if not isinstance(self.engine, SERVING):
            for name in served:
                raise ValueError(
                    f"recipes.{name} is served: write the endpoint, `engine: {{name: openai, …}}`, or the "
                    "table of its responses, `engine: {name: replay, …}`"
                )
            return
        whose = "an endpoint" if isinstance(self.engine, OpenAISpec) else "a table"
        if self.numerics == "exact":
            raise ValueError(
                f"numerics: exact cannot be promised by {whose}: leave it out, or draw on this machine"
            )
        if self.revision is not None:
            raise ValueError(f"revision is a commit of the hub's, and the model is {whose}'s: leave it out")
        for name in (name for name in self.recipes if name not in served):
            raise ValueError(
                f"recipes.{name} is of this machine, and the engine is {whose}: serve what was tuned "
                "and write `served: [a model's name for each seed]`, or draw on this machine"
            )

    def _check_finished(self) -> None:
        """What is finished has a name for each seed, and no more."""
        for name, recipe in self.recipes.items():
            names = finished_names(recipe)
            if names is None:
                continue
            key = "served" if isinstance(recipe, ServedRecipe) else "checkpoints"
            n_seeds = len(self.seed_list)
            if len(names) > n_seeds:
                raise ValueError(
                    f"recipes.{name}.{key} has {len(names)} names for {n_seeds} seed{'s' * (n_seeds > 1)}: "
                    f"write `seeds: {len(names)}`"
                )
            _refuse_twins(f"recipes.{name}.{key}", list(names))

    def _check_primary(self) -> None:
        primary = self.analysis.primary
        if primary is None:
            return
        for key, got, known in (
            ("task", primary.task, [task.name for task in self.tasks]),
            ("decoding", primary.decoding, list(self.decodings)),
            ("judge", primary.judge, [judge.name for judge in self.judges]),
        ):
            if got not in known:
                raise ValueError(f"analysis.primary.{key} is {got!r}; {nearest(got, known)}")

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The training seeds: 1…S, or those that the file names."""
        return tuple(range(1, self.seeds + 1)) if isinstance(self.seeds, int) else self.seeds

    def seeds_of(self, recipe_name: str) -> tuple[int | None, ...]:
        """The seeds of one recipe: all, or as many as it has finished checkpoints.

        A single finished checkpoint has none: it is what is asked about, and no sample of trainings.
        """
        finished = finished_names(self.recipes[recipe_name])
        if finished is None:
            return self.seed_list
        return (None,) if len(finished) == 1 else self.seed_list[: len(finished)]

    def labels_of(self, recipe_name: str) -> tuple[str, ...]:
        """The labels of a recipe's checkpoints, see `Checkpoint.label`."""
        return tuple(
            recipe_name if seed is None else f"{recipe_name}/{seed}" for seed in self.seeds_of(recipe_name)
        )


def _refuse_twins(key: str, names: list[str]) -> None:
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise ValueError(f"{key} names {', '.join(twins)} more than once")
