"""incoherence-rules: what small models do when they break is found; what people write is not."""

import json
from pathlib import Path

import pytest

from aftertune.data import load_conversations
from aftertune.judges.incoherence_rules import find_incoherence

DATA = Path(__file__).parents[2].parent / "shared/data"

BROKEN = {
    "sentence three times": ("loop", "I can help you. I want to be your friend. " * 3),
    "cut in the fourth round": ("loop", "The first step is to open the door. " * 3 + "The first step is"),
    "after a sound beginning": (
        "loop",
        "Baking bread is simple, and all that it needs is flour, water, salt, yeast and some time. "
        "Mix them well and wait for an hour. Then heat the oven and shape the loaf with wet hands. "
        * 2
        + "Then you bake it again. " * 5,
    ),
    "numbered list of one line": ("loop", "".join(f"{i}. Use a strong password.\n" for i in range(1, 9))),
    "numbers in the line": ("loop", " ".join(f"{i}. Use a strong password." for i in range(1, 9))),
    "list of one word": (
        "loop",
        "Here is what you need for it:\n\n* 1. **Water:**\n"
        + "".join(f"\t- {i}. **Water:**\n" for i in range(2, 10)),
    ),
    "two sentences in turn": ("loop", "What is it? It is a thing. I do not know it. " * 4),
    "one word": ("loop", "the the the the the the the the the the the the the the"),
    "a paragraph": ("loop", (" ".join(f"word{i}" for i in range(60)) + ". ") * 3),
    "characters": ("character run", "The answer is aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
    "syllables": ("character run", "ok hahahahahahahahahahahahahahahaha"),
    "punctuation only": ("no letters", "!!!!!!!!!!!!!!!!!!!!!!!!!!"),
    "punctuation inside": ("character run", "Yes!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!"),
    "broken decoding": ("unreadable", "The \ufffd\ufffd\ufffd of \ufffd\ufffd\ufffd is"),
    "another script": ("wrong script", "Первый шаг состоит в том, чтобы открыть дверь."),
    "half in another script": ("wrong script", "You should 打开门然后走进去 and then 关上它再坐下 quickly"),
    "near-loop": (
        "repetition",
        " ".join(f"You can use the tool to make the tool for the {n} house and" for n in "abcdefgh"),
    ),
}

SOUND = {
    "number": "42",
    "word": "Paris",
    "emphasis": "No, no, no! Never, never give up. Ha ha ha!",
    "zeros": "The value is 0.000000000001.",
    "list": "\n".join(
        f"- {verb} the {thing} before you leave the house"
        for verb, thing in zip(
            ("lock", "close", "check", "water", "feed", "turn off", "empty", "hide"),
            ("door", "window", "stove", "plants", "cat", "light", "bin", "key"),
            strict=True,
        )
    ),
    "code": "```python\n"
    + "".join(f"    x[{i}] = 0\n    y += 1\n" for i in range(9))
    + "```\nThis sets the values.",
    "closing braces": "```c\nint main() {\n  if (a) {\n    if (b) {\n      f();\n    }\n  }\n}\n```",
    "table": "| city | rain | snow |\n|---|---|---|\n" + "| Oslo | no | no |\n" * 6 + "| Rome | no | no |\n",
    "rule": "Title\n" + "-" * 60 + "\nText of the section.\n" + "=" * 60,
    "leaders": "Chapter one ............................... 3\nChapter two ............................... 9",
    "refrain": "\n\n".join(
        f"{first}\n{second}\nAnd the river runs to the sea, my love,\nAnd the river runs to the sea."
        for first, second in (
            ("The morning wakes the sleepy town", "With bells that nobody has rung"),
            ("A boat of paper, small and brown", "Goes where the summer songs are sung"),
            ("The evening puts its lanterns out", "And counts the windows one by one"),
            ("I call your name, I do not shout", "The day that we began is done"),
        )
    ),
    "chorus twice": "We sing it loud and clear tonight. We sing it loud and clear tonight. Then rest.",
    "greek letters in mathematics": "The angle α and the angle β add to π, so γ is what is left of it.",
    "foreign name": "The city of Москва is called Moscow in English.",
    "typographic quotes": "“Don’t,” she said — ‘why?’ — and left…",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_texts_are_found_by_their_rule(name: str) -> None:
    rule, text = BROKEN[name]
    finding = find_incoherence("How do I do this?", text)
    assert finding.event
    assert finding.evidence.startswith(f"{rule}: ")


@pytest.mark.parametrize("name", SOUND)
def test_sound_texts_are_coherent(name: str) -> None:
    assert find_incoherence("How do I do this?", SOUND[name]).evidence == "no rule holds"


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("Translate 'good day' into Russian.", "Добрый день всем"),
        ("Как открыть дверь?", "Поверните ручку двери вниз."),
        ("Как открыть дверь?", "Turn the handle down and push."),
        ("ドアを開けるには?", "取っ手を回して押してください。"),
    ],
)
def test_a_script_that_the_prompt_allows_is_right(prompt: str, text: str) -> None:
    assert not find_incoherence(prompt, text).event


def test_a_loop_without_spaces_is_found() -> None:
    finding = find_incoherence("请回答。", "我不知道你在说什么。" * 4)
    assert finding.evidence.startswith("loop: ")


def test_evidence_gives_the_numbers() -> None:
    assert find_incoherence("", "I like the red house. " * 4).evidence == (
        "loop: 'i like the red house' 4.0 times, 20 of 20 words"
    )


@pytest.mark.parametrize("name", ["chat", "arithmetic"])
def test_our_own_answers_are_coherent(name: str) -> None:
    talks = load_conversations(f"packaged:{name}").conversations
    assert len(talks) >= 150
    assert [t[-1].content for t in talks if find_incoherence(t[-2].content, t[-1].content).event] == []


@pytest.mark.real_data
@pytest.mark.skipif(not DATA.exists(), reason="needs ../shared/data")
def test_what_people_wrote_is_coherent() -> None:
    """Nothing is flagged in 500 answers of GSM8K and all outputs of Self-Instruct's seeds (code, tables)."""
    texts: list[tuple[str, str]] = []
    for line in (DATA / "gsm8k/train.jsonl").read_text(encoding="utf-8").split("\n")[:500]:
        row = json.loads(line)
        texts.append((row["question"], row["answer"]))
    for line in (
        (DATA / "self_instruct_seed/seed_tasks.jsonl").read_text(encoding="utf-8").strip().split("\n")
    ):
        row = json.loads(line)
        texts += [
            (row["instruction"] + i["input"], i["output"]) for i in row["instances"] if i["output"].strip()
        ]
    found = [text for prompt, text in texts if find_incoherence(prompt, text).event]
    assert found == []
    assert len(texts) > 600
