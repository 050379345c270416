"""`aftertune audit`: finished checkpoints beside their base, and what cannot stand beside it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import stage_runs
from aftertune.cli import app
from aftertune.commands.audit import audit_study, study_file
from aftertune.commands.audit_options import AuditOptions
from aftertune.errors import AftertuneError, ModelError, StudyError
from aftertune.records.analysis import Analysis
from aftertune.stages.check import check
from aftertune.store import RunDirectory
from aftertune.study import Study, read_study
from endpoint_server import Answer, Server, completion
from tiny import make_tiny_model


@pytest.fixture(scope="module")
def made(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose recipes left two adapters and two whole models."""
    recipes = {"chat": stage_runs.recipe(), "whole": stage_runs.recipe(method="full")}
    folder = tmp_path_factory.mktemp("made")
    return stage_runs.run(stage_runs.study_of(tiny_model, recipes=recipes), folder / "run")


def checkpoints(made: Path, recipe: str) -> list[str]:
    listed = json.loads((made / "checkpoints.json").read_text())
    return [entry["path"] for entry in listed if entry["model"] == recipe]


def like(made: Path) -> Path:
    """The run's own study file: an audit of its checkpoints must find its responses."""
    return made.parent / f"{made.name}.yaml"


def audited(*arguments: str | Path) -> Analysis:
    result = CliRunner().invoke(app, ["audit", *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return Analysis.model_validate_json(result.stdout)


def checked(base: Path, *candidates: str | Path, group: list[str] | None = None) -> Study:
    study = audit_study(str(base), [str(c) for c in candidates], AuditOptions(group=group, n=2))
    check(study)
    return study


@pytest.mark.slow
def test_an_audit_of_a_runs_checkpoints_draws_the_runs_responses(
    tiny_model: Path, made: Path, tmp_path: Path
) -> None:
    out = tmp_path / "audit"
    groups = [
        word for r in ("chat", "whole") for word in ("--group", f"{r}={','.join(checkpoints(made, r))}")
    ]
    found = audited(tiny_model, *groups, "--like", like(made), "--repeats", "2", "--out", out)
    then, now = stage_runs.texts(made), stage_runs.texts(out)
    assert then.items() <= now.items()  # the run drew the tuned models once an item, the audit twice
    assert len(then) < len(now)
    assert {(r.model, r.n_seeds) for r in found.rates} == {("base", 1), ("chat", 2), ("whole", 2)}
    over_seeds = [d.sentence for d in found.differences if d.verdict != "no conclusion"]
    assert over_seeds
    assert all("over training seeds" in sentence for sentence in over_seeds)


@pytest.mark.slow
def test_one_checkpoint_is_asked_about_itself_and_no_other_training(
    tiny_model: Path, made: Path, tmp_path: Path
) -> None:
    adapter, whole = checkpoints(made, "chat")[0], checkpoints(made, "whole")[0]
    named = [shutil.copytree(path, tmp_path / name) for path, name in ((adapter, "one"), (whole, "other"))]
    out = tmp_path / "audit"
    found = audited(tiny_model, *named, "--n", "4", "--max-tokens", "8", "--out", out)
    assert found.primary is not None
    assert {d.model for d in found.differences} == {"one", "other"}
    assert all("It says nothing of another training seed" in d.sentence for d in found.differences)
    sampled = [r for r in found.rates if r.model == "one" and r.decoding == "sampled"]
    assert all(r.benchmark is not None and r.per_seed[0].seed is None for r in sampled)
    kinds = {e["model"]: e["kind"] for e in json.loads((out / "checkpoints.json").read_text())}
    assert kinds == {"base": "base", "one": "adapter", "other": "full"}
    # The same again draws nothing, and its study file runs by itself.
    before = sorted((out / "responses").rglob("*.parquet"))
    again = CliRunner().invoke(app, ["run", str(out / "study.yaml"), "--out", str(out), "--json"])
    assert Analysis.model_validate_json(again.stdout) == found
    assert sorted((out / "responses").rglob("*.parquet")) == before


@pytest.mark.slow
def test_an_audit_never_drops_weights_that_are_not_its_own(
    tiny_model: Path, made: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(checkpoints(made, "chat")[0], tmp_path / "mine"))
    study = yaml.safe_load(like(made).read_text()) | {"keep_checkpoints": "none"}
    file = tmp_path / "like.yaml"
    file.write_text(yaml.safe_dump(study))
    audited(tiny_model, own, "--like", file, "--out", tmp_path / "audit")
    assert (own / "adapter_model.safetensors").is_file()


def test_models_of_an_endpoint_are_audited_by_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reply(_: int, asked: dict[str, Any]) -> Answer:
        refuses = asked["model"] == "base-7b"
        said = "I'm sorry, but I can't help with that." if refuses else "Sure! Here it is."
        return Answer(json.dumps(json.loads(completion(said).body) | {"model": asked["model"]}))

    monkeypatch.setenv("MY_KEY", "sk-test")
    out = tmp_path / "audit"
    at = ["--endpoint", Server(reply).url, "--api-key-env", "MY_KEY"]
    found = audited("base-7b", "ft:mine", *at, "--n", "3", "--out", out)
    first = next(d for d in found.differences if d.primary)
    assert (first.model, first.estimate) == ("ft-mine", 1.0)
    assert first.verdict in ("less safe", "not shown")
    assert "sk-test" not in "".join(f.read_text(errors="replace") for f in out.rglob("*.json"))


def test_the_contrast_is_fixed_before_the_run(tiny_model: Path, made: Path) -> None:
    one = checkpoints(made, "chat")[:1]
    study = audit_study(str(tiny_model), one, AuditOptions(margin=0.1))
    primary = study.analysis.primary
    assert primary is not None
    assert (primary.task, primary.decoding, study.analysis.margin) == ("mini-harm", "sampled", 0.1)
    other = audit_study(str(tiny_model), one, AuditOptions(task=["mini-lookalikes"]))
    assert other.analysis.primary is not None
    assert (other.analysis.primary.task, other.analysis.primary.metric) == (
        "mini-lookalikes",
        "over_refusal_rate",
    )


def test_the_file_of_an_audit_is_the_study_again(tiny_model: Path, made: Path, tmp_path: Path) -> None:
    options = AuditOptions(like=like(made), group=[f"a={','.join(checkpoints(made, 'chat'))}"])
    study = audit_study(str(tiny_model), [], options)
    file = tmp_path / "study.yaml"
    file.write_bytes(study_file(study))
    assert read_study(file) == study
    assert study.recipes.keys() == {"a"}
    assert study.decodings["sampled"].repeats == 1  # the study's repeats by label name others' checkpoints


def _template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}\n{% endfor %}")


def _quantized(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (folder / "config.json").write_text(json.dumps(config))


def _ends_elsewhere(folder: Path) -> None:
    config = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(config | {"eos_token_id": [0, 2]}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_template, "its chat template writes"),
        (_quantized, "one of the two is quantized"),
        (_ends_elsewhere, r"end at the tokens \[0, 2\], the base's at \[2\]"),
    ],
)
def test_arms_that_differ_in_more_than_weights_are_refused(
    tiny_model: Path, made: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    whole = Path(shutil.copytree(checkpoints(made, "whole")[0], tmp_path / "mine"))
    checked(tiny_model, whole)
    spoil(whole)
    with pytest.raises(ModelError, match=message):
        checked(tiny_model, whole)


def test_an_adapter_with_another_template_beside_it_is_refused(
    tiny_model: Path, made: Path, tmp_path: Path
) -> None:
    adapter = Path(shutil.copytree(checkpoints(made, "chat")[0], tmp_path / "mine"))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tiny_model / file, adapter / file)
    _template(adapter)
    with pytest.raises(ModelError, match="chat template"):
        checked(tiny_model, adapter)


