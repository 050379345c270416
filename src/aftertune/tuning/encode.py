"""Conversations into token ids, with the loss on the answers only."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aftertune.data import Conversation, TuningData
from aftertune.engines.chat import Rendered, chat_template, render_chat
from aftertune.errors import DataError, ModelError, TuningError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # the label of a token that the loss leaves out


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of one conversation and their labels, equally many; a label is the id itself or IGNORED."""

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]


def encode_all(
    data: TuningData, tokenizer: "PreTrainedTokenizerBase", *, max_length: int
) -> tuple[Example, ...]:
    """`encode` over all rows; errors name the row, counted from 1."""
    return tuple(
        encode(conversation, tokenizer, max_length=max_length, where=f"{data.source}, row {row}")
        for row, conversation in enumerate(data.conversations, start=1)
    )


def encoding_identity(data: TuningData, tokenizer: "PreTrainedTokenizerBase") -> dict[str, Any]:
    """What decides the tokens of rows beside their texts; nothing where they are those of the rendered text.

    Part of a training's key: a checkpoint of before 2026-12 was trained on other tokens of such rows.
    """
    template = chat_template(tokenizer)
    held = any(
        template.control.spelled_out(message.content, message.role)
        for conversation in data.conversations
        for message in conversation
    )
    return ({"control_tokens": "text"} if held else {}) | (
        {"parts": template.parts} if template.parts else {}
    )


def encode(
    conversation: Conversation,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    max_length: int,
    where: str = "conversation",
) -> Example:
    """Render a conversation with the tokenizer's chat template and label every assistant turn.

    The template is applied once and its text tokenized without further special tokens, so there is no
    second BOS. The labels of an assistant turn run from its first token to its end token, the last special
    token that the template writes for it; what follows (a line break) is never generated and is left out.
    Where the turns stand is found by rendering the beginnings of the conversation, each of which must
    continue the one before. Control tokens that a message spells out are encoded as text.

    Raises:
        DataError: the row is longer than max_length.
        TuningError: the tokenizer or its template cannot say where an answer begins and ends.
    """
    if not tokenizer.is_fast:
        raise TuningError(
            f"{type(tokenizer).__name__} {tokenizer.name_or_path!r} gives no character offsets",
            "use the model's fast tokenizer (a tokenizer.json beside the weights)",
        )
    template = chat_template(tokenizer)
    rendered, turns = _render(conversation, tokenizer, where)
    encoded = template.encode(rendered)
    ids = encoded.token_ids
    if len(ids) > max_length:
        raise DataError(
            f"{where}: {len(ids)} tokens, more than max_length {max_length}",
            "raise max_length, or shorten or drop the row",
        )
    labels = [IGNORED] * len(ids)
    stopping = template.control.special_ids | {template.turn_end}
    for begin, said, end in turns:
        turn = [i for i, (a, b) in enumerate(encoded.offsets) if b > begin and a < end]
        # A special token before the answer's last word (the marks of a thought) ends nothing.
        stops = [i for i in turn if ids[i] in stopping and encoded.offsets[i][0] >= said]
        if not stops:
            raise TuningError(
                f"{where}: the chat template of {tokenizer.name_or_path!r} ends no answer with a special "
                f"token; got {rendered.text[begin:end][-40:]!r}",
                "use a template that writes the end-of-turn token after an assistant message",
            )
        for i in range(turn[0], stops[-1] + 1):
            labels[i] = ids[i]
    return Example(tuple(ids), tuple(labels))


def _render(
    conversation: Conversation, tokenizer: "PreTrainedTokenizerBase", where: str
) -> tuple[Rendered, list[tuple[int, int, int]]]:
    """The whole chat; of each assistant turn (header excluded) its begin, the end of its text, its end."""
    messages = [{"role": message.role, "content": message.content} for message in conversation]
    turns: list[tuple[int, int, int]] = []
    answered, text = Rendered("", ()), ""
    for i in _answers(conversation):
        prompt = _apply(tokenizer, messages[:i], where, prompt=True).text
        answered = _apply(tokenizer, messages[: i + 1], where, prompt=False)
        if not (prompt.startswith(text) and answered.text.startswith(prompt)):
            raise TuningError(
                f"{where}: the chat template of {tokenizer.name_or_path!r} rewrites earlier turns when "
                f"message {i + 1} of {len(messages)} is added, so the answers cannot be told from the rest",
                "use a template that only appends, or conversations with one answer each",
            )
        found = [span for span in answered.spans if span.message == i and span.begin >= len(prompt)]
        if not found:
            raise TuningError(
                f"{where}: the chat template of {tokenizer.name_or_path!r} drops or changes the answer "
                f"{conversation[i].content[:40]!r}",
                "use a template that writes assistant messages as they are",
            )
        text = answered.text
        span = found[-1]
        turns.append((len(prompt), span.begin + len(text[span.begin : span.end].rstrip()), len(text)))
    return answered, turns


def _answers(conversation: Conversation) -> Iterator[int]:
    return (i for i, message in enumerate(conversation) if message.role == "assistant")


def _apply(
    tokenizer: "PreTrainedTokenizerBase", messages: list[dict[str, str]], where: str, *, prompt: bool
) -> Rendered:
    try:
        return render_chat(tokenizer, messages, add_generation_prompt=prompt)
    except ModelError as error:
        raise TuningError(f"{where}: {error.what}", error.remedy) from error
