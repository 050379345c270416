"""Fenced blocks of the documentation, with what a comment above them asks of the tests.

`<!-- file: NAME -->` above a block: its text is that file. `<!-- run -->`: its commands are run, in order, in
the page's folder; `<!-- run: exit 3 -->` says how they end. `<!-- output -->`: lines that the commands before
it print. A block without a comment is only read: see test_docs_run.py.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"(?:<!-- (?P<asked>[^>]*?) -->\n)?^(?P<indent> *)```(?P<kind>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
INLINE = re.compile(r"(?<!`)`(aftertune [^`\n]+)`(?!`)")


@dataclass(frozen=True)
class Block:
    """One fenced block: its page and line, its language, its text and what is asked of it."""

    page: Path
    line: int
    kind: str
    text: str
    asked: str

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """Each line that calls aftertune, as words; a line that ends with a backslash goes on."""
        joined = re.sub(r"\\\n\s*", " ", self.text)
        lines = (re.sub(r"^(\$ |- run: )", "", line.strip()) for line in joined.splitlines())
        return [words_of(line) for line in lines if line.startswith("aftertune ")]

    @property
    def exit_code(self) -> int:
        return int(self.asked.partition("exit ")[2] or 0)


def words_of(line: str) -> list[str]:
    """The words of a command after its name, up to a comment, a pipe or another command."""
    words: list[str] = []
    for word in shlex.split(line, comments=True)[1:]:
        if word in ("|", "||", "&&", ">", ";"):
            break
        words.append(word)
    return words


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text("utf-8")
    for match in FENCE.finditer(text):
        indent = match["indent"]
        lines = [line.removeprefix(indent) for line in match["text"].splitlines(keepends=True)]
        line = text.count("\n", 0, match.start("kind")) + 1
        yield Block(page, line, match["kind"].strip(), "".join(lines), match["asked"] or "")


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
INLINE_COMMANDS = [
    (f"{page.relative_to(ROOT)}", line) for page in PAGES for line in INLINE.findall(page.read_text("utf-8"))
]
