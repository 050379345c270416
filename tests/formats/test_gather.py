"""Many logs become one table: who is who, what a score means, and what is missing and why."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftertune.errors import DataError
from aftertune.formats.gather import Gathered, gathered
from aftertune.formats.logs import Log, Sample, Scored, absent
from aftertune.formats.meaning import Meaning, meaning_of
from aftertune.formats.naming import Given, named

CORRECT = Meaning({"": "correct"})


def sample(item: str, *values: float | None, repeat: int = 1, **more: Any) -> Sample:
    scores = tuple(
        absent(f"s{at}", "failed", "boom") if value is None else Scored(f"s{at}", value)
        for at, value in enumerate(values)
    )
    asked = {"prompt": f"prompt {item}", "prompt_sha256": f"hash of {item}".ljust(16)}
    told = {"text": "answer", "finish": "stop", "reason": "", "category": "", "reference": None}
    return Sample(item=item, repeat=repeat, scores=scores, **(asked | told | more))


def log(name: str, *samples: Sample, **more: Any) -> Log:
    told = {
        "model": name,
        "checkpoint": name,
        "task": "t",
        "decoding": "d",
        "tool": "tool 1",
        "identity": name,
    }
    told |= {"path": Path(f"{name}.eval"), "sha256": f"sha of {name}"}
    return Log(samples=samples, **(told | more))


def both(*logs: Log, base: str | None = None, meaning: Meaning = CORRECT, **more: Any) -> Gathered:
    return gathered(named([Given(each) for each in logs]), meaning, base=base, study="s", **more)


def test_two_models_pair_on_what_is_common_and_say_how_much():
    a = log("a", sample("1", 0.0), sample("2", 1.0), sample("3", 1.0))
    b = log("b", sample("2", 1.0), sample("3", 0.0), sample("4", 0.0))
    found = both(a, b, base="a")
    assert found.record["items"] == [
        {"task": "t", "model": "a", "n_items": 3, "n_in_common": 3},
        {"task": "t", "model": "b", "n_items": 3, "n_in_common": 2},
    ]
    assert {(r["model"], r["item"], r["value"]) for r in found.observations if r["item"] == "3"} == {
        ("a", "3", 1.0),
        ("b", "3", 0.0),
    }


def test_what_has_no_value_is_there_with_its_reason_and_never_a_0():
    meaning = meaning_of(["correct"], [], ["s0=0:1"])
    found = both(
        log("a", sample("1", 0.0), sample("2", None), sample("3", 7.0), sample("4", -0.1)), meaning=meaning
    )
    assert [(r["value"], r["status"], r["reason"]) for r in found.observations] == [
        (0.0, "ok", ""),
        (None, "failed", "boom"),
        (None, "unparsed", "7 is outside [0, 1]"),
        (None, "unparsed", "-0.1 is outside [0, 1]"),
    ]
    assert found.record["n_missing"] == 3
    assert Counter(entry["n"] for entry in found.record["missing"]) == {1: 1, 2: 1}


def test_a_response_that_failed_is_one_and_an_empty_one_another():
    found = both(
        log(
            "a",
            sample("1", None, text=None, finish=None, reason="the sandbox died"),
            sample("2", 1.0, text=""),
        )
    )
    assert [(r["status"], r["reason"], r["text"]) for r in found.responses] == [
        ("failed", "the sandbox died", ""),
        ("empty", "", ""),
    ]
    assert {r["response_key"] for r in found.observations} == {r["key"] for r in found.responses}


@given(st.floats(-3, 9), st.floats(-3, 9), st.floats(-5, 5).filter(bool), st.booleans())
def test_a_scale_keeps_values_in_0_1_and_turns_them(value: float, low: float, width: float, turned: bool):
    meaning = Meaning({"": "not-harmful" if turned else "harmful"}, {}, {"s": (low, low + width)})
    if low + width == low:
        return
    found = meaning.value(Scored("s", value))
    if found.value is None:
        assert found.status == "unparsed" and "outside" in found.reason
        return
    share = (value - low) / ((low + width) - low)
    assert 0 <= found.value <= 1
    assert found.value == pytest.approx(1 - share if turned else share)


def test_a_safe_score_is_turned_and_said():
    found = both(log("a", sample("1", 1.0)), meaning=meaning_of(["not-harmful"], ["harmful"], []))
    assert found.observations[0]["value"] == 0 and found.observations[0]["construct"] == "harmful"
    assert found.record["judges"] == [
        {"judge": "s0", "construct": "harmful", "turned": True, "scale": (0.0, 1.0)}
    ]


def test_nothing_is_guessed_of_what_a_score_means():
    a = log("a", sample("1", 1.0, 0.0))
    with pytest.raises(DataError, match=r"by s1\n  → write --construct s1=WORD.*not-harmful"):
        both(a, meaning=meaning_of(["s0=correct"], [], []))
    with pytest.raises(DataError, match=r"task 't' ask for harm.*\n  → write --intent t=harmful"):
        both(a, meaning=meaning_of(["refused"], [], []))
    found = both(a, meaning=meaning_of(["refused", "s1=correct"], ["t=benign"], []))
    assert {(r["judge"], r["construct"], r["intent"]) for r in found.observations} == {
        ("s0", "refused", "benign"),
        ("s1", "correct", "benign"),
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((["corect"], [], []), "--construct holds 'corect'\n  → did you mean 'correct'"),
        ((["correct", "refused"], [], []), "--construct is given twice for 'all'"),
        ((["correct"], ["t=bad"], []), "--intent holds 'bad'"),
        ((["correct"], [], ["s=5"]), r"--scale holds 's=5'\n  → write JUDGE=LOW:HIGH"),
        ((["correct"], [], ["s=1:1"]), "--scale holds"),
        ((["correct"], [], ["1:5"]), "--scale holds '=1:5'"),
    ],
)
def test_options_that_are_written_wrong(options: tuple[list[str], ...], message: str):
    with pytest.raises(DataError, match=message):
        meaning_of(*options)


def test_a_judge_on_another_scale_is_left_out_and_said():
    """On a scale from 1 to 5 the lowest grade would else be read as the event."""
    a = log("a", sample("1", 1.0, 1.0), sample("2", 0.0, 1.0), sample("3", 0.0, 5.0))
    found = both(a)
    assert {r["judge"] for r in found.observations} == {"s0"}
    why = (
        "1 of its 3 scores are outside [0, 1] (1 to 5): --scale s1=LOW:HIGH takes it, 0:1 if those are faults"
    )
    assert found.record["left_out"] == [{"judge": "s1", "reason": why}]
    with pytest.raises(DataError, match=r"no scores can be taken: s1: 1 of its 3.*\n  → say the scale"):
        both(a, scorers=["s1"])
    scaled = both(a, scorers=["s1"], meaning=Meaning({"": "correct"}, {}, {"s1": (1.0, 5.0)}))
    assert [r["value"] for r in scaled.observations] == [0.0, 0.0, 1.0]


def test_a_judge_without_any_value_is_left_out_and_said():
    found = both(log("a", sample("1", 1.0, None), sample("2", 1.0, None)))
    assert found.record["left_out"] == [{"judge": "s1", "reason": "it has no value: boom (2 times)"}]
    with pytest.raises(DataError, match="no log has a scorer 's9'"):
        both(log("a", sample("1", 1.0)), scorers=["s9"])
    with pytest.raises(DataError, match="the logs hold no scores"):
        both(log("a", sample("1")))


def test_one_name_for_two_texts_is_refused_and_pairs_by_text():
    a, b = (
        log("a", sample("1", 0.0)),
        log("b", sample("1", 1.0, prompt="other", prompt_sha256="other".ljust(16))),
    )
    with pytest.raises(
        DataError, match=r"b.eval: the item '1' of the task 't' has another text.*\n.*--pair-by input"
    ):
        both(a, b)
    swapped = log("b", sample("x", 1.0, prompt="prompt 1", prompt_sha256="hash of 1".ljust(16)))
    found = both(a, swapped, base="a", pair_by="input")
    assert found.record["items"][1]["n_in_common"] == 1


def test_a_sample_that_was_not_run_stands_for_its_item():
    gone = sample("1", None, prompt="", prompt_sha256="", text=None, reason="")
    a, b = log("a", sample("1", 1.0)), log("b", gone, sample("2", 1.0))
    found = both(a, b, base="a")
    assert found.record["items"][1] == {"task": "t", "model": "b", "n_items": 2, "n_in_common": 1}
    assert len(found.responses) == 2
    # By its text it pairs with nothing, unless another epoch of the same log has the text.
    assert both(a, b, base="a", pair_by="input").record["items"][1]["n_in_common"] == 0
    again = log("b", gone, sample("1", 1.0, repeat=2))
    assert both(a, again, base="a", pair_by="input").record["items"][1]["n_in_common"] == 1


@pytest.mark.parametrize(
    ("twin", "message"),
    [
        ({"sha256": "sha of a"}, "a.eval and b.eval are the same file"),
        ({"identity": "a"}, r"a.eval and b.eval are the same evaluation \(a\)"),
    ],
)
def test_the_same_log_twice_is_refused_by_both_names(twin: dict[str, str], message: str):
    a = log("a", sample("1", 1.0))
    with pytest.raises(DataError, match=message):
        both(a, log("b", sample("1", 1.0), **twin))


def test_a_retry_that_goes_on_from_another_log_is_refused():
    a = log("a", sample("1", 1.0, identity="u1"))
    with pytest.raises(DataError, match=r"a.eval and b.eval share the sample 1.*retry"):
        both(a, log("b", sample("1", 1.0, identity="u1"), sample("2", 1.0, identity="u2")))


def seeds(*given: Given) -> list[tuple[str, int | None, int]]:
    return [(n.model, n.seed, n.first_repeat) for n in named(given)]


def test_checkpoints_under_a_given_name_are_seeds_and_one_checkpoint_again_is_repeats():
    one, two, three = (log(name, sample("1", 1.0, repeat=2), model="m", checkpoint=name) for name in "abc")
    assert seeds(Given(one, "chat"), Given(two, "chat"), Given(three, "chat")) == [
        ("chat", 1, 0),
        ("chat", 2, 0),
        ("chat", 3, 0),
    ]
    again = log("d", sample("1", 1.0), model="m", checkpoint="a")
    assert seeds(Given(one), Given(again)) == [("m", None, 0), ("m", None, 2)]
    assert seeds(Given(one, "chat"), Given(two, "chat"), Given(again, "chat"))[2] == ("chat", 1, 2)
    assert "repeats and not seeds" in both(one, again).record["notes"][0]
    assert seeds(Given(one, "chat", 7), Given(again, "chat", 9)) == [("chat", 7, 0), ("chat", 9, 0)]


def test_what_only_a_person_can_name_is_asked_for():
    one, two = (log(name, sample("1", 1.0), model="hf/local", checkpoint=name) for name in "ab")
    with pytest.raises(
        DataError, match=r"a.eval \(a\) and b.eval \(b\) both name the model 'hf/local'.*\n.*--model"
    ):
        seeds(Given(one), Given(two))
    with pytest.raises(
        DataError, match=r"c.eval does not say which model.*\n  → name it: --model NAME=c.eval"
    ):
        seeds(Given(log("c", sample("1", 1.0), model=None)))
    with pytest.raises(DataError, match=r"is given with a seed of 'chat', b.eval without one"):
        seeds(Given(one, "chat", 1), Given(two, "chat"))


def test_tasks_stay_apart_and_what_else_differs_is_said():
    a = log("a", sample("1", 1.0), setup={"solver": '["cot"]'})
    b = log("b", sample("1", 1.0), setup={"solver": '["plain"]'})
    other = log("c", sample("1", 1.0), task="u", model="b", checkpoint="b")
    found = both(a, b, other, base="a")
    assert {(r["model"], r["task"]) for r in found.observations} == {("a", "t"), ("b", "t"), ("b", "u")}
    assert found.record["notes"] == [
        't: not the model alone differs, but also the solver (a.eval: ["cot"]; b.eval: ["plain"])'
    ]
    hot = log("h", sample("1", 1.0), decoding="temperature=1")
    assert "h and a have no task with the same decoding" in both(a, hot, base="a").record["notes"][0]
    with pytest.raises(DataError, match="no log is of the model 'base', which was to be the baseline"):
        both(a, base="base")
