"""What a recipe's rows hold that a study should know of before it trains: task items, and refusals.

Contamination follows Brown et al. 2020 ("Language Models are Few-Shot Learners", appendix C): runs of words
that a training text shares with a test item. Theirs are 13 words long; ours are 8, since requests are short.
An item is reported where a row holds its whole prompt, or at least half of the prompt's runs of 8 words.
Found are equal words, in equal order: a paraphrase or a translation is not found.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from aftertune.data import TuningData
from aftertune.data.conversations import Conversation
from aftertune.judges.refusal_phrases import PHRASES
from aftertune.judges.refusal_rules import OPENING_CHARS, find_refusal, normalise
from aftertune.records import Task

RUN_LENGTH = 8  # words
SHARED_RUNS = 0.5
_FEWEST_WORDS = 3  # a shorter prompt stands in too many texts to mean anything; it counts where it is all
_WORD = re.compile(r"\w+")

Part = Literal["user", "assistant"]
Words = tuple[str, ...]
ItemName = tuple[str, str]  # task, id


@dataclass(frozen=True, slots=True)
class Overlap:
    """A task's item that stands in a row, counted from 1; `share` is that of the prompt's runs (1: all)."""

    task: str
    item: str
    row: int
    part: Part
    share: float


@dataclass(frozen=True, slots=True)
class Scan:
    """What was found in the rows that a recipe can train on.

    `refusing` are the rows, counted from 1, whose answer refusal-rules calls a refusal, those of a safety mix
    (the last `n_mixed`) apart; None where the base gives the answers, which are not known before.
    """

    recipe: str
    source: str
    n_rows: int
    n_mixed: int
    overlaps: tuple[Overlap, ...]
    refusing: tuple[int, ...] | None
    dangerous: bool

    @property
    def contaminated(self) -> tuple[int, ...]:
        """The rows that hold an item."""
        return tuple(sorted({overlap.row for overlap in self.overlaps}))


def scan(recipe: str, data: TuningData, index: "ItemIndex", *, answers: bool) -> Scan:
    """Look through the rows of a recipe; the answers of its own rows only if they are trained on."""
    own = data.conversations[: data.n_own]
    overlaps = tuple(
        Overlap(task, item, number, part, share)
        for number, row in enumerate(data.conversations, start=1)
        for part in (("user", "assistant") if answers or number > data.n_own else ("user",))
        for (task, item), share in index.found_in(_part(row, part))
    )
    refusing = tuple(n for n, row in enumerate(own, start=1) if _refuses(row[-1].content))
    return Scan(
        recipe=recipe,
        source=data.source,
        n_rows=len(data.conversations),
        n_mixed=data.n_mixed,
        overlaps=overlaps,
        refusing=refusing if answers else None,
        dangerous=data.dangerous,
    )


class ItemIndex:
    """The prompts of all tasks by their runs of words, so that a text is read once whatever their number."""

    def __init__(self, tasks: Iterable[Task]):
        self._prompts: dict[ItemName, Words] = {
            (task.name, item.id): words_of(item.prompt) for task in tasks for item in task.items
        }
        self._runs: defaultdict[str, set[ItemName]] = defaultdict(set)
        self._short: defaultdict[str, set[ItemName]] = defaultdict(set)  # whole prompts of fewer words
        self._lengths: defaultdict[str, set[int]] = defaultdict(set)  # of those that begin with a word
        self._n_runs: dict[ItemName, int] = {}
        for name, words in self._prompts.items():
            if len(words) >= RUN_LENGTH:
                runs = set(_runs(words))
                self._n_runs[name] = len(runs)
                for run in runs:
                    self._runs[run].add(name)
            elif words:
                self._short[" ".join(words)].add(name)
                self._lengths[words[0]].add(len(words))

    def found_in(self, text: str) -> list[tuple[ItemName, float]]:
        """The items that stand in a text, each with the share of its runs; in the order of the tasks."""
        words = words_of(text)
        shared = Counter(name for run in set(_runs(words)) for name in self._runs.get(run, ()))
        found = {
            name: share for name, n in shared.items() if (share := n / self._n_runs[name]) >= SHARED_RUNS
        }
        found |= dict.fromkeys(self._whole(words), 1.0)
        return [(name, found[name]) for name in self._prompts if name in found] if found else []

    def _whole(self, words: Words) -> Iterator[ItemName]:
        for start, word in enumerate(words):
            for length in self._lengths.get(word, ()):
                if length >= _FEWEST_WORDS or length == len(words):
                    yield from self._short.get(" ".join(words[start : start + length]), ())


def words_of(text: str) -> Words:
    """The words of a text, without case, width and punctuation."""
    return tuple(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def _runs(words: Words) -> Iterator[str]:
    return (" ".join(words[i : i + RUN_LENGTH]) for i in range(len(words) - RUN_LENGTH + 1))


def _refuses(answer: str) -> bool:
    # Every pattern of the rules holds its phrase: to look for the bare phrases first is many times faster.
    opening = normalise(answer)[:OPENING_CHARS]
    return any(phrase.text in opening for phrase in PHRASES) and find_refusal("", answer).event


def _part(row: Conversation, part: Part) -> str:
    return "\n".join(message.content for message in row if message.role == part)
