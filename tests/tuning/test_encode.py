import pytest

from aftertune.data import Message, TuningData
from aftertune.errors import DataError, TuningError
from aftertune.tuning.encode import IGNORED, encode, encode_all
from tiny import CHATML, make_tiny_tokenizer

SYSTEM = Message("system", "Answer in one sentence.")
TURN = (
    Message("user", "What is the capital of France?"),
    Message("assistant", "The capital of France is Paris."),
)
OTHER = (Message("user", "And 12 + 7?"), Message("assistant", "19."))
# Rewrites earlier answers once they are not the last message, as templates of reasoning models do.
FORGETFUL = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' and loop.last %}"
    "<think></think>{% endif %}{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def learned(example, tokenizer) -> str:
    return tokenizer.decode([label for label in example.labels if label != IGNORED])


def test_the_loss_is_on_the_answer_and_its_end_token():
    tokenizer = make_tiny_tokenizer()
    example = encode((SYSTEM, *TURN), tokenizer, max_length=512)
    assert learned(example, tokenizer) == "The capital of France is Paris.<|im_end|>"
    assert tokenizer.decode(example.input_ids) == (
        "<|im_start|>system\nAnswer in one sentence.<|im_end|>\n<|im_start|>user\nWhat is the capital of "
        "France?<|im_end|>\n<|im_start|>assistant\nThe capital of France is Paris.<|im_end|>\n"
    )
    pairs = zip(example.input_ids, example.labels, strict=True)
    assert all(label in (token, IGNORED) for token, label in pairs)


def test_every_assistant_turn_is_learned():
    tokenizer = make_tiny_tokenizer()
    example = encode((*TURN, *OTHER), tokenizer, max_length=512)
    assert learned(example, tokenizer) == "The capital of France is Paris.<|im_end|>19.<|im_end|>"


def test_what_comes_before_the_answer_is_tokenized_as_the_prompt_of_a_generation():
    tokenizer = make_tiny_tokenizer()
    example = encode(TURN, tokenizer, max_length=512)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": TURN[0].content}], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    assert list(example.input_ids[: len(ids)]) == ids
    assert example.labels[: len(ids)] == (IGNORED,) * len(ids)
    assert example.labels[len(ids)] != IGNORED


def test_a_tokenizer_that_adds_a_bos_does_not_double_it():
    plain, adding = make_tiny_tokenizer(), make_tiny_tokenizer(adds_bos=True)
    assert adding("x")["input_ids"][0] == adding.bos_token_id
    example = encode(TURN, adding, max_length=512)
    assert example == encode(TURN, plain, max_length=512)
    assert example.input_ids[:2].count(adding.bos_token_id) == 1


@pytest.mark.parametrize(
    "answer", ["Übung 東京 🎉", "\n\nindented", "  spaces around  ", "<|im_end|> in the text", "x"]
)
def test_unusual_answers_are_learned_whole(answer):
    tokenizer = make_tiny_tokenizer()
    example = encode((TURN[0], Message("assistant", answer)), tokenizer, max_length=512)
    assert learned(example, tokenizer).endswith(answer + "<|im_end|>")
    assert learned(example, tokenizer).strip("\n") == answer.strip("\n") + "<|im_end|>"


def test_a_long_row_is_named_with_its_length():
    tokenizer = make_tiny_tokenizer()
    n = len(encode(TURN, tokenizer, max_length=512).input_ids)
    data = TuningData("my.jsonl", None, "0" * 64, (OTHER, TURN))
    assert len(encode_all(data, tokenizer, max_length=n)) == 2
    with pytest.raises(DataError, match=rf"my\.jsonl, row 2: {n} tokens, more than max_length {n - 1}"):
        encode_all(data, tokenizer, max_length=n - 1)


@pytest.mark.parametrize(
    ("template", "conversation", "message"),
    [
        (FORGETFUL, (*TURN, *OTHER), "rewrites earlier turns when message 4 of 4"),
        (
            CHATML.replace("<|im_end|>", ""),
            TURN,
            "ends no answer with a special token; got 'The capital of France is",
        ),
        (
            CHATML.replace("message['content']", "message['content'].upper()"),
            TURN,
            "drops or changes the text of the user message, got 'What",
        ),
        (
            "{{ raise_exception('System role not supported') }}",
            (SYSTEM, *TURN),
            "refuses the roles system, user",
        ),
    ],
)
def test_a_template_that_hides_the_answers_is_refused(template, conversation, message):
    with pytest.raises(TuningError, match=message) as caught:
        encode(
            conversation, make_tiny_tokenizer(chat_template=template), max_length=512, where="my.jsonl, row 1"
        )
    assert caught.value.what.startswith("my.jsonl, row 1: ")


def test_special_tokens_before_an_answer_do_not_end_it():
    """As GLM's template: it opens each turn, ends none, and writes the marks of a thought."""
    ends_none = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}"
        "<|endoftext|>{% endif %}{{ m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    with pytest.raises(TuningError, match="ends no answer with a special token"):
        encode(TURN, make_tiny_tokenizer(chat_template=ends_none), max_length=512)
    ends = ends_none.replace("{{ m['content'] }}", "{{ m['content'] }} <|im_end|>")
    tokenizer = make_tiny_tokenizer(chat_template=ends)
    answer = Message("assistant", "  Paris.\n ")
    assert learned(encode((TURN[0], answer), tokenizer, max_length=512), tokenizer) == (
        "<|endoftext|>  Paris.\n  <|im_end|>"
    )


def test_a_template_that_rewrites_only_earlier_turns_serves_single_answers():
    tokenizer = make_tiny_tokenizer(chat_template=FORGETFUL)
    assert learned(encode(TURN, tokenizer, max_length=512), tokenizer).endswith("France is Paris.<|im_end|>")
