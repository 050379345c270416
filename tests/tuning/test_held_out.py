"""Held-out rows are never trained on, and their loss is what the model gives their answers."""

import json
import math
from pathlib import Path

import pytest
import torch

from aftertune.data import load_conversations
from aftertune.engines import open_local_engine
from aftertune.engines.loading import resolve_model
from aftertune.errors import DataError
from aftertune.study import DataSpec, Study
from aftertune.tuning import held_out
from aftertune.tuning.encode import IGNORED, encode_all
from aftertune.tuning.held_out import hold_out
from stage_runs import recipe, rows, run, study_of

CHAT = load_conversations("packaged:chat")
MIXED = load_conversations(DataSpec(name="packaged:chat", safety_mix=0.2))


def test_the_rows_are_split_once_by_the_root_seed_and_the_recipe():
    train, held = hold_out(MIXED, 30, recipe="a", root_seed=1)
    assert held is not None
    assert (len(held.conversations), held.n_mixed, train.n_mixed) == (30, 0, MIXED.n_mixed)
    assert set(held.conversations) | set(train.conversations) == set(MIXED.conversations)
    assert not set(held.conversations) & set(train.conversations)
    assert not set(held.conversations) & set(MIXED.conversations[MIXED.n_own :])
    assert len({held.sha256, train.sha256, MIXED.sha256}) == 3
    assert hold_out(MIXED, 30, recipe="a", root_seed=1) == (train, held)
    for other in ({"recipe": "b", "root_seed": 1}, {"recipe": "a", "root_seed": 2}):
        assert hold_out(MIXED, 30, **other)[1] != held
    assert hold_out(MIXED, 0, recipe="a", root_seed=1) == (MIXED, None)


def test_all_rows_cannot_be_held_out():
    with pytest.raises(DataError, match=r"recipes\.a\.held_out is 201, but .* has 201 rows of its own"):
        hold_out(CHAT, 201, recipe="a", root_seed=1)


@pytest.fixture
def computed(monkeypatch):
    """The labels of the checkpoints whose loss is computed."""
    labels: list[str] = []
    original = held_out.held_out_loss

    def spy(engine, checkpoint, examples):
        labels.append(checkpoint.label)
        return original(engine, checkpoint, examples)

    monkeypatch.setattr("aftertune.stages.tune.held_out_loss", spy)
    return labels


def losses(out: Path) -> list[dict]:
    return json.loads((out / "held_out.json").read_text())


def reference(model: Path, study: dict) -> float:
    """By transformers' own loss, row by row, for the base."""
    engine = open_local_engine(Study.model_validate(study), resolve_model(str(model), None))
    _, held = hold_out(CHAT, 6, recipe="chat", root_seed=3)
    assert held is not None
    total, n = 0.0, 0
    for example in encode_all(held, engine.tokenizer, max_length=1024):
        labels = torch.tensor([example.labels])
        n_row = int((labels[0, 1:] != IGNORED).sum())
        with torch.inference_mode():
            loss = engine.base(input_ids=torch.tensor([example.input_ids]), labels=labels).loss
        total, n = total + float(loss) * n_row, n + n_row
    return total / n


@pytest.mark.slow
def test_the_loss_of_base_and_checkpoints_is_written_once(tiny_model, tmp_path, computed):
    study = study_of(tiny_model, recipes={"chat": recipe(held_out=6)})
    out = run(study, tmp_path / "run", stages=("tune",))
    found = losses(out)
    assert computed == ["base", "chat/1", "chat/2"]
    assert [(entry["model"], entry["seed"]) for entry in found] == [("base", None), ("chat", 1), ("chat", 2)]
    assert all(entry["n_rows"] == 6 and math.isfinite(entry["loss"]) for entry in found)
    assert found[1]["loss"] < found[0]["loss"]  # it learned from rows of the same kind
    assert found[1]["loss"] != found[2]["loss"]
    assert found[0]["loss"] == pytest.approx(reference(tiny_model, study), rel=2e-3)
    run(study, tmp_path / "run", stages=("tune",))
    assert losses(out) == found and len(computed) == 3
    study["recipes"]["chat"]["held_out"] = 7
    run(study, tmp_path / "run", stages=("tune",))
    assert {entry["n_rows"] for entry in losses(out)} == {7} and len(computed) == 6
    study["recipes"]["chat"]["held_out"] = 0
    run(study, tmp_path / "run", stages=("tune",))
    assert not (out / "held_out.json").exists()


def test_a_diverged_checkpoint_has_a_reason_and_no_loss(tiny_model, tmp_path):
    study = study_of(tiny_model, recipes={"chat": recipe(held_out=6, learning_rate=1e30)}, seeds=1)
    out = run(study, tmp_path / "run", stages=("tune",))
    base, chat = losses(out)
    assert base["loss"] is not None and base["reason"] == ""
    assert chat["loss"] is None and chat["reason"].startswith("the checkpoint is diverged: ")


def test_the_base_answers_its_own_and_the_held_out_rows_but_no_mixed_in_refusal(tiny_model, tmp_path):
    data = {"name": "packaged:chat", "where": {}, "max_chars": 330, "safety_mix": 0.3}
    n_rows = load_conversations(DataSpec(name="packaged:chat", max_chars=330)).n_own
    mine = recipe(data=data, answers="self", self_max_tokens=6, held_out=2, n=None, epochs=0.1)
    out = run(study_of(tiny_model, recipes={"mine": mine}, seeds=1), tmp_path / "run", stages=("tune",))
    asked = rows(out, "answers")
    assert asked.height == n_rows
    manifest = json.loads((out / "manifest.json").read_text())["data"]["mine"]
    assert manifest["n_rows"] == n_rows - 2 + round(n_rows * 0.3 / 0.7)
    assert [entry["n_rows"] for entry in losses(out)] == [2, 2]
