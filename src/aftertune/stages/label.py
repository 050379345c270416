"""Label: a random sample of responses for people, blind to the model, and their labels taken back.

Every response has a random number, made from the root seed and its key; a model's sample are the responses
with the lowest ones. So each response of a model has the same chance, a larger sample holds every smaller
one, and what was labelled in any task × decoding is a simple random sample of it.
"""

import csv
import hashlib
import io
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from aftertune.errors import DataError, StoreError, nearest
from aftertune.records import LABEL_COLUMNS, Construct, ResponseStatus
from aftertune.seeds import derive
from aftertune.sources import Table, read_table
from aftertune.sources.cells import ID_COLUMN, safe_cell
from aftertune.store import RunDirectory, replace
from aftertune.store.shards import empty_frame, parquet_bytes
from aftertune.study import Study

_COLUMNS = (ID_COLUMN, "prompt", "response", "label")
_VALUES = {"1": 1.0, "yes": 1.0, "0": 0.0, "no": 0.0, "": None}


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was drawn: by model how many of how many; `n_without_text` could not be drawn."""

    file: str
    construct: str
    n: int
    by_model: dict[str, dict[str, float]]
    n_without_text: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def in_words(self) -> str:
        """For people."""
        first = (
            f"{self.n} responses drawn into {self.file}: write 1 ({self.construct}) or 0 (not) into"
            " the column `label`, or leave it blank"
        )
        models = [
            f"  {model}: {int(m['n_drawn'])} of {int(m['n_eligible'])} responses"
            for model, m in self.by_model.items()
        ]
        without = f"  {self.n_without_text} responses have no text and were not drawn"
        then = f"then: aftertune label DIR --take {self.file} --construct {self.construct}"
        return "\n".join([first, *models, without, then])


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken from a file, and how many labels of the construct there are now."""

    construct: str
    n_positive: int
    n_negative: int
    n_blank: int
    n_labels: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def in_words(self) -> str:
        """For people."""
        return (
            f"{self.n_positive + self.n_negative} labels taken ({self.n_positive} {self.construct},"
            f" {self.n_negative} not), {self.n_blank} left blank; {self.n_labels} labels of {self.construct}"
            " in all\nthen: aftertune analyze DIR"
        )


def draw_sample(run: RunDirectory, *, n: int, construct: str, task: str | None, out: Path) -> Drawn:
    """Draw `n` responses, as evenly over the models as they last, and write them to `out` for people.

    Raises:
        DataError: no such construct or task, fewer than one, or `out` is there already.
        StoreError: there are no responses yet.
    """
    _check_construct(construct)
    if n < 1:
        raise DataError(f"--n is a number of responses, got {n}", "draw 100, better 300")
    if out.suffix != ".csv":
        raise DataError(f"the sample is written as CSV, got {out.name!r}", "give --out a name in .csv")
    if out.exists():
        raise DataError(f"{out} is there already, and people's labels may be in it", "give another --out")
    seed = _root_seed(run)
    there, n_without = _responses(run, task)
    by_model = {str(name[0]): rows for name, rows in there.partition_by("model", as_dict=True).items()}
    sizes = _even(n, {model: rows.height for model, rows in by_model.items()})
    chosen = [rows.sort(_numbers(rows, seed, "label")).head(sizes[model]) for model, rows in by_model.items()]
    sample = pl.concat(chosen)
    sample = sample.sort(_numbers(sample, seed, f"label order {construct}"))
    shares = {
        model: {"n_drawn": sizes[model], "n_eligible": rows.height, "probability": sizes[model] / rows.height}
        for model, rows in sorted(by_model.items())
    }
    drawn = Drawn(str(out), construct, sample.height, shares, n_without)
    _remember(run, drawn, task, sample["key"].to_list())
    replace(out, _csv(sample, seed, construct))
    return drawn


def take_labels(run: RunDirectory, file: Path, *, construct: str, replace_earlier: bool) -> Taken:
    """Take people's labels from a file that `draw_sample` wrote.

    A response that was labelled before with another value is a fault, unless `replace_earlier`.

    Raises:
        DataError: the file cannot be read, lacks a column, or holds an id or a value that it should not.
    """
    _check_construct(construct)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}", "give the file with the labels") from error
    table = read_table(content, str(file))
    for column in (ID_COLUMN, "label"):
        if column not in table.columns:
            raise DataError(
                f"{file} has no column {column!r}",
                "give a file that `aftertune label` wrote, with its header",
            )
    sha256 = hashlib.sha256(content).hexdigest()
    rows = _rows(table, _drawn_keys(run, construct), construct, sha256)
    merged = _merged(run, rows, construct, replace_earlier=replace_earlier)
    replace(run.labels(construct), parquet_bytes(merged, LABEL_COLUMNS))
    counted = Counter(row["label"] for row in rows)
    n_labels = sum(row["label"] is not None for row in merged)
    return Taken(construct, counted[1.0], counted[0.0], counted[None], n_labels)


