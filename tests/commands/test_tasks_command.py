"""`aftertune tasks`: the list fetches nothing, and hostile text cannot steer the terminal."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aftertune.cli import app
from aftertune.commands.tasks import describe_task, list_tasks, task_lines, visible
from aftertune.tasks import BENCHMARKS, known_tasks


def test_the_list_names_all_and_fetches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> Path:
        raise AssertionError("fetched")

    monkeypatch.setattr("aftertune.tasks.origin.fetch", refuse)
    rows = list_tasks()
    assert [row["name"] for row in rows] == list(known_tasks())
    assert {row["access"] for row in rows} == {"packaged", "open", "gated"}
    done = CliRunner().invoke(app, ["tasks", "--json"])
    assert (done.exit_code, json.loads(done.stdout)) == (0, rows)


def test_show_tells_provenance_and_samples_by_the_seed() -> None:
    done = CliRunner().invoke(app, ["tasks", "show", "mini-numbers", "--n", "6", "--json"])
    shown = json.loads(done.stdout)
    assert (shown["items"], shown["intent"], shown["access"]) == (60, "benign", "packaged")
    assert len(shown["sample"]) == 6
    assert {item["category"] for item in shown["sample"]} == set(shown["categories"])
    assert shown == describe_task("mini-numbers", data_dir=None, revision=None, n=6, root_seed=2025)
    other = describe_task("mini-numbers", data_dir=None, revision=None, n=6, root_seed=1)
    assert other["sample"] != shown["sample"]
    everything = describe_task("mini-numbers", data_dir=None, revision=None, n=500, root_seed=1)
    assert len(everything["sample"]) == 60
    told = CliRunner().invoke(app, ["tasks", "show", "mini-numbers"]).stdout
    for words in ("citation: ", "source: ", "licence: Apache-2.0", "event: ", "sha256: ", "  → "):
        assert words in told


def test_hostile_text_is_shown_as_escapes(tmp_path: Path) -> None:
    path = tmp_path / "MaliciousInstruct.txt"
    path.write_text("".join(f"\x1b]0;owned\x07\u202e number {k}\r\u200b\n" for k in range(100)), "utf-8")
    shown = describe_task("malicious-instruct", data_dir=path, revision=None, n=100, root_seed=1)
    text = "\n".join(task_lines(shown))
    assert r"\x1b]0;owned\x07\u202e number 7" in text
    assert all(character.isprintable() or character == "\n" for character in text)
    assert shown["access"] == BENCHMARKS["malicious-instruct"].access


def test_long_prompts_are_cut_and_marked() -> None:
    assert visible("x" * 301) == "x" * 300 + " …"
    assert visible("two\nlines") == r"two\nlines"
