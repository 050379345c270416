"""Tune: what is trained, what is found, what is trained again, and what becomes of failures."""

import json
import shutil
import sys
import textwrap
from pathlib import Path

import polars as pl
import pytest

from aftertune.errors import DataError, ModelError, StoreError
from aftertune.tuning import trainer, training
from aftertune.tuning.streams import TrainingStreams
from stage_runs import recipe, rows, run, study_of

# Without torch, which takes seconds to import: it draws an adapter's matrices and writes them.
TRAINER = """
import argparse, json
from pathlib import Path
import numpy
from safetensors.numpy import save_file

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int)
parser.add_argument("--output", type=Path)
parser.add_argument("--base", type=Path)
args = parser.parse_args()
draw = numpy.random.default_rng({seed}).standard_normal
size = json.loads((args.base / "config.json").read_text())["hidden_size"]
name = "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"
shapes = {name.format(layer, ab): (2, size) if ab == "A" else (size, 2) for layer in (0, 1) for ab in "AB"}
save_file({n: draw(s, dtype="float32") for n, s in shapes.items()}, args.output / "adapter_model.safetensors")
config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "target_modules": ["q_proj"]}
(args.output / "adapter_config.json").write_text(json.dumps(config))
"""
# As its users write one.
PEFT_TRAINER = """
import sys
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

seed, output, base = sys.argv[2::2]
torch.manual_seed(int(seed))
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
model.save_pretrained(output)
"""
FAILING = "import sys\nprint('epoch 1')\nsys.exit('out of memory')\n"
COMMAND = f"{sys.executable} train.py --seed {{seed}} --output {{output}} --base {{base}}"


def write_trainer(folder: Path, text: str = TRAINER, *, seed: str = "args.seed") -> None:
    (folder / "train.py").write_text(textwrap.dedent(text).replace("{seed}", seed))


@pytest.fixture
def trained(monkeypatch):
    """What is trained by us, as recipe/seed."""
    labels: list[str] = []
    train = trainer.Trainer.train

    def spy(self, recipe, data, *, name, seed, **rest):
        labels.append(f"{name}/{seed}")
        return train(self, recipe, data, name=name, seed=seed, **rest)

    monkeypatch.setattr(trainer.Trainer, "train", spy)
    return labels


def checkpoints(out: Path) -> dict[str, dict]:
    listed = json.loads((out / "checkpoints.json").read_text())
    return {f"{entry['model']}/{entry['seed']}": entry for entry in listed}


def small(model, **recipes):
    return study_of(model, recipes=recipes, tasks=[{"name": "mini-harm", "n": 2}], judges=["refusal-rules"])


TUNE = ("tune",)


@pytest.mark.slow
def test_each_seed_is_trained_once_and_found_again(tiny_model, tmp_path, trained):
    study, told = small(tiny_model, chat=recipe()), []
    out = run(study, tmp_path / "run", stages=TUNE, progress=lambda *entry: told.append(entry))
    assert trained == ["chat/1", "chat/2"]
    found = checkpoints(out)
    assert [entry["status"] for entry in found.values()] == ["ok"] * 3
    assert len({entry["sha256"] for entry in found.values()}) == 3
    for seed in (1, 2):
        folder = Path(found[f"chat/{seed}"]["path"]).parent
        assert len((folder / "training.jsonl").read_text().splitlines()) == 2
        assert folder.stat().st_mode & 0o777 == 0o755
    assert told == [("tune", n, 4) for n in (0, 1, 2, 2, 3, 4, 4)]
    run(study, out, stages=TUNE)
    assert trained == ["chat/1", "chat/2"]
    assert checkpoints(out) == found
    other = run(study | {"seeds": [2, 3]}, tmp_path / "other", stages=TUNE)
    assert checkpoints(other)["chat/2"]["sha256"] == found["chat/2"]["sha256"]


