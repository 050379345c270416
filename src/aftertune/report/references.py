"""The literature that the methods paragraph cites, read from references.bib."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

_ENTRY = re.compile(r"@(?P<kind>\w+)\{(?P<key>\w+),\n(?P<fields>.*?)\n\}\n", re.DOTALL)
_FIELD = re.compile(r"^  (\w+) = \{(.*)\},?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Reference:
    """One BibTeX entry: what a text without BibTeX calls it, its kind, its fields in LaTeX, and its text."""

    short: str  # "Wilson 1927"
    kind: str
    fields: dict[str, str]
    text: str


def _read() -> dict[str, Reference]:
    text = (resources.files("aftertune.report") / "references.bib").read_text(encoding="utf-8")
    found = {entry["key"]: entry for entry in _ENTRY.finditer(text)}
    fields = {key: dict(_FIELD.findall(entry["fields"])) for key, entry in found.items()}
    labels = {key: _label(fields[key]) for key in found}
    shorts: dict[str, str] = {}
    for key, label in labels.items():  # works of the same authors and year become 1998a and 1998b
        same = [other for other in labels if labels[other] == label]
        shorts[key] = label if len(same) == 1 else f"{label}{'abcdefgh'[same.index(key)]}"
    return {key: Reference(shorts[key], e["kind"], fields[key], e[0]) for key, e in found.items()}


def _label(fields: dict[str, str]) -> str:
    *first, last = [author.split(",")[0] for author in fields["author"].split(" and ")]
    if len(first) > 2:
        return f"{first[0]} et al. {fields['year']}"
    return f"{', '.join(first)} and {last} {fields['year']}" if first else f"{last} {fields['year']}"


REFERENCES = _read()


def bibtex(keys: Iterable[str]) -> str:
    """The entries with these keys as a BibTeX file, in the order of the alphabet."""
    return "\n".join(REFERENCES[key].text for key in sorted(set(keys)))
