"""The command, as people run it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from aftertune.cli import app

COMMANDS = get_command(app).commands  # type: ignore[attr-defined]

STUDY = """
name: small
model: {model}
recipes:
  a: {{data: rows.jsonl, rank: 2, batch_size: 2}}
seeds: 2
tasks: [{{name: mini-harm, n: 4}}]
decodings:
  greedy: {{temperature: 0, max_tokens: 4}}
judges: [refusal-rules]
"""


def aftertune(*words: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aftertune", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **env}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, env=environment)


@pytest.fixture
def study(tmp_path: Path, tiny_model: Path) -> Path:
    """A study file on the tiny model, with its data beside it."""
    rows = [{"question": f"What is {i} and 1?", "answer": f"It is {i + 1}."} for i in range(6)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    path = tmp_path / "small.yaml"
    path.write_text(STUDY.format(model=tiny_model), "utf-8")
    return path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--size", "large"), "--size is 'large'; known: quick, standard, full"),
        (("--numerics", "precise"), "--numerics is 'precise'; known: exact, fast"),
        (("--threads", "0"), "--threads"),
    ],
)
def test_the_demo_refuses_what_it_does_not_know(tmp_path: Path, words: tuple[str, ...], said: str):
    done = aftertune("demo", *words, cwd=tmp_path, NO_COLOR="1", COLUMNS="200")
    assert done.returncode == 2
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_command_with_a_sentence(tmp_path: Path):
    done = aftertune("--help", cwd=tmp_path, NO_COLOR="1", COLUMNS="200")
    assert done.returncode == 0
    assert "\x1b[" not in done.stdout
    assert len(COMMANDS) >= 14
    for name, command in COMMANDS.items():
        assert command.help and command.help.strip().endswith("."), name
        assert f" {name} " in done.stdout
        for option in command.params:
            assert getattr(option, "help", None), f"{name} {option.name} has no help"


def test_every_command_that_prints_a_result_has_json():
    without = {
        name for name, command in COMMANDS.items() if "as_json" not in {p.name for p in command.params}
    }
    assert without == {"schema"}  # which prints nothing else


def test_the_version(tmp_path: Path):
    assert aftertune("--version", cwd=tmp_path).stdout.startswith("aftertune 0.")


@pytest.mark.parametrize("name", ["tasks", "judges", "models", "data"])
def test_what_is_known_is_listed(tmp_path: Path, name: str):
    rows = json.loads(aftertune(name, "--json", cwd=tmp_path).stdout)
    table = aftertune(name, cwd=tmp_path, COLUMNS="300", NO_COLOR="1").stdout
    assert rows and all({"name", "licence"} <= row.keys() for row in rows)
    assert all(row["name"] in table for row in rows)


@pytest.mark.parametrize("of", ["study", "analysis"])
def test_schemas_are_json(tmp_path: Path, of: str):
    assert json.loads(aftertune("schema", of, cwd=tmp_path).stdout)["type"] == "object"


@pytest.mark.slow
def test_check_tells_cells_and_cost_and_writes_nothing(study: Path):
    before = sorted(study.parent.rglob("*"))
    told = aftertune("check", study, cwd=study.parent)
    assert told.returncode == 0, told.stderr
    assert "small: all keys, data, prompts and the model are in order" in told.stdout
    assert "a (2 seeds)" in told.stdout and "checkpoints  2 trained" in told.stdout
    as_json = json.loads(aftertune("check", study, "--json", cwd=study.parent).stdout)
    assert (as_json["n_responses"], as_json["n_checkpoints"]) == (12, 2)
    assert sorted(study.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds: 2", "sedes: 2", "small.yaml: sedes: unknown key; did you mean 'seeds'?"),
        ("seeds: 2", "seeds: two", 'small.yaml: seeds: expected a whole number or a list, got "two"'),
        ("rank: 2", "rnak: 2", "small.yaml: recipes.a.rnak: unknown key; did you mean 'rank'?"),
        ("rows.jsonl", "none.jsonl", "none.jsonl: No such file or directory"),
        (
            "mini-harm",
            "mini-ham",
            "there is no task called 'mini-ham'\n  → did you mean 'mini-harm'?",
        ),
        (
            "[refusal-rules]",
            "[refusal]",
            "there is no judge called 'refusal'\n  → did you mean 'refusal-rules'?",
        ),
        ("small", "small\nname: other", "the key 'name' stands twice"),
    ],
)
def test_a_wrong_study_is_a_message_and_exit_code_2(study: Path, old: str, new: str, message: str):
    study.write_text(study.read_text("utf-8").replace(old, new, 1), "utf-8")
    done = aftertune("check", study, cwd=study.parent)
    assert done.returncode == 2
    assert done.stderr.startswith("aftertune: ") and message in done.stderr
    assert "  → " in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("check", "none.yaml"), "cannot read the study file none.yaml: No such file"),
        (("run", "none.yaml"), "cannot read the study file none.yaml: No such file"),
        (("tune", "."), "is not a run directory"),
        (("report", "."), "is not a run directory"),
        (("analyze", "none.csv"), "none.csv"),
        (("schema", "other"), "got 'other'"),
        (("chekc",), "check"),
    ],
)
def test_what_is_not_there_is_a_message_and_exit_code_2(tmp_path: Path, words: tuple[str, ...], message: str):
    done = aftertune(*words, cwd=tmp_path, NO_COLOR="1", COLUMNS="200")
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_stages_run_alone_and_then_together(study: Path):
    tuned = aftertune("tune", study, "--out", "out", "--json", cwd=study.parent)
    assert tuned.returncode == 0, tuned.stderr
    assert json.loads(tuned.stdout) == {"run": "out", "stages": ["tune"]}
    assert "tune: " in tuned.stderr
    early = aftertune("observe", "out", cwd=study.parent)
    assert early.returncode == 2 and "aftertune run" in early.stderr
    done = aftertune("run", study, "--out", "out", "--json", cwd=study.parent)
    assert done.returncode == 0, done.stderr
    assert {rate["model"] for rate in json.loads(done.stdout)["rates"]} == {"base", "a"}
    assert (study.parent / "out" / "report" / "index.html").is_file()
    again = aftertune("analyze", "out", "--json", cwd=study.parent)
    assert json.loads(again.stdout) == json.loads(done.stdout)
