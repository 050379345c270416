"""The replay engine: responses that were drawn elsewhere or before, given again from a table.

For who has responses of another tool's or of an earlier run and wants them judged, varied and analysed as a
study; and for measuring everything behind the engine without a model. Nothing is drawn: a response that the
table does not hold has failed, and says so.
"""

import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl

from aftertune.engines.base import Completion, Prompt, Request
from aftertune.engines.replay_coverage import coverage, listed
from aftertune.errors import DataError, nearest
from aftertune.records import Checkpoint, Finish, ResponseStatus, Task
from aftertune.sources import read_parquet
from aftertune.store import canonical_json, content_key, file_sha256
from aftertune.study import ReplaySpec, Study

_COLUMNS = {"model": pl.String, "task": pl.String, "item": pl.String, "repeat": pl.Int64, "text": pl.String}
_OTHERS = {"decoding": pl.String, "finish": pl.String, "n_tokens": pl.Int64}
_Cell = tuple[str, str, str | None, int]  # task, item, decoding, repeat
_Recorded = tuple[str | None, str | None, int | None]  # text, finish, n_tokens


class ReplayEngine:
    """Gives the responses of a table; read when the first is asked for, and kept a model at a time."""

    device = "cpu"

    def __init__(self, study: Study, spec: ReplaySpec):
        """Raises DataError where there is no such file."""
        self.path, self._tokens_per_s = Path(spec.table), spec.tokens_per_s
        try:
            self._sha256 = file_sha256(self.path)
        except OSError as error:
            raise DataError(
                f"cannot read the table {self.path}: {error.strerror}", "give a Parquet file as engine.table"
            ) from error
        self._decodings = {content_key(d.content()): name for name, d in study.decodings.items()}
        self._study_decodings = study.decodings
        self._parts: dict[str, pl.DataFrame] | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """The table, by its hash; not its speed, which changes no byte."""
        return {"engine": "replay", "table_sha256": self._sha256, "numerics": "recorded"}

    @property
    def reproducibility(self) -> dict[str, Any]:
        """The same table gives the same responses; what it holds was promised elsewhere."""
        return {"promise": "the same table gives the same responses; how they were drawn is not known here"}

    def render(self, prompt: str, system_prompt: str | None) -> Prompt:
        """The messages as JSON: which template stood around them is not known."""
        system = [] if system_prompt is None else [{"role": "system", "content": system_prompt}]
        text = canonical_json([*system, {"role": "user", "content": prompt}])
        return Prompt(text.decode(), (), hashlib.sha256(text).hexdigest())

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Find each response.

        Raises:
            DataError: the table cannot be read, lacks a column, or holds two responses of one cell.
        """
        for name, asked in groupby(requests, key=lambda request: str(request.checkpoint.served)):
            recorded = self._of(name)
            for request in asked:
                completion = self._completion(request, name, recorded)
                if self._tokens_per_s is not None:
                    time.sleep((completion.n_tokens or 0) / self._tokens_per_s)
                yield completion

    def check(self, checkpoints: Iterable[Checkpoint], tasks: Sequence[Task]) -> tuple[str, ...]:
        """Whether the table holds what the study asks for.

        Returns:
            What is not asked for, and how many single responses are not there: they will have failed.

        Raises:
            DataError: the table cannot be read or lacks a column; a model, a task, an item, a decoding or a
                repeat of the study is not in it.
        """
        known = self._read()
        asked = list(checkpoints)
        names = [str(checkpoint.served) for checkpoint in asked]
        for name in names:
            if name not in known:
                raise DataError(
                    f"{self.path} holds no response of {name!r}; it has the models {listed(known)}, "
                    f"the study asks for {listed(names)}",
                    nearest(name, known),
                )
        for name in names:
            self._refuse_twice(known[name], name)
        return coverage(str(self.path), known, asked, tasks, self._study_decodings)

    def texts(self, name: str, tasks: Iterable[Task]) -> list[str]:
        """The recorded texts of a model to the items of these tasks, in an order that no model chose."""
        items = {(task.name, item.id) for task in tasks for item in task.items}
        rows = self._read()[name].select("task", "item", "text").drop_nulls().iter_rows()
        texts = [text for task, item, text in rows if (task, item) in items]
        return sorted(texts, key=lambda text: hashlib.sha256(text.encode(errors="surrogatepass")).digest())

    def _read(self) -> dict[str, pl.DataFrame]:
        """The table's rows by model."""
        if self._parts is None:
            frame = _checked(read_parquet(self.path.read_bytes(), str(self.path)), str(self.path))
            by_model = frame.partition_by("model", as_dict=True, include_key=False)
            self._parts = {str(model): rows for (model,), rows in by_model.items()}
        return self._parts

    def _of(self, name: str) -> dict[_Cell, _Recorded]:
        rows = self._read().get(name)
        if rows is None:
            return {}
        self._refuse_twice(rows, name)
        columns = ("task", "item", "decoding", "repeat", "text", "finish", "n_tokens")
        return {row[:4]: row[4:] for row in rows.select(columns).iter_rows()}

    def _refuse_twice(self, rows: pl.DataFrame, name: str) -> None:
        twice = rows.height - rows.select("task", "item", "decoding", "repeat").n_unique()
        if twice:
            raise DataError(
                f"{self.path} holds {twice} responses of {name!r} twice (same task, item, decoding, repeat)",
                "number them by the column `repeat`, from 1",
            )

    def _completion(self, request: Request, name: str, recorded: dict[_Cell, _Recorded]) -> Completion:
        _, _, task, item, content, repeat = request.stream
        decoding = self._decodings.get(str(content))
        if decoding is None:  # a variation's
            reason = (
                "the table holds responses of the study's own decodings, and a variation changed this one"
            )
            return Completion(request.key, "", None, None, ResponseStatus.FAILED, reason)
        cell = (str(task), str(item), decoding, int(repeat))
        found = recorded.get(cell) or recorded.get((*cell[:2], None, cell[3]))
        if found is None:
            reason = f"the table holds no response of {name} to {task}/{item}, {cell[2]}, repeat {repeat}"
            return Completion(request.key, "", None, None, ResponseStatus.FAILED, reason)
        text, finish, n_tokens = found
        if text is None:
            return Completion(request.key, "", None, None, ResponseStatus.FAILED, "recorded without a text")
        if finish not in (None, *Finish):
            reason = f"recorded with an end that is not known: {finish!r}"
            return Completion(request.key, text, n_tokens, None, ResponseStatus.FAILED, reason)
        end = Finish.STOP if finish is None else Finish(finish)
        if text.strip():
            return Completion(request.key, text, n_tokens, end, ResponseStatus.OK, "")
        return Completion(request.key, text, n_tokens, end, ResponseStatus.EMPTY, "recorded without text")


def _checked(frame: pl.DataFrame, source: str) -> pl.DataFrame:
    """The columns that are read, with their types; those that may be absent as nulls."""
    for column in _COLUMNS:
        if column not in frame.columns:
            raise DataError(
                f"{source} has no column {column!r}", f"it has {', '.join(frame.columns)}; rename or add it"
            )
    kinds = {**_COLUMNS, **_OTHERS}
    try:
        return frame.select(
            (pl.col(name) if name in frame.columns else pl.lit(None).alias(name)).cast(kind)
            for name, kind in kinds.items()
        )
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"{source}: a column of another type: {str(error).splitlines()[0]}",
            "repeat and n_tokens are whole numbers, the others text",
        ) from error
