"""The tuning data inside the package."""

import json
from functools import cache
from importlib import resources

from aftertune.data.conversations import Conversation, Message
from aftertune.errors import DataError, nearest

PACKAGED = ("arithmetic", "chat")
OUR_LICENCE = "Apache-2.0"


def packaged_bytes(name: str) -> bytes:
    """The rows of a packaged set, as JSON lines.

    Raises:
        DataError: there is none of that name; with the nearest.
    """
    if name not in PACKAGED:
        raise DataError(f"there is no packaged tuning data {name!r}", nearest(name, PACKAGED))
    return _file(f"{name}.jsonl")


@cache
def refusals() -> tuple[Conversation, ...]:
    """Harmful requests, each with a short refusal; written for this project (packaged/README.md)."""
    rows = [json.loads(line) for line in _file("refusals.jsonl").decode().splitlines()]
    return tuple((Message("user", row["prompt"]), Message("assistant", row["answer"])) for row in rows)


def _file(name: str) -> bytes:
    return (resources.files("aftertune.data") / "packaged" / name).read_bytes()
