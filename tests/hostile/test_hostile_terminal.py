"""What others wrote reaches a terminal without control sequences, and no secret reaches it or a file."""

import ast
import json
import subprocess
import sys
import unicodedata
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aftertune.engines.endpoint import Limits
from aftertune.errors import AftertuneError
from aftertune.foreign_text import for_terminal, without_secrets
from aftertune.pipeline import STAGES
from aftertune.study import read_study
from endpoint_server import Answer, Server
from stage_runs import run, study_of

SRC = Path(__file__).parents[2] / "src" / "aftertune"
# A title set, a link, colours, a cursor moved, text turned round, and rich's own marks.
HOSTILE = "a\x1b]0;owned\x07\x1b[31m\x1b]8;;http://x\x1b\\\x9b2J\r\u202eb\u2066[red]c[/red]\U000e0041"
KEY = "sk-a-key/of+ours-0123456789"


GATE = ("gate", "--primary", "task=t,decoding=d,judge=j,metric=compliance_rate", "--margin", "0.1")


def harmless(text: str) -> bool:
    """Nothing in it but letters, signs and line ends."""
    return not any(
        unicodedata.category(c) in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp") and c not in "\n\t" for c in text
    )


def command(*words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-m", "aftertune", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **env},
    )


def test_there_is_one_door_to_the_terminal():
    printing = {
        path.relative_to(SRC).as_posix()
        for path in SRC.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("print", "sys.stdout.write", "sys.stderr.write", "typer.echo")
    }
    # The door, and the progress of stages, whose names are ours.
    assert printing == {"cli/printing.py", "commands/progress.py"}


def table_of(model: str, folder: Path) -> Path:
    rows = [
        {"model": m, "seed": s, "item": f"{model}{i}", "category": model, "value": float((i + s) % 2)}
        | {"task": "t", "intent": "harmful", "decoding": "d", "judge": "j", "construct": "complied"}
        | {"repeat": 0}
        for m in ("base", model)
        for s in (0, 1)
        for i in range(6)
    ]
    path = folder / "table.parquet"
    pl.DataFrame(rows).write_parquet(path)
    return path


@pytest.mark.parametrize(
    "words", [("analyze",), ("analyze", "--json"), (*GATE,), (*GATE, "--json")], ids=" ".join
)
def test_a_table_full_of_control_sequences(words: tuple[str, ...], tmp_path: Path):
    table = table_of(HOSTILE, tmp_path)
    done = command(words[0], str(table), *words[1:], cwd=tmp_path)
    assert done.returncode in (0, 1, 3), done.stderr
    assert harmless(done.stdout) and harmless(done.stderr)
    assert "owned" in done.stdout  # shown, and not swallowed
    if "--json" in words:
        assert repr(HOSTILE) in repr(json.loads(done.stdout))  # for a program it is what it was


@pytest.mark.slow
@pytest.mark.parametrize("option", [(), ("--debug",)], ids=["plain", "debug"])
def test_errors_that_quote_a_file(option: tuple[str, ...], tmp_path: Path):
    (tmp_path / "s.yaml").write_text(f"name: {json.dumps(HOSTILE)}\nmodel: m\n{json.dumps(HOSTILE)}: 1\n")
    done = command("check", "s.yaml", *option, cwd=tmp_path)
    assert done.returncode != 0
    assert harmless(done.stderr) and "owned" in done.stderr
    missing = command("analyze", f"{HOSTILE.replace('/', '')}.csv", *option, cwd=tmp_path)
    assert missing.returncode != 0
    assert harmless(missing.stderr) and "owned" in missing.stderr


def test_rows_of_a_table_are_no_marks(capsys: pytest.CaptureFixture[str]):
    from aftertune.cli.printing import print_rows

    print_rows([{"name": "[bold]x[/bold]\x1b[31m", "b": "[/]"}], as_json=False)
    shown = capsys.readouterr().out
    assert "[bold]x[/bold]⟨U+001B⟩[31m" in shown and "[/]" in shown


def test_what_is_a_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("SOME_API_KEY", KEY)
    monkeypatch.setenv("HF_TOKEN", 'hf_with"quote0')
    assert without_secrets(f"x {KEY} y") == "x ⟨SOME_API_KEY⟩ y"
    assert without_secrets(json.dumps({"a": 'hf_with"quote0'})) == json.dumps(
        {"a": "⟨HF_TOKEN⟩"}, ensure_ascii=False
    )
    assert for_terminal(f"\x1b{KEY}") == "⟨U+001B⟩⟨SOME_API_KEY⟩"
    # No secret, whatever the variable's name: a number, a word, a path, an address.
    for value in ("12345678", "disabled", str(tmp_path), "https://host/token", "short1"):
        monkeypatch.setenv("OTHER_TOKEN", value)
        assert without_secrets(f"x {value}") == f"x {value}"


PRIMARY = {
    "task": "mini-harm",
    "decoding": "sampled",
    "judge": "incoherence-rules",
    "metric": "incoherence_rate",
    "target": "benchmark",
}


@pytest.mark.slow
@pytest.mark.parametrize("code", [200, 401, 500])
def test_an_endpoint_that_says_the_key_again(code: int, tiny_model, tmp_path, monkeypatch, caplog, capfd):
    pytest.importorskip("openai")
    monkeypatch.setenv("JUDGE_API_KEY", KEY)
    monkeypatch.setenv("AFTERTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("aftertune.judges.endpoint.Limits", partial(Limits, tries=1))
    said = json.dumps({"error": {"message": f"bad key: Bearer {KEY}"}, "note": KEY})
    server = Server(lambda *_: Answer(said, code, headers={"x-key": KEY}))
    rubric = {"name": "aftertune-rubric-complied", "endpoint": server.url, "model": "m"}
    study: dict[str, Any] = study_of(tiny_model) | {
        "judges": ["refusal-rules", "incoherence-rules", rubric | {"api_key_env": "JUDGE_API_KEY"}],
        "analysis": {"primary": PRIMARY},
    }
    told = ""
    try:
        run(study, tmp_path / "run", stages=STAGES)
    except AftertuneError as error:
        told = str(error)
    assert any(KEY in str(key) for key in server.keys), told  # it was sent
    server.close()
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for path in tmp_path.rglob("*.parquet"):
        written += pl.read_parquet(path).write_json().encode()
    assert code == 401 or (tmp_path / "run" / "report" / "index.html").is_file()
    out = capfd.readouterr()
    assert KEY.encode() not in written
    assert all(KEY not in text for text in (told, caplog.text, out.out, out.err))


@pytest.mark.parametrize("revision", ["main", "v1.0", "abc1234", "A" * 40, "a" * 39, "a" * 41])
def test_a_hub_revision_is_a_commit(revision: str, tmp_path: Path):
    from aftertune.engines.loading import fetch_from_hub
    from aftertune.errors import ModelError
    from aftertune.tuning.finished import find_finished

    (tmp_path / "s.yaml").write_text(f"name: s\nmodel: a/b\nrevision: {revision}\n")
    with pytest.raises(AftertuneError, match="revision: expected a commit"):
        read_study(tmp_path / "s.yaml")
    with pytest.raises(ModelError, match="which is no commit"):
        fetch_from_hub("a/b", revision)
    with pytest.raises(ModelError, match="which is no commit"):
        find_finished(f"a/b@{revision}")
