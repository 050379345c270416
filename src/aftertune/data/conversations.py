"""Conversations to tune on, from packaged data or from a user's JSON, checked row by row.

A row has one of these shapes. Other columns (an id, a category) are left aside, but not one that belongs to
another shape or looks like a misspelled `input`: nothing that was meant to be learned is dropped in silence.

| columns | conversation |
|---|---|
| `messages`: [{role, content}, …] | as it is; an optional system message, then user and assistant in turn |
| `instruction`, `input` (optional), `output` | user: instruction, blank line, input; assistant: output |
| `instruction`, `instances`: [{input, output}, …] | the same, first instance only (Self-Instruct's seeds) |
| `question`, `answer` | user: question; assistant: answer |

A `.jsonl` file has one row a line; a `.json` file is one list of rows. A row may also be the bare list of
messages. Texts are kept as they are, spaces included.
"""

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, cast

from aftertune.data.arithmetic import arithmetic
from aftertune.errors import DataError, nearest

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")
PACKAGED = ("arithmetic", "chat")
ARITHMETIC_ROWS, ARITHMETIC_SEED = 500, 2025
OUR_LICENCE = "Apache-2.0"
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


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; `content` is never blank, but for a system message."""

    role: Role
    content: str


Conversation = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class TuningData:
    """Conversations, each ending with an assistant message.

    `sha256` is the hash of the file's bytes. `licence` is None for a user's own file. Where the base answers
    in place of the data (tuning.self_answers), the rows that no seed draws are left without an answer.
    """

    source: str
    licence: str | None
    sha256: str
    conversations: tuple[Conversation, ...]


def load_conversations(source: str) -> TuningData:
    """Read `packaged:chat`, `packaged:arithmetic`, or a local `.jsonl` or `.json` file.

    Raises:
        DataError: naming file, row, key and value, for anything that is not a conversation with an answer.
    """
    content, licence = _content(source)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{source} is not UTF-8 text: {error.reason} at byte {error.start}", "save it as UTF-8"
        ) from error
    rows = _json_rows(text, source) if source.endswith(".json") else _jsonl_rows(text, source)
    conversations = tuple(_conversation(row, where) for where, row in rows)
    if not conversations:
        raise DataError(f"{source} has no rows", REMEDY)
    return TuningData(source, licence, hashlib.sha256(content).hexdigest(), conversations)


def _content(source: str) -> tuple[bytes, str | None]:
    """The bytes of the data and their licence, if it is known."""
    if source.startswith("packaged:"):
        return _packaged(source.removeprefix("packaged:")), OUR_LICENCE
    try:
        return Path(source).read_bytes(), None
    except OSError as error:
        raise DataError(
            f"cannot read the tuning data {source}: {error.strerror}",
            f"give the path of a JSONL file, or packaged: and one of {', '.join(PACKAGED)}",
        ) from error


def _packaged(name: str) -> bytes:
    if name == "chat":
        return (resources.files("aftertune.data") / "packaged" / "chat.jsonl").read_bytes()
    if name == "arithmetic":
        rows = arithmetic(n=ARITHMETIC_ROWS, seed=ARITHMETIC_SEED)
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    raise DataError(f"there is no packaged tuning data {name!r}", nearest(name, PACKAGED))


def _jsonl_rows(text: str, source: str) -> Iterator[tuple[str, Any]]:
    # Not splitlines(): it also cuts at U+2028 and the like, which may stand inside a JSON string.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"{source}, line {number}"
            yield where, _parse(line, where)


def _json_rows(text: str, source: str) -> Iterator[tuple[str, Any]]:
    rows = _parse(text, source)
    if not isinstance(rows, list):
        raise DataError(
            f"{source}: expected one list of rows, got {_shown(rows)}",
            "write a list, or one row a line in a .jsonl file",
        )
    for number, row in enumerate(cast(list[Any], rows), start=1):
        yield f"{source}, row {number}", row


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}" if "\n" in text else f"column {error.colno}"
        raise DataError(
            f"{where}: not JSON ({error.msg}, {place}), got {text[:60]!r}",
            "a .jsonl file has one JSON object a line, a .json file one list",
        ) from error


def _conversation(row: Any, where: str) -> Conversation:
    """The conversation of one row; `where` names file and row for errors."""
    if isinstance(row, list):
        return _from_messages(cast(list[Any], row), where)
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected an object with columns, got {_shown(row)}", REMEDY)
    columns = cast(dict[str, Any], row)
    match _shape(columns, where):
        case ("messages",):
            messages = columns["messages"]
            if not isinstance(messages, list):
                raise DataError(f"{where}: messages is {_shown(messages)}, not a list", REMEDY)
            return _from_messages(cast(list[Any], messages), where)
        case ("instruction", "output"):
            return _from_instruction(columns, columns, where)
        case ("instruction", "instances"):
            return _from_instruction(columns, _first_instance(columns["instances"], where), where)
        case _:
            question, answer = _text(columns, "question", where), _text(columns, "answer", where)
            return (Message("user", question), Message("assistant", answer))


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
            f"{where}: instances is {_shown(instances)}, not a list of objects with input and output", REMEDY
        )
    return cast(dict[str, Any], instances[0])


def _from_instruction(row: Mapping[str, Any], answer: Mapping[str, Any], where: str) -> Conversation:
    """Instruction and input folded into one user message; the input may be absent, null or empty."""
    instruction, context = _text(row, "instruction", where), answer.get("input")
    if context is not None and not isinstance(context, str):
        raise DataError(f"{where}: input is {_shown(context)}, not a string", REMEDY)
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
        raise DataError(f"{where}: expected role and content, got {_shown(message)}", REMEDY)
    fields = cast(dict[str, Any], message)
    for key in fields:
        if key not in ("role", "content"):
            raise DataError(
                f"{where}: unknown key {key!r}", "a message has role and content, and nothing else"
            )
    role = fields.get("role")
    if role not in ROLES:
        raise DataError(f"{where}: role is {_shown(role)}", f"write one of {', '.join(ROLES)}")
    if role == "system" and fields.get("content") == "":  # a template's own way to have no system prompt
        return Message(role, "")
    return Message(role, _text(fields, "content", where))


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    """A non-blank string of the row."""
    if key not in row:
        raise DataError(f"{where}: there is no {key}", REMEDY)
    value = row[key]
    if not isinstance(value, str):
        raise DataError(f"{where}: {key} is {_shown(value)}, not a string", REMEDY)
    if not value.strip():
        raise DataError(f"{where}: {key} is empty, got {value!r}", "give it a text, or leave the row out")
    return value


def _shown(value: Any) -> str:
    """A value as it stands in the JSON, cut to a readable length."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "…"


def _close(name: str, known: Sequence[str]) -> list[str]:
    return difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.8)