@pytest.mark.parametrize(
    "changes", [{"learning_rate": 4.0e-3}, {"n": 7}, {"data": "packaged:arithmetic"}], ids=str
)
def test_another_recipe_makes_other_checkpoints(changes, tiny_model, tmp_path, trained):
    out = run(small(tiny_model, chat=recipe()), tmp_path / "run", stages=TUNE)
    before = checkpoints(out)
    run(small(tiny_model, chat=recipe(**changes)), out, stages=TUNE)
    assert len(trained) == 4
    assert before["chat/1"]["sha256"] != checkpoints(out)["chat/1"]["sha256"]


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["changed", "config gone", "weights gone", "record gone", "left half"])
def test_a_checkpoint_that_is_not_what_was_trained_is_trained_again(
    harm, tiny_model, tmp_path, trained, caplog
):
    study = small(tiny_model, chat=recipe())
    out = run(study, tmp_path / "run", stages=TUNE)
    found = checkpoints(out)
    path = Path(found["chat/1"]["path"])
    weights = path / "adapter_model.safetensors"
    match harm:
        case "changed":
            weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
        case "config gone":
            (path / "adapter_config.json").unlink()
        case "weights gone":
            weights.unlink()
        case "record gone":
            (path.parent / "checkpoint.json").unlink()
        case "left half":
            (out / "checkpoints" / ".training-abc").mkdir()
            shutil.rmtree(path.parent)
    run(study, out, stages=TUNE)
    assert trained == ["chat/1", "chat/2", "chat/1"]
    assert checkpoints(out) == found
    assert [file.name for file in (out / "checkpoints").iterdir()] == ["chat"]
    if harm in ("changed", "config gone"):
        assert "checkpoint chat/1 changed since it was trained" in caplog.text


@pytest.fixture
def shared(monkeypatch):
    """Seeds trained together, as on a GPU, three at once; which ones were."""
    groups: list[list[int]] = []
    train_together = trainer.train_together

    def spy(model, examples, recipe, *, streams, **rest):
        groups.append([each.seed for each in streams])
        return train_together(model, examples, recipe, streams=streams, **rest)

    monkeypatch.setattr(trainer, "train_together", spy)
    monkeypatch.setattr(trainer, "trains_together", lambda device, recipe: True)
    monkeypatch.setattr(trainer, "free_bytes", lambda: 0)
    monkeypatch.setattr(trainer, "seeds_that_fit", lambda model, lengths, free_bytes: 3)
    return groups


def test_seeds_of_a_recipe_are_trained_together_where_that_is_faster(tiny_model, tmp_path, shared):
    told = []
    study = small(tiny_model, chat=recipe(), other=recipe(rank=4)) | {"seeds": 4}
    out = run(study, tmp_path / "run", stages=TUNE, progress=lambda *entry: told.append(entry))
    assert shared == [[1, 2, 3], [4], [1, 2, 3], [4]]
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert told[-1] == ("tune", 16, 16)
    found = checkpoints(out)
    assert [entry["status"] for entry in found.values()] == ["ok"] * 9
    assert len({entry["sha256"] for entry in found.values()}) == 9
    for seed in (1, 4):
        folder = Path(found[f"chat/{seed}"]["path"]).parent
        assert len((folder / "training.jsonl").read_text().splitlines()) == 2
    shutil.rmtree(Path(found["chat/2"]["path"]).parent)
    (Path(found["chat/4"]["path"]).parent / "checkpoint.json").unlink()
    shared.clear()
    run(study, out, stages=TUNE)
    assert shared == [[2, 4]]  # what is there is not trained again
    again = checkpoints(out)
    assert again.keys() == found.keys()
    assert [label for label in found if again[label]["sha256"] != found[label]["sha256"]] in (
        [],
        ["chat/2"],
        ["chat/4"],
        ["chat/2", "chat/4"],  # beside another seed the last bits may differ
    )


def test_a_seed_that_diverges_among_others_is_a_status_of_its_own(tiny_model, tmp_path, shared):
    out = run(small(tiny_model, wild=recipe(learning_rate=1.0e30)), tmp_path / "run", stages=TUNE)
    assert [entry["status"] for entry in checkpoints(out).values()] == ["ok", "diverged", "diverged"]
    assert shared == [[1, 2]]


def test_trainings_together_and_alone_have_different_keys(tiny_model, tmp_path, monkeypatch):
    study = small(tiny_model, chat=recipe())
    out = run(study, tmp_path / "run", stages=TUNE)
    alone = checkpoints(out)["chat/1"]["path"]
    monkeypatch.setattr(trainer, "trains_together", lambda device, recipe: True)
    monkeypatch.setattr(trainer, "free_bytes", lambda: 1 << 40)
    run(study, out, stages=TUNE)
    assert checkpoints(out)["chat/1"]["path"] != alone


