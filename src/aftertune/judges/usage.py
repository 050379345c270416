"""What asking an endpoint took: tokens, dollars, tries; written into judgments and read back from them."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from aftertune.records import JudgmentStatus


@dataclass(frozen=True, slots=True)
class Usage:
    """Totals over questions. A reply from the cache has its tokens, but no cost: it was paid before.

    `n_unpriced` counts questions that were asked without a price or a count of tokens, so that
    `usd` is a lower bound where it is not 0.
    """

    tokens_in: int = 0
    tokens_out: int = 0
    usd: float = 0.0
    n_asked: int = 0
    n_cached: int = 0
    n_failed: int = 0
    n_unpriced: int = 0
    attempts: int = 0

    def __add__(self, other: Self) -> Self:
        return type(self)(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __str__(self) -> str:
        cost = f"${self.usd:.4f}" + (f" and {self.n_unpriced} without a price" if self.n_unpriced else "")
        return (
            f"{self.n_asked} asked in {self.attempts} tries ({self.n_failed} without a verdict), "
            f"{self.n_cached} from the cache; {self.tokens_in} tokens in, {self.tokens_out} out; {cost}"
        )

    @classmethod
    def of(cls, counted: object, prices: tuple[float, ...] | None) -> Self:
        """From the `usage` of an endpoint's reply and the dollars per million tokens, [prompt, answer]."""
        n_in, n_out = (_count(counted, name) for name in ("prompt_tokens", "completion_tokens"))
        if n_in is None or n_out is None or prices is None:
            return cls(n_in or 0, n_out or 0, n_unpriced=1)
        return cls(n_in, n_out, (n_in * prices[0] + n_out * prices[1]) / 1e6)

    def asked(self, attempts: int, status: JudgmentStatus) -> Self:
        """The same, as one question asked in so many tries."""
        return replace(self, n_asked=1, attempts=attempts, n_failed=int(status is not JudgmentStatus.OK))


def _count(counted: object, name: str) -> int | None:
    value = counted.get(name) if isinstance(counted, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


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
