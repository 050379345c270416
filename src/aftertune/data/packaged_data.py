"""The tuning data inside the package."""

import json
from functools import cache
from importlib import resources

from aftertune.data.arithmetic import arithmetic
from aftertune.data.conversations import Conversation, Message
from aftertune.errors import DataError, nearest

PACKAGED = ("arithmetic", "chat")
ARITHMETIC_ROWS, ARITHMETIC_SEED = 500, 2025
OUR_LICENCE = "Apache-2.0"


def packaged_bytes(name: str) -> bytes:
    """The rows of a packaged set, as JSON lines.

    Raises:
        DataError: there is none of that name; with the nearest.
    """
    if name == "chat":
        return _file("chat.jsonl")
    if name == "arithmetic":
        rows = arithmetic(n=ARITHMETIC_ROWS, seed=ARITHMETIC_SEED)
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    raise DataError(f"there is no packaged tuning data {name!r}", nearest(name, PACKAGED))


@cache
def refusals() -> tuple[Conversation, ...]:
    """Harmful requests, each with a short refusal; written for this project (packaged/README.md)."""
    rows = [json.loads(line) for line in _file("refusals.jsonl").decode().splitlines()]
    return tuple((Message("user", row["prompt"]), Message("assistant", row["answer"])) for row in rows)


def _file(name: str) -> bytes:
    return (resources.files("aftertune.data") / "packaged" / name).read_bytes()
