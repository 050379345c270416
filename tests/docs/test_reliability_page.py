"""Every promise on two pages names tests that are there, and the figures are those of the files."""

import ast
import json
import re
from pathlib import Path

import fuzz
import pytest
import reliability_page

ROOT = Path(__file__).parents[2]
TEST = re.compile(r"`(tests/[\w/]+\.py)::([\w:]+)`")


def names_in(path: Path) -> set[str]:
    """The tests of a file, those of a class as Class::test."""
    found: set[str] = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}::{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)
            }
    return found


@pytest.mark.parametrize("page", ["reliability.md", "threat-model.md"])
def test_every_promise_has_a_test(page: str):
    text = (ROOT / "docs" / page).read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and "| test |" not in line]
    promises = [row for row in rows if "tests/" in row]
    assert len(promises) >= 10
    for row in promises:
        named = TEST.findall(row)
        assert named, f"no test: {row}"
        for file, name in named:
            assert name in names_in(ROOT / file), f"{file}::{name}"


def test_the_figures_are_those_of_the_file():
    figures = json.loads(reliability_page.FIGURES.read_text("utf-8"))
    page = reliability_page.PAGE.read_text("utf-8")
    assert reliability_page.with_figures(page, figures) == page
    assert {"driver killed", "local workers killed", "Ray workers and nodes killed"} <= figures.keys()
    assert all(figures[fault]["kills"] == 50 for fault in figures if fault.endswith("killed"))


def test_the_figures_of_fuzzing_are_those_of_the_file():
    from fuzz_targets import targets

    figures = json.loads(fuzz.FIGURES.read_text("utf-8"))
    page = fuzz.PAGE.read_text("utf-8")
    assert fuzz.with_figures(page, figures) == page
    assert figures.keys() >= set(targets())
    assert all(found["inputs"] >= 100_000 and not found["failed"] for found in figures.values())