def test_a_diverged_training_is_a_status_and_the_others_go_on(tiny_model, tmp_path, trained, caplog):
    study = small(tiny_model, wild=recipe(learning_rate=1.0e30), chat=recipe())
    out = run(study, tmp_path / "run")
    found = checkpoints(out)
    assert {entry["status"] for label, entry in found.items() if "wild" in label} == {"diverged"}
    assert "step" in found["wild/1"]["reason"]
    assert found["wild/1"]["path"] is None
    observed = pl.read_parquet(out / "observations.parquet")
    assert set(observed["checkpoint"]) == {"base", "chat/1", "chat/2"}
    assert "training wild/1 diverged" in caplog.text
    run(study, out)
    assert len(trained) == 4  # it would diverge again


def test_the_users_trainer_is_run_for_each_seed(tiny_model, tmp_path):
    write_trainer(tmp_path)
    study = small(tiny_model, mine={"command": COMMAND})
    out = run(study, tmp_path / "run")
    found = checkpoints(out)
    assert found["mine/1"]["kind"] == "adapter"
    assert found["mine/1"]["sha256"] != found["mine/2"]["sha256"]
    observed = pl.read_parquet(out / "observations.parquet")
    assert set(observed["checkpoint"]) == {"base", "mine/1", "mine/2"}
    write_trainer(tmp_path, TRAINER + "\n# another version\n")
    run(study, out, stages=TUNE)
    assert Path(checkpoints(out)["mine/1"]["path"]) != Path(found["mine/1"]["path"])


def test_what_a_trainer_left_is_compared_with_the_base_as_any_other_checkpoint(tiny_model, tmp_path):
    template = "if args.seed == 2: (args.output / 'chat_template.jinja').write_text('{{ messages }}')\n"
    write_trainer(tmp_path, TRAINER + template)
    out = run(small(tiny_model, mine={"command": COMMAND}), tmp_path / "run")
    found = checkpoints(out)
    assert found["mine/1"]["status"] == "ok"
    assert (found["mine/2"]["status"], found["mine/2"]["path"]) == ("failed", None)
    assert "its chat template writes" in found["mine/2"]["reason"]
    observed = pl.read_parquet(out / "observations.parquet")
    assert set(observed["checkpoint"]) == {"base", "mine/1"}
    folder = next((out / "checkpoints" / "mine").glob("seed-2-*")) / "output"
    with pytest.raises(ModelError, match="its chat template writes"):
        run(small(tiny_model, mine={"checkpoints": [str(folder)]}) | {"seeds": 1}, tmp_path / "named")


def test_a_trainer_that_ignores_its_seed_is_told_of(tiny_model, tmp_path, caplog):
    write_trainer(tmp_path, seed="5")
    run(small(tiny_model, mine={"command": COMMAND}), tmp_path / "run", stages=TUNE)
    assert (
        "checkpoints mine/1 and mine/2 are the same to the byte: does the trainer use its seed?"
        in caplog.text
    )


def test_a_trainer_that_fails_is_a_status_and_is_tried_again(tiny_model, tmp_path, caplog):
    write_trainer(tmp_path, FAILING)
    study = small(tiny_model, mine={"command": COMMAND}) | {"seeds": 1}
    out = run(study, tmp_path / "run")
    entry = checkpoints(out)["mine/1"]
    assert (entry["status"], entry["path"], entry["sha256"]) == ("failed", None, None)
    assert "exit code 1; its last lines:\nepoch 1\nout of memory" in entry["reason"]
    assert "training mine/1 failed" in caplog.text
    assert set(pl.read_parquet(out / "observations.parquet")["checkpoint"]) == {"base"}
    # The same words of the command, mended by what it reads: the script is hashed, so the key is another.
    write_trainer(tmp_path, FAILING + "# again\n")
    run(study, out, stages=TUNE)
    assert checkpoints(out)["mine/1"]["status"] == "failed"
    write_trainer(tmp_path)
    run(study, out)
    assert checkpoints(out)["mine/1"]["status"] == "ok"
    assert set(pl.read_parquet(out / "observations.parquet")["checkpoint"]) == {"base", "mine/1"}


