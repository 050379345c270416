"""JailbreakEval: a CSV of `question`, `answer` and perhaps `label`, and the JSON that its command writes.

- Citation: Ran et al., JailbreakEval: An Integrated Toolkit for Evaluating Jailbreak Attempts Against Large
  Language Models, arXiv 2406.09321, 2024; https://github.com/ThuCCSLab/JailbreakEval.
- Licence: MIT (nothing of it is copied here).
- Versions tried: the formats as the repository's README and command describe them at commit 04a9cf4 and
  4cce5d2.

`label` is people's: 1 for a jailbreak that succeeded. The JSON has a list `preds` for each evaluator, true,
false or null for each row of the CSV; its `Annotation` repeats the labels. A success is an item complied
with. A CSV has no ids and does not name its model: an item is its question, and the same question is another
draw.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from aftertune.errors import DataError
from aftertune.formats.archives import MAX_ENTRY_BYTES, read_capped
from aftertune.formats.logs import Log, Sample, Scored, absent, halves_note
from aftertune.records import Construct, Intent, JudgmentStatus
from aftertune.sources.table import Row, csv_columns, read_table, utf8_text

PEOPLE = "label"
_PEOPLE_THERE = "Annotation"
_SUCCESS = Construct.COMPLIED.value
_YES, _NO = frozenset({"1", "1.0", "true"}), frozenset({"0", "0.0", "false"})


def looks_like_attempts(path: Path, content: bytes) -> bool:
    """Whether a file is a CSV of attempts, by its header."""
    columns = csv_columns(content)
    return path.suffix.lower() == ".csv" and {"question", "answer"} <= columns and "item" not in columns


def looks_like_verdicts(path: Path, content: bytes) -> bool:
    """Whether a file is the JSON that the command writes."""
    return path.suffix == ".json" and b'"preds"' in content[:65536]


def read_attempts(path: Path, verdicts: Path | None = None) -> Log:
    """Read a CSV of attempts, with the verdicts of evaluators on it.

    Raises:
        DataError: a file cannot be read, there is nothing that judges the answers, or the two do not fit.
    """
    content = read_capped(path, MAX_ENTRY_BYTES)
    table = read_table(content, path.name, escape=True)
    rows = table.rows
    judged = _verdicts(verdicts, len(rows), path.name) if verdicts else {}
    labelled = any(PEOPLE in row.values for row in rows)
    if not (labelled or judged):
        raise DataError(
            f"{path.name} has no column 'label' and no evaluator's verdicts",
            "give the JSON that `JailbreakEval --output` wrote after it",
        )
    repeats: dict[str, int] = {}
    samples: list[Sample] = []
    for at, row in enumerate(rows):
        question = row.values.get("question", "")
        repeats[question] = repeats.get(question, 0) + 1
        scores = [_label(row)] if labelled else []
        scores += [_verdict(judge, values[at]) for judge, values in judged.items()]
        samples.append(_sample(question, repeats[question], row, scores))
    together = hashlib.sha256(content + (verdicts.read_bytes() if verdicts else b"")).hexdigest()
    return Log(
        path=path,
        sha256=together,
        tool="JailbreakEval",
        identity="",
        model=None,
        checkpoint="",
        task="jailbreak",
        decoding="default",
        samples=tuple(samples),
        notes=halves_note(len(table.escaped), "rows"),
        intent=Intent.HARMFUL.value,
    )


def _sample(question: str, repeat: int, row: Row, scores: list[Scored]) -> Sample:
    made = hashlib.sha256(question.encode()).hexdigest()
    return Sample(
        item=made[:16],
        repeat=repeat,
        prompt=question,
        prompt_sha256=made,
        text=row.values.get("answer", ""),
        finish=None,
        reason="",
        category="",
        reference=None,
        scores=tuple(scores),
    )


def _label(row: Row) -> Scored:
    given = row.values.get(PEOPLE, "").strip().lower()
    if given in _YES | _NO:
        return Scored(PEOPLE, float(given in _YES), construct=_SUCCESS)
    if not given:
        return absent(PEOPLE, "missing", "nobody labelled the row", _SUCCESS)
    return absent(PEOPLE, JudgmentStatus.UNPARSED, f"neither 0 nor 1: {given!r}", _SUCCESS)


def _verdict(judge: str, value: Any) -> Scored:
    if isinstance(value, bool) or value in (0, 1):
        return Scored(judge, float(value), construct=_SUCCESS)
    if value is None:
        return absent(judge, JudgmentStatus.UNPARSED, "the evaluator gave no verdict", _SUCCESS)
    return absent(judge, JudgmentStatus.UNPARSED, f"neither true nor false: {value!r:.80}", _SUCCESS)


def _verdicts(path: Path, n_rows: int, attempts: str) -> dict[str, list[Any]]:
    try:
        found = json.loads(utf8_text(read_capped(path, MAX_ENTRY_BYTES), path.name, escape=True))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path.name} is not JSON: {error}", "write it again with --output") from error
    if not isinstance(found, dict):
        raise DataError(
            f"{path.name} holds a {type(found).__name__}, not evaluators", "give what --output wrote"
        )
    judged: dict[str, list[Any]] = {}
    for name, entry in found.items():
        preds = entry.get("preds") if isinstance(entry, dict) else None
        if name == _PEOPLE_THERE:  # the CSV's own labels
            continue
        if not isinstance(preds, list) or len(preds) != n_rows:
            n = len(preds) if isinstance(preds, list) else "no"
            raise DataError(
                f"{path.name}: the evaluator {name!r} has {n} verdicts, and {attempts} has {n_rows} rows",
                "give the JSON that was written for this CSV",
            )
        judged[str(name)] = preds
    return judged
