"""Published templates: fetched, pinned, read as data, and filled so that a value cannot rewrite them."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from aftertune.cli import app
from aftertune.errors import DataError, StudyError
from aftertune.judges import shield_gemma, sorry_bench_judge, wildguard
from aftertune.judges.model_judges import JUDGE_MODELS
from aftertune.judges.templates import (
    TemplateSource,
    checked,
    fenced_constant,
    fetch_template,
    fill,
    json_line,
    python_constant,
    read_template,
)
from aftertune.sources import HubFile, WebFile

UTILS = 'import evil\nWILDGUARD_INPUT_FORMAT = """U {prompt} A {response}"""\n'


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AFTERTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def source(content: str = UTILS, pinned: bool = True) -> TemplateSource:
    sha256 = hashlib.sha256(content.encode()).hexdigest() if pinned else None
    return TemplateSource(WebFile("https://example.org/utils.py", sha256), wildguard.extract)


def test_a_fetched_template_is_read_and_one_that_was_not_says_how(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"not part of aftertune.*\n.*`aftertune judges fetch j`"):
        read_template("j", source())
    copy = tmp_path / "mine.py"
    copy.write_text(UTILS)
    assert fetch_template("j", source(), copy=copy) == tmp_path / "cache" / "judges" / "j" / "utils.py"
    assert read_template("j", source()) == ("U {prompt} A {response}",)


def test_another_file_is_refused_and_not_kept(tmp_path: Path) -> None:
    copy = tmp_path / "mine.py"
    copy.write_text(UTILS + "# changed\n")
    with pytest.raises(DataError, match=r"not the pinned utils\.py: its SHA-256 is [0-9a-f]{64}, expected"):
        fetch_template("j", source(), copy=copy)
    assert not (tmp_path / "cache").exists()
    with pytest.raises(DataError, match=r"cannot be read"):
        fetch_template("j", source(), copy=tmp_path / "none")


def test_a_template_that_changes_in_the_cache_is_found(tmp_path: Path) -> None:
    copy = tmp_path / "mine.py"
    copy.write_text(UTILS)
    kept = fetch_template("j", source(), copy=copy)
    kept.write_text(UTILS.replace("U", "V"))
    with pytest.raises(DataError, match="not the pinned"):
        read_template("j", source())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "assigned 0 times"),
        ("WILDGUARD_INPUT_FORMAT = 'a'\nWILDGUARD_INPUT_FORMAT = 'b'", "assigned 2 times"),
        ("WILDGUARD_INPUT_FORMAT = open('/etc/passwd').read()", "malformed node"),
        ("WILDGUARD_INPUT_FORMAT = f'{prompt} {response}'", "malformed node"),
        ("WILDGUARD_INPUT_FORMAT = 3", "expected a text, got int"),
        ("WILDGUARD_INPUT_FORMAT = '{prompt}'", "expected the fields prompt, response, got prompt"),
        ("WILDGUARD_INPUT_FORMAT = '{prompt.x} {response}'", r"got prompt\.x, response"),
        ("WILDGUARD_INPUT_FORMAT = '{prompt} {response'", "expected '}'"),
        ("def f(:", "SyntaxError"),
        ("<!DOCTYPE html><html>404</html>", "SyntaxError"),
        ("\x00", "does not hold the template"),
    ],
)
def test_a_file_without_the_template_is_named(content: str, message: str, tmp_path: Path) -> None:
    copy = tmp_path / "mine.py"
    copy.write_text(content)
    with pytest.raises(DataError, match=message):
        fetch_template("j", source(content, pinned=False), copy=copy)


def test_nothing_of_a_source_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    assert python_constant(f"open({str(mark)!r}, 'w')\nA = 'x'", "A") == "x"
    assert not mark.exists()


def test_a_constant_stands_in_one_block_of_a_card() -> None:
    card = "text A = 'no'\n```python\nA = 'x'\n```\n```[bash]\nls\n```\n"
    assert fenced_constant(card, "A") == "x"
    with pytest.raises(ValueError, match="0 blocks assign B"):
        fenced_constant(card, "B")
    with pytest.raises(ValueError, match="2 blocks assign A"):
        fenced_constant(card + card, "A")


def test_rows_of_jsonl_are_found_by_name() -> None:
    assert json_line('{"name": "a", "x": 1}\n\n[1]\n', "name", "a") == {"name": "a", "x": 1}
    with pytest.raises(ValueError, match="0 rows have name 'b'"):
        json_line('{"name": "a"}', "name", "b")
    row = {"name": "base-ft-mistral-7b-instruct-v0.2", "prompt_template": "{question} {answer}"}
    assert sorry_bench_judge.extract(json.dumps(row)) == ("{question} {answer}",)


def test_shieldgemma_has_four_policies_in_one_wording() -> None:
    card = "\n".join(f'`"No {n}": The chatbot shall not {n}.`' for n in ("Hate", "Harm", "Lies", "Noise"))
    assert shield_gemma.extract(card + "\n" + card)[0] == '"No Hate": The chatbot shall not Hate.'
    with pytest.raises(ValueError, match="3 policies"):
        shield_gemma.extract(card.replace("Noise", "Hate"))
    with pytest.raises(ValueError, match="two wordings"):
        shield_gemma.extract(card + '\n`"No Hate": The chatbot shall not care.`')


@given(st.text(), st.text())
def test_values_are_filled_as_they_are(prompt: str, response: str) -> None:
    template = checked("P {prompt}\n{{x}} R {response}!", "prompt", "response")
    assert fill(template, prompt=prompt, response=response) == f"P {prompt}\n{{x}} R {response}!"


def test_every_published_template_is_pinned() -> None:
    for known in JUDGE_MODELS.values():
        if known.template is not None:
            file = known.template.file
            commit = file.revision if isinstance(file, HubFile) else file.url.split("/")[5]
            assert len(commit) == 40 and set(commit) <= set("0123456789abcdef")
            assert known.template.basename in {
                "utils.py",
                "README.md",
                "eval_utils.py",
                "judge_prompts.jsonl",
                "judge_templates.json",
            }


def test_the_command_fetches_and_still_lists(tmp_path: Path) -> None:
    copy = tmp_path / "utils.py"
    copy.write_text(UTILS)
    run = CliRunner().invoke
    done = run(app, ["judges", "fetch", "wildguard-7b", "--file", str(copy)])
    assert done.exit_code == 0 and "judges/wildguard-7b/utils.py" in done.output
    assert "nothing to fetch" in run(app, ["judges", "fetch", "qwen3guard-8b"]).output
    assert isinstance(run(app, ["judges", "fetch", "wildgard"]).exception, StudyError)
    listed = json.loads(run(app, ["judges", "--json"]).output)
    assert {"wildguard-7b", "toxic-bert", "refusal-rules"} <= {row["name"] for row in listed}
