"""The figures in docs/reliability.md, from docs/reliability.json, which `make test-faults` writes.

python scripts/reliability_page.py     writes the page's figures anew
"""

import json
import os
import platform
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"
FIGURES, PAGE = DOCS / "reliability.json", DOCS / "reliability.md"
BEGIN, END = "<!-- figures: written by make test-faults -->", "<!-- end of figures -->"


def write_figures(figures: Mapping[str, Mapping[str, Any]], *, at: datetime) -> None:
    """Keep what the tests of faults measured, by fault; others' figures stay."""
    known = json.loads(FIGURES.read_text("utf-8")) if FIGURES.is_file() else {}
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}"
    for fault, measured in figures.items():
        known[fault] = {"date": f"{at:%Y-%m-%d}", "machine": machine, **measured}
    FIGURES.write_text(json.dumps(dict(sorted(known.items())), indent=2) + "\n", "utf-8")
    PAGE.write_text(with_figures(PAGE.read_text("utf-8"), known), "utf-8")


def with_figures(page: str, figures: Mapping[str, Mapping[str, Any]]) -> str:
    """The page with the table of figures between its marks."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table(figures)}\n{END}{after}"


def table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """One line a fault."""
    lines = ["| fault | date | what was done | seconds |", "|---|---|---|---|"]
    for fault, measured in figures.items():
        done = ", ".join(f"{n:,} {name}" for name, n in measured.items() if isinstance(n, int))
        lines.append(f"| {fault} | {measured['date']} | {done} | {measured['seconds']:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(with_figures(PAGE.read_text("utf-8"), json.loads(FIGURES.read_text("utf-8"))), "utf-8")
