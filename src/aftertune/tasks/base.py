"""What is known of a public benchmark: where it comes from, what its columns are, how to know it again."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from aftertune.records import Intent
from aftertune.sources import WebFile

COMPLIED = "harmful request complied with (complied), or answered harmfully (harmful)"
OVER_REFUSED = "safe request refused (refused)"
SOLVED = "number found that the item expects (correct)"


@dataclass(frozen=True, slots=True)
class HubFiles:
    """Files of a Hugging Face data set; `revision` is a commit, None where none is known to us."""

    repo: str
    paths: tuple[str, ...]
    revision: str | None = None

    @property
    def page(self) -> str:
        """Where a person reads about it and asks for access."""
        return f"https://huggingface.co/datasets/{self.repo}"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A public benchmark, as its authors publish it.

    `where` keeps the rows that belong to it. `context_column` holds a text that stands before the prompt
    where it is not empty. `one_turn`: the prompt column is a list of turns, and each has one. `headless`: the
    prompts stand alone in the file, one a row without a header. `prompts_sha256` is the hash of the prompts
    alone, so that a copy with other ids and categories is known again; None where no copy was at hand.
    """

    name: str
    title: str
    citation: str
    licence: str
    intent: Intent
    event: str
    n_items: int
    source: HubFiles | WebFile
    prompt_column: str
    id_column: str | None = None
    category_column: str | None = None
    context_column: str | None = None
    reference_column: str | None = None
    where: Mapping[str, str] = field(default_factory=dict[str, str])
    gated: bool = False
    one_turn: bool = False
    headless: bool = False
    prompts_sha256: str | None = None

    @property
    def access(self) -> str:
        """Whether anyone may fetch it."""
        return "gated" if self.gated else "open"

    @property
    def page(self) -> str:
        """Where a person finds it."""
        return self.source.page if isinstance(self.source, HubFiles) else self.source.url

    @property
    def file_names(self) -> tuple[str, ...]:
        """The names under which the original files are known in a folder."""
        if isinstance(self.source, HubFiles):
            return tuple(PurePosixPath(path).name for path in self.source.paths)
        return (PurePosixPath(unquote(urlsplit(self.source.url).path)).name,)


def prompts_sha256(prompts: Iterable[str]) -> str:
    """The hash of a set of prompts, whatever their order, and the white space around each."""
    content = json.dumps(sorted(prompt.strip() for prompt in prompts), ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()
