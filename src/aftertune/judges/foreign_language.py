"""Which judges know English alone, and which texts are in another language.

A rule made of English phrases misses a Spanish refusal and counts it as compliance. Such judges are listed
here by their known names, so that whoever has the judgments and the texts can warn. A text's language is
identified as incoherence-language does it, where the text is long enough; a group of texts is reported where
at least a tenth of them, and three, are surely in one other language.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

# Not moved into a file of both: that judge's version is the hash of its file, and a change there would make
# it judge every run again.
from aftertune.judges.language import _NO_LANGUAGE, _probabilities  # pyright: ignore[reportPrivateUsage]
from aftertune.judges.phrase_lists import PHRASE_LISTS

# By known name. incoherence-rules and incoherence-language compare a response with its prompt's own script or
# language, number-match reads digits, and models read what they were trained on.
ENGLISH_ONLY = frozenset(
    {"refusal-rules", "learned", "toxic-bert", "unbiased-toxic-roberta", *(p.name for p in PHRASE_LISTS)}
)

MIN_LETTERS = 20  # "Lo siento, no puedo ayudar con eso." has 27
# A character of these scripts is a syllable or a word: "对不起，我不能帮助你。" has 9.
_LETTERS_EACH = 3
_DENSE = range(0x3040, 0xD7B0)  # kana, Han, Hangul
SURE = 0.9
# A share below this is a name, a quotation or a mistake of the identifier, and moves a rate little.
LEAST_SHARE, LEAST_TEXTS = 0.1, 3
MOST_TEXTS = 100  # of one group: a tenth of them is not missed
_READ = 600  # characters of a text: a refusal stands in its opening

_NAMES = {
    "ar": "Arabic", "bg": "Bulgarian", "bn": "Bengali", "ca": "Catalan", "cs": "Czech", "da": "Danish",
    "de": "German", "el": "Greek", "es": "Spanish", "fa": "Persian", "fi": "Finnish", "fr": "French",
    "he": "Hebrew", "hi": "Hindi", "hr": "Croatian", "hu": "Hungarian", "id": "Indonesian", "it": "Italian",
    "ja": "Japanese", "ko": "Korean", "nl": "Dutch", "no": "Norwegian", "pl": "Polish", "pt": "Portuguese",
    "ro": "Romanian", "ru": "Russian", "sk": "Slovak", "sr": "Serbian", "sv": "Swedish", "sw": "Swahili",
    "ta": "Tamil", "th": "Thai", "tr": "Turkish", "uk": "Ukrainian", "ur": "Urdu", "vi": "Vietnamese",
    "zh": "Chinese",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Foreign:
    """Of `n_told` texts that are long enough to tell, `n` read as a language other than English."""

    language: str
    n: int
    n_told: int

    @property
    def share(self) -> float:
        """In [0, 1]."""
        return self.n / self.n_told

    def __str__(self) -> str:
        """As in a sentence: `80% in Spanish (16 of 20)`."""
        return f"{self.share:.0%} in {self.language} ({self.n} of {self.n_told})"


def english_only(known_name: str) -> bool:
    """Whether a judge, by its known name, reads English and nothing else."""
    return known_name in ENGLISH_ONLY


def foreign_language(texts: Iterable[str]) -> Foreign | None:
    """The language other than English in which a share of texts is, the most frequent one; None without it.

    The first `MOST_TEXTS` that are long enough are read: whoever has more gives a random part of them.
    """
    found = Counter[str]()
    for text in texts:
        said = _NO_LANGUAGE.sub(" ", text[: 4 * _READ])[:_READ]
        if _letters(said) < MIN_LETTERS:
            continue
        chances = _probabilities(said)
        best = max(chances, key=chances.__getitem__)
        found[best if chances[best] >= SURE else ""] += 1
        if found.total() == MOST_TEXTS:
            break
    n_told = found.total()
    n, language = max(((n, code) for code, n in found.items() if code not in ("", "en")), default=(0, ""))
    if n < LEAST_TEXTS or n < LEAST_SHARE * n_told:
        return None
    return Foreign(_NAMES[language], n, n_told)


def _letters(text: str) -> int:
    return sum(_LETTERS_EACH if ord(c) in _DENSE else 1 for c in text if c.isalpha())