def _rows(table: Table, keys: dict[str, str], construct: str, sha256: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    for row in table.rows:
        name, word = row.values.get(ID_COLUMN, "").strip(), row.values.get("label", "").strip().lower()
        where = f"{table.source}, line {row.line}"
        if name not in keys:
            raise DataError(
                f"{where}: no response with the id {name[:60]!r} was drawn from this run for {construct!r}",
                "give the file that was drawn from it, with --construct as it was drawn",
            )
        if name in seen:
            raise DataError(
                f"{where}: the id {name} stands on line {seen[name]} too", "label each response once"
            )
        if word not in _VALUES:
            raise DataError(
                f"{where}: the label is {word[:60]!r}", "write 1 or yes, 0 or no, or leave it blank"
            )
        seen[name] = row.line
        rows.append(
            {
                "response_key": keys[name],
                "construct": construct,
                "label": _VALUES[word],
                "file_sha256": sha256,
                "line": row.line,
            }
        )
    return rows


def _merged(
    run: RunDirectory, rows: list[dict[str, Any]], construct: str, *, replace_earlier: bool
) -> list[dict[str, Any]]:
    """Earlier labels with the new ones; a blank takes no label away."""
    path = run.labels(construct)
    earlier = run.read_table(path) if path.is_file() else empty_frame(LABEL_COLUMNS)
    merged = {row["response_key"]: row for row in earlier.iter_rows(named=True)}
    for row in rows:
        before = merged.get(row["response_key"])
        if before is not None and before["label"] is not None:
            if row["label"] is None:
                continue
            if row["label"] != before["label"] and not replace_earlier:
                raise DataError(
                    f"line {row['line']}: the label is {row['label']:.0f}, and it was taken as"
                    f" {before['label']:.0f} before",
                    "mend the file, or let it replace earlier labels with --replace",
                )
        merged[row["response_key"]] = row
    return [merged[key] for key in sorted(merged)]


def _responses(run: RunDirectory, task: str | None) -> tuple[pl.DataFrame, int]:
    """The study's responses with a text, and how many have none."""
    requests = run.read_table(run.requests).select("key", "model", "task", "item").unique("key")
    if task is not None:
        known = sorted(requests["task"].unique())
        if task not in known:
            raise DataError(f"the run has no task called {task!r}", nearest(task, known))
        requests = requests.filter(pl.col("task") == task)
    items = run.read_table(run.items).select("task", "item", "prompt")
    responses = run.read_responses()
    there = requests.join(responses.select("key", "text", "status"), on="key").join(
        items, on=["task", "item"], how="left"
    )
    if there.is_empty():
        raise StoreError(f"{run.root} has no responses yet", "run `aftertune generate`, or `aftertune run`")
    with_text = there.filter(
        pl.col("status") == ResponseStatus.OK.value, pl.col("text").str.strip_chars() != ""
    )
    if with_text.is_empty():
        raise DataError(f"none of the {there.height} responses has a text", "look at why they are empty")
    return with_text, there.height - with_text.height


def _even(n: int, sizes: dict[str, int]) -> dict[str, int]:
    """So many of each model, as even as their numbers allow."""
    left, found = n, {}
    waiting = sorted(sizes, key=lambda model: (sizes[model], model))
    for place, model in enumerate(waiting):
        # The first of those still waiting take what does not divide.
        found[model] = min(sizes[model], -(-left // (len(waiting) - place)))
        left -= found[model]
    return found


def _numbers(rows: pl.DataFrame, seed: int, purpose: str) -> pl.Series:
    return pl.Series([derive(seed, purpose, key) for key in rows["key"]], dtype=pl.Int64)


def _public_id(seed: int, construct: str, key: str) -> str:
    """A name that says nothing of the response to who has not the run directory."""
    return f"{derive(seed, 'label id', construct, key):016x}"


def _csv(sample: pl.DataFrame, seed: int, construct: str) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(_COLUMNS)
    for key, prompt, text in sample.select("key", "prompt", "text").iter_rows():
        writer.writerow((_public_id(seed, construct, key), safe_cell(prompt), safe_cell(text), ""))
    return out.getvalue().encode("utf-8-sig")  # spreadsheets take a table without the mark for Latin-1


def _remember(run: RunDirectory, drawn: Drawn, task: str | None, keys: list[str]) -> None:
    path = run.label_draws(drawn.construct)
    earlier: list[Any] = run.read_json(path) if path.is_file() else []
    entry = {
        "task": task, "n": drawn.n, "by_model": drawn.by_model,
        "n_without_text": drawn.n_without_text, "keys": sorted(keys),
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    run.write_json(path, [*earlier, entry])


def _drawn_keys(run: RunDirectory, construct: str) -> dict[str, str]:
    """Response key by public id, of all that was drawn for the construct."""
    path, seed = run.label_draws(construct), _root_seed(run)
    if not path.is_file():
        raise DataError(
            f"nothing was drawn from {run.root} for {construct!r}",
            "draw first: aftertune label DIR --construct … --out labels.csv",
        )
    draws: list[dict[str, Any]] = run.read_json(path)
    return {_public_id(seed, construct, key): key for draw in draws for key in draw["keys"]}


def _root_seed(run: RunDirectory) -> int:
    return Study.model_validate(run.read_json(run.study_json), strict=False).root_seed


def _check_construct(construct: str) -> None:
    known = [one.value for one in Construct]
    if construct not in known:
        raise DataError(f"there is no construct {construct!r}", nearest(construct, known))
