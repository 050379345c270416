"""A text with messages in it, as tokens: what a message spells out is text, and never a control token.

A control token is one that the tokenizer reads whole, such as `<|im_end|>`: its special tokens, and the other
added ones that the chat template writes. Where one stands in a message, the text is read by a copy of the
tokenizer in which the control tokens have other names, which only the template's own get. Other texts go
through the tokenizer itself.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aftertune.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PLANES = (0xF0000, 0x100000)  # of private use, where the copy of a tokenizer has its control tokens
_THOUGHT = re.compile("think|thought|reason", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Span:
    """Where a message's text stands in a rendered text, in characters."""

    begin: int
    end: int
    message: int
    role: str


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids, with their places in the text, and the control tokens that messages hold as text.

    There are no places where the tokenizer is not a fast one.
    """

    token_ids: list[int]
    offsets: list[tuple[int, int]]
    held: tuple[str, ...]


class ControlTokens:
    """The control tokens of a tokenizer under a chat template."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", *, template: str, around_answer: str):
        """Find them.

        Args:
            tokenizer: has them.
            template: the text of the chat template.
            around_answer: what it writes around a question and an answer.
        """
        self.tokenizer = tokenizer
        self._around_answer = around_answer
        added: dict[int, Any] = tokenizer.added_tokens_decoder
        named: Any = {token: tokenizer.convert_tokens_to_ids(token) for token in tokenizer.all_special_tokens}
        ids = {**named, **{str(token): i for i, token in added.items()}}
        # Those of white space are ordinary text to a template.
        self.ids: dict[str, int] = {str(token): i for token, i in ids.items() if token.strip()}
        self._special = {*named, *(str(token) for token in added.values() if token.special)}
        written = {token for token in self.ids if token in template and not token.isalnum()}
        self._names = [token for token in self.ids if token in self._special or token in written]
        self._pattern = any_of(self._names)
        self._copies: dict[int, _Copy] = {}

    @property
    def special_ids(self) -> frozenset[int]:
        """The ids of the special tokens."""
        return frozenset(i for token, i in self.ids.items() if token in self._special)

    def spelled_out(self, content: str, role: str) -> list[str]:
        """The control tokens that a message's text spells out."""
        return [token for token in self._pattern.findall(content) if self._is_control(token, role)]

    def encode(self, text: str, spans: Sequence[Span]) -> Encoded:
        """The tokens of a text; at `spans` are messages.

        Raises:
            ModelError: a message spells out a control token, and the tokenizer is not a fast one.
        """
        held: list[str] = []
        ours: list[tuple[int, int]] = []  # where the template's own stand
        for match in self._pattern.finditer(text):
            inside = [span for span in spans if match.start() < span.end and match.end() > span.begin]
            if any(self._is_control(match[0], span.role) for span in inside):
                held.append(match[0])
            else:
                ours.append(match.span())
        if held:
            return Encoded(*self._copy(text, held[0]).encode(text, ours), tuple(held))
        fast = bool(self.tokenizer.is_fast)
        encoded: Any = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=fast)
        return Encoded(encoded["input_ids"], encoded["offset_mapping"] if fast else [], ())

    def _is_control(self, token: str, role: str) -> bool:
        """Whether a token in a message of this role must be read as text.

        A model writes some of its own into an answer: the marks of a thought, of a call of a tool.
        """
        if role != "assistant":
            return True
        return not _THOUGHT.search(token) and (token in self._special or token in self._around_answer)

    def _copy(self, text: str, held: str) -> "_Copy":
        """A copy of the tokenizer whose control tokens have names that the text does not hold."""
        if not self.tokenizer.is_fast:
            raise ModelError(
                f"a message holds the control token {held!r}, which "
                f"{type(self.tokenizer).__name__} {self.tokenizer.name_or_path!r} cannot encode as text",
                "use the model's fast tokenizer (a tokenizer.json beside the weights), or leave the text out",
            )
        for plane in _PLANES:
            if not any(plane <= ord(c) < plane + 0x10000 for c in text):
                if plane not in self._copies:
                    names = {token: chr(plane + i) * len(token) for i, token in enumerate(self._names)}
                    self._copies[plane] = _Copy(self.tokenizer, names)
                return self._copies[plane]
        raise ModelError(
            f"a message holds the control token {held!r} beside characters of both private planes",
            "leave the text out",
        )


class _Copy:
    """A fast tokenizer whose control tokens have other names, each as long as its own."""

    def __init__(self, tokenizer: Any, names: dict[str, str]):
        self._names = names
        content = json.loads(tokenizer.backend_tokenizer.to_str())
        model = content["model"]
        for token in content["added_tokens"]:
            token["content"] = names.get(token["content"], token["content"])
        vocabulary = model.get("vocab")
        if isinstance(vocabulary, dict):
            model["vocab"] = {names.get(piece, piece): i for piece, i in vocabulary.items()}
        elif vocabulary is not None:  # pairs of a piece and its score
            model["vocab"] = [[names.get(piece, piece), score] for piece, score in vocabulary]
        if "merges" in model:
            pairs = ((pair.split(" ", 1) if isinstance(pair, str) else pair) for pair in model["merges"])
            model["merges"] = [list(pair) for pair in pairs if "".join(pair) not in names]
        if isinstance(model.get("unk_token"), str):
            model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_str(json.dumps(content))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        added = {str(token): i for i, token in tokenizer.added_tokens_decoder.items()}
        # One that is not in the vocabulary gets its id by its place.
        self._ids = {self._tokenizer.token_to_id(names.get(token, token)): i for token, i in added.items()}

    def encode(
        self, text: str, control: Iterable[tuple[int, int]]
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids and their places in a text in which only what stands at `control` are control tokens."""
        pieces, at = list[str](), 0
        for begin, end in control:
            pieces += [text[at:begin], self._names[text[begin:end]]]
            at = end
        encoded = self._tokenizer.encode("".join([*pieces, text[at:]]), add_special_tokens=False)
        return [self._ids.get(i, i) for i in encoded.ids], encoded.offsets


def any_of(tokens: Iterable[str]) -> re.Pattern[str]:
    """A pattern for the longest of some tokens at a place; it matches nothing where there are none."""
    longest_first = sorted(tokens, key=lambda token: (-len(token), token))
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
