"""What asking an endpoint took: tokens, dollars, tries."""

from dataclasses import dataclass, fields, replace
from typing import Self


@dataclass(frozen=True, slots=True)
class Usage:
    """Totals over questions. A reply from a cache has its tokens, but no cost: it was paid before.

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
            f"{self.n_asked} asked in {self.attempts} tries ({self.n_failed} failed), "
            f"{self.n_cached} from the cache; {self.tokens_in} tokens in, {self.tokens_out} out; {cost}"
        )

    @classmethod
    def of(cls, n_in: int | None, n_out: int | None, prices: tuple[float, ...] | None) -> Self:
        """From the tokens of an endpoint's reply, None where it does not count them.

        Args:
            n_in: tokens of the prompt.
            n_out: tokens of the answer.
            prices: dollars per million tokens, [prompt, answer].
        """
        if n_in is None or n_out is None or prices is None:
            return cls(n_in or 0, n_out or 0, n_unpriced=1)
        return cls(n_in, n_out, (n_in * prices[0] + n_out * prices[1]) / 1e6)

    def asked(self, attempts: int, *, failed: bool) -> Self:
        """The same, as one question asked in so many tries."""
        return replace(self, n_asked=1, attempts=attempts, n_failed=int(failed))
