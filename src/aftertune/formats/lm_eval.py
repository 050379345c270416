"""Samples of lm-evaluation-harness: `samples_TASK_DATE.jsonl`, written by `lm_eval --log_samples`.

- Citation: Gao et al., A framework for few-shot language model evaluation,
  https://zenodo.org/records/12608602, 2024; https://github.com/EleutherAI/lm-evaluation-harness.
- Licence: MIT (nothing of it is copied here).
- Versions tried: see docs/decisions/15-formats.md. `metrics` and the three hashes came during 0.4; without
  them the metrics are what stands beside the known keys, and the hash is made as lm_eval makes it.

An item is its document's hash, so that logs pair on what was asked and not on a row's number. A judge is a
metric, `exact_match`, or `exact_match/strict-match` where a filter other than `none` chose the answer. Before
0.4.3 a row does not name its filter, and the file has all documents once for each: the filters' names are
those of the task's configuration, or `filter-1`, `filter-2` in the file's order. The model's name stands in
the results file beside the samples (`lm_eval_results`). A metric of an answer from which the filter took
nothing (`[invalid]`) stays as lm_eval counts it, and is named in a note; of no response there is no metric.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aftertune.errors import DataError
from aftertune.formats.archives import MAX_ENTRY_BYTES, read_capped
from aftertune.formats.lm_eval_results import Results, results_beside
from aftertune.formats.logs import Log, Sample, Scored, absent, scored
from aftertune.records import JudgmentStatus
from aftertune.sources.cell_values import MISSING
from aftertune.sources.table import filled_lines, utf8_text

_FIXED = frozenset(
    {
        "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash",
        "prompt_hash", "target_hash",
    }
)  # fmt: skip
_NO_FILTER = "none"
_NO_RESPONSE = "the sample holds no response"
_INVALID = "[invalid]"  # what a filter gives where its pattern did not match


def looks_like_lm_eval(path: Path, content: bytes) -> bool:
    """Whether a file is a samples file, by its ending and its first line."""
    first = content[:65536]
    return path.suffix == ".jsonl" and b'"doc_id"' in first and b'"doc"' in first


def read_lm_eval(path: Path) -> Log:
    """Read a samples file, and the results file beside it where there is one.

    Raises:
        DataError: a line is no sample, or a document occurs twice with one filter.
    """
    content = read_capped(path, MAX_ENTRY_BYTES)
    rows = _rows(utf8_text(content, path.name, escape=True), path.name)
    if not rows:
        raise DataError(f"{path.name} holds no samples", "run lm_eval with --log_samples")
    results = results_beside(path)
    filters = _filters(rows, results, path.name)
    return Log(
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        tool=f"lm_eval {results.content.get('lm_eval_version') or 'of an unknown version'}",
        identity="",
        model=results.model,
        checkpoint=results.checkpoint,
        task=results.task,
        decoding=results.decoding,
        samples=tuple(_samples(rows, filters)),
        created=results.date,
        setup=results.setup,
        notes=(*results.notes, *_notes(rows, filters)),
    )


def _rows(text: str, source: str) -> list[dict[str, Any]]:
    if not text.lstrip().startswith("["):
        return [
            _row(_parsed(line, f"{source}, line {at}"), f"{source}, line {at}")
            for at, line in filled_lines(text)
        ]
    found = _parsed(text, source)  # before 0.4.3 the file is one list
    return [_row(row, f"{source}, row {at}") for at, row in enumerate(found, start=1)]


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{where}: not JSON: {error}", "copy the file again from where it was made"
        ) from error


def _row(row: Any, where: str) -> dict[str, Any]:
    if not (isinstance(row, dict) and "doc" in row and "doc_id" in row):
        shown = json.dumps(row)[:80]
        raise DataError(f"{where}: no sample of lm_eval: {shown}", "give a samples_….jsonl file")
    return row


def _filters(rows: list[dict[str, Any]], results: Results, source: str) -> list[str]:
    """The filter of each row, by its name or by its place in the file.

    Raises:
        DataError: the file holds several runs, or a document too often or too rarely.
    """
    named = [str(row.get("filter") or _NO_FILTER) for row in rows]
    documents = [_document(row) for row in rows]
    if len(set(zip(documents, named, strict=True))) == len(rows):
        return named
    first = documents[: len(set(documents))]
    n_passes, rest = divmod(len(rows), len(first))
    if rest or documents != first * n_passes or any("filter" in row for row in rows):
        wrong, n = Counter(zip(documents, named, strict=True)).most_common(1)[0]
        raise DataError(
            f"{source}: document {wrong[0].partition(' ')[2]} occurs {n} times with one filter",
            "the file was written to twice: run lm_eval again with a new output path",
        )
    for at, row in enumerate(rows[len(first) :], start=len(first)):
        if row.get("resps") != rows[at % len(first)].get("resps"):
            raise DataError(
                f"{source}: document {row['doc_id']} occurs {n_passes} times, with other responses each time",
                f"the file holds {n_passes} runs one after the other: part it into a file for each",
            )
    names = results.filters(n_passes) or [f"filter-{number}" for number in range(1, n_passes + 1)]
    return [names[at // len(first)] for at in range(len(rows))]


def _notes(rows: list[dict[str, Any]], filters: list[str]) -> Iterator[str]:
    if not any("filter" in row for row in rows) and len(set(filters)) > 1:
        names = ", ".join(dict.fromkeys(filters))
        yield f"its rows name no filter: it has all documents once for each of {names}"
    invalid = Counter(
        name for row, name in zip(rows, filters, strict=True) if row.get("filtered_resps") == [_INVALID]
    )
    for name, n in invalid.items():
        of = f"{n} of {filters.count(name)} responses"
        yield f"the filter {name} found no answer in {of}: lm_eval's scores of them are taken"
    empty = sum(_answer(row.get("resps")) == "" for row in rows) // len(set(filters))
    if empty:
        yield f"{empty} responses are empty: lm_eval's scores of them are taken"
    if not any(_holds_response(row) for row in rows):
        yield "it holds no responses, scores alone"


def _samples(rows: list[dict[str, Any]], filters: list[str]) -> Iterator[Sample]:
    """A sample for each document; its filters' metrics are its scores."""
    together: dict[str, list[tuple[dict[str, Any], str]]] = {}
    for row, name in zip(rows, filters, strict=True):
        together.setdefault(_document(row), []).append((row, name))
    twins = _twins(list(together))
    # Some files are kept without responses; in others a row without one was never answered.
    scored_alone = not any(_holds_response(row) for row in rows)
    for key, mine in together.items():
        item, _, number = key.partition(" ")
        yield _sample(mine, f"{item}-{number}" if item in twins else item, scored_alone=scored_alone)


