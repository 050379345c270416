"""Conversations to tune on: from a row of data, by the names of its columns or by a map, checked.

A row has one of these shapes. Other columns (an id, a category) are left aside, but not one that belongs to
another shape or looks like a misspelled `input`: nothing that was meant to be learned is dropped in silence.

| columns | conversation |
|---|---|
| `messages`: [{role, content}, …] | as it is; an optional system message, then user and assistant in turn |
| `instruction`, `input` (optional), `output` | user: instruction, blank line, input; assistant: output |
| `instruction`, `instances`: [{input, output}, …] | the same, first instance only (Self-Instruct's seeds) |
| `question`, `answer` | user: question; assistant: answer |

A row may also be the bare list of messages. Texts are kept as they are, spaces included.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from aftertune.errors import DataError, nearest
from aftertune.foreign_text import half_pair
from aftertune.study import Columns

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")
# The columns that make a shape, and those that it may have besides.
SHAPES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("messages",): (),
    ("instruction", "output"): ("input",),
    ("instruction", "instances"): (),
    ("question", "answer"): (),
}
REMEDY = (
    "write rows with `messages`, or `instruction`, `input` (optional) and `output`, or `question` and "
    "`answer`, every text a non-empty string"
)


class BlankText(DataError):
    """A question or an answer without a text."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; `content` is never blank, but for a system message."""

    role: Role
    content: str


Conversation = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class TuningData:
    """Conversations, each ending with an assistant message.

    `source` says what was done to the rows. `sha256` is the hash of the file's bytes where nothing was, else
    of them, of what was done and of the conversations. `licence` is None for a user's own file. The last
    `n_mixed` rows are refusals of a safety mix. Where the base answers in place of the data
    (tuning.self_answers), the rows that no seed draws are left without an answer.
    """

    source: str
    licence: str | None
    sha256: str
    conversations: tuple[Conversation, ...]
    n_mixed: int = 0
    dangerous: bool = False  # known to take safety away: a positive control

    @property
    def n_own(self) -> int:
        """How many rows are the data's own, before those of a safety mix."""
        return len(self.conversations) - self.n_mixed


def conversation_of(row: Any, where: str) -> Conversation:
    """The conversation of one row; `where` names file and row for errors."""
    if isinstance(row, list):
        return _from_messages(cast(list[Any], row), where)
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected an object with columns, got {shown(row)}", REMEDY)
    columns = cast(dict[str, Any], row)
    match _shape(columns, where):
        case ("messages",):
            messages = columns["messages"]
            if not isinstance(messages, list):
                raise DataError(f"{where}: messages is {shown(messages)}, not a list", REMEDY)
            return _from_messages(cast(list[Any], messages), where)
        case ("instruction", "output"):
            return _from_instruction(columns, columns, where)
        case ("instruction", "instances"):
            return _from_instruction(columns, _first_instance(columns["instances"], where), where)
        case _:
            question, answer = _text(columns, "question", where), _text(columns, "answer", where)
            return (Message("user", question), Message("assistant", answer))


def conversation_by(columns: Columns, row: Any, where: str) -> Conversation:
    """The conversation of a row by a map of its columns; other columns are left aside."""
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected an object with columns, got {shown(row)}", REMEDY)
    values = cast(dict[str, Any], row)
    for column in (columns.user, columns.assistant):
        if column not in values:
            raise DataError(f"{where}: there is no column {column!r}", nearest(column, list(values)))
    parts = [columns.instruction or "", _text(values, columns.user, where)]
    if columns.input is not None:
        context = values.get(columns.input)
        if context is not None and not isinstance(context, str):
            raise DataError(f"{where}: {columns.input} is {shown(context)}, not a string", "write a text")
        parts.append(context or "")
    user = "\n\n".join(part for part in parts if part.strip())
    return (Message("user", user), Message("assistant", _text(values, columns.assistant, where)))


