"""What an engine is: it renders prompts, takes on a checkpoint, and completes requests in any order."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from aftertune.records import Checkpoint, Finish, ResponseStatus
from aftertune.store import content_key
from aftertune.study import Decoding

ADAPTER_WEIGHTS = "adapter_model.safetensors"  # peft's name for the file


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered prompt: the chat template applied once, and the tokens that the model sees."""

    text: str
    token_ids: tuple[int, ...]
    sha256: str


@dataclass(frozen=True, slots=True)
class Request:
    """One response to draw; `stream` is the name of its random numbers under `root_seed`."""

    key: str
    prompt: Prompt
    decoding: Decoding
    root_seed: int
    stream: tuple[str | int, ...]


def make_request(
    prompt: Prompt,
    decoding: Decoding,
    *,
    root_seed: int,
    stream: tuple[str | int, ...],
    engine: dict[str, Any],
) -> Request:
    """A request whose key names all that can change its response's bytes (DESIGN section 3).

    Args:
        prompt: as rendered.
        decoding: its content counts, not its name or its number of repeats.
        root_seed: the study's.
        stream: checkpoint hash, task, item, hash of the decoding's content, repeat.
        engine: the engine's identity.
    """
    key = content_key(
        {
            "root_seed": root_seed,
            "stream": list(stream),
            "prompt": prompt.sha256,
            "decoding": decoding.content(),
            "engine": engine,
        }
    )
    return Request(
        key=key, prompt=prompt, decoding=decoding, root_seed=root_seed, stream=("response", *stream)
    )


@dataclass(frozen=True, slots=True)
class Completion:
    """What came of a request; `finish` is None and `reason` says why where the status is `failed`."""

    key: str
    text: str
    n_tokens: int
    finish: Finish | None
    status: ResponseStatus
    reason: str


class Engine(Protocol):
    """Completes requests for one checkpoint at a time."""

    @property
    def identity(self) -> dict[str, Any]:
        """All of the engine that can change a response's bytes; part of every response key."""
        ...

    def render(self, prompt: str, system_prompt: str | None) -> Prompt:
        """The prompt as the model sees it."""
        ...

    def use(self, checkpoint: Checkpoint) -> None:
        """Take on a checkpoint; raises EngineError if an adapter does not change the logits."""
        ...

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Complete requests in any order; requests with one prompt are best given together."""
        ...
