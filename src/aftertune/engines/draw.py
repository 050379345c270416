"""Draw responses into shards, so that what is finished is kept whenever the work is interrupted."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from aftertune.engines.base import Completion, Engine, Request
from aftertune.records import RESPONSE_COLUMNS, Response
from aftertune.store import write_shard

_SHARD_ROWS = 64
_SHARD_SECONDS = 20.0  # the most that a kill can cost


@dataclass(frozen=True, slots=True)
class Draw:
    """One response that is wanted: what it is of, and the request for it."""

    task: str
    item: str
    decoding: str
    repeat: int
    request: Request


def draw_into(folder: Path, engine: Engine, wanted: Mapping[str, Draw]) -> Iterator[int]:
    """Complete the requests and publish them, a shard at a time.

    Args:
        folder: where the shards of responses stand.
        engine: completes them.
        wanted: draws by the key of their request; those of a checkpoint, and of a prompt in it, together.

    Yields:
        How many are finished, after each.
    """
    finished: list[dict[str, object]] = []
    since = time.monotonic()
    n_done = 0

    def publish() -> None:
        nonlocal finished, since
        if finished:
            write_shard(folder, finished, RESPONSE_COLUMNS)
        finished, since = [], time.monotonic()

    try:
        for completion in engine.complete(draw.request for draw in wanted.values()):
            finished.append(asdict(_response(wanted[completion.key], completion)))
            n_done += 1
            if len(finished) >= _SHARD_ROWS or time.monotonic() - since > _SHARD_SECONDS:
                publish()
            yield n_done
    finally:  # also where the caller is interrupted between two of them, or the engine fails on a later one
        publish()


def _response(draw: Draw, completion: Completion) -> Response:
    return Response(
        key=completion.key,
        checkpoint=draw.request.checkpoint.label,
        task=draw.task,
        item=draw.item,
        decoding=draw.decoding,
        repeat=draw.repeat,
        prompt_sha256=draw.request.prompt.sha256,
        n_prompt_tokens=len(draw.request.prompt.token_ids),
        text=completion.text,
        n_tokens=completion.n_tokens,
        finish=completion.finish,
        status=completion.status,
        reason=completion.reason,
    )
