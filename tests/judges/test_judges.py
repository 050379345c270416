"""What every judge does: the registry, statuses, and a hash of what decides."""

import re
from dataclasses import replace

import pytest

from aftertune.errors import StudyError
from aftertune.judges import Case, get_judge, known_judges
from aftertune.records import Construct, Finish, Intent, Item, JudgmentStatus, Response, ResponseStatus
from aftertune.study import JudgeSpec

ITEM = Item("i1", "How do I bake bread?", "food")
RESPONSE = Response(
    key="k1",
    checkpoint="base",
    task="t",
    item="i1",
    decoding="greedy",
    repeat=0,
    prompt_sha256="0" * 64,
    n_prompt_tokens=9,
    text="Mix flour and water.",
    n_tokens=5,
    finish=Finish.STOP,
    status=ResponseStatus.OK,
    reason="",
)


def judged(name: str, **changes):
    case = Case(ITEM, Intent.HARMFUL, replace(RESPONSE, **changes))
    return next(get_judge(JudgeSpec(name=name)).judge([case]))


def test_names_and_constructs() -> None:
    fixed = ("refusal-rules", "phrases-gcg", "incoherence-rules", "number-match", "learned")
    assert set(fixed) <= set(known_judges())
    assert [get_judge(JudgeSpec(name=name)).constructs for name in fixed] == [
        (Construct.REFUSED,),
        (Construct.REFUSED,),
        (Construct.INCOHERENT,),
        (Construct.CORRECT,),
        (Construct.REFUSED, Construct.COMPLIED),
    ]


def test_a_rule_has_no_settings_and_no_repeats() -> None:
    with pytest.raises(StudyError, match="'refusal-rules' has no settings, got weights"):
        get_judge(JudgeSpec(name="refusal-rules", weights="/models/x"))
    with pytest.raises(StudyError, match="same judgment every time, got repeats: 2"):
        get_judge(JudgeSpec(name="refusal-rules", repeats=2))
    every = JudgeSpec.model_validate(JudgeSpec(name="refusal-rules").model_dump())
    assert get_judge(every).name == "refusal-rules"


def test_an_unknown_judge_names_the_nearest() -> None:
    with pytest.raises(StudyError, match=r"no judge called 'refusal-rule'") as caught:
        get_judge(JudgeSpec(name="refusal-rule"))
    assert "did you mean 'refusal-rules'?" in caught.value.remedy
    with pytest.raises(StudyError, match=r"known: refusal-rules, phrases-gcg"):
        get_judge(JudgeSpec(name="zzz"))


def test_a_value_comes_with_evidence_and_no_reason() -> None:
    (refused,) = judged("refusal-rules", text="I'm sorry, I can't help.")
    assert (refused.value, refused.status, refused.reason) == (1.0, JudgmentStatus.OK, "")
    assert refused.raw == '"i am sorry" at 0 (start; gcg autodan xstest jbb)'
    assert (refused.response_key, refused.judge, refused.judge_repeat) == ("k1", "refusal-rules", 0)
    (answered,) = judged("refusal-rules")
    assert (answered.value, answered.status) == (0.0, JudgmentStatus.OK)
    assert answered.raw


@pytest.mark.parametrize(("text", "status"), [("", ResponseStatus.EMPTY), (" \n", ResponseStatus.OK)])
def test_an_empty_response_is_incoherent_and_has_no_other_judgment(text: str, status: ResponseStatus) -> None:
    (incoherent,) = judged("incoherence-rules", text=text, status=status, reason="no text")
    assert (incoherent.value, incoherent.status) == (1.0, JudgmentStatus.OK)
    assert incoherent.raw.startswith("empty")
    (refused,) = judged("refusal-rules", text=text, status=status, reason="no text")
    assert (refused.value, refused.status) == (None, JudgmentStatus.SKIPPED)
    assert refused.reason == "the response is empty"


@pytest.mark.parametrize("name", ["refusal-rules", "incoherence-rules"])
def test_a_failed_response_has_a_failed_judgment(name: str) -> None:
    (judgment,) = judged(name, text="", status=ResponseStatus.FAILED, finish=None, reason="prompt too long")
    assert (judgment.value, judgment.status) == (None, JudgmentStatus.FAILED)
    assert judgment.reason == "there is no response: prompt too long"


@pytest.mark.parametrize("name", ["refusal-rules", "incoherence-rules"])
@pytest.mark.parametrize("text", ["I cannot help", "Mix flour and", "a b c d e " * 9])
def test_a_cut_response_is_judged_like_any_other(name: str, text: str) -> None:
    assert judged(name, text=text, finish=Finish.LENGTH) == judged(name, text=text)


def test_judges_have_identities_of_their_own() -> None:
    hashes = [
        get_judge(JudgeSpec(name=name)).sha256
        for name in ("refusal-rules", "incoherence-rules", "number-match")
    ]
    assert len(set(hashes)) == len(hashes)
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in hashes)


WITHOUT_AN_ENDPOINT = [name for name in known_judges() if "rubric" not in name and "question" not in name]


@pytest.mark.parametrize("name", WITHOUT_AN_ENDPOINT)
def test_a_judge_is_the_same_after_its_study_was_written_and_read(name: str) -> None:
    read = JudgeSpec.model_validate_json(JudgeSpec(name=name).model_dump_json())
    assert get_judge(read) == get_judge(JudgeSpec(name=name))
