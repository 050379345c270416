"""What judgments took at an endpoint: written into their `raw`, and read back from it."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from aftertune.engines.usage import Usage


def evidence(text: str, served_by: str, usage: Usage | None) -> str:
    """The `raw` of a judgment: the reply and, at the first construct of a response, what it took."""
    content: dict[str, Any] = {"reply": text, "served_by": served_by}
    if usage is not None:
        content["usage"] = {name: value for name, value in asdict(usage).items() if value}
    return json.dumps(content, ensure_ascii=False)


def total_usage(raws: Iterable[str]) -> Usage:
    """The total of what judgments took, from their `raw`; other judges' judgments count nothing."""
    total = Usage()
    for raw in raws:
        try:
            usage = json.loads(raw)["usage"]
            total += Usage(**usage)
        except (ValueError, KeyError, TypeError):
            continue
    return total
