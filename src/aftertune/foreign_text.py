"""Text of others (models, endpoints, files) on its way to people: the hidden is shown, secrets are not."""

import json
import os
import re
import unicodedata

_UNSEEN = {"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"}  # Unicode categories
_KEPT = {"\n", "\t", "\u200c", "\u200d"}  # the joiners shape Persian, Indic and emoji, and hide no order
_SECRET_NAME = re.compile(r"(^|_)(API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)(_|$)", re.I)


def visible(text: str) -> str:
    """A foreign text with what cannot be seen made visible.

    A character without a shape of its own (control characters, bidirectional controls, zero-width spaces,
    tags, private use, line separators) becomes its number: ⟨U+202E⟩.
    Escaping for HTML is the template's part.
    """
    return text.replace("\r\n", "\n").translate(_SEEN)


def half_pair(text: str) -> str | None:
    """What is wrong with a text that no UTF-8 can hold; None of any other."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"half a surrogate pair (U+{ord(text[error.start]):04X}, character {error.start + 1})"
    return None


def without_secrets(text: str) -> str:
    """The text with each secret of the environment replaced by its variable's name: ⟨OPENAI_API_KEY⟩.

    A secret is the value of a variable whose name says so. In JSON it is found as it is written there.
    """
    for name, value in os.environ.items():
        if _SECRET_NAME.search(name) and _looks_secret(value):
            for written in {value, json.dumps(value)[1:-1]}:
                text = text.replace(written, f"⟨{name}⟩")
    return text


def for_terminal(text: str) -> str:
    """A text as a terminal may have it: nothing moves the cursor, sets a title or turns the order round."""
    return visible(without_secrets(text))


def _looks_secret(value: str) -> bool:
    """Not a number, a word, a path or an address, which a text may hold by chance."""
    if len(value) < 8 or any(c.isspace() for c in value) or "://" in value or os.path.exists(value):
        return False
    return any(c.isalpha() for c in value) and (len(value) >= 16 or not value.isalpha())


class _Seen(dict[int, str]):
    """What each character is shown as, found when first met: a page may hold a hundred thousand texts."""

    def __missing__(self, point: int) -> str:
        c = chr(point)
        unseen = c not in _KEPT and unicodedata.category(c) in _UNSEEN
        self[point] = f"⟨U+{point:04X}⟩" if unseen else c
        return self[point]


_SEEN = _Seen()
