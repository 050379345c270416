"""Names that others gave to items, models and files are never paths."""

import csv
import json
import re
from pathlib import Path

import polars as pl
import pytest

from aftertune.errors import AftertuneError, StudyError
from aftertune.pipeline import STAGES
from aftertune.study import parse_study
from stage_runs import run, study_of

IDS = ("../../outside", "/etc/passwd", "a/b\\c", "..", ".", "CON", "a\x1b[31m", "x" * 300, "$(id)", "%2e%2e")


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.slow
def test_item_ids_are_no_paths(tiny_model: Path, tmp_path: Path):
    with (tmp_path / "items.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "prompt", "category"))
        writer.writerows((name, f"question {n}", name) for n, name in enumerate(IDS))
    before = files(tmp_path)
    task = {"name": "mine", "file": str(tmp_path / "items.csv"), "intent": "harmful"}
    primary = {"task": "mine", "decoding": "sampled", "judge": "incoherence-rules"}
    primary |= {"metric": "incoherence_rate", "target": "benchmark"}
    study = study_of(tiny_model, tasks=[task | {"id_column": "id", "category_column": "category"}])
    (tmp_path / "here").mkdir()
    out = run(study | {"analysis": {"primary": primary}}, tmp_path / "here" / "run", stages=STAGES)
    assert files(tmp_path) - before - {path for path in files(tmp_path) if path.startswith("here")} == set()
    # Each name is one of ours: of a stage, a recipe or a hash.
    assert all(
        re.fullmatch(r"[A-Za-z0-9._-]{1,120}", part) for name in files(out) for part in name.split("/")
    )
    observed = pl.read_parquet(out / "observations.parquet")
    assert set(observed["item"]) == set(IDS)  # and kept as they were


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "", "a\x1b", "x" * 65, "a b"])
@pytest.mark.parametrize("where", ["name", "recipe", "decoding", "task", "variation"])
def test_names_that_become_folders_are_refused(name: str, where: str, tiny_model: Path, tmp_path: Path):
    study = study_of(tiny_model)
    if where == "name":
        study["name"] = name
    elif where == "recipe":
        study["recipes"] = {name: study["recipes"]["chat"]}
    elif where == "decoding":
        study["decodings"] = {name: study["decodings"]["greedy"]}
    elif where == "task":
        study["tasks"] = [{"name": name, "n": 3}]
    else:
        study["variations"] = [{"name": name, "class": "measurement", "change": {"root_seed": 4}}]
    with pytest.raises(StudyError):
        parse_study(study, source="s.yaml", folder=tmp_path)


@pytest.mark.slow
def test_a_checkpoint_list_that_leads_elsewhere(tiny_model: Path, tmp_path: Path):
    """A record of a training that names a folder outside of its own."""
    out = run(study_of(tiny_model, seeds=1), tmp_path / "run")
    (record,) = (out / "checkpoints").rglob("checkpoint.json")
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "adapter_model.safetensors").write_bytes(b"x")
    (secret / "adapter_config.json").write_text("{}")
    record.write_text(json.dumps(json.loads(record.read_text()) | {"path": "../../../../secret"}))
    try:
        run(study_of(tiny_model, seeds=1), out)
    except AftertuneError:
        return
    listed = json.loads((out / "checkpoints.json").read_text())
    assert all("secret" not in str(entry["path"]) for entry in listed)
