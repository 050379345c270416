"""What may stand in a study file: plain frozen data (DESIGN section 4)."""

import shlex
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)

from aftertune.errors import nearest
from aftertune.records import BASELINE, Intent
from aftertune.records.analysis import Primary
from aftertune.records.variations import VariationClass

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Vary = Literal["init", "order", "dropout", "subset"]
ALL_VARY: tuple[Vary, ...] = ("init", "order", "dropout", "subset")
_Count = Annotated[int, Field(ge=1)]
_Seed = Annotated[int, Field(ge=0, lt=2**63)]  # a column of 64-bit integers holds it


def is_tag(part: str | int) -> bool:
    """Whether a part of an error's location is one of the tags below, and no key of the study file."""
    return isinstance(part, str) and part.startswith("<")


# Where a value may be written in two ways, its shape says which is meant, so that errors speak of that one;
# a tag "<or …>" names the other.
_Seeds = Annotated[
    Annotated[int, Field(ge=1, le=10_000), Tag("<or a list>")]
    | Annotated[tuple[_Seed, ...], Field(strict=False, min_length=1), Tag("<many>")],
    Discriminator(lambda value: "<many>" if isinstance(value, list | tuple) else "<or a list>"),
]
_Repeats = Annotated[
    Annotated[_Count, Tag("<or keys and values>")] | Annotated[dict[str, _Count], Tag("<many>")],
    Discriminator(lambda value: "<many>" if isinstance(value, dict) else "<or keys and values>"),
]
_Modules = Annotated[
    Annotated[Literal["all-linear"], Tag("<or a list>")]
    | Annotated[tuple[str, ...], Field(strict=False, min_length=1), Tag("<many>")],
    Discriminator(lambda value: "<many>" if isinstance(value, list | tuple) else "<or a list>"),
]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


_Texts = Annotated[
    Annotated[str, Tag("<or a list>")]
    | Annotated[tuple[str, ...], Field(strict=False, min_length=1), Tag("<many>")],
    Discriminator(lambda value: "<many>" if isinstance(value, list | tuple) else "<or a list>"),
]


class Columns(_Strict):
    """Which columns of a table make a conversation of one question and one answer."""

    user: str = Field(min_length=1)
    input: str | None = None  # put below the user's text, where it is not blank
    assistant: str = Field(min_length=1)
    category: str | None = None  # what `where: {category: …}` looks at
    instruction: str | None = None  # a text of the study's own, put above every user's text


class DataSpec(_Strict):
    """Tuning data: a known set (`name`), a file (`path`) or a file of the hub, and what is done to its rows.

    `name` with `path` is a local copy of a known set. The order: columns, where, length, safety mix.
    """

    name: str | None = Field(default=None, min_length=1)  # packaged:NAME, or a name of `aftertune data`
    path: str | None = Field(default=None, min_length=1)  # .jsonl, .json, .csv or .parquet
    hub: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")] | None = None  # owner/name
    file: str | None = Field(default=None, min_length=1)  # of the hub's data set
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None  # of the hub's: a full commit
    columns: Columns | None = None  # without it, the columns' names say the shape
    drop_blank: bool = False  # leave out rows whose question or answer is blank, instead of refusing them
    where: dict[str, _Texts] = {}  # keep rows whose column has the value, or one of the values
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


class TuneRecipe(_Strict):
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


class CommandRecipe(_Strict):
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


class ServedRecipe(_Strict):
    """Finished fine-tunes of one recipe that the engine's endpoint serves: a model's name for each seed."""

    served: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False, min_length=1)]


def _recipe_kind(value: Any) -> str:
    for key, recipe in (("command", CommandRecipe), ("served", ServedRecipe)):
        if key in value if isinstance(value, dict) else isinstance(value, recipe):
            return f"<{key}>"
    return "<tune>"


Recipe = Annotated[
    Annotated[TuneRecipe, Tag("<tune>")]
    | Annotated[CommandRecipe, Tag("<command>")]
    | Annotated[ServedRecipe, Tag("<served>")],
    Discriminator(_recipe_kind),
]


class TaskSpec(_Strict):
    """A task: a packaged one or a public benchmark by its name, or a user's table by column names.

    A benchmark is fetched from where it is published, at the commit that aftertune knows or at `revision`; or
    read from a local copy: `data_dir` in the original's own format, `file` in any other, with its columns.
    Columns, intent and `where` that are not written are the benchmark's.
    """

    name: Name
    file: str | None = None  # a table, or a folder of tables, whose names become the column "file"
    data_dir: str | None = None  # a benchmark's original file, or the folder that holds it
    revision: str | None = Field(default=None, min_length=1)  # the commit at which a benchmark is fetched
    sha256: str | None = Field(default=None, min_length=64, max_length=64)  # the items must have this hash
    intent: Intent | None = Field(default=None, strict=False)  # of a benchmark: its own
    prompt_column: str = "prompt"
    id_column: str | None = "id"  # null: the id is made from the prompt's hash
    category_column: str | None = "category"  # null: one category for all
    context_column: str | None = None  # stands before the prompt where it is not empty
    reference_column: str | None = None  # the expected answer: what follows the last ####, or all of it
    where: dict[str, str] = {}  # keep rows whose column equals the value
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


class Decoding(_Strict):
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
        return self

    def repeats_of(self, checkpoint: str) -> int:
        """How many draws the checkpoint with this label gets."""
        if isinstance(self.repeats, int):
            return self.repeats
        return self.repeats.get(checkpoint, self.repeats.get("default", 1))

    def content(self) -> dict[str, Any]:
        """What decides a response's bytes: everything but the number of repeats."""
        return self.model_dump(exclude={"repeats"})


