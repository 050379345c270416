"""`aftertune compare`: which settings differ between two runs, and what their difference is worth."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import stage_runs
from aftertune.cli import app
from aftertune.commands.compare import Comparison, compare, comparison_lines
from aftertune.commands.made_of import changed, flattened
from aftertune.errors import DataError, StoreError


@pytest.fixture(scope="module")
def study(tiny_model: Path) -> dict[str, Any]:
    return stage_runs.study_of(tiny_model)


@pytest.fixture(scope="module")
def run(study: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stage_runs.run(study, tmp_path_factory.mktemp("first") / "run")


@pytest.fixture(scope="module")
def hotter(study: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    decodings = study["decodings"] | {"sampled": study["decodings"]["sampled"] | {"temperature": 1.5}}
    other = study | {"decodings": decodings, "judges": ["refusal-rules"]}
    return stage_runs.run(other, tmp_path_factory.mktemp("hotter") / "run")


@pytest.fixture(scope="module")
def found(run: Path, hotter: Path) -> Comparison:
    return compare(run, hotter)


def test_a_run_against_itself_is_identical(run: Path):
    found = compare(run, run)
    assert found.identical and not found.settings and not found.made_of
    assert {cell.estimate for cell in found.cells} == {0.0} and not found.beyond_noise
    assert "settings: the same" in comparison_lines(found)


def test_the_settings_that_differ_are_named(found: Comparison):
    keys = {entry.key: (entry.a, entry.b) for entry in found.settings}
    assert keys["decodings.sampled.temperature"] == (0.8, 1.5)
    assert any(key.startswith("judges.incoherence-rules") for key in keys)
    assert all(key.startswith(("decodings.sampled.", "judges.incoherence-rules")) for key in keys)


def test_what_they_share_is_the_same_to_the_byte(found: Comparison):
    n_greedy = 3 * 9  # the base and two seeds, nine items each; sampled texts have other keys
    assert found.n_responses == (63, 63)
    assert found.n_same == n_greedy and not found.identical


def test_greedy_cells_are_facts_and_agree(found: Comparison):
    base = [cell for cell in found.cells if cell.decoding == "greedy" and cell.model == "base"]
    assert base
    assert {(cell.estimate, cell.p_adjusted, cell.beyond_noise) for cell in base} == {(0.0, None, False)}


def test_every_difference_has_its_interval_and_its_p(found: Comparison):
    tested = [cell for cell in found.cells if cell.p_value is not None]
    assert tested
    for cell in tested:
        assert cell.estimate is not None and cell.ci_low is not None and cell.ci_high is not None
        assert cell.a is not None and cell.b is not None and cell.p_adjusted is not None
        assert cell.estimate == pytest.approx(cell.b - cell.a)
        assert cell.ci_low <= cell.estimate <= cell.ci_high
        assert cell.p_adjusted >= (cell.p_value or 0)
        assert cell.beyond_noise == (cell.p_adjusted < 0.05)


def test_cells_of_one_run_alone_are_listed(found: Comparison):
    assert found.only_in_a and not found.only_in_b
    assert all("incoherence-rules" in name for name in found.only_in_a)
    assert any(line.startswith("only in a: ") for line in comparison_lines(found))


def test_the_command_and_its_json(run: Path, hotter: Path):
    said = CliRunner().invoke(app, ["compare", str(run), str(hotter)])
    assert said.exit_code == 0, said.output
    assert "decodings.sampled.temperature: 0.8, and 1.5" in said.stdout
    assert "the same to the byte: 27 of 63 responses" in said.stdout
    written = json.loads(CliRunner().invoke(app, ["compare", str(run), str(hotter), "--json"]).stdout)
    assert (written["n_same"], written["identical"]) == (27, False)


def test_no_run_is_refused(run: Path, tmp_path: Path):
    with pytest.raises(StoreError, match="is not a run directory"):
        compare(run, tmp_path)


def test_an_unfinished_run_is_refused(run: Path, study: dict[str, Any], tmp_path: Path):
    unfinished = stage_runs.run(study, tmp_path / "run", stages=("tune",))
    with pytest.raises(StoreError, match="has no observations yet"):
        compare(run, unfinished)


def test_runs_without_a_common_cell_are_refused(run: Path, study: dict[str, Any], tmp_path: Path):
    other = study | {"judges": ["phrases-gcg"]}
    with pytest.raises(DataError, match="have no cell in common"):
        compare(run, stage_runs.run(other, tmp_path / "run"))


def test_keys_of_lists_go_by_name():
    a = {"tasks": [{"name": "x", "n": 1}], "seeds": [1, 2], "gone": None}
    b = {"tasks": [{"name": "x", "n": 2}, {"name": "y", "n": 3}], "seeds": [1, 2, 3]}
    said = [entry.in_words() for entry in changed(a, b)]
    assert said == [
        "tasks.x.n: 1, and 2",
        "seeds: [1, 2], and [1, 2, 3]",
        "gone: null, and absent",
        "tasks.y.n: absent, and 3",
    ]
    assert flattened({"empty": {}}) == {"empty": {}}
