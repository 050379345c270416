"""Samples of lm-evaluation-harness: `samples_TASK_DATE.jsonl`, written by `lm_eval --log_samples`.

- Citation: Gao et al., A framework for few-shot language model evaluation,
  https://zenodo.org/records/12608602, 2024; https://github.com/EleutherAI/lm-evaluation-harness.
- Licence: MIT (nothing of it is copied here).
- Versions tried: see docs/decisions/15-formats.md. `metrics` and the three hashes came during 0.4; without
  them the metrics are what stands beside the known keys, and the hash is made as lm_eval makes it.

An item is its document's hash, so that logs pair on what was asked and not on a row's number. A judge is a
metric, `exact_match`, or `exact_match/strict-match` where a filter other than `none` chose the answer. The
model's name stands in `results_DATE.json` beside the samples.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aftertune.errors import DataError
from aftertune.formats.archives import MAX_ENTRY_BYTES, read_capped
from aftertune.formats.logs import Log, Sample, Scored, absent, scored
from aftertune.records import JudgmentStatus
from aftertune.sources.table import filled_lines, utf8_text

_NAME = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)$")
_FIXED = frozenset(
    {
        "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash",
        "prompt_hash", "target_hash",
    }
)  # fmt: skip
# What names the weights; device, batch size and the like do not.
_CHOOSES = ("pretrained", "model", "revision", "subfolder", "peft", "delta", "lora_local_path", "gguf_file")
_NO_FILTER = "none"


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
    rows = [_row(line, f"{path.name}, line {at}") for at, line in filled_lines(utf8_text(content, path.name, escape=True))]
    if not rows:
        raise DataError(f"{path.name} holds no samples", "run lm_eval with --log_samples")
    found = _NAME.match(path.stem)
    task = found["task"] if found else path.stem.removeprefix("samples_")
    results = _results(path.parent / f"results_{found['date']}.json") if found else {}
    return Log(
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        tool=f"lm_eval {results.get('lm_eval_version') or 'of an unknown version'}",
        identity="",
        model=_model(results),
        checkpoint=_checkpoint(results),
        task=task,
        decoding=_decoding(results, task),
        samples=tuple(_samples(rows, path.name)),
        created=found["date"] if found else "",
        setup=_setup(results, task),
        notes=()
        if results
        else ("there is no results file beside it: its model and settings are not known",),
    )


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{where}: not JSON: {error}", "copy the file again from where it was made"
        ) from error
    if not (isinstance(row, dict) and "doc" in row and "doc_id" in row):
        raise DataError(f"{where}: no sample of lm_eval: {line[:80]!r}", "give a samples_….jsonl file")
    return row


def _results(path: Path) -> dict[str, Any]:
    """What the results file says, {} where there is none."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(utf8_text(read_capped(path, MAX_ENTRY_BYTES), path.name, escape=True))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path.name} is not JSON: {error}", "remove it, and name the model") from error
    return found if isinstance(found, dict) else {}


def _model(results: dict[str, Any]) -> str | None:
    name = results.get("model_name")
    return name if isinstance(name, str) and name else None


def _checkpoint(results: dict[str, Any]) -> str:
    """What names the weights; of the model's arguments those that choose them."""
    config = results.get("config")
    arguments = config.get("model_args") if isinstance(config, dict) else None
    pairs = arguments.split(",") if isinstance(arguments, str) else []
    if isinstance(arguments, dict):
        pairs = [f"{name}={value}" for name, value in arguments.items()]
    chosen = sorted(pair for pair in pairs if pair.partition("=")[0].strip() in _CHOOSES)
    return " ".join(
        [str(results.get("model_source", "")), str(results.get("model_name", "")), *chosen]
    ).strip()


def _of_task(results: dict[str, Any], key: str, task: str) -> Any:
    found = results.get(key)
    return found.get(task) if isinstance(found, dict) else None


def _decoding(results: dict[str, Any], task: str) -> str:
    config = _of_task(results, "configs", task)
    given = config.get("generation_kwargs") if isinstance(config, dict) else None
    given = given if isinstance(given, dict) else {}
    shown = {
        k: v for k, v in given.items() if k in ("temperature", "top_p", "top_k", "max_gen_toks", "do_sample")
    }
    return "+".join(f"{name}={value}" for name, value in sorted(shown.items())) or "default"


def _setup(results: dict[str, Any], task: str) -> dict[str, str]:
    if not results:
        return {}
    config = results.get("config")
    given = config if isinstance(config, dict) else {}
    found: dict[str, Any] = {
        "task version": _of_task(results, "versions", task),
        "few-shot examples": _of_task(results, "n-shot", task),
        "chat template": results.get("chat_template_sha") or results.get("chat_template"),
        "system instruction": results.get("system_instruction_sha") or results.get("system_instruction"),
        "generation arguments": given.get("gen_kwargs"),
        "limit": given.get("limit"),
    }
    return {name: json.dumps(value, sort_keys=True, default=str)[:400] for name, value in found.items()}


def _samples(rows: list[dict[str, Any]], source: str) -> Iterator[Sample]:
    """A sample for each document; its filters' metrics are its scores."""
    together: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        together.setdefault(f"{_hash(row)} {row['doc_id']}", []).append(row)
    twins = _twins(list(together))
    for key, mine in together.items():
        filters = [_filter(row) for row in mine]
        if len(set(filters)) < len(filters):
            raise DataError(
                f"{source}: document {mine[0]['doc_id']} occurs {len(mine)} times with one filter",
                "the file was written to twice: run lm_eval again with a new output path",
            )
        item, _, number = key.partition(" ")
        yield _sample(mine, f"{item}-{number}" if item in twins else item)


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


def _filter(row: dict[str, Any]) -> str:
    return str(row.get("filter") or _NO_FILTER)


def _sample(rows: list[dict[str, Any]], item: str) -> Sample:
    first = rows[0]
    prompt = _prompt(first.get("arguments"))
    made = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()
    target = first.get("target")
    text = _answer(first.get("resps"))
    return Sample(
        item=item,
        repeat=1,
        prompt=prompt,
        prompt_sha256=str(first.get("prompt_hash") or made),
        text=text,
        finish=None,
        reason="" if text is not None else "the options were scored: there is no text",
        category="",
        reference=None if target is None else str(target),
        scores=tuple(score for row in rows for score in _scores(row)),
    )


def _scores(row: dict[str, Any]) -> Iterator[Scored]:
    named = row.get("metrics")
    names = named if isinstance(named, list) else [key for key in row if key not in _FIXED]
    chosen = _filter(row)
    for name in map(str, names):
        judge = name if chosen == _NO_FILTER else f"{name}/{chosen}"
        if name in row:
            yield scored(judge, row[name])
        else:
            yield absent(
                judge, JudgmentStatus.UNPARSED, "the sample names this metric and has no value of it"
            )


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
