"""The version is written in _version.py alone; what repeats it agrees with it."""

import re
import tomllib
from pathlib import Path

import yaml

import aftertune
from aftertune._version import __version__

ROOT = Path(__file__).parents[1]


def test_the_build_reads_the_version_from_one_file():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert "version" not in config["project"] and config["project"]["dynamic"] == ["version"]
    assert config["tool"]["hatch"]["version"] == {"path": "src/aftertune/_version.py"}
    assert aftertune.__version__ == __version__


def test_citation_and_changelog_name_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == __version__
    newest = re.search(r"^## (\S+) \((.+)\)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest and newest[1] == __version__
    # A version that is not released has no date of a release.
    released = None if newest[2] == "unreleased" else newest[2]
    found = citation.get("date-released")
    assert released == (None if found is None else str(found))
