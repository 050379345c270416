"""Conversations into token ids, with the loss on the answers only."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aftertune.data import Conversation, TuningData
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
    continue the one before.

    Raises:
        DataError: the row is longer than max_length.
        TuningError: the tokenizer or its template cannot say where an answer begins and ends.
    """
    if not tokenizer.is_fast:
        raise TuningError(
            f"{type(tokenizer).__name__} {tokenizer.name_or_path!r} gives no character offsets",
            "use the model's fast tokenizer (a tokenizer.json beside the weights)",
        )
    text, spans = _render(conversation, tokenizer, where)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids: list[int] = encoded["input_ids"]
    if len(ids) > max_length:
        raise DataError(
            f"{where}: {len(ids)} tokens, more than max_length {max_length}",
            "raise max_length, or shorten or drop the row",
        )
    labels = [IGNORED] * len(ids)
    special = _special_ids(tokenizer)
    for begin, end in spans:
        turn = [i for i, (a, b) in enumerate(encoded["offset_mapping"]) if b > begin and a < end]
        stops = [i for i in turn if ids[i] in special]
        if not stops:
            raise TuningError(
                f"{where}: the chat template of {tokenizer.name_or_path!r} ends no answer with a special "
                f"token; got {text[begin:end][-40:]!r}",
                "use a template that writes the end-of-turn token after an assistant message",
            )
        for i in range(turn[0], stops[-1] + 1):
            labels[i] = ids[i]
    return Example(tuple(ids), tuple(labels))


def _render(
    conversation: Conversation, tokenizer: "PreTrainedTokenizerBase", where: str
) -> tuple[str, list[tuple[int, int]]]:
    """The whole text, and begin and end in characters of each assistant turn (header excluded)."""
    messages = [{"role": message.role, "content": message.content} for message in conversation]
    text, spans = "", []
    for i in _answers(conversation):
        prompt = _apply(tokenizer, messages[:i], where, prompt=True)
        answered = _apply(tokenizer, messages[: i + 1], where, prompt=False)
        if not (prompt.startswith(text) and answered.startswith(prompt)):
            raise TuningError(
                f"{where}: the chat template of {tokenizer.name_or_path!r} rewrites earlier turns when "
                f"message {i + 1} of {len(messages)} is added, so the answers cannot be told from the rest",
                "use a template that only appends, or conversations with one answer each",
            )
        if conversation[i].content.strip() not in answered[len(prompt) :]:
            raise TuningError(
                f"{where}: the chat template of {tokenizer.name_or_path!r} drops or changes the answer "
                f"{conversation[i].content[:40]!r}",
                "use a template that writes assistant messages as they are",
            )
        spans.append((len(prompt), len(answered)))
        text = answered
    return text, spans


def _answers(conversation: Conversation) -> Iterator[int]:
    return (i for i, message in enumerate(conversation) if message.role == "assistant")


def _apply(
    tokenizer: "PreTrainedTokenizerBase", messages: list[dict[str, str]], where: str, *, prompt: bool
) -> str:
    from aftertune.engines.loading import render_chat

    try:
        return render_chat(tokenizer, messages, add_generation_prompt=prompt)
    except ModelError as error:
        raise TuningError(f"{where}: {error.what}", error.remedy) from error


def _special_ids(tokenizer: "PreTrainedTokenizerBase") -> frozenset[int]:
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return frozenset(added | set(tokenizer.all_special_ids))
