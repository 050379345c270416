"""`aftertune preset`: what it writes parses, every variation applies, and what is not known is said so."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from aftertune.cli import app
from aftertune.commands.preset import list_presets, write_preset
from aftertune.data.known import KNOWN
from aftertune.errors import StoreError, StudyError
from aftertune.judges import known_judges
from aftertune.study import Study, TuneRecipe, read_study, variants_of
from aftertune.tasks import known_tasks

NOT_KNOWN = ("learning_rate", "batch_size", "method", "rank", "max_length", "max_tokens", "self_max_tokens")


@pytest.fixture
def fraser(tmp_path: Path) -> Study:
    return read_study(write_preset("fraser2025", tmp_path / "f.yaml"))


@pytest.mark.parametrize("name", [row["name"] for row in list_presets()])
def test_every_preset_parses_and_names_what_is_known(name: str, tmp_path: Path) -> None:
    study = read_study(write_preset(name, tmp_path / "study.yaml"))
    assert study.name == name
    assert {task.name for task in study.tasks} <= set(known_tasks())
    assert {judge.name for judge in study.judges} <= set(known_judges())


def test_the_design_of_fraser_2025(fraser: Study) -> None:
    assert len(fraser.seed_list) == 5
    recipes = {name: r for name, r in fraser.recipes.items() if isinstance(r, TuneRecipe)}
    assert {r.data.name for r in recipes.values()} == {"dolly", "alpaca"} <= set(KNOWN)  # type: ignore[union-attr]
    assert sorted(r.answers for r in recipes.values()) == ["data", "data", "self", "self"]
    sampled = fraser.decodings["sampled"]
    assert (fraser.decodings["greedy"].temperature, sampled.temperature) == (0, 0.7)
    assert [sampled.repeats_of(label) for label in ("base", "dolly/1", "dolly/2")] == [5, 5, 1]
    assert {variation.kind for variation in fraser.variations} == {"design"}


def test_variations_change_the_model_and_the_epochs_of_every_recipe(fraser: Study) -> None:
    models, epochs = {fraser.model}, set[float]()
    varied_by_name = variants_of(fraser)
    assert list(varied_by_name) == [variation.name for variation in fraser.variations]
    for varied in varied_by_name.values():
        models.add(varied.model)
        (n,) = {recipe.epochs for recipe in varied.recipes.values() if isinstance(recipe, TuneRecipe)}
        epochs.add(n)
    assert models == {
        "meta-llama/Llama-3.2-1B-Instruct",
        "meta-llama/Llama-3.2-3B-Instruct",
        "mistralai/Mistral-7B-Instruct-v0.3",
    }
    assert len(epochs) == 3


def test_every_value_that_is_not_the_papers_is_marked_on_its_line(tmp_path: Path) -> None:
    text = write_preset("fraser2025", tmp_path / "f.yaml").read_text("utf-8")
    lines = [
        line
        for line in text.splitlines()
        if line.strip().split(":")[0] in NOT_KNOWN and not line.startswith("#")
    ]
    assert len(lines) == 4 * 5 + 2 + 2
    assert all("# NOT KNOWN TO US" in line for line in lines)
    assert "arXiv 2506.17209" in text
    assert "revision" not in yaml.safe_load(text)


def test_a_file_is_never_written_over_and_a_wrong_name_is_a_hint(tmp_path: Path) -> None:
    out = tmp_path / "mine.yaml"
    out.write_text("mine")
    with pytest.raises(StoreError, match=r"mine\.yaml is there already\n  → give another file with --out"):
        write_preset("demo", out)
    assert out.read_text() == "mine"
    with pytest.raises(StudyError, match=r"no preset called 'fraser'\n  → did you mean 'fraser2025'"):
        write_preset("fraser", out)


def test_the_command_lists_and_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    listed = json.loads(CliRunner().invoke(app, ["preset", "--json"]).stdout)
    assert [row["name"] for row in listed] == ["audit", "demo", "demo-full", "demo-quick", "fraser2025"]
    assert all(row["about"].endswith((".", "?")) for row in listed)
    told = CliRunner().invoke(app, ["preset", "demo"])
    assert (told.exit_code, told.stdout) == (0, "demo: demo.yaml\n")
    done = CliRunner().invoke(app, ["preset", "fraser2025", "--out", "deep/f.yaml", "--json"])
    assert json.loads(done.stdout) == {"preset": "fraser2025", "file": "deep/f.yaml"}
    assert read_study(tmp_path / "deep" / "f.yaml").name == "fraser2025"
