"""Draw responses into shards, so that what is finished is kept whenever the work is interrupted."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from aftertune.engines.base import Completion, Engine, Prompt, Request
from aftertune.records import RESPONSE_COLUMNS, SERVED_COLUMNS, Response, Served
from aftertune.store import write_shard

_SHARD_ROWS = 64
_SHARD_SECONDS = 20.0  # the most that a kill can cost


def told_nobody(path: Path, n_rows: int, seconds: float) -> None:
    """Say nothing of a shard."""


@dataclass(frozen=True, slots=True)
class Draw:
    """One response that is wanted: what it is of, and the request for it."""

    task: str
    item: str
    decoding: str
    repeat: int
    request: Request


def draw_into(
    folder: Path,
    engine: Engine,
    wanted: Mapping[str, Draw],
    *,
    served: Path | None = None,
    on_shard: Callable[[Path, int, float], None] = told_nobody,
) -> Iterator[int]:
    """Complete the requests and publish them, a shard at a time.

    Args:
        folder: where the shards of responses stand.
        engine: completes them.
        wanted: draws by the key of their request; those of a checkpoint, and of a prompt in it, together.
        served: where the shards of what endpoints say stand.
        on_shard: told the path of each shard, its rows, and the seconds since the one before.

    Yields:
        How many are finished, after each.
    """
    finished: list[dict[str, object]] = []
    said: list[dict[str, object]] = []
    since = time.monotonic()
    n_done = 0

    def publish() -> None:
        nonlocal finished, said, since
        if said and served is not None:  # first: a reply was paid for, also where its text is then lost
            write_shard(served, said, SERVED_COLUMNS)
        if finished:
            path = write_shard(folder, finished, RESPONSE_COLUMNS)
            on_shard(path, len(finished), time.monotonic() - since)
        finished, said, since = [], [], time.monotonic()

    try:
        for completion in engine.complete(draw.request for draw in wanted.values()):
            finished.append(asdict(_response(wanted[completion.key], completion)))
            if completion.served is not None:
                said.append(asdict(completion.served))
            n_done += 1
            if len(finished) >= _SHARD_ROWS or time.monotonic() - since > _SHARD_SECONDS:
                publish()
            yield n_done
    finally:  # also where the caller is interrupted between two of them, or the engine fails on a later one
        publish()


def _response(draw: Draw, completion: Completion) -> Response:
    prompt, served = draw.request.prompt, completion.served
    return Response(
        key=completion.key,
        checkpoint=draw.request.checkpoint.label,
        task=draw.task,
        item=draw.item,
        decoding=draw.decoding,
        repeat=draw.repeat,
        prompt_sha256=prompt.sha256,
        n_prompt_tokens=_counted(prompt, served),
        text=completion.text,
        n_tokens=completion.n_tokens,
        finish=completion.finish,
        status=completion.status,
        reason=completion.reason,
    )


def _counted(prompt: Prompt, served: Served | None) -> int | None:
    if prompt.token_ids:
        return len(prompt.token_ids)
    return served.n_prompt_tokens if served else None  # the endpoint's tokenizer, and its count