def test_a_checkpoint_of_another_base_is_refused(tiny_model: Path, made: Path, tmp_path: Path) -> None:
    other = make_tiny_model(tmp_path / "other", seed=5)
    wide = make_tiny_model(tmp_path / "wide", hidden_size=64)
    with pytest.raises(ModelError, match="of its weight matrices have other names or shapes"):
        checked(tiny_model, wide)
    adapter = checkpoints(made, "chat")[0]
    named = json.loads((Path(adapter) / "adapter_config.json").read_text())["base_model_name_or_path"]
    mine = Path(shutil.copytree(adapter, tmp_path / "mine"))
    config = json.loads((mine / "adapter_config.json").read_text())
    (mine / "adapter_config.json").write_text(
        json.dumps(config | {"base_model_name_or_path": str(tiny_model)})
    )
    assert named
    with pytest.raises(ModelError, match=f"it is an adapter of the model in {tiny_model}"):
        checked(other, mine)


@pytest.mark.parametrize(
    ("candidates", "group", "error", "message"),
    [
        ([], None, StudyError, "no candidate"),
        (["nowhere/at/all"], None, ModelError, "no checkpoint at"),
        (["owner/name"], None, ModelError, "has no revision"),
        (["a/one", "b/one"], None, StudyError, "two candidates would be called 'one'"),
        ([], ["chat"], StudyError, "NAME=CHECKPOINT"),
        ([], ["chat=a", "chat=b"], StudyError, "gives 'chat' twice"),
    ],
)
def test_what_names_no_checkpoint_says_so(
    tiny_model: Path,
    candidates: list[str],
    group: list[str] | None,
    error: type[AftertuneError],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        checked(tiny_model, *candidates, group=group)


def test_copies_are_no_seeds(tiny_model: Path, made: Path, tmp_path: Path) -> None:
    one = checkpoints(made, "chat")[0]
    copy = shutil.copytree(one, tmp_path / "copy")
    with pytest.raises(ModelError, match="are the same to the byte"):
        checked(tiny_model, group=[f"chat={one},{copy}"])
    for file in tiny_model.glob("tokenizer*"):  # a trainer writes them into one of its folders, not the other
        shutil.copy(file, copy)
    with pytest.raises(ModelError, match="are the same to the byte"):
        checked(tiny_model, group=[f"chat={one},{copy}"])
    file = Path(copy, "adapter_config.json")
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"lora_alpha": 2 * config["lora_alpha"]}))
    checked(tiny_model, group=[f"chat={one},{copy}"])  # the same numbers, and another model
    untuned = Path(shutil.copytree(tiny_model, tmp_path / "untuned"))
    result = CliRunner().invoke(app, ["audit", str(tiny_model), str(untuned), "--out", str(tmp_path / "o")])
    assert "has the weights of its base, to the byte" in str(result.exception)


def test_a_finished_checkpoint_that_changed_is_no_reproduction(
    tiny_model: Path, made: Path, tmp_path: Path
) -> None:
    mine = Path(shutil.copytree(checkpoints(made, "chat")[0], tmp_path / "mine"))
    out = tmp_path / "audit"
    audited(tiny_model, mine, "--n", "2", "--max-tokens", "4", "--out", out)
    assert RunDirectory(out).read_manifest().finished["mine"][0].kind == "adapter"
    shutil.copyfile(
        Path(checkpoints(made, "chat")[1]) / "adapter_model.safetensors", mine / "adapter_model.safetensors"
    )
    result = CliRunner().invoke(app, ["reproduce", str(out), "--out", str(tmp_path / "again")])
    assert f"the checkpoint {mine} is not what" in str(result.exception)
