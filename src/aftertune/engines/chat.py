"""Messages into text and tokens: a chat template is applied once, and what was given is found in the result.

Every message's text is in what is rendered, white space aside: a template that drops one is refused. Where
the texts stand is known, so that control tokens which they spell out are encoded as text (control_tokens.py).
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from aftertune.engines.base import Prompt
from aftertune.engines.control_tokens import ControlTokens, Encoded, Span, any_of
from aftertune.errors import ModelError
from aftertune.foreign_text import half_pair

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What a template can raise beside jinja's own errors: its expressions are Python's.
_FAULTS = (
    TemplateError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
_MARK = "zq{}mark{}qz"  # stands for the text of a message; no template has a reason to change it
_MARKS = re.compile(r"zq(\d+)mark\1qz", re.IGNORECASE)
_LIST = re.compile(r"""["']type["']: *["']text["']""")  # of parts that were written down as a list
# How contents are given: as strings, or to templates that want it as lists of parts, for all roles or for
# all but the system.
_FORMS: tuple[tuple[str, ...], ...] = ((), ("system", "user", "assistant"), ("user", "assistant"))
# Switches of reasoning models, which some templates take out of a message and obey; words of their own, for a
# template that takes `/think` out of `</think>` or out of a path has changed a text.
_IGNORED = r"(?:\s|(?<!\S)/(?:no_)?think(?!\S))"
_THOUGHT = re.compile("think|thought|reason", re.IGNORECASE)
_PLAIN_MARK = re.compile(r"[\[<|]+[^\s\[\]<>]+[\]>|]+|###+|\b[A-Z][A-Za-z]+:")
_OTHER_EACH_TIME = re.compile(r"\b(strftime_now|lipsum)\b|\|\s*(random)\b")

Message = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Rendered:
    """Messages as the template writes them, and where their texts stand in it."""

    text: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class _Skeleton:
    """What a template writes around messages of some roles: `literals` before, between and after `order`.

    `order` are the messages in the order in which they are written; `parts` the roles whose contents are
    given as lists of parts.
    """

    literals: tuple[str, ...]
    order: tuple[int, ...]
    parts: tuple[str, ...]


def render_chat(
    tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message], *, add_generation_prompt: bool
) -> Rendered:
    """Messages as the model's own chat template writes them, each found in what it wrote.

    Raises:
        ModelError: the template refuses the messages (some know no system role), or loses one.
    """
    return chat_template(tokenizer).render(messages, add_generation_prompt=add_generation_prompt)


def render_prompt(tokenizer: "PreTrainedTokenizerBase", prompt: str, system_prompt: str | None) -> Prompt:
    """Apply the chat template once; the tokenizer adds no second BOS.

    Raises:
        ModelError: see `render_chat`.
    """
    messages = [{"role": "user", "content": prompt}]
    if system_prompt is not None:
        messages.insert(0, {"role": "system", "content": system_prompt})
    template = chat_template(tokenizer)
    rendered = template.render(messages, add_generation_prompt=True)
    encoded = template.encode(rendered)
    content = json.dumps([rendered.text, encoded.token_ids]) if encoded.held else rendered.text
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    return Prompt(rendered.text, tuple(encoded.token_ids), sha256, held=encoded.held)


def response_text(tokenizer: "PreTrainedTokenizerBase", tokens: Sequence[int]) -> str:
    """The text of a response's tokens; special tokens are in it, as they are written.

    Left out, a second turn that a model went on to write would pass for the end of its answer. A response of
    special tokens alone has no text.
    """
    plain = str(tokenizer.decode(list(tokens), skip_special_tokens=True))
    return str(tokenizer.decode(list(tokens), skip_special_tokens=False)) if plain.strip() else plain


def chat_template(tokenizer: "PreTrainedTokenizerBase") -> "ChatTemplate":
    """The chat template of a tokenizer; what is found out about it is kept.

    Raises:
        ModelError: the tokenizer has none, or several and none of them is the default.
    """
    return _chat_template(tokenizer, template_text(tokenizer), len(tokenizer))


def template_text(tokenizer: "PreTrainedTokenizerBase") -> str:
    """The text of the template that a conversation without tools is rendered by.

    Raises:
        ModelError: see `chat_template`.
    """
    found: Any = getattr(tokenizer, "chat_template", None)
    if isinstance(found, Mapping) and "default" not in found:
        raise ModelError(
            f"the tokenizer in {tokenizer.name_or_path} has the chat templates "
            f"{', '.join(sorted(map(str, found)))}, and none is called default",
            "name the one for plain conversations `default`, or write it into chat_template.jinja",
        )
    text = found["default"] if isinstance(found, Mapping) else found
    if not isinstance(text, str) or not text:
        raise ModelError(
            f"the tokenizer in {tokenizer.name_or_path} has no chat template",
            "use an instruct model, or add chat_template.jinja",
        )
    return text


