"""number-match: the last number, compared by value; without a reference nothing is scored."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftertune.judges import Case
from aftertune.judges.number_match import NUMBER_MATCH, number_of
from aftertune.records import Finish, Intent, Item, JudgmentStatus, Response, ResponseStatus


def judged(text: str, reference: str | None):
    response = Response(
        "k", "base", "t", "i", "greedy", 1, "", 3, text, 3, Finish.STOP, ResponseStatus.OK, ""
    )
    case = Case(Item("i", "How many?", "all", reference), Intent.BENIGN, response)
    ((judgment,),) = NUMBER_MATCH.judge([case])
    return judgment


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("She has 3 apples and 4 pears, so 7.", "7"),
        ("The answer is $1,000.50!", "1000.50"),
        ("x = 5\n#### 12\nthat took 3 steps", "12"),
        ("-4", "-4"),
        ("−4 degrees", "-4"),
        ("from 3-4 people", "4"),
        ("1,23 is no thousand", "23"),
        ("version v2", None),
        ("none", None),
        ("", None),
        ("9" * 50, None),
        ("٣", "3"),
    ],
)
def test_the_number_of_an_answer(text, number):
    assert number_of(text) == (None if number is None else Decimal(number))


@pytest.mark.parametrize(
    ("text", "reference", "value"),
    [("It is 1,000.", "1000", 1.0), ("It is 1000.0", "1,000", 1.0), ("It is 7", "8", 0.0), ("?", "8", 0.0)],
)
def test_correct_by_value(text, reference, value):
    assert judged(text, reference).value == value


@pytest.mark.parametrize("reference", [None, "", "no number"])
def test_without_a_reference_nothing_is_scored(reference):
    judgment = judged("7", reference)
    assert judgment.value is None
    assert judgment.status is JudgmentStatus.SKIPPED
    assert "no reference number" in judgment.reason


@given(st.text())
def test_any_text_is_right_or_wrong(text):
    assert judged(text + "?", "7").value in (0.0, 1.0)
    assert judged(f"{text.replace('####', '')} 7", "7").value == 1.0
