"""The manifest: old ones are read, newer and damaged ones refused, and each section has one writer."""

import ast
import json
from collections import defaultdict
from pathlib import Path

import pytest

import aftertune
from aftertune.errors import StoreError
from aftertune.records.manifest import MANIFEST_VERSION, Manifest
from aftertune.store import RunDirectory

STORED = sorted((Path(__file__).parents[1] / "stored_runs").rglob("manifest.json"))


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.parent.name)
def test_a_stored_manifest_is_written_back_as_it_was(path: Path):
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert RunDirectory(path.parent).read_manifest().recorded() == stored
    assert len(stored) > 15


def test_every_section_that_was_ever_stored_is_known():
    known = set(Manifest.model_fields)
    assert {key for path in STORED for key in json.loads(path.read_text(encoding="utf-8"))} <= known


def test_a_run_without_a_manifest_has_no_section(tmp_path: Path):
    assert RunDirectory(tmp_path).read_manifest().recorded() == {}


def test_an_update_keeps_other_sections_and_unknown_keys_in_the_models_order(tmp_path: Path):
    run = RunDirectory(tmp_path)
    run.manifest.write_text(json.dumps({"manifest_version": 1, "extra": [1], "study": "s"}))
    run.update_manifest(root_seed=3, study_sha256="ab")
    stored = json.loads(run.manifest.read_text())
    assert stored == {
        "manifest_version": MANIFEST_VERSION, "study": "s", "study_sha256": "ab", "root_seed": 3, "extra": [1]
    }  # fmt: skip
    assert list(stored)[-1] == "extra"


def test_a_newer_manifest_is_refused(tmp_path: Path):
    run = RunDirectory(tmp_path)
    run.manifest.write_text(json.dumps({"manifest_version": MANIFEST_VERSION + 1}))
    with pytest.raises(
        StoreError, match=f"has version {MANIFEST_VERSION + 1}, this aftertune knows"
    ) as error:
        run.read_manifest()
    assert error.value.remedy == "upgrade aftertune"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("root_seed", "x", "root_seed: Input should be a valid integer.*got 'x'"),
        ("model", {"name": "m"}, "model.path: Field required"),
        ("stages_s", [1], "stages_s: Input should be a valid dictionary"),
        ("judges", [None], "judges.0: Input should be"),
    ],
)
def test_a_damaged_section_is_named_with_its_value(tmp_path: Path, key: str, value: object, words: str):
    run = RunDirectory(tmp_path)
    run.manifest.write_text(json.dumps({key: value}))
    with pytest.raises(StoreError, match=words) as error:
        run.read_manifest()
    assert "run the study again" in error.value.remedy


def test_a_wrong_section_is_not_written(tmp_path: Path):
    run = RunDirectory(tmp_path)
    with pytest.raises(ValueError, match="root_seed"):
        run.update_manifest(root_seed="x")
    assert not run.manifest.exists()


def test_what_a_run_needs_is_asked_for_by_name(tmp_path: Path):
    run = RunDirectory(tmp_path)
    for name in ("model", "study_folder"):
        with pytest.raises(StoreError, match=f"has no {name}"):
            getattr(run, name)


def test_each_section_has_one_writer():
    writers: dict[str, set[str]] = defaultdict(set)
    package = Path(aftertune.__file__).parent
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "update_manifest":
                for keyword in node.keywords:
                    # `**_manifest(resolved)`: the keys of the dictionary that the function returns.
                    for name in [keyword.arg] if keyword.arg else _keys_of(path, keyword.value):
                        writers[name].add(f"{path.relative_to(package)}:{node.lineno}")
    assert set(writers) == set(Manifest.model_fields) - {"manifest_version"}
    assert {name: places for name, places in writers.items() if len(places) > 1} == {}


def _keys_of(path: Path, call: ast.expr) -> list[str]:
    assert isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
    name = call.func.id
    tree = ast.parse(path.read_text(encoding="utf-8"))
    function = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name)
    returned = next(n.value for n in ast.walk(function) if isinstance(n, ast.Return))
    assert isinstance(returned, ast.Dict)
    return [
        key.value for key in returned.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)
    ]
