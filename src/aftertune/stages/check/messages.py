"""The study's prompts and tuning rows as the model will read them, and what must be said of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aftertune.data import TuningData
from aftertune.engines.chat import chat_template
from aftertune.errors import DataError, ModelError, StudyError
from aftertune.records import Task
from aftertune.store import content_key
from aftertune.study import Study

if TYPE_CHECKING:
    from aftertune.engines.transformers import TransformersEngine


@dataclass(frozen=True, slots=True)
class Marked:
    """An item of a task, a decoding's system prompt or a row of a recipe's data that spells out turn marks.

    `control_tokens` are encoded as text. `plain_marks` are ordinary text in the chat template too, so that
    the model cannot tell them from the template's.
    """

    of: str
    name: str
    control_tokens: tuple[str, ...]
    plain_marks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Messages:
    """What a chat template does to the study's messages.

    `end_tokens` end a response; `after_answer` is what the template writes after an answer, and `turn_end`
    the token that ends the turn there, None where it is no single one; `added_end` says that the model's own
    configuration does not name it.
    `reads` is a function by which it writes something else on another day, `parts` the roles whose messages
    it wants as lists of parts.
    """

    end_tokens: tuple[str, ...]
    added_end: bool
    after_answer: str
    turn_end: str | None
    reads: str
    parts: tuple[str, ...]
    items: tuple[Marked, ...]
    rows: tuple[Marked, ...]


@dataclass(frozen=True, slots=True)
class Prompts:
    """Tokens of the longest prompt, and of a task's under a system prompt; the hash of all under one."""

    longest: int
    n_tokens: dict[tuple[str, str | None], int]
    sha256: dict[str | None, str]


def check_prompts(
    study: Study, tasks: tuple[Task, ...], engine: "TransformersEngine", context: int
) -> Prompts:
    """Render every prompt of the study.

    Raises:
        DataError: a prompt does not fit the context with its response.
        ModelError: the chat template refuses or loses a message; names the item.
        StudyError: two decodings differ in a system prompt that changes no prompt.
    """
    longest, n_tokens, sha256 = 0, dict[tuple[str, str | None], int](), dict[str | None, str]()
    for system_prompt in {decoding.system_prompt for decoding in study.decodings.values()}:
        max_tokens = max(d.max_tokens for d in study.decodings.values() if d.system_prompt == system_prompt)
        hashes: list[str] = []
        for task in tasks:
            n_tokens[task.name, system_prompt] = 0
            for item in task.items:
                try:
                    prompt = engine.render(item.prompt, system_prompt)
                except ModelError as error:
                    raise ModelError(
                        f"task {task.name}, item {item.id!r}: {error.what}", error.remedy
                    ) from error
                n = len(prompt.token_ids)
                if n + max_tokens > context:
                    raise DataError(
                        f"task {task.name}, item {item.id!r}: {n} prompt tokens and max_tokens "
                        f"{max_tokens} do not fit the model's context of {context}",
                        "lower max_tokens, or leave the item out",
                    )
                longest = max(longest, n)
                n_tokens[task.name, system_prompt] += n
                hashes.append(prompt.sha256)
        sha256[system_prompt] = content_key(hashes)
    prompts = Prompts(longest, n_tokens, sha256)
    seen: dict[str, str] = {}
    for name, decoding in study.decodings.items():
        asked = {**decoding.content(), "system_prompt": sha256[decoding.system_prompt]}
        twin = seen.setdefault(content_key(asked), name)
        if study.decodings[twin].system_prompt != decoding.system_prompt:
            raise StudyError(
                f"decodings {twin} and {name} differ in their system prompt alone, and it changes no prompt: "
                f"{study.decodings[twin].system_prompt!r} and {decoding.system_prompt!r}",
                "leave one of them out, or write another system prompt",
            )
    return prompts


def refuse_same_prompts(study: Study, prompts: Prompts, variant: Study, other: Prompts) -> None:
    """Refuse a variation of system prompts that changes no prompt.

    Raises:
        StudyError: it is one.
    """
    if _asked(study, prompts) == _asked(variant, other):
        raise StudyError(
            "another system prompt is all that it changes, and no prompt is another by it",
            "write another system prompt, or leave the variation out",
        )


def _asked(study: Study, prompts: Prompts) -> dict[str, Any]:
    """A study's content with the prompts that come of each decoding in place of its system prompt."""
    content = study.model_dump(mode="json", by_alias=True, exclude={"variations"})
    for name, decoding in study.decodings.items():
        content["decodings"][name]["system_prompt"] = prompts.sha256[decoding.system_prompt]
    return content


def scan_messages(
    study: Study, tasks: tuple[Task, ...], data: dict[str, TuningData], engine: "TransformersEngine"
) -> Messages:
    """What the chat template does to the study's items, system prompts and rows."""
    tokenizer = engine.tokenizer
    template = chat_template(tokenizer)
    items = [(task.name, item.id, [("user", item.prompt)]) for task in tasks for item in task.items]
    items += [
        (f"decoding {name}", "system prompt", [("system", decoding.system_prompt or "")])
        for name, decoding in study.decodings.items()
    ]
    rows = [
        (name, f"row {row}", [(message.role, message.content) for message in conversation])
        for name, found in data.items()
        for row, conversation in enumerate(found.conversations, start=1)
    ]
    names: Any = tokenizer.convert_ids_to_tokens(sorted(engine.end_tokens))
    own = template.turn_end
    return Messages(
        tuple(map(str, names)),
        own is not None and own not in engine.configured_end_tokens,
        template.after_answer,
        None if own is None else str(tokenizer.convert_ids_to_tokens(own)),
        template.reads_elsewhere,
        template.parts,
        tuple(_marked(engine, items)),
        tuple(_marked(engine, rows)),
    )


def _marked(
    engine: "TransformersEngine", texts: Iterable[tuple[str, str, list[tuple[str, str]]]]
) -> Iterable[Marked]:
    template = chat_template(engine.tokenizer)
    for of, name, messages in texts:
        held = {token for role, content in messages for token in template.control.spelled_out(content, role)}
        plain = {mark for _, content in messages for mark in template.plain_marks.findall(content)}
        if held or plain:
            yield Marked(of, name, tuple(sorted(held)), tuple(sorted(plain)))
