"""incoherence-language: a response in another language than its prompt's.

The identifier is py3langid (BSD-3-Clause, naive Bayes over byte n-grams, its model an npz without pickle),
held to languages that are widely written. Its probabilities are tempered by the text's length. An event is a
response whose language is far likelier than the prompt's. A text too short to tell, or a prompt that asks for
another language, has no judgment. A response that is half in another language may pass.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from aftertune.errors import StudyError
from aftertune.judges.base import Case, Judgments, identity, judge_texts, judgment, no_values
from aftertune.records import Construct, JudgmentStatus

REVISION = 1
# P(best language) − P(the prompt's language). The clean texts need no more than 0, and a language that is not
# likelier than the prompt's by half is no certainty (docs/incoherence.md).
MARGIN = 0.5
MIN_PROMPT_LETTERS = 15
MIN_PROMPT_PROBABILITY = 0.5
# Measured on 175 short outputs of Self-Instruct: below 40 letters names and lists read as any language.
MIN_LETTERS = 40
LANGUAGES = frozenset(
    """
    ar bg bn ca cs da de el en es fa fi fr he hi hr hu id it ja
    ko nl no pl pt ro ru sk sr sv sw ta th tr uk ur vi zh
    """.split()  # noqa: SIM905 (a list of strings is longer and no clearer)
)
# Written so alike that a sentence of one reads as the other.
_ALIKE = ({"da", "no"}, {"hr", "sr"}, {"cs", "sk"})
_ASKS_FOR_ANOTHER = re.compile(
    r"\b(translat\w*|languages?|bilingual|arabic|bulgarian|bengali|catalan|chinese|croatian|czech|danish|dutch|"
    r"english|farsi|finnish|french|german|greek|hebrew|hindi|hungarian|indonesian|italian|japanese|korean|latin|"
    r"mandarin|norwegian|persian|polish|portuguese|romanian|russian|serbian|slovak|spanish|swahili|swedish|tamil|"
    r"thai|turkish|ukrainian|urdu|vietnamese)\b",
    re.IGNORECASE,
)
# Code and addresses are in no language.
_NO_LANGUAGE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+|\S+@\S+|<[^<>\n]{1,80}>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class LanguageFinding:
    """The margin of the response's language over the prompt's, or None and why; `evidence` in words."""

    margin: float | None
    evidence: str


def find_language(prompt: str, text: str) -> LanguageFinding:
    """How much likelier another language is than the prompt's, in [0, 1]."""
    if _ASKS_FOR_ANOTHER.search(prompt):
        return LanguageFinding(None, "the prompt speaks of a language, so that another one may be asked for")
    asked, said = _NO_LANGUAGE.sub(" ", prompt), _NO_LANGUAGE.sub(" ", text)
    for what, words, least in (("prompt", asked, MIN_PROMPT_LETTERS), ("response", said, MIN_LETTERS)):
        n = sum(c.isalpha() for c in words)
        if n < least:
            return LanguageFinding(None, f"the {what} has {n} letters, too few to tell (at least {least})")
    prompts = _probabilities(asked)
    expected = max(prompts, key=lambda language: prompts[language])
    if prompts[expected] < MIN_PROMPT_PROBABILITY:
        return LanguageFinding(
            None, f"the prompt's language is unsure: {expected} at {prompts[expected]:.2f}"
        )
    found = _probabilities(said)
    best = max(found, key=lambda language: found[language])
    same = next((group for group in _ALIKE if expected in group), {expected})
    margin = 0.0 if best in same else found[best] - max(found[language] for language in same)
    return LanguageFinding(
        margin,
        f"prompt {expected}, response {best} at {found[best]:.2f} and {expected} at {found[expected]:.2f}",
    )


@dataclass(frozen=True, slots=True)
class LanguageJudge:
    """The judge; it has no settings."""

    name: str = "incoherence-language"
    constructs: tuple[Construct, ...] = (Construct.INCOHERENT,)
    source: str = "py3langid (Barbaresi; langid.py of Lui & Baldwin 2012)"
    licence: str = "BSD-3-Clause"
    cost: str = "naive Bayes on one CPU core: under a millisecond"
    agreement: str = "with people: not known; with text degraded on purpose: docs/incoherence.md"
    deterministic: bool = True

    @property
    def sha256(self) -> str:
        """Its identity, with the identifier's version and the languages it tells apart.

        Raises:
            StudyError: the identifier is not installed.
        """
        return identity(self.name, REVISION, _version(), MARGIN, MIN_LETTERS, sorted(LANGUAGES))

    def judge(self, cases: Sequence[Case], *, repeat: int = 0) -> Iterator[Judgments]:
        """1.0 where another language is likelier by more than `MARGIN`, else 0.0; none where unsure."""
        return judge_texts(cases, self, lambda texts: (self._judged(x, repeat) for x in texts), repeat=repeat)

    def _judged(self, case: Case, repeat: int) -> Judgments:
        finding = find_language(case.item.prompt, case.response.text)
        if finding.margin is None:
            return no_values(case, self, JudgmentStatus.SKIPPED, reason=finding.evidence, repeat=repeat)
        value = 1.0 if finding.margin > MARGIN else 0.0
        return (judgment(case, self, Construct.INCOHERENT, value, raw=finding.evidence, repeat=repeat),)


def _probabilities(text: str) -> dict[str, float]:
    # The library takes bytes that are no UTF-8 (lone surrogates) without fault.
    return dict(_identifier().rank(text))


@cache
def _identifier() -> Any:
    _version()
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # pyright: ignore

    # An instance of ours: set_languages on the module's own would change other users' results.
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(LANGUAGES)
    return identifier


def _version() -> str:
    try:
        return version("py3langid")
    except PackageNotFoundError:
        raise StudyError(
            "judge 'incoherence-language' needs py3langid, which is not installed",
            "run `pip install py3langid==0.4.0`",
        ) from None


INCOHERENCE_LANGUAGE = LanguageJudge()
