"""What a figure is: panels, each an SVG with a name and words of its own."""

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from aftertune.foreign_text import visible
from aftertune.report import marks
from aftertune.report.theme import to_svg


@dataclass(frozen=True, slots=True)
class Panel:
    """One SVG: `name` is its file's stem, `label` says in words what it shows."""

    name: str
    label: str
    svg: str


@dataclass(frozen=True, slots=True)
class Figure:
    """Panels that belong together, and how to read them; `absent` says why there are none."""

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    absent: str


def build(name: str, title: tuple[str, str], label: str, chart: Any) -> Panel:
    """A panel from its chart: `title` is what is measured and where, `label` the numbers in words."""
    head, under = visible(title[0]), visible(title[1])
    label = visible(f"{head}, {under}. {label}")
    return Panel(name, label, to_svg(marks.titled(chart, head, under), name=name, label=label))


def stem(*parts: str) -> str:
    """A file name and SVG id from names of any kind; a name that loses letters keeps a hash of itself."""
    return "-".join(_slug(part) for part in parts if part)


def _slug(part: str) -> str:
    slug = re.sub(r"[^A-Za-z0-9_]+", "-", part)
    return (
        slug if slug == part.replace(".", "-") else f"{slug}-{hashlib.sha256(part.encode()).hexdigest()[:6]}"
    )
