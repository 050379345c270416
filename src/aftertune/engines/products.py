"""How products are computed so that a row's bytes do not depend on the rows beside it.

Libraries choose their kernels by the shape of a product, and some shapes add in another order. A processor on
which plain products depend on the number of rows can still be exact: products of one fixed shape are, and so
are products of at most a number of rows where a larger one is what differs (docs/machines.md).
"""

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

MOST_ROWS = 1024  # of one plain product: the most that the check of exact.py tries


@dataclass(frozen=True, slots=True)
class Way:
    """How an engine computes its products.

    Attributes:
        rows: the most rows of one product with a weight matrix.
        padded: whether each such product has exactly `rows` rows, the last one padded with zeros.
        attention_rows: of how many rows attention computes the products at a time, padded to that number and
            to whole blocks of keys; None for any number.
        threads: how many threads compute; None for as many as the engine has.
    """

    rows: int = MOST_ROWS
    padded: bool = False
    attention_rows: int | None = None
    threads: int | None = None

    def __str__(self) -> str:
        """The way in words, as the manifest and the responses' keys have it."""
        products = f"products of at most {self.rows} rows" if self.rows < MOST_ROWS else "plain products"
        if self.padded:
            products = f"products in tiles of {self.rows} rows, the last one padded"
        attention = f", attention of {self.attention_rows} rows at a time" if self.attention_rows else ""
        threads = "" if self.threads is None else f", on {self.threads} thread"
        return f"{products}{attention}{threads}"

    @contextmanager
    def active(self, n_rows: int | None = None) -> Generator[None]:
        """Compute every product with a weight matrix in this way until left.

        Args:
            n_rows: the most rows that a product will have, where that is known.
        """
        before = torch.get_num_threads()
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        try:
            if not self.padded and n_rows is not None and n_rows <= self.rows:
                yield
            else:
                with _InParts(self.rows, padded=self.padded):
                    yield
        finally:
            if self.threads is not None:
                torch.set_num_threads(before)


PLAIN = Way()


class _InParts(TorchFunctionMode):
    """Splits the rows of linear layers, of a model's and of adapters beside it."""

    def __init__(self, most: int, *, padded: bool):
        super().__init__()
        self._most = most
        self._padded = padded

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Compute linear layers in parts; any other function as it is."""
        kwargs = kwargs or {}
        if func is nn.functional.linear:
            rows, *others = args
            return self._joined(rows, lambda part: func(part, *others, **kwargs))
        if func is torch.addmm and args[1].ndim == 2:  # the layers of GPT-2, whose matrices lie the other way
            bias, rows, *others = args
            return self._joined(rows, lambda part: func(bias, part, *others, **kwargs))
        return func(*args, **kwargs)

    def _joined(self, rows: torch.Tensor, product: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        flat = rows.reshape(-1, rows.shape[-1])
        if len(flat) <= self._most and not (self._padded and len(flat) < self._most):
            return product(rows)
        made = torch.cat([product(part) for part in self._parts(flat)])
        return made[: len(flat)].view(*rows.shape[:-1], made.shape[-1])

    def _parts(self, flat: torch.Tensor) -> Iterable[torch.Tensor]:
        if self._padded:
            return nn.functional.pad(flat, (0, 0, 0, -len(flat) % self._most)).split(self._most)
        # Parts of nearly the same size: none has so few rows that another kernel would compute it.
        return flat.tensor_split(-(-len(flat) // self._most))
