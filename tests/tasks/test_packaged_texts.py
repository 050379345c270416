"""The texts written for the project: counts, shape, no twins, no overlap with one another or public sets."""

import csv
import json
import re
from collections import Counter
from importlib import resources
from itertools import combinations
from operator import add, mul, sub
from pathlib import Path

import pytest

from aftertune.judges.refusal_rules import find_refusal

PUBLIC = Path(__file__).parents[2].parent / "shared" / "data"
PUBLIC_COLUMNS = {
    "harmbench/harmbench_behaviors_text_all.csv": "Behavior",
    "advbench/harmful_behaviors.csv": "goal",
    "strongreject/strongreject_dataset.csv": "forbidden_prompt",
    "xstest/xstest_prompts.csv": "prompt",
    "jailbreakbench/jailbreakbench.csv": "Goal",
    "simplesafetytests/simplesafetytests.csv": "prompts_final",
}
NEAR = 0.8  # Jaccard index of the sets of words above which two prompts count as one
REFUSALS = re.compile(
    r"\b(i (can ?not|can't|won't|am unable|must decline)|i'm (sorry|unable)|sorry|apologi[sz]e|as an ai|"
    r"language model|illegal|unethical|not appropriate|seek professional|(medical|legal|financial) advice)\b",
    re.IGNORECASE,
)


def read(package: str, name: str) -> list[dict[str, str]]:
    text = (resources.files(package) / "packaged" / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


HARM = read("aftertune.tasks", "mini-harm.jsonl")
LOOKALIKES = read("aftertune.tasks", "mini-lookalikes.jsonl")
NUMBERS = read("aftertune.tasks", "mini-numbers.jsonl")
CHAT = read("aftertune.data", "chat.jsonl")
PROMPTS = [row["prompt"] for row in HARM + LOOKALIKES] + [row["instruction"] for row in CHAT]


def words(text: str) -> tuple[str, ...]:
    """Case and punctuation folded away."""
    return tuple(re.findall(r"[a-z0-9]+", text.lower()))


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / len(a | b)


@pytest.mark.parametrize(
    ("rows", "prefix", "n_categories"), [(HARM, "mh", 12), (LOOKALIKES, "ml", 6)], ids=["harm", "lookalikes"]
)
def test_tasks_have_ten_items_in_each_category(rows: list[dict[str, str]], prefix: str, n_categories: int):
    assert [row["id"] for row in rows] == [f"{prefix}-{n:03d}" for n in range(1, 10 * n_categories + 1)]
    assert all(list(row) == ["id", "prompt", "category"] for row in rows)
    sizes = Counter(row["category"] for row in rows)
    assert len(sizes) == n_categories
    assert set(sizes.values()) == {10}
    assert all(re.fullmatch(r"[a-z_]+", category) for category in sizes)


def test_task_prompts_are_short_requests():
    for row in HARM + LOOKALIKES:
        assert 5 <= len(words(row["prompt"])) <= 25, row
        assert row["prompt"][0].isupper(), row
        assert row["prompt"][-1] in ".?", row


def test_harmful_requests_do_not_all_sound_alike():
    openings = Counter(words(row["prompt"])[:2] for row in HARM)
    assert max(openings.values()) <= 12
    assert len(openings) >= 50


def test_prompts_have_no_twins_within_or_between_the_sets():
    assert len({words(prompt) for prompt in PROMPTS}) == len(PROMPTS)
    for (a, set_a), (b, set_b) in combinations([(p, frozenset(words(p))) for p in PROMPTS], 2):
        assert jaccard(set_a, set_b) <= NEAR, (a, b)


def test_chat_has_rows_of_sensible_length():
    assert len(CHAT) >= 160
    assert all(list(row) == ["instruction", "output"] for row in CHAT)
    lengths = sorted(len(row["output"].split()) for row in CHAT)
    assert lengths[-1] <= 110
    assert 40 <= sum(lengths) / len(lengths) <= 65
    assert lengths[len(lengths) // 10] >= 25  # nine in ten are more than a line
    assert all(4 <= len(words(row["instruction"])) <= 60 or len(row["instruction"]) < 30 for row in CHAT)


def test_texts_are_plain_ascii_without_stray_space():
    texts = PROMPTS + [row["output"] for row in CHAT]
    for text in texts:
        assert re.fullmatch(r"[\x20-\x7e\n]+", text), text
        assert text == text.strip()
        assert not re.search(r"\w  \w| \n|\n{3}| [,;:?!]( |$)", text), text


def test_chat_answers_refuse_nothing():
    for row in CHAT:
        assert not REFUSALS.search(row["output"]), row
        assert not find_refusal(row["instruction"], row["output"]).event, row


def test_chat_answers_differ():
    openings = Counter(words(row["output"])[:3] for row in CHAT)
    assert max(openings.values()) <= 3
    assert len({words(row["output"]) for row in CHAT}) == len(CHAT)


def public_prompts() -> list[str]:
    prompts: list[str] = []
    for name, column in PUBLIC_COLUMNS.items():
        with (PUBLIC / name).open(encoding="utf-8", newline="") as file:
            prompts += [row[column] for row in csv.DictReader(file)]
    for path in sorted((PUBLIC / "do_not_answer").glob("*.jsonl")):
        prompts += [
            json.loads(line)["prompt"] for line in path.read_text(encoding="utf-8").split("\n") if line
        ]
    return prompts


def test_numbers_have_ten_items_in_each_category_and_the_right_answers():
    assert [row["id"] for row in NUMBERS] == [f"mn-{n:03d}" for n in range(1, 61)]
    assert all(list(row) == ["id", "prompt", "category", "reference"] for row in NUMBERS)
    assert set(Counter(row["category"] for row in NUMBERS).values()) == {10}
    assert len({row["prompt"] for row in NUMBERS}) == 60
    operations = {"+": add, "-": sub, "times": mul}
    reckoned = 0
    for row in NUMBERS:
        found = re.fullmatch(r"What is (\d+) (\+|-|times) (\d+)\?", row["prompt"])
        if found:
            reckoned += 1
            assert row["reference"] == str(operations[found[2]](int(found[1]), int(found[3]))), row
        assert re.fullmatch(r"\d+", row["reference"])
    assert reckoned == 30


@pytest.mark.real_data
@pytest.mark.skipif(not PUBLIC.is_dir(), reason="needs ../shared/data")
def test_no_prompt_is_taken_from_a_public_set():
    public = [(prompt, frozenset(words(prompt))) for prompt in public_prompts()]
    assert len(public) > 2500
    for ours in PROMPTS:
        mine = frozenset(words(ours))
        for prompt, theirs in public:
            assert jaccard(mine, theirs) <= NEAR, (ours, prompt)
