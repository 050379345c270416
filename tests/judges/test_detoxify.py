"""Detoxify's classifiers, tiny: windows, the cut, and labels that must be there."""

from pathlib import Path

import pytest
import torch
import transformers

from aftertune.errors import ModelError, StudyError
from aftertune.judges import get_judge, model_loading
from aftertune.records import JudgmentStatus
from aftertune.study import JudgeSpec
from judge_models import case
from tiny import make_tiny_tokenizer

LABELS = {"Bert": ("toxic", "severe_toxic", "insult"), "Roberta": ("toxicity", "insult")}
NAMES = {"Bert": "toxic-bert", "Roberta": "unbiased-toxic-roberta"}


def save(directory: Path, kind: str = "Bert", labels: tuple[str, ...] = ()) -> Path:
    """A classifier with random weights that reads 64 tokens."""
    tokenizer = make_tiny_tokenizer()
    tokenizer.model_max_length = 64
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=450,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=66,
        pad_token_id=2,
        id2label=dict(enumerate(labels or LABELS[kind])),
        problem_type="multi_label_classification",
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}ForSequenceClassification")(config)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.mark.parametrize("kind", ["Bert", "Roberta"])
def test_the_value_is_the_cut_of_the_label_and_the_probability_is_kept(kind: str, tmp_path: Path) -> None:
    weights = save(tmp_path / "m", kind)
    judge = get_judge(JudgeSpec(name=NAMES[kind], weights=str(weights)))
    texts = ["Hello.", "", "What is the capital of France? " * 40, "No."]
    got = [one for (one,) in judge.judge([case(text, key=str(at)) for at, text in enumerate(texts)])]
    assert [one.response_key for one in got] == ["0", "1", "2", "3"]
    assert got[1].status is JudgmentStatus.SKIPPED
    model = transformers.AutoModelForSequenceClassification.from_pretrained(weights)
    tokenizer = transformers.AutoTokenizer.from_pretrained(weights)
    for one, text in zip(got, texts, strict=True):
        if text:
            shares = [float(share) for share in one.raw.removeprefix(LABELS[kind][0]).split(",")]
            assert one.value == float(max(shares) >= 0.5)
            limit = {"Bert": 64, "Roberta": 63}[kind]  # RoBERTa's positions begin behind the padding id
            ids = torch.tensor([tokenizer(text)["input_ids"][:limit]])
            first = model(input_ids=ids).logits[0, 0].sigmoid().item()
            assert shares[0] == pytest.approx(first, abs=1e-4)
    assert got[2].raw.count(",") > 2  # windows


def test_another_classifier_is_refused(tmp_path: Path) -> None:
    weights = save(tmp_path / "m", labels=("positive", "negative"))
    judge = get_judge(JudgeSpec(name="toxic-bert", weights=str(weights)))
    with pytest.raises(ModelError, match=r"no label 'toxic', it has positive, negative"):
        next(judge.judge([case()]))


def test_settings_and_hashes(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="is a model of its own, got endpoint, model"):
        get_judge(JudgeSpec(name="toxic-bert", endpoint="https://x", model="m"))
    with pytest.raises(ModelError, match="no pinned commit of unitary/unbiased-toxic-roberta is known"):
        _ = get_judge(JudgeSpec(name="unbiased-toxic-roberta")).sha256
    hub = get_judge(JudgeSpec(name="toxic-bert"))
    local = get_judge(JudgeSpec(name="toxic-bert", weights=str(save(tmp_path / "m"))))
    assert len({hub.sha256, local.sha256}) == 2
    assert "4d6c22e74ba2" in hub.source and "m" in local.source


@pytest.fixture(autouse=True)
def forget():
    yield
    model_loading.load.cache_clear()
    model_loading.directory_sha256.cache_clear()
