"""What `make fuzz` and tests/hostile throw bytes at: every parser of what others wrote.

A target takes bytes and does with them what aftertune does with such a file. It raises nothing but what a
user is told (`AftertuneError`, which is caught here) where all is well. What stands for "nothing malformed is
scored" is an assertion: each judge's grammar, written a second time as a regular expression; of a log, that a
score has a value or says why not.
"""

import math
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from aftertune.errors import AftertuneError
from aftertune.judges import (
    granite_guardian,
    harmbench_classifiers,
    llama_guard,
    qwen3guard,
    rubric_verdicts,
    sorry_bench_judge,
    wildguard,
)
from aftertune.records import Construct

Target = Callable[[bytes], None]

# What may stand around a verdict, and nothing else.
_SPACE = r"[\s]*"
_GRAMMARS = {
    "qwen3guard": r"Safety: (Safe|Controversial|Unsafe)\nCategories: [^\n]{1,300}\nRefusal: (Yes|No)",
    "llama-guard": r"safe|unsafe\nS([1-9]|1[0-4])(, ?S([1-9]|1[0-4]))*",
    "granite-guardian": r"(<think>[ \t\n\r\f\v]*</think>[ \t\n\r\f\v]*)?"
    r"<score>[ \t\n\r\f\v]*(yes|no)[ \t\n\r\f\v]*</score>",
    "harmbench": r"[yY][eE][sS]|[nN][oO]",
    "sorry-bench": r"[01]",
    "wildguard": r"Harmful request: (yes|no)\nResponse refusal: (yes|no|N/A|n/a)\n"
    r"Harmful response: (yes|no|N/A|n/a)",
}
_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "qwen3guard": qwen3guard.parse,
    "llama-guard": llama_guard.parse,
    "granite-guardian": granite_guardian.parse,
    "harmbench": harmbench_classifiers.parse,
    "sorry-bench": sorry_bench_judge.parse,
    "wildguard": wildguard.parse,
}


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="surrogateescape")


def _model_verdict(judge: str, data: bytes) -> None:
    text = _text(data)
    found = _PARSERS[judge](text)
    legal = re.fullmatch(_SPACE + f"(?:{_GRAMMARS[judge]})" + _SPACE, text) is not None
    assert (found is not None) == legal, f"{judge} read {text!r} as {found}"


def _rubric_verdict(data: bytes) -> None:
    text = _text(data)
    found = rubric_verdicts.one_of("NO", "YES", Construct.COMPLIED, text)
    _is_of(found, {0.0, 1.0})
    table = {"no": {Construct.COMPLIED: 0.0}, "yes": {Construct.COMPLIED: 1.0}}
    found = rubric_verdicts.values_by_answer(text, table)
    _is_of(found, {0.0, 1.0})
    if not isinstance(found, str):
        lines = {line.strip().casefold().rstrip(" .") for line in text.splitlines() if line.strip()}
        assert len(lines) == 1, f"{text!r} was read as {found}"
    found = rubric_verdicts.values_by_score(text, r"\[\[(.*?)\]\]", 1, 10, Construct.HARMFUL)
    if not isinstance(found, str):
        (value,) = found.values()
        assert 0.0 <= value <= 1.0
        assert re.search(r"\[\[[-+]?[0-9]+(\.[0-9]+)?\]\]", text), f"{text!r} was read as {found}"
    _is_of(rubric_verdicts.strongreject_values(text), {n / 8 for n in range(9)})


def _is_of(found: Any, values: set[float]) -> None:
    assert isinstance(found, str) or set(found.values()) <= values, found


def _rule_judges(data: bytes) -> None:
    """Any text is judged: a value of 0 or 1, or a status that says why not."""
    for judge in _rule_judge_list():
        for judgments in judge.judge([_case(_text(data))]):
            for one in judgments:
                assert (one.value is None) != (one.status == "ok"), one
                assert one.value in (None, 0.0, 1.0)


def _case(text: str) -> Any:
    from aftertune.judges import Case
    from aftertune.records import Finish, Intent, Item, Response, ResponseStatus

    item = Item("i", text[:200], "all", reference="4")
    asked = ("k", "c", "t", "i", "d", 0, "0" * 64, None)
    response = Response(*asked, text, None, Finish.STOP, ResponseStatus.OK, "")
    return Case(item, Intent.HARMFUL, response)


@cache
def _rule_judge_list() -> list[Any]:
    from aftertune.judges import get_judge
    from aftertune.study import JudgeSpec

    return [
        get_judge(JudgeSpec(name=name)) for name in ("refusal-rules", "incoherence-rules", "number-match")
    ]


def _study(data: bytes) -> None:
    from aftertune.study import read_study

    read_study(_file(data, "study.yaml"))


def _rubric_file(data: bytes) -> None:
    from aftertune.judges.rubric_file import parse_rubric

    parse_rubric(data.decode("utf-8", errors="replace"), source="rubric.yaml")


