"""Which texts are told to be in another language than English, and which judges cannot read them."""

import json
from pathlib import Path

import pytest

from aftertune.data import load_conversations
from aftertune.judges import known_judges
from aftertune.judges.foreign_language import (
    ENGLISH_ONLY,
    MOST_TEXTS,
    Foreign,
    english_only,
    foreign_language,
)
from aftertune.study import TaskSpec
from aftertune.tasks import load_task
from foreign_texts import ENGLISH, FOREIGN, Texts

# Of models, and what compares a response with its prompt, reads digits, or counts repetition.
OTHERS = {
    "incoherence-rules", "incoherence-repetition", "incoherence-language", "incoherence-perplexity",
    "number-match", "sorry-bench-mistral-7b", "harmbench-llama-2-13b", "harmbench-mistral-7b",
    "strongreject-gemma-2b", "llama-guard-3-8b", "llama-guard-4-12b", "wildguard-7b", "qwen3guard-0.6b",
    "qwen3guard-0.6b-strict", "qwen3guard-4b", "qwen3guard-4b-strict", "qwen3guard-8b",
    "qwen3guard-8b-strict", "shieldgemma-2b", "shieldgemma-9b", "granite-guardian-3.3-8b",
    "strongreject-rubric", "sorry-bench-question", "harmbench-question", "aftertune-rubric-complied",
}  # fmt: skip
CODE = (
    "def total(values):\n    result = 0\n    for value in values:\n        result += value\n    return result"
)
MATHS = (
    "x = 3, y = 4, z = sqrt(x*x + y*y) = 5, so the sum is x + y + z = 12",
    r"\frac{a}{b} + \sqrt{x^2 + y^2} = \int_0^1 \sin(x) dx, \quad \alpha \beta \gamma \delta",
    "C6H12O6 + 6 O2 -> 6 CO2 + 6 H2O + ATP; NaCl + AgNO3 -> AgCl + NaNO3",
)
NAMES = (
    "John Smith, Maria Garcia, Wei Zhang, Anna Müller, Jean Dupont, Olga Ivanova",
    "Paris, Berlin, Madrid, Roma",
)


@pytest.mark.parametrize("texts", FOREIGN, ids=lambda texts: texts.language)
def test_requests_refusals_and_answers_are_told_by_their_language(texts: Texts):
    for group in (texts.prompts(20), texts.responses(20, n_refused=16), list(texts.refusals) * 3):
        found = foreign_language(group)
        assert found is not None and found.language == texts.language
        assert found.share >= 0.6
    mixed = [*texts.responses(4, n_refused=4), *ENGLISH.responses(16, n_refused=8)]
    found = foreign_language(mixed)
    assert found is not None and found.language == texts.language and found.n <= 4 and found.n_told <= 20


@pytest.mark.parametrize("name", ["mini-harm", "mini-lookalikes", "mini-numbers"])
def test_packaged_items_are_english(name: str):
    items = load_task(TaskSpec(name=name), root_seed=1).items
    assert foreign_language(item.prompt for item in items) is None


@pytest.mark.parametrize("name", ["packaged:chat", "packaged:arithmetic"])
def test_packaged_data_are_english(name: str):
    rows = load_conversations(name).conversations
    for role in ("user", "assistant"):
        assert foreign_language(m.content for row in rows for m in row if m.role == role) is None


def test_code_maths_names_and_short_texts_are_no_language():
    for texts in (
        [CODE] * 9,
        [f"```python\n{CODE}\n```"] * 9,
        MATHS * 3,
        NAMES * 5,
        ["Sí.", "Nein.", "Oui !"] * 9,
    ):
        assert foreign_language(texts) is None
    assert foreign_language([]) is None
    source = [path.read_text("utf-8") for path in Path(__file__).parents[2].glob("src/aftertune/stats/*.py")]
    assert foreign_language(text[i : i + 300] for text in source for i in range(0, 1500, 300)) is None


def test_a_few_foreign_texts_among_many_are_no_warning():
    spanish = FOREIGN[0].responses(20, n_refused=16)
    english = ENGLISH.responses(100, n_refused=50)
    assert foreign_language([*spanish[:2], *ENGLISH.responses(3, n_refused=1)]) is None  # two say little
    assert foreign_language([*spanish[:8], *english[:92]]) is None
    assert foreign_language([*spanish[:14], *english[:86]]) == Foreign("Spanish", 14, MOST_TEXTS)
    assert str(Foreign("Spanish", 16, 20)) == "80% in Spanish (16 of 20)"


def test_every_judge_is_known_to_read_english_alone_or_not():
    assert {name for name in known_judges() if english_only(name)} == ENGLISH_ONLY
    assert set(known_judges()) - ENGLISH_ONLY == OTHERS


def test_our_own_english_texts_give_no_warning():
    talks = load_conversations("packaged:chat").conversations
    for texts in zip(*((talk[-2].content, talk[-1].content) for talk in talks), strict=True):
        for start in range(0, len(texts), 20):
            assert foreign_language(list(texts[start : start + 20])) is None, start


@pytest.mark.real_data
def test_real_english_responses_give_no_warning(shared_data: Path):
    """Of XSTest's and Do-Not-Answer's responses, and of requests and refusals of ChatGPT."""
    for name in ("xstest", "do_not_answer", "chatgpt_refusals", "pyrit_refusal"):
        path = shared_data / "judge_labels" / f"{name}.jsonl"
        if not path.is_file():
            pytest.skip(f"{path} is missing")
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        for column in ("prompt", "response"):
            texts = [row[column] for row in rows if row.get(column)]
            for start in range(0, min(len(texts), 1000), 100):
                assert foreign_language(texts[start : start + 100]) is None, (name, column, start)
