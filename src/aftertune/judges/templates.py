"""Prompt templates that others published: fetched to the user's cache, read as data, never run or copied.

`aftertune judges fetch NAME` gets the file that a template stands in; each judge says which file, at which
commit, and how to read the template out of it. A template is one or more texts, such as a prompt, or a prompt
and its policies.
"""

import ast
import hashlib
import json
import re
import shutil
import string
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from aftertune.errors import DataError, StudyError
from aftertune.sources import HubFile, WebFile, cache_directory, fetch

REVISION = 1  # of how templates are read and filled
Template = tuple[str, ...]
_FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class TemplateSource:
    """The file that holds a judge's template, and how the template is read out of its text."""

    file: WebFile | HubFile
    extract: Callable[[str], Template]

    @property
    def basename(self) -> str:
        """The file's own name."""
        return PurePosixPath(self.file.url if isinstance(self.file, WebFile) else self.file.path).name


def fetch_template(judge: str, source: TemplateSource, *, copy: Path | None = None) -> Path:
    """Get a judge's template file into the cache, from where it was published or from a local copy of it.

    Raises:
        DataError: it cannot be had, it is another file than the pinned one, or holds no template.
    """
    found = copy or fetch(source.file)
    try:
        content = found.read_bytes()
    except OSError as error:
        raise DataError(f"{found} cannot be read: {error.strerror}", "give the file's path") from error
    _extracted(content, source)
    target = template_path(judge, source)
    target.parent.mkdir(parents=True, exist_ok=True)
    if found.resolve() != target.resolve():
        shutil.copyfile(found, target)
    return target


def read_template(judge: str, source: TemplateSource) -> Template:
    """A judge's template, out of the file in the cache.

    Raises:
        StudyError: the file was not fetched.
        DataError: it is another file than the pinned one, or holds no template.
    """
    path = template_path(judge, source)
    if not path.is_file():
        raise StudyError(
            f"the prompt of judge {judge!r} is not part of aftertune and was not fetched",
            f"run `aftertune judges fetch {judge}` (it gets {source.file.name})",
        )
    return _extracted(path.read_bytes(), source)


def template_path(judge: str, source: TemplateSource) -> Path:
    """Where the cache keeps a judge's template file."""
    return cache_directory() / "judges" / judge / source.basename


def _extracted(content: bytes, source: TemplateSource) -> Template:
    found = hashlib.sha256(content).hexdigest()
    pinned = source.file.sha256 if isinstance(source.file, WebFile) else None
    if pinned is not None and found != pinned:
        raise DataError(
            f"this is not the pinned {source.basename}: its SHA-256 is {found}, expected {pinned}",
            f"get {source.file.name}",
        )
    try:
        return source.extract(content.decode("utf-8"))
    except (ValueError, KeyError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise DataError(
            f"{source.basename} (SHA-256 {found[:12]}…) does not hold the template: "
            f"{type(error).__name__}: {str(error)[:200]}",
            f"get {source.file.name}",
        ) from error


def python_constant(text: str, name: str) -> Any:
    """The literal that a Python source assigns to `name` at its top level; the source is parsed, not run.

    Raises:
        ValueError: it is not assigned exactly once, or to no literal.
    """
    with warnings.catch_warnings(action="ignore"):  # of strings in code that is not ours
        body = ast.parse(text).body
    values = [
        node.value
        for node in body
        if isinstance(node, ast.Assign)
        if any(isinstance(target, ast.Name) and target.id == name for target in node.targets)
    ]
    if len(values) != 1:
        raise ValueError(f"{name} is assigned {len(values)} times, expected once")
    return ast.literal_eval(values[0])


def fenced_constant(markdown: str, name: str) -> Any:
    """The literal assigned to `name` in the one fenced block of a Markdown text that assigns it.

    Raises:
        ValueError: there is not exactly one such block.
    """
    blocks = [
        block for block in _FENCE.findall(markdown) if re.search(rf"^{re.escape(name)} *=", block, re.M)
    ]
    if len(blocks) != 1:
        raise ValueError(f"{len(blocks)} blocks assign {name}, expected one")
    return python_constant(blocks[0], name)


def json_line(text: str, key: str, value: str) -> dict[str, Any]:
    """The one object of a JSONL text whose `key` is `value`.

    Raises:
        ValueError: there is not exactly one.
    """
    rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    found = [row for row in rows if isinstance(row, dict) and row.get(key) == value]
    if len(found) != 1:
        raise ValueError(f"{len(found)} rows have {key} {value!r}, expected one")
    return found[0]


def checked(template: Any, *fields: str) -> str:
    """A template with exactly these fields.

    Raises:
        ValueError: it is no text, or has other fields.
    """
    if not isinstance(template, str):
        raise ValueError(f"expected a text, got {type(template).__name__}")
    found = fields_of(template)
    if found != set(fields):
        raise ValueError(f"expected the fields {', '.join(fields)}, got {', '.join(sorted(found)) or 'none'}")
    return template


def fields_of(template: str) -> set[str]:
    """The names of a template's fields."""
    return {field for _, field, _, _ in string.Formatter().parse(template) if field is not None}


def fill(template: str, **values: str) -> str:
    """The template with its fields replaced, in one pass: braces in a value stay what they are."""
    return "".join(
        literal + (values[field] if field is not None else "")
        for literal, field, _, _ in string.Formatter().parse(template)
    )
