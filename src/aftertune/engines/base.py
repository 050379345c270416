"""What an engine is: it renders prompts, and completes requests of any checkpoints in any order."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, Self

from aftertune.records import Checkpoint, Finish, ResponseStatus, Served
from aftertune.store import content_key
from aftertune.study import Decoding

# peft's names for the files of an adapter
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered prompt: the chat template applied once, and the tokens that the model sees.

    The first `n_shared` of them are the template's own, and every prompt with this system prompt has them.
    `held` are the control tokens that the messages spell out, which are encoded as text; `sha256` is that of
    the text, and of the tokens too where there are any.
    """

    text: str
    token_ids: tuple[int, ...]
    sha256: str
    n_shared: int = 0
    held: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """One response to draw; `stream` is the name of its random numbers under `root_seed`."""

    key: str
    checkpoint: Checkpoint
    prompt: Prompt
    decoding: Decoding
    root_seed: int
    stream: tuple[str | int, ...]


def make_request(
    checkpoint: Checkpoint,
    prompt: Prompt,
    decoding: Decoding,
    *,
    root_seed: int,
    stream: tuple[str | int, ...],
    engine: dict[str, Any],
) -> Request:
    """A request whose key names all that can change its response's bytes (DESIGN section 3).

    Args:
        checkpoint: what answers; `stream` holds its hash.
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
        key=key,
        checkpoint=checkpoint,
        prompt=prompt,
        decoding=decoding,
        root_seed=root_seed,
        stream=("response", *stream),
    )


@dataclass(frozen=True, slots=True)
class Completion:
    """What came of a request; `finish` is None and `reason` says why where the status is `failed`.

    An endpoint's reply may be `ok` with an end that is not known: `finish` is None, and `reason` says so.
    """

    key: str
    text: str
    n_tokens: int | None
    finish: Finish | None
    status: ResponseStatus
    reason: str
    served: Served | None = None  # of an endpoint's reply

    @classmethod
    def drawn(cls, key: str, text: str, n_tokens: int, finish: Finish | None) -> Self:
        """A response that ended, which may be empty."""
        if text.strip():
            return cls(key, text, n_tokens, finish, ResponseStatus.OK, "")
        return cls(key, text, n_tokens, finish, ResponseStatus.EMPTY, f"no text in {n_tokens} tokens")

    @classmethod
    def failed(cls, key: str, text: str, n_tokens: int, reason: str) -> Self:
        """A response that was given up, with the text before that."""
        return cls(key, text, n_tokens, None, ResponseStatus.FAILED, reason)


class Engine(Protocol):
    """Completes requests."""

    @property
    def identity(self) -> dict[str, Any]:
        """All of the engine that can change a response's bytes; part of every response key."""
        ...

    @property
    def reproducibility(self) -> dict[str, Any]:
        """What is promised of the bytes of its responses, and what happened so far that bears on it."""
        ...

    def render(self, prompt: str, system_prompt: str | None) -> Prompt:
        """The prompt as the model sees it."""
        ...

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Complete requests in any order; those of a checkpoint, and of a prompt in it, best stand together.

        Raises:
            EngineError: a checkpoint cannot be used, or an adapter does not change the logits of its base.
        """
        ...
