"""Label: a random sample of responses for people, blind to the model, and their labels taken back.

Every response has a random number, made from the root seed and its key; a model's sample are the responses
with the lowest ones. So each response of a model has the same chance, a larger sample holds every smaller
one, and what was labelled in any task × decoding is a simple random sample of it.
"""

import codecs
import csv
import hashlib
import io
import re
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

_COLUMNS = (ID_COLUMN, "prompt", "response", "label")
# A spreadsheet writes TRUE and FALSE for what people typed as true and false.
_VALUES = {"1": 1.0, "yes": 1.0, "true": 1.0, "0": 0.0, "no": 0.0, "false": 0.0, "": None}
_NUMBER = re.compile(r"[0-9][0-9.,]*(E\+?[0-9]+)?", re.IGNORECASE)
_NAMED = 8  # of the rows that were not taken, so many are named


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
    """What was taken from a file, and how many labels of the construct there are now.

    `not_taken` says of each row that could not be taken why, with its line; the others were.
    """

    construct: str
    n_positive: int
    n_negative: int
    n_blank: int
    n_labels: int
    not_taken: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def in_words(self) -> str:
        """For people."""
        first = (
            f"{self.n_positive + self.n_negative} labels taken ({self.n_positive} {self.construct},"
            f" {self.n_negative} not), {self.n_blank} left blank; {self.n_labels} labels of {self.construct}"
            " in all"
        )
        bad = [f"  not taken: {why}" for why in self.not_taken[:_NAMED]]
        if len(self.not_taken) > _NAMED:
            bad.append(f"  … {len(self.not_taken) - _NAMED} more rows were not taken")
        if bad:
            bad.append("  correct these rows and take the file again: the same labels again are no fault")
        return "\n".join([first, *bad, "then: aftertune analyze DIR"])


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
    seed = run.study.root_seed
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
    """Take people's labels from a file that `draw_sample` wrote and a spreadsheet may have saved.

    A row that cannot be taken is left out and named. So is one of a response that was labelled before with
    another value, unless `replace_earlier`.

    Raises:
        DataError: the file cannot be read, lacks a column, or no row of it can be taken.
    """
    _check_construct(construct)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}", "give the file with the labels") from error
    table = read_table(_as_utf8(content), str(file), escape=True, spreadsheet=True)
    for column in (ID_COLUMN, "label"):
        if column not in table.columns:
            raise DataError(
                f"{file} has no column {column!r}",
                "give a file that `aftertune label` wrote, with its header",
            )
    sha256 = hashlib.sha256(content).hexdigest()
    bad = dict(table.faults)
    rows = _rows(table, _drawn_keys(run, construct), construct, sha256, bad)
    merged = _merged(run, rows, construct, bad, replace_earlier=replace_earlier)
    taken = [row for row in rows if row["line"] not in bad]
    not_taken = tuple(f"line {line}: {why}" for line, why in sorted(bad.items()))
    if bad and not taken:
        more = f" (and {len(bad) - 1} more rows)" if len(bad) > 1 else ""
        raise DataError(
            f"{file}, line {min(bad)}: {bad[min(bad)]}{more}",
            "give the file that was drawn from this run for this construct, with 1 or 0 as labels; "
            "--replace lets it replace earlier labels",
        )
    replace(run.labels(construct), parquet_bytes(merged, LABEL_COLUMNS))
    counted = Counter(row["label"] for row in taken)
    n_labels = sum(row["label"] is not None for row in merged)
    return Taken(construct, counted[1.0], counted[0.0], counted[None], n_labels, not_taken)


def _as_utf8(content: bytes) -> bytes:
    """The file in UTF-8: a spreadsheet may save in another encoding, and ids and labels are ASCII in all."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace").encode()
    try:
        content.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return content.decode("latin-1").encode()
    return content


def _rows(
    table: Table, keys: dict[str, str], construct: str, sha256: str, bad: dict[int, str]
) -> list[dict[str, Any]]:
    """The rows that can be taken; of the others `bad` says why, by line."""
    rows: dict[str, dict[str, Any]] = {}
    for row in table.rows:
        name, word = row.values.get(ID_COLUMN, "").strip(), row.values.get("label", "").strip().lower()
        if name not in keys:
            bad[row.line] = f"no response with the id {name[:60]!r} was drawn from this run for {construct!r}"
            if _NUMBER.fullmatch(name):
                bad[row.line] += " (a spreadsheet has written it as a number: draw again, ids are safe now)"
        elif word not in _VALUES:
            bad[row.line] = f"the label is {word[:60]!r}: write 1 or yes, 0 or no, or leave it blank"
        elif keys[name] in rows:
            first = rows[keys[name]]
            bad[row.line] = f"the id {name} stands on line {first['line']} too"
            if first["label"] != _VALUES[word]:  # which of the two is meant, nobody knows
                bad[first["line"]] = f"the id {name} stands on line {row.line} too, with another label"
        else:
            rows[keys[name]] = {
                "response_key": keys[name],
                "construct": construct,
                "label": _VALUES[word],
                "file_sha256": sha256,
                "line": row.line,
            }
    return [row for row in rows.values() if row["line"] not in bad]


def _merged(
    run: RunDirectory,
    rows: list[dict[str, Any]],
    construct: str,
    bad: dict[int, str],
    *,
    replace_earlier: bool,
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
                bad[row["line"]] = (
                    f"the label is {row['label']:.0f}, and it was taken as {before['label']:.0f} before: "
                    "correct it, or let the file replace earlier labels with --replace"
                )
                continue
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
    """A name that says nothing of the response to who has not the run directory.

    No spreadsheet takes it for a number, a date or a truth value: hexadecimal digits alone can be 12e34.
    """
    return f"r_{derive(seed, 'label id', construct, key):016x}"


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
    """Response key by public id, of all that was drawn for the construct; also by that of version 0.1."""
    path, seed = run.label_draws(construct), run.study.root_seed
    if not path.is_file():
        raise DataError(
            f"nothing was drawn from {run.root} for {construct!r}",
            "draw first: aftertune label DIR --construct … --out labels.csv",
        )
    draws: list[dict[str, Any]] = run.read_json(path)
    named = {_public_id(seed, construct, key): key for draw in draws for key in draw["keys"]}
    return named | {name.removeprefix("r_"): key for name, key in named.items()}


def _check_construct(construct: str) -> None:
    known = [one.value for one in Construct]
    if construct not in known:
        raise DataError(f"there is no construct {construct!r}", nearest(construct, known))
