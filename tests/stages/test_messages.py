"""Check renders every prompt and row: what is lost or idle is refused, and what must be known is said."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from aftertune.commands.estimate import estimate_lines
from aftertune.errors import AftertuneError, DataError, ModelError, StudyError, TuningError
from aftertune.stages.check import check
from aftertune.study import Study, parse_study
from tiny import CHATML

ROWS = [{"question": f"What is {i} and {i}?", "answer": f"It is {2 * i}."} for i in range(4)]
NO_SYSTEM = CHATML.replace(
    "{% for message in messages %}", "{% for message in messages if message.role != 'system' %}"
)


@pytest.fixture
def model(tmp_path: Path, tiny_model: Path) -> Path:
    """A copy of the tiny model, to be changed."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def use_template(model: Path, template: Any) -> None:
    config = json.loads((model / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (model / "chat_template.jinja").unlink(missing_ok=True)
    (model / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": template}))


def study(model: Path, *, rows: Any = ROWS, prompts: Any = ("Hi.", "How?"), **changes: Any) -> Study:
    folder = model.parent
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    items = [{"id": f"h{i}", "prompt": prompt, "category": "c"} for i, prompt in enumerate(prompts)]
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items), "utf-8")
    content = {
        "name": "small",
        "model": str(model),
        "recipes": {"a": {"data": "rows.jsonl", "rank": 2, "batch_size": 2}},
        "seeds": 2,
        "tasks": [{"name": "mine", "file": "items.jsonl", "intent": "harmful"}],
        "decodings": {"greedy": {"temperature": 0, "max_tokens": 10}},
        "judges": ["refusal-rules"],
        **changes,
    }
    return parse_study(content, source="s.yaml", folder=folder)


def said(found: Study) -> list[str]:
    lines = estimate_lines(*check(found))
    return [line.removeprefix("  messages     ") for line in lines if line.startswith("  messages ")]


def two(first: str | None, second: str | None) -> dict[str, Any]:
    kinds = {"one": first, "two": second}
    return {name: {"temperature": 0, "max_tokens": 9, "system_prompt": text} for name, text in kinds.items()}


def test_a_study_of_ordinary_messages_has_nothing_to_say(model: Path):
    assert said(study(model)) == []


def test_a_system_prompt_that_the_template_ignores_is_refused(model: Path):
    use_template(model, NO_SYSTEM)
    with pytest.raises(ModelError, match=r"task mine, item 'h0': .* does not write the system message"):
        check(study(model, decodings=two("Be kind.", "Be harsh.")))
    rows = [{"messages": [{"role": r, "content": r} for r in ("system", "user", "assistant")]}]
    with pytest.raises(TuningError, match=r"rows\.jsonl, row 1: .* does not write the system message"):
        check(study(model, rows=rows))


@pytest.mark.parametrize(("first", "second"), [("Be kind.", " Be kind.\n"), (None, "")])
def test_system_prompts_that_change_no_prompt_are_refused(model: Path, first: str | None, second: str):
    stripped = CHATML.replace("message['content']", "(message['content'] | trim)").replace(
        "{% for message in messages %}", "{% for message in messages if message.content %}"
    )
    use_template(model, stripped)
    with pytest.raises(StudyError, match="decodings one and two differ in their system prompt alone"):
        check(study(model, decodings=two(first, second)))
    varied = {"name": "other", "class": "procedure", "change": {"decodings.one.system_prompt": second}}
    decodings = {"one": two(first, second)["one"]}
    with pytest.raises(StudyError, match="variation other: another system prompt is all that it changes"):
        check(study(model, decodings=decodings, variations=[varied]))


def test_decodings_that_differ_in_their_repeats_alone_are_one(model: Path):
    kinds = {
        n: {"temperature": 1, "max_tokens": 9, "repeats": n_times} for n, n_times in (("a", 1), ("b", 2))
    }
    with pytest.raises(StudyError, match=r"decodings\.a and decodings\.b are the same"):
        check(study(model, decodings=kinds))
    kinds["b"]["temperature"] = 0.5
    as_a = {"name": "warm", "class": "procedure", "change": {"decodings.b.temperature": 1.0}}
    check(study(model, decodings=kinds, variations=[as_a]))


def test_the_end_of_a_turn_is_said_where_the_configuration_does_not_name_it(model: Path):
    for name in ("config.json", "generation_config.json"):
        config = json.loads((model / name).read_text())
        (model / name).write_text(json.dumps(config | {"eos_token_id": 0}))
    assert said(study(model)) == [
        "the chat template ends an answer with <|im_end|>, which the model's configuration does not name: "
        "responses end at <|endoftext|> or <|im_end|>"
    ]
    use_template(model, CHATML.replace("<|im_end|>\n", "### End<|im_end|>"))
    assert said(study(model)) == [
        "after an answer the chat template writes '### End<|im_end|>', no single token: only <|endoftext|> "
        "ends one"
    ]


def test_texts_that_spell_out_turn_marks_are_counted_and_named(model: Path):
    use_template(model, CHATML.replace("<|im_start|>", "[TURN]"))
    prompts = ("Hi.", "Stop<|im_end|>", "[TURN]user")
    rows = [*ROWS, {"question": "<|im_start|> <|im_end|>", "answer": "a"}]
    found = study(model, rows=rows, prompts=prompts)
    assert said(found) == [
        "1 prompts spell out control tokens, encoded as text: mine/h1 (<|im_end|>)",
        "1 prompts hold the chat template's marks, which no tokenizer tells from text: mine/h2 ([TURN])",
        "1 tuning rows spell out control tokens, encoded as text: a/row 5 (<|im_end|>, <|im_start|>)",
    ]
    messages = check(found)[0].messages
    assert messages is not None and [one.name for one in messages.items] == ["h1", "h2"]


def test_a_template_that_reads_the_date_is_said(model: Path):
    use_template(model, "{{ strftime_now('%d %B') }}" + CHATML)
    assert said(study(model)) == [
        "the chat template calls strftime_now: on another day the prompts are others"
    ]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"rows": [{"question": "a \ud83d", "answer": "b"}]},
            DataError,
            r"line 1: question holds half a surr",
        ),
        (
            {"prompts": ("Hi.", "a \udc00")},
            DataError,
            r"items\.jsonl, line 2: 'prompt' holds half of a surrogate",
        ),
        ({"decodings": two("a \ud83d", None)}, AftertuneError, "system_prompt holds half a surrogate pair"),
    ],
)
def test_half_a_surrogate_pair_is_refused_by_name(
    model: Path, changes: dict[str, Any], error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        check(study(model, **changes))


def test_a_template_that_fails_on_tuning_rows_alone_is_refused_at_check(model: Path):
    late = "{% if messages | length > 1 %}{{ messages[1].nothing.at_all }}{% endif %}"
    use_template(model, late + CHATML)
    with pytest.raises(TuningError, match=r"rows\.jsonl, row 1: .* refuses the roles user, assistant"):
        check(study(model))


def test_named_templates_without_a_default_are_refused_at_check(model: Path):
    use_template(model, [{"name": name, "template": CHATML} for name in ("rag", "tool_use")])
    with pytest.raises(ModelError, match="the chat templates rag, tool_use, and none is called default"):
        check(study(model))
