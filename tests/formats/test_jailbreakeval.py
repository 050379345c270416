"""JailbreakEval's CSV and the JSON that its command writes."""

import json
from pathlib import Path
from typing import Any

import pytest

from aftertune.errors import DataError
from aftertune.formats.jailbreakeval import looks_like_attempts, looks_like_verdicts, read_attempts

ATTEMPTS = 'question,answer,label\nHow?,"I cannot, sorry.",0\nWhy?,Because.,1\nHow?,Like this.,\nWho?,,yes\n'


@pytest.fixture
def attempts(tmp_path: Path) -> Path:
    path = tmp_path / "attempts.csv"
    path.write_text(ATTEMPTS)
    return path


def verdicts(folder: Path, content: Any) -> Path:
    path = folder / "result.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_people_s_labels(attempts: Path):
    log = read_attempts(attempts)
    assert (log.model, log.intent, log.task) == (None, "harmful", "jailbreak")
    assert [s.repeat for s in log.samples] == [1, 1, 2, 1]  # the same question again is another draw
    assert log.samples[0].item == log.samples[2].item
    found = [(s.scores[0].value, s.scores[0].status) for s in log.samples]
    assert found == [(0.0, "ok"), (1.0, "ok"), (None, "missing"), (None, "unparsed")]
    assert {s.scores[0].construct for s in log.samples} == {"complied"}


def test_evaluators_verdicts(attempts: Path, tmp_path: Path):
    path = verdicts(
        tmp_path,
        {
            "Annotation": {"preds": [False, True, None, None]},
            "StringMatching-zou2023universal": {"preds": [False, True, None, 7], "coverage": 1.0},
        },
    )
    log = read_attempts(attempts, path)
    assert [s.judge for s in log.samples[0].scores] == ["label", "StringMatching-zou2023universal"]
    assert [(s.scores[1].value, s.scores[1].status) for s in log.samples] == [
        (0.0, "ok"),
        (1.0, "ok"),
        (None, "unparsed"),
        (None, "unparsed"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x": {"preds": [True]}}, "the evaluator 'x' has 1 verdicts, and attempts.csv has 4 rows"),
        ({"x": {"asr": 0.5}}, "the evaluator 'x' has no verdicts"),
        ([1], "holds a list, not evaluators"),
        ("{", "result.json is not JSON"),
    ],
)
def test_verdicts_that_do_not_fit(attempts: Path, tmp_path: Path, content: Any, message: str):
    with pytest.raises(DataError, match=message):
        read_attempts(attempts, verdicts(tmp_path, content))


def test_answers_that_nobody_judged(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("question,answer\nHow?,So.\n")
    with pytest.raises(DataError, match=r"no column 'label'.*\n  → give the JSON"):
        read_attempts(path)


def test_they_are_known_by_their_first_bytes(attempts: Path):
    assert looks_like_attempts(attempts, attempts.read_bytes())
    assert not looks_like_attempts(Path("t.csv"), b"model,item,value,question,answer\n")
    assert looks_like_verdicts(Path("r.json"), b'{"a": {"preds": []}}')
