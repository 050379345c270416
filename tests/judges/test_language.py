"""incoherence-language: another language is found, the prompt's own is not; the unsure has no value."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from degrade import OTHER_LANGUAGES

from aftertune.data import load_conversations
from aftertune.errors import StudyError
from aftertune.judges import Case, get_judge, language
from aftertune.judges.language import MARGIN, find_language
from aftertune.records import Finish, Intent, Item, JudgmentStatus, Response, ResponseStatus
from aftertune.study import JudgeSpec

RESPONSE = Response(
    "k1", "base", "t", "i1", "greedy", 1, "0" * 64, 9, "", 5, Finish.STOP, ResponseStatus.OK, ""
)
PROMPT = "How can I bake a loaf of bread at home?"


def judged(prompt: str, text: str):
    case = Case(Item("i1", prompt, "c"), Intent.BENIGN, replace(RESPONSE, text=text))
    return next(get_judge(JudgeSpec(name="incoherence-language")).judge([case]))[0]


needs_identifier = pytest.mark.skipif(
    __import__("importlib.util").util.find_spec("py3langid") is None, reason="needs py3langid"
)


@needs_identifier
@pytest.mark.parametrize("code", sorted(OTHER_LANGUAGES))
def test_another_language_is_found_both_ways(code: str) -> None:
    foreign = " ".join(OTHER_LANGUAGES[code][:3])
    found = judged(PROMPT, foreign)
    assert found.value == 1.0 and f"response {code}" in found.raw
    back = judged(OTHER_LANGUAGES[code][1], "First mix the flour with water, then let it rest for an hour.")
    assert back.value == 1.0 and f"prompt {code}" in back.raw
    assert judged(OTHER_LANGUAGES[code][1], " ".join(OTHER_LANGUAGES[code][2:5])).value == 0.0


@needs_identifier
@pytest.mark.parametrize(
    "text",
    [
        "First mix the flour with water, then let it rest for an hour.",
        "Try a pain au levain: flour, water, salt. Some call it the queen of breakfast.",
        "FIRST MIX THE FLOUR WITH WATER, THEN LET IT REST FOR AN HOUR OR TWO.",
    ],
)
def test_english_under_english_is_coherent(text: str) -> None:
    assert judged(PROMPT, text).value == 0.0


@pytest.mark.parametrize(
    ("prompt", "text", "reason"),
    [
        (
            "Translate to Spanish: where is the bread?",
            "¿Dónde está el pan que compramos ayer por la mañana?",
            "asked for",
        ),
        ("Why?", "Because the flour is old and the water was far too cold.", "the prompt has 3 letters"),
        (PROMPT, "Nein, das geht nicht.", "the response has 16 letters"),
        (
            PROMPT,
            "```python\nfor bread in loaves_of_the_house:\n    bake(bread, oven, hours=3)\n```",
            "0 letters",
        ),
    ],
)
def test_what_cannot_be_told_has_no_value(prompt: str, text: str, reason: str) -> None:
    found = judged(prompt, text)
    assert (found.value, found.status) == (None, JudgmentStatus.SKIPPED)
    assert reason in found.reason


@needs_identifier
def test_a_known_limit_a_short_answer_that_quotes_at_length_reads_as_the_quotation() -> None:
    text = "Try a pain au levain: flour, water, salt. The French say it is la reine du petit déjeuner."
    assert judged(PROMPT, text).value == 1.0  # it is sound; docs/incoherence.md says so


@needs_identifier
def test_broken_unicode_does_no_harm() -> None:
    assert (
        find_language(PROMPT, "\ud800" * 9 + "mix the flour with water and let it rest for an hour").margin
        == 0.0
    )


def test_a_missing_identifier_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise language.PackageNotFoundError(name)

    monkeypatch.setattr(language, "version", missing)
    with pytest.raises(StudyError, match="needs py3langid, which is not installed") as caught:
        _ = get_judge(JudgeSpec(name="incoherence-language")).sha256
    assert "pip install py3langid" in caught.value.remedy


@needs_identifier
def test_no_false_alarm_in_our_own_answers() -> None:
    talks = load_conversations("packaged:chat").conversations
    margins = [find_language(talk[-2].content, talk[-1].content).margin for talk in talks]
    told = [margin for margin in margins if margin is not None]
    assert len(told) >= 100 and max(told) <= MARGIN


@needs_identifier
@pytest.mark.real_data
def test_no_false_alarm_in_450_sound_responses(shared_data: Path) -> None:
    file = shared_data / "xstest_human_labels" / "xstest_v2_completions_mistralguard.csv"
    with file.open(encoding="utf-8", newline="") as lines:
        margins = [find_language(row["prompt"], row["completion"]).margin for row in csv.DictReader(lines)]
    told = [margin for margin in margins if margin is not None]
    assert len(told) >= 400 and sum(margin > MARGIN for margin in told) == 0
