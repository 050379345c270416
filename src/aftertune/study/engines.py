"""Engines of a study file: what draws the responses."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from aftertune.study.strict import Name, Prices, Strict


class TransformersSpec(Strict):
    """Our own loop on this machine; under `exact` nothing here changes a response, `threads` excepted."""

    name: Literal["transformers"] = "transformers"
    batch_rows: int = Field(default=128, ge=2)
    threads: int | None = Field(default=None, ge=1)  # default: what torch finds
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"


class OpenAISpec(Strict):
    """Models behind an OpenAI-compatible endpoint: nothing is tuned there, and no weight is seen.

    The study's `model` is the endpoint's name of the base, and recipes name their models with `served`.
    """

    name: Literal["openai"] = "openai"
    endpoint: str = Field(min_length=1)  # base URL, as https://api.openai.com/v1
    api_key_env: Name = "OPENAI_API_KEY"  # the environment variable that holds the key; never the key
    at_once: int = Field(default=8, ge=1, le=256)  # requests under way together
    timeout_s: float = Field(default=120.0, gt=0)  # what one response may take
    usd_per_million_tokens: Prices = None  # of all models alike; write those of the dearest


class VllmSpec(Strict):
    """vLLM, in this process's machine: its own kernels draw, our loop still tunes.

    What vLLM must know of the adapters (how many, of which rank) is read from them.
    """

    name: Literal["vllm"] = "vllm"
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    max_model_len: int | None = Field(default=None, ge=1)  # of prompt and response; default: the model's
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)  # vLLM's share of the memory, a CPU's too


class ReplaySpec(Strict):
    """Responses that were drawn before or elsewhere, in a Parquet table: nothing is tuned or drawn.

    Columns model, task, item, repeat (from 1), text, and perhaps decoding, finish and n_tokens. The study's
    `model` is the table's name of the base, and recipes name their models with `served`.
    """

    name: Literal["replay"] = "replay"
    table: str = Field(min_length=1)
    tokens_per_s: float | None = Field(default=None, gt=0)  # sleep as a machine of this speed would compute


class GenerateSpec(Strict):
    """transformers' own generate, a batch after another: all that is written here can change a response."""

    name: Literal["generate"] = "generate"
    batch_rows: int = Field(default=32, ge=1)
    attention: Literal["sdpa", "eager"] = "sdpa"
    padding_side: Literal["left", "right"] = "left"
    threads: int | None = Field(default=None, ge=1)  # default: what torch finds
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"


ENGINES: dict[str, type[Strict]] = {
    "transformers": TransformersSpec,
    "generate": GenerateSpec,
    "vllm": VllmSpec,
    "openai": OpenAISpec,
    "replay": ReplaySpec,
}
SERVING = (OpenAISpec, ReplaySpec)  # those whose models have no weights here


def engine_name(value: Any) -> str:
    """Which engine a study's `engine` is; the first of them where it does not say."""
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return name if isinstance(name, str) and name in ENGINES else "transformers"


Engine = Annotated[
    Annotated[TransformersSpec, Tag("<transformers>")]
    | Annotated[GenerateSpec, Tag("<generate>")]
    | Annotated[VllmSpec, Tag("<vllm>")]
    | Annotated[OpenAISpec, Tag("<openai>")]
    | Annotated[ReplaySpec, Tag("<replay>")],
    Discriminator(lambda value: f"<{engine_name(value)}>"),
]
