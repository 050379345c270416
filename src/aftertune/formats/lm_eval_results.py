"""The results file of lm-evaluation-harness: which model a samples file is of, and with which settings.

It is `results_DATE.json` beside `samples_TASK_DATE.jsonl`, or `NAME_DATE.json` where `--output_path
NAME.json` was given. Before 0.4.3 neither has a date: the results stand in `results.json` or `NAME.json`, and
the samples in `ARGUMENTS_TASK.jsonl`, with the model's arguments as they are in the results.
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aftertune.errors import DataError
from aftertune.formats.archives import MAX_ENTRY_BYTES, read_capped
from aftertune.sources.table import utf8_text

_DATE = r"(?P<date>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)"
_SAMPLES = re.compile(rf"samples_(?P<task>.+)_{_DATE}")
_DATED = re.compile(rf"(?P<name>.*)_{_DATE}")
_BEGINS = re.compile(rb'\s*\{\s*"results"')
_NONE = "there is no results file beside it: its model and settings are not known"
# What names the weights; device, batch size and the like do not.
_CHOOSES = ("pretrained", "model", "revision", "subfolder", "peft", "delta", "lora_local_path", "gguf_file")
_SHOWN = ("temperature", "top_p", "top_k", "max_gen_toks", "do_sample")


@dataclass(frozen=True, slots=True)
class Results:
    """What is known of a samples file beside its samples; `content` is {} where there is no results file."""

    task: str
    date: str
    content: dict[str, Any] = field(default_factory=dict[str, Any])
    notes: tuple[str, ...] = ()

    @property
    def model(self) -> str | None:
        """The model's name."""
        name = self.content.get("model_name")
        if isinstance(name, str) and name:
            return name
        # Before 0.4.3 it stands among the arguments alone.
        pairs = {key: value for key, _, value in (pair.partition("=") for pair in self._arguments())}
        return pairs.get("pretrained") or pairs.get("model") or None

    @property
    def checkpoint(self) -> str:
        """What names the weights; of the model's arguments those that choose them."""
        chosen = sorted(pair for pair in self._arguments() if pair.partition("=")[0].strip() in _CHOOSES)
        source, name = (str(self.content.get(key, "")) for key in ("model_source", "model_name"))
        return " ".join([source, name, *chosen]).strip()

    @property
    def decoding(self) -> str:
        """The settings of generation, as a name."""
        config = self._of_task("configs")
        given = config.get("generation_kwargs") if isinstance(config, dict) else None
        shown = {k: v for k, v in given.items() if k in _SHOWN} if isinstance(given, dict) else {}
        return "+".join(f"{name}={value}" for name, value in sorted(shown.items())) or "default"

    @property
    def setup(self) -> dict[str, str]:
        """What ought to be the same in logs that are compared."""
        results = self.content
        if not results:
            return {}
        config = results.get("config")
        given = config if isinstance(config, dict) else {}
        found: dict[str, Any] = {
            "task version": self._of_task("versions"),
            "few-shot examples": self._of_task("n-shot"),
            "chat template": results.get("chat_template_sha") or results.get("chat_template"),
            "system instruction": results.get("system_instruction_sha") or results.get("system_instruction"),
            "generation arguments": given.get("gen_kwargs"),
            "limit": given.get("limit"),
        }
        return {name: json.dumps(value, sort_keys=True, default=str)[:400] for name, value in found.items()}

    def filters(self, n: int) -> list[str] | None:
        """The names of the task's `n` filters in their order; None where they are not known."""
        config, scores = self._of_task("configs"), self._of_task("results")
        listed = config.get("filter_list") if isinstance(config, dict) else None
        entries = listed if isinstance(listed, list) else []
        configured = [str(entry.get("name")) for entry in entries if isinstance(entry, dict)]
        keys = scores if isinstance(scores, dict) else {}
        scored = list(dict.fromkeys(key.partition(",")[2] for key in keys if "," in key))
        return next((names for names in (configured, scored) if len(set(names)) == len(names) == n), None)

    def _arguments(self) -> list[str]:
        config = self.content.get("config")
        arguments = config.get("model_args") if isinstance(config, dict) else None
        if isinstance(arguments, dict):
            return [f"{name}={value}" for name, value in arguments.items()]
        return arguments.split(",") if isinstance(arguments, str) else []

    def _of_task(self, key: str) -> Any:
        found = self.content.get(key)
        return found.get(self.task) if isinstance(found, dict) else None


def results_beside(samples: Path) -> Results:
    """The results file of a samples file, where there is one.

    Raises:
        DataError: it is not JSON.
    """
    named = _SAMPLES.fullmatch(samples.stem)
    if named is None:
        return _undated(samples)
    task, date = named["task"], named["date"]
    usual = samples.with_name(f"results_{date}.json")
    if usual.is_file():
        return Results(task, date, _content(usual))
    others = sorted(path for path in samples.parent.glob("*.json") if path.is_file())
    dated = [found for path in others if path.stem.endswith(f"_{date}") and (found := _results(path))]
    if len(dated) == 1:
        return Results(task, date, dated[0])
    # Renamed: the only one that lists the task, beside the only samples of the task.
    alike = [path for path in samples.parent.glob("samples_*.jsonl") if _is_of(path, task)]
    free = [path for path in others if not _DATED.fullmatch(path.stem)]
    listing = [(path, found) for path in free if task in (found := _results(path)).get("configs", {})]
    if len(listing) == 1 and len(alike) == 1:
        path, found = listing[0]
        return Results(task, date, found, (f"{path.name} is taken for its results file: it lists the task",))
    return Results(task, date, notes=(_NONE,))


def samples_beside(results: Path) -> list[Path]:
    """The samples files that belong to a results file; none where it is another file.

    Raises:
        DataError: it is a results file, and there are none.
    """
    content = _results(results) if results.suffix == ".json" else {}
    if not content:
        return []
    found = [
        path for path in sorted(results.parent.glob("*.jsonl")) if results_beside(path).content == content
    ]
    if not found:
        raise DataError(
            f"{results.name} is a results file of lm_eval, and there are no samples beside it",
            "aggregated scores have no items to compare: run lm_eval with --log_samples",
        )
    return found


def _undated(samples: Path) -> Results:
    for path in sorted(samples.parent.glob("*.json")):
        found = _results(path)
        config = found.get("config")
        arguments = config.get("model_args") if isinstance(config, dict) else None
        for task in found.get("configs", {}):
            if isinstance(arguments, str) and samples.stem == f"{re.sub('/|=', '__', arguments)}_{task}":
                return Results(str(task), str(found.get("date", "")), found)
    return Results(samples.stem.removeprefix("samples_"), "", notes=(_NONE,))


def _is_of(path: Path, task: str) -> bool:
    named = _SAMPLES.fullmatch(path.stem)
    return named is not None and named["task"] == task


def _results(path: Path) -> dict[str, Any]:
    """What a JSON file says where it is a results file, else {}."""
    with path.open("rb") as handle:
        if not _BEGINS.match(handle.read(256)):  # a log of another tool can have gigabytes
            return {}
    try:
        found = _content(path)
    except DataError:  # any file of any tool may stand there
        return {}
    is_one = all(isinstance(found.get(key), dict) for key in ("results", "configs", "config"))
    return found if is_one else {}


def _content(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(utf8_text(read_capped(path, MAX_ENTRY_BYTES), path.name, escape=True))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path.name} is not JSON: {error}", "remove it, and name the model") from error
    return found if isinstance(found, dict) else {}