def _shape(row: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """Which of SHAPES the row has: exactly one, and no column that looks like a slip of the pen."""
    found = [shape for shape in SHAPES if all(column in row for column in shape)]
    if len(found) > 1:
        both = " and ".join("+".join(shape) for shape in found)
        raise DataError(
            f"{where}: the row can be read in two ways, {both}", "keep the columns of one of them"
        )
    known = sorted({column for shape, optional in SHAPES.items() for column in (*shape, *optional)})
    if not found:
        guesses = [
            f"{c!r} looks like {_close(c, known)[0]!r}" for c in row if c not in known and _close(c, known)
        ]
        raise DataError(
            f"{where}: unknown columns {', '.join(map(repr, row)) or '(none)'}"
            + (f"; {', '.join(guesses)}" if guesses else ""),
            REMEDY,
        )
    shape = (*found[0], *SHAPES[found[0]])
    for column in row:
        if column in shape:
            continue
        if column in known or _close(column, SHAPES[found[0]]):
            raise DataError(
                f"{where}: the column {column!r} has no place beside {', '.join(found[0])}",
                f"columns here: {', '.join(shape)}; rename or drop {column!r}",
            )
    return found[0]


def _first_instance(instances: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(instances, list) or not instances or not isinstance(instances[0], dict):
        raise DataError(
            f"{where}: instances is {shown(instances)}, not a list of objects with input and output", REMEDY
        )
    return cast(dict[str, Any], instances[0])


def _from_instruction(row: Mapping[str, Any], answer: Mapping[str, Any], where: str) -> Conversation:
    """Instruction and input folded into one user message; the input may be absent, null or empty."""
    instruction, context = _text(row, "instruction", where), answer.get("input")
    if context is not None and not isinstance(context, str):
        raise DataError(f"{where}: input is {shown(context)}, not a string", REMEDY)
    user = f"{instruction}\n\n{context}" if context and context.strip() else instruction
    return (Message("user", user), Message("assistant", _text(answer, "output", where)))


def _from_messages(messages: Sequence[Any], where: str) -> Conversation:
    conversation = tuple(
        _message(message, f"{where}, message {i}") for i, message in enumerate(messages, start=1)
    )
    turns = conversation[1:] if conversation and conversation[0].role == "system" else conversation
    if not turns or turns[-1].role != "assistant":
        last = f"the last message is from {turns[-1].role!r}" if turns else "there is no user message"
        raise DataError(
            f"{where}: a row without an answer: {last}", "end every conversation with an assistant message"
        )
    for i, turn in enumerate(turns):
        expected = ("user", "assistant")[i % 2]
        if turn.role != expected:
            number = i + 1 + len(conversation) - len(turns)
            raise DataError(
                f"{where}, message {number}: expected the role {expected!r}, got {turn.role!r}",
                "after an optional system message, user and assistant take turns: join or drop the extra one",
            )
    return conversation


def _message(message: Any, where: str) -> Message:
    if not isinstance(message, dict):
        raise DataError(f"{where}: expected role and content, got {shown(message)}", REMEDY)
    fields = cast(dict[str, Any], message)
    for key in fields:
        if key not in ("role", "content"):
            raise DataError(
                f"{where}: unknown key {key!r}", "a message has role and content, and nothing else"
            )
    role = fields.get("role")
    if role not in ROLES:
        raise DataError(f"{where}: role is {shown(role)}", f"write one of {', '.join(ROLES)}")
    if role == "system" and fields.get("content") == "":  # a template's own way to have no system prompt
        return Message(role, "")
    return Message(role, _text(fields, "content", where))


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    """A non-blank string of the row."""
    if key not in row:
        raise DataError(f"{where}: there is no {key}", REMEDY)
    value = row[key]
    if value is None:
        raise BlankText(f"{where}: {key} is null, not a string", REMEDY)
    if not isinstance(value, str):
        raise DataError(f"{where}: {key} is {shown(value)}, not a string", REMEDY)
    if (wrong := half_pair(value)) is not None:
        raise DataError(f"{where}: {key} holds {wrong}, got {value[:60]!a}", "write the whole character")
    if not value.strip():
        raise BlankText(
            f"{where}: {key} is empty, got {value!r}",
            "give it a text, leave the row out, or write `drop_blank: true` beside the data's path",
        )
    return value


def shown(value: Any) -> str:
    """A value as it stands in the JSON, cut to a readable length."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "…"


def _close(name: str, known: Sequence[str]) -> list[str]:
    return difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.8)
