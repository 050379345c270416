"""The tables of docs/scale.md, from docs/scale.json."""

from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
FIGURES, PAGE = DOCS / "scale.json", DOCS / "scale.md"


def write_page() -> None:
    """To come."""