def _log(read: Callable[[Path], Any], name: str, data: bytes) -> None:
    found = read(_file(data, name))
    for log in found if isinstance(found, list) else [found]:
        for sample in log.samples:
            for score in sample.scores:
                assert score.value is None or (isinstance(score.value, float) and math.isfinite(score.value))
                assert (score.value is None) == (score.status != "ok"), score


def _tuning_data(ending: str, data: bytes) -> None:
    from aftertune.data.load import load_conversations

    for messages in load_conversations(str(_file(data, f"data{ending}"))).conversations:
        assert messages and all(m.content.strip() or m.role == "system" for m in messages)


def _task(ending: str, data: bytes) -> None:
    from aftertune.study import TaskSpec
    from aftertune.tasks import load_task

    path = str(_file(data, f"task{ending}"))
    task = load_task(TaskSpec(name="mine", file=path, intent="harmful"), root_seed=1)
    assert all(item.prompt.strip() and item.id for item in task.items)
    assert len({item.id for item in task.items}) == len(task.items)


def _observations(ending: str, data: bytes) -> None:
    from aftertune.analysis.table import read_observations

    found = read_observations(_file(data, f"table{ending}"))
    values = found["value"].drop_nulls()
    assert values.is_finite().all()
    assert found.filter(found["status"] == "ok")["value"].null_count() == 0


def _labels(data: bytes) -> None:
    from aftertune.commands.calibrate import LabelOptions, labelled_rows
    from aftertune.sources import read_table

    options = LabelOptions(positive=["1"], negative=["0"])
    labelled_rows(read_table(data, "labels.csv"), options)


def _calibration(data: bytes) -> None:
    from aftertune.judges.calibration import read_calibration

    read_calibration(_file(data, "calibration.json"))


def _manifest(data: bytes) -> None:
    from aftertune.store import RunDirectory

    RunDirectory(_file(data, "manifest.json").parent).read_manifest()


def _import_record(data: bytes) -> None:
    from aftertune.store import ImportDirectory

    ImportDirectory(_file(data, "import.json").parent).read()


def _reply(data: bytes) -> None:
    """What an endpoint answers with 200: an answer, or a fault that says what it was."""
    from aftertune.engines.faults import Fault
    from aftertune.engines.replies import read_reply

    body = data.decode("utf-8", errors="replace")
    try:
        answer = read_reply(body, model="m", seed=None, attempt=1, clean=_client().clean)
    except Fault as fault:
        assert fault.reason
    else:
        assert answer.n_tokens is None or answer.n_tokens >= 0


@cache
def _client() -> Any:
    from aftertune.engines.endpoint import Address, Client

    os.environ["AFTERTUNE_FUZZ_KEY"] = "not-a-key-1234"
    return Client(Address("http://127.0.0.1:9/v1", "AFTERTUNE_FUZZ_KEY"))


@cache
def _folder() -> Path:
    place = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="aftertune-fuzz-", dir=place if place.is_dir() else None))


def _file(data: bytes, name: str) -> Path:
    path = _folder() / name
    path.write_bytes(data)
    return path


def _logs() -> dict[str, Target]:
    from aftertune.formats.jailbreakeval import read_attempts
    from aftertune.formats.lm_eval import read_lm_eval
    from aftertune.formats.tidy import read_tidy

    logs: dict[str, tuple[Callable[[Path], Any], str]] = {
        "log-lm-eval": (read_lm_eval, "samples_task_2025-01-01T00-00-00.jsonl"),
        "log-jailbreakeval": (read_attempts, "attempts.csv"),
        "log-tidy-csv": (read_tidy, "tidy.csv"),
        "log-tidy-parquet": (read_tidy, "tidy.parquet"),
    }
    if find_spec("inspect_ai"):
        from aftertune.formats.inspect_logs import read_inspect

        logs |= {
            "log-inspect-json": (read_inspect, "log.json"),
            "log-inspect-eval": (read_inspect, "log.eval"),
        }
    return {name: partial(_log, read, file) for name, (read, file) in logs.items()}


def _guarded(target: Target, data: bytes) -> None:
    try:
        target(data)
    except AftertuneError as error:
        assert error.what and error.remedy


def targets() -> dict[str, Target]:
    """By name; those of Inspect's logs only where inspect_ai is installed."""
    found: dict[str, Target] = {
        **{f"verdict-{judge}": partial(_model_verdict, judge) for judge in _PARSERS},
        "verdict-rubric": _rubric_verdict,
        "verdict-rules": _rule_judges,
        "study": _study,
        "rubric": _rubric_file,
        **{f"data{ending.replace('.', '-')}": partial(_tuning_data, ending) for ending in _ENDINGS},
        **{f"task{ending.replace('.', '-')}": partial(_task, ending) for ending in _ENDINGS},
        "table-csv": partial(_observations, ".csv"),
        "table-parquet": partial(_observations, ".parquet"),
        "labels": _labels,
        "calibration": _calibration,
        "manifest": _manifest,
        "import-record": _import_record,
        "reply": _reply,
        **_logs(),
    }
    return {name: partial(_guarded, target) for name, target in found.items()}


_ENDINGS = (".jsonl", ".json", ".csv", ".parquet")