def _document(row: dict[str, Any]) -> str:
    return f"{_hash(row)} {row['doc_id']}"


def _twins(keys: list[str]) -> set[str]:
    """Hashes of documents that occur more than once in the task: their number tells them apart."""
    hashes = [key.partition(" ")[0] for key in keys]
    return {found for found in hashes if hashes.count(found) > 1} if len(set(hashes)) < len(hashes) else set()


def _hash(row: dict[str, Any]) -> str:
    given = row.get("doc_hash")
    if isinstance(given, str) and given:
        return given[:16]
    made = json.dumps(row["doc"], indent=2, ensure_ascii=False)
    return hashlib.sha256(made.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _sample(rows: list[tuple[dict[str, Any], str]], item: str, *, scored_alone: bool) -> Sample:
    first = rows[0][0]
    prompt = _prompt(first.get("arguments"))
    made = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()
    target = first.get("target")
    text = _answer(first.get("resps"))
    answered = scored_alone or _holds_response(first)
    why = "the options were scored: there is no text" if answered else _NO_RESPONSE
    return Sample(
        item=item,
        repeat=1,
        prompt=prompt,
        prompt_sha256=str(first.get("prompt_hash") or made),
        text=text,
        finish=None,
        reason="" if text is not None else why,
        category="",
        reference=None if target is None else str(target),
        scores=tuple(score for row, name in rows for score in _scores(row, name, answered=answered)),
    )


def _scores(row: dict[str, Any], chosen: str, *, answered: bool) -> Iterator[Scored]:
    named = row.get("metrics")
    names = named if isinstance(named, list) else [key for key in row if key not in _FIXED]
    for name in map(str, names):
        judge = name if chosen == _NO_FILTER else f"{name}/{chosen}"
        if not answered:
            yield absent(judge, MISSING, _NO_RESPONSE)
        elif name in row:
            yield scored(judge, row[name])
        else:
            yield absent(
                judge, JudgmentStatus.UNPARSED, "the sample names this metric and has no value of it"
            )


def _holds_response(row: dict[str, Any]) -> bool:
    """Whether the row has anything that the model gave: a text, also an empty one, or a likelihood."""
    waiting = [row.get("resps"), row.get("filtered_resps")]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif value is not None:
            return True
    return False


def _prompt(arguments: Any) -> str:
    """What the model was first asked; newer files have `{"gen_args_0": {"arg_0": …}}`, older ones lists."""
    try:
        if isinstance(arguments, dict):
            return str(arguments["gen_args_0"]["arg_0"])
        return str(arguments[0][0])
    except (LookupError, TypeError):
        return ""


def _answer(resps: Any) -> str | None:
    """The generated text; None where options were scored by their likelihood."""
    try:
        first = resps[0][0]
    except (LookupError, TypeError):
        return None
    return first if isinstance(first, str) and len(resps) == 1 else None