@lru_cache(maxsize=8)
def _chat_template(tokenizer: "PreTrainedTokenizerBase", text: str, n_tokens: int) -> "ChatTemplate":
    return ChatTemplate(tokenizer, text)


class ChatTemplate:
    """A tokenizer's chat template: it renders messages, encodes them, and knows what ends a turn."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", text: str):
        """Keep the tokenizer; nothing is rendered yet.

        Args:
            tokenizer: whose template it is.
            text: of the template.
        """
        self.tokenizer = tokenizer
        self.text = text
        self.name = f"the chat template of {tokenizer.name_or_path!r}"
        self._skeletons: dict[tuple[tuple[str, ...], bool], _Skeleton] = {}

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> Rendered:
        """Messages as the template writes them.

        Raises:
            ModelError: the template refuses the messages, or does not write the text of one.
        """
        roles = tuple(message["role"] for message in messages)
        contents = [message["content"] for message in messages]
        for role, content in zip(roles, contents, strict=True):
            refuse_half_pairs(content, f"the {role} message")
        skeleton = self._skeleton(roles, add_generation_prompt)
        for i, content in enumerate(contents):
            if content.strip() and i not in skeleton.order:
                raise self._lost(roles, i)
        text = self._apply(roles, contents, skeleton.parts, add_generation_prompt)
        found = _matched(text, skeleton, contents) or self._searched(text, skeleton, roles, contents)
        return Rendered(text, tuple(Span(begin, end, i, roles[i]) for i, begin, end in found))

    def encode(self, rendered: Rendered) -> Encoded:
        """The tokens of a rendered chat; a control token that a message spells out is encoded as text.

        Raises:
            ModelError: the tokenizer cannot do that.
        """
        return self.control.encode(rendered.text, rendered.spans)

    @cached_property
    def control(self) -> ControlTokens:
        """The control tokens of the tokenizer under this template."""
        around = "".join(self._around_answer.literals) if self._around_answer else ""
        return ControlTokens(self.tokenizer, template=self.text, around_answer=around)

    @cached_property
    def turn_end(self) -> int | None:
        """The token that the template writes right after an answer; None where there is no single one.

        One that also stands between a thought and the answer does not end a turn.
        """
        found = any_of(self.control.ids).match(self.after_answer.lstrip())
        return None if found is None or found[0] in self._after_thought else self.control.ids[found[0]]

    @cached_property
    def after_answer(self) -> str:
        """What the template writes after an answer, the last one or any; "" where it renders none."""
        for roles in (("user", "assistant"), ("user", "assistant", "user")):
            try:
                skeleton = self._skeleton(roles, False)
            except ModelError:
                continue
            after = [text for i, text in zip(skeleton.order, skeleton.literals[1:], strict=True) if i == 1]
            if after and after[-1].strip():
                return after[-1]
        return ""

    @cached_property
    def plain_marks(self) -> re.Pattern[str]:
        """The words of ordinary text by which the template marks turns, such as `[INST]` or `USER:`."""
        around = "".join(self._around_answer.literals) if self._around_answer else ""
        return any_of(set(_PLAIN_MARK.findall(any_of(self.control.ids).sub(" ", around))))

    @property
    def reads_elsewhere(self) -> str:
        """The function by which the template writes something else each time, or a date; "" without one."""
        found = _OTHER_EACH_TIME.search(self.text)
        return next(filter(None, found.groups())) if found else ""

    @property
    def parts(self) -> tuple[str, ...]:
        """The roles whose messages the template wants as lists of parts; mostly none."""
        return self._around_answer.parts if self._around_answer else ()

    @property
    def _after_thought(self) -> str:
        """What the template writes between a thought and its answer; "" where it writes no thought."""
        question, thought, answer = (_MARK.format(i, i) for i in range(3))
        fields = {"content": answer, "reasoning_content": thought, "thinking": thought}
        messages = [{"role": "user", "content": question}, {"role": "assistant", **fields}]
        try:
            text = self._template_text(messages, add_generation_prompt=False)
        except ModelError:
            return ""
        return text.partition(thought)[2].partition(answer)[0]

    @cached_property
    def _around_answer(self) -> _Skeleton | None:
        try:
            return self._skeleton(("user", "assistant"), False)
        except ModelError:
            return None

    # Rendering.

    def _skeleton(self, roles: tuple[str, ...], add_generation_prompt: bool) -> _Skeleton:
        """What the template writes around messages of these roles, in the form that loses none of them.

        Raises:
            ModelError: it refuses them in every form.
        """
        key = roles, add_generation_prompt
        if key not in self._skeletons:
            self._skeletons[key] = self._found_skeleton(roles, add_generation_prompt)
        return self._skeletons[key]

    def _found_skeleton(self, roles: tuple[str, ...], add_generation_prompt: bool) -> _Skeleton:
        marks = [_MARK.format(i, i) for i in range(len(roles))]
        found: list[_Skeleton] = []
        refusals: list[ModelError] = []
        for parts in _FORMS:
            try:
                pieces = _MARKS.split(self._apply(roles, marks, parts, add_generation_prompt))
            except ModelError as error:
                refusals.append(error)
                continue
            skeleton = _Skeleton(tuple(pieces[::2]), tuple(map(int, pieces[1::2])), parts)
            if not (parts and _LIST.search("".join(skeleton.literals))):
                found.append(skeleton)
                if len(set(skeleton.order)) == len(roles):
                    break
        if not found:
            raise refusals[0]
        return max(found, key=lambda skeleton: len(set(skeleton.order)))  # the first of equals

    def _apply(
        self,
        roles: Sequence[str],
        contents: Sequence[str],
        parts: tuple[str, ...],
        add_generation_prompt: bool,
    ) -> str:
        messages: list[dict[str, Any]] = [
            {"role": role, "content": [{"type": "text", "text": content}] if role in parts else content}
            for role, content in zip(roles, contents, strict=True)
        ]
        return self._template_text(messages, add_generation_prompt=add_generation_prompt)

    def _template_text(self, messages: list[dict[str, Any]], *, add_generation_prompt: bool) -> str:
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    messages,
                    chat_template=self.text,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                )
            )
        except _FAULTS as error:
            own = isinstance(error, TemplateError)
            roles = ", ".join(message["role"] for message in messages)
            raise ModelError(
                f"{self.name} refuses the roles {roles}: {'' if own else type(error).__name__ + ': '}{error}",
                "leave out what it does not know, or use another template (chat_template.jinja)",
            ) from error

    def _searched(
        self, text: str, skeleton: _Skeleton, roles: tuple[str, ...], contents: Sequence[str]
    ) -> list[tuple[int, int, int]]:
        """Where the messages stand in a text that is no plain filling of the skeleton, white space aside.

        Raises:
            ModelError: one is not found.
        """
        found: list[tuple[int, int, int]] = []
        at = 0
        for i in dict.fromkeys(skeleton.order):
            if not contents[i].strip():
                continue
            match = next(filter(None, (form.search(text, at) for form in _forms(contents[i]))), None)
            if match is None:
                raise self._lost(roles, i, contents[i])
            found.append((i, *match.span()))
            at = match.end()
        return found

    def _lost(self, roles: tuple[str, ...], i: int, content: str | None = None) -> ModelError:
        which = f"the {roles[i]} message" + (f" (message {i + 1} of {len(roles)})" if len(roles) > 2 else "")
        what = f"{self.name} does not write {which}"
        if content is not None:
            what = f"{self.name} drops or changes the text of {which}, got {content[:40]!r}"
        remedy = (
            "use a template that writes every message as it is (chat_template.jinja beside the tokenizer)"
        )
        if roles[i] == "system":
            remedy = f"leave the system message out, or put its text into the user's; or {remedy}"
        elif content is not None and _THOUGHT.search(content):
            remedy = f"give one answer a row, since it leaves out the thoughts of earlier ones; or {remedy}"
        return ModelError(what, remedy)


def encode_as_text(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """The tokens of a text that stands alone; a control token in it is encoded as text.

    Raises:
        ModelError: see `ChatTemplate.encode`.
    """
    refuse_half_pairs(text, "a text")
    return chat_template(tokenizer).control.encode(text, [Span(0, len(text), 0, "user")]).token_ids


def refuse_half_pairs(text: str, where: str) -> None:
    """Refuse a text that no tokenizer can read.

    Raises:
        ModelError: it holds half a surrogate pair.
    """
    if (found := half_pair(text)) is not None:
        raise ModelError(f"{where} holds {found}, got {text[:40]!a}", "write the whole character")


def _matched(text: str, skeleton: _Skeleton, contents: Sequence[str]) -> list[tuple[int, int, int]] | None:
    """Where the messages stand in a text that is the skeleton, filled with them as they are or stripped."""
    literals = skeleton.literals
    if not text.startswith(literals[0]):
        return None
    found: list[tuple[int, int, int]] = []
    at = len(literals[0])
    for i, literal in zip(skeleton.order, literals[1:], strict=True):
        content = contents[i]
        for form in (content, content.strip(), content.rstrip(), content.lstrip()):
            end = at + len(form)
            if text.startswith(form, at) and text.startswith(literal, end):
                break
        else:
            return None
        found.append((i, at, end))
        at = end + len(literal)
    return found if at == len(text) else None


def _forms(content: str) -> list[re.Pattern[str]]:
    """How a template may write a message: with other white space, or as JSON writes it."""
    written = (content, json.dumps(content)[1:-1], json.dumps(content, ensure_ascii=False)[1:-1])
    return [
        re.compile(rf"{_IGNORED}*".join(re.escape(word) for word in re.split(rf"{_IGNORED}+", form) if word))
        for form in dict.fromkeys(written)
    ]