# Prices in US dollars per million tokens, [prompt, answer]; none: the cost is not counted.
_Price = Annotated[float, Field(ge=0)]
_Prices = Annotated[tuple[_Price, ...], Field(strict=False, min_length=2, max_length=2)] | None


class JudgeSpec(_Strict):
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
    usd_per_million_tokens: _Prices = None
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


class Variation(_Strict):
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


class TransformersSpec(_Strict):
    """Our own loop on this machine; under `exact` nothing here changes a response, `threads` excepted."""

    name: Literal["transformers"] = "transformers"
    batch_rows: int = Field(default=128, ge=2)
    threads: int | None = Field(default=None, ge=1)  # default: what torch finds
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"


class OpenAISpec(_Strict):
    """Models behind an OpenAI-compatible endpoint: nothing is tuned there, and no weight is seen.

    The study's `model` is the endpoint's name of the base, and recipes name their models with `served`.
    """

    name: Literal["openai"] = "openai"
    endpoint: str = Field(min_length=1)  # base URL, as https://api.openai.com/v1
    api_key_env: Name = "OPENAI_API_KEY"  # the environment variable that holds the key; never the key
    at_once: int = Field(default=8, ge=1, le=256)  # requests under way together
    timeout_s: float = Field(default=120.0, gt=0)  # what one response may take
    usd_per_million_tokens: _Prices = None  # of all models alike; write those of the dearest


class VllmSpec(_Strict):
    """vLLM, in this process's machine: its own kernels draw, our loop still tunes.

    What vLLM must know of the adapters (how many, of which rank) is read from them.
    """

    name: Literal["vllm"] = "vllm"
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    max_model_len: int | None = Field(default=None, ge=1)  # of prompt and response; default: the model's
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)  # vLLM's share of the memory, a CPU's too


ENGINES: dict[str, type[_Strict]] = {
    "transformers": TransformersSpec,
    "vllm": VllmSpec,
    "openai": OpenAISpec,
}


def engine_name(value: Any) -> str:
    """Which engine a study's `engine` is; the first of them where it does not say."""
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return name if isinstance(name, str) and name in ENGINES else "transformers"


_Engine = Annotated[
    Annotated[TransformersSpec, Tag("<transformers>")]
    | Annotated[VllmSpec, Tag("<vllm>")]
    | Annotated[OpenAISpec, Tag("<openai>")],
    Discriminator(lambda value: f"<{engine_name(value)}>"),
]


class AnalysisSpec(_Strict):
    """What was fixed before the run."""

    primary: Primary | None = None
    level: float = Field(default=0.95, gt=0.5, lt=1)
    margin: float = Field(default=0.05, gt=0, lt=1)
    max_missing: float = Field(default=0.05, ge=0, lt=1)
    calibration: str | None = None  # what `aftertune judges calibrate` wrote; rates are corrected by it


class Study(_Strict):
    """One study file."""

    name: Name
    model: str = Field(min_length=1)
    revision: str | None = None  # of a hub model: a commit
    root_seed: int = Field(default=2025, ge=0, lt=2**63)
    numerics: Literal["exact", "fast"] | None = None  # default: exact on CPU, fast on CUDA
    recipes: dict[Name, Recipe] = {}
    seeds: _Seeds = 5
    tasks: tuple[TaskSpec, ...] = Field(strict=False, min_length=1)
    decodings: dict[Name, Decoding] = Field(min_length=1)
    judges: tuple[JudgeSpec, ...] = Field(strict=False, min_length=1)
    variations: tuple[Variation, ...] = Field(default=(), strict=False)
    analysis: AnalysisSpec = AnalysisSpec()
    engine: _Engine = TransformersSpec()
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
        labels = {"default", "base", *(f"{r}/{s}" for r in self.recipes for s in self.seed_list)}
        for name, decoding in self.decodings.items():
            for label in decoding.repeats if isinstance(decoding.repeats, dict) else ():
                if label not in labels:
                    raise ValueError(
                        f"decodings.{name}.repeats names {label!r}; {nearest(label, sorted(labels))}"
                    )
        self._check_primary()
        self._check_served()
        return self

    def _check_served(self) -> None:
        served = {name: recipe for name, recipe in self.recipes.items() if isinstance(recipe, ServedRecipe)}
        if not isinstance(self.engine, OpenAISpec):
            for name in served:
                raise ValueError(
                    f"recipes.{name} is served: write the endpoint: `engine: {{name: openai, …}}`"
                )
            return
        if self.numerics == "exact":
            raise ValueError(
                "numerics: exact cannot be promised by an endpoint: leave it out, or draw on this machine"
            )
        if self.revision is not None:
            raise ValueError(
                "revision is a commit of the hub's, and the model is an endpoint's: leave it out"
            )
        for name in (name for name in self.recipes if name not in served):
            raise ValueError(
                f"recipes.{name} tunes on this machine, and the engine is an endpoint: serve what was tuned "
                "and write `served: [a model's name for each seed]`, or draw on this machine"
            )
        for name, recipe in served.items():
            n_names, n_seeds = len(recipe.served), len(self.seed_list)
            if n_names != n_seeds:
                raise ValueError(
                    f"recipes.{name}.served has {n_names} names, and the study {n_seeds} seeds: "
                    "write one name for each seed"
                )
            _refuse_twins(f"recipes.{name}.served", list(recipe.served))

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


def _refuse_twins(key: str, names: list[str]) -> None:
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise ValueError(f"{key} names {', '.join(twins)} more than once")