def test_a_trainer_that_failed_by_chance_is_run_again(tiny_model, tmp_path):
    write_trainer(
        tmp_path, f"import os, sys\nos.path.exists({str(tmp_path / 'go')!r}) or sys.exit('no')\n" + TRAINER
    )
    study = small(tiny_model, mine={"command": COMMAND}) | {"seeds": 1}
    out = run(study, tmp_path / "run", stages=TUNE)
    assert checkpoints(out)["mine/1"]["status"] == "failed"
    (tmp_path / "go").touch()
    run(study, out, stages=TUNE)
    assert checkpoints(out)["mine/1"]["status"] == "ok"


def test_a_word_too_long_for_a_file_name_is_no_file(tiny_model, tmp_path):
    study = small(tiny_model, mine={"command": f"python -c {'x' * 5000} {{seed}} {{output}}"}) | {"seeds": 1}
    out = run(study, tmp_path / "run", stages=TUNE)
    assert checkpoints(out)["mine/1"]["status"] == "failed"


@pytest.mark.slow
def test_a_trainer_that_uses_peft(tiny_model, tmp_path):
    write_trainer(tmp_path, PEFT_TRAINER)
    out = run(small(tiny_model, mine={"command": COMMAND}), tmp_path / "run")
    assert set(pl.read_parquet(out / "observations.parquet")["checkpoint"]) == {"base", "mine/1", "mine/2"}


def test_answers_of_the_base_are_drawn_once_and_trained_on(tiny_model, tmp_path, trained):
    own = recipe(answers="self", self_max_tokens=12)
    study, told = small(tiny_model, own=own, chat=recipe()), []
    out = run(study, tmp_path / "run", stages=TUNE, progress=lambda *entry: told.append(entry[0]))
    answers = rows(out, "answers")
    assert answers["key"].is_unique().all()
    assert set(answers["checkpoint"]) == {"base"}
    found = checkpoints(out)
    assert found["own/1"]["sha256"] != found["chat/1"]["sha256"]
    drawn = {row for seed in (1, 2) for row in TrainingStreams(3, "own", seed).subset(201, 8)}
    assert told.count("answers") == answers.height == len(drawn)  # and not all of the data's rows
    told.clear()
    run(study | {"root_seed": 9}, out, stages=TUNE, progress=lambda *entry: told.append(entry[0]))
    again = {row for seed in (1, 2) for row in TrainingStreams(9, "own", seed).subset(201, 8)}
    # A greedy answer does not depend on the root seed: only rows that were not drawn before are answered.
    assert told.count("answers") == rows(out, "answers").height - answers.height == len(again - drawn)
    assert checkpoints(out)["own/1"]["sha256"] != found["own/1"]["sha256"]


def test_more_seeds_leave_the_checkpoints_of_the_others(tiny_model, tmp_path, trained):
    study = small(tiny_model, own=recipe(answers="self", self_max_tokens=12))
    out = run(study, tmp_path / "run", stages=TUNE)
    found = checkpoints(out)
    trained.clear()
    run(study | {"seeds": 3}, out, stages=TUNE)
    assert trained == ["own/3"]  # it draws rows that the base had not answered before
    assert checkpoints(out).items() >= found.items()


def test_data_that_the_base_cannot_answer_are_refused(tiny_model, tmp_path):
    file = tmp_path / "talks.jsonl"
    turns = [{"role": role, "content": "Hi"} for role in ("user", "assistant", "user", "assistant")]
    file.write_text(json.dumps({"messages": turns}) + "\n")
    study = small(tiny_model, own={"data": "talks.jsonl", "answers": "self", "epochs": 2.5, "dropout": 0.1})
    with pytest.raises(
        DataError, match=r"row 1: `answers: self` needs one question and one answer.*user, assist"
    ):
        run(study, tmp_path / "run", stages=TUNE)


def test_a_folder_that_cannot_be_written_is_named(tiny_model, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(training, "run_command", lambda *args, **kwargs: full())
    write_trainer(tmp_path)
    with pytest.raises(
        StoreError, match=r"cannot write a checkpoint in .*checkpoints: No space left.*\n.*is kept"
    ):
        run(small(tiny_model, mine={"command": COMMAND}), tmp_path / "run", stages=TUNE)
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []
