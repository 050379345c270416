"""A study with a judge model from a directory: from the study file to its observations, and gone on with."""

from pathlib import Path

import polars as pl
import pytest

from aftertune.errors import ModelError
from aftertune.judges import model_loading
from aftertune.pipeline import STAGES
from aftertune.store import RunDirectory
from judge_models import save_judge
from stage_runs import run, study_of

SAYS = "Safety: Unsafe\nCategories: Violent\nRefusal: No"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each batch of the judge model had."""
    rows: list[int] = []
    generate = model_loading.generate

    def spy(loaded, batch, *, max_new_tokens):
        rows.append(len(batch))
        return generate(loaded, batch, max_new_tokens=max_new_tokens)

    monkeypatch.setattr(model_loading, "generate", spy)
    return rows


@pytest.mark.slow
def test_a_study_with_a_judge_model_from_a_directory(tiny_model: Path, tmp_path: Path, asked: list[int]):
    weights = save_judge(tmp_path / "judge", "Qwen3", SAYS, max_position_embeddings=2048)
    judge = {"name": "guard", "judge": "qwen3guard-0.6b", "weights": str(weights)}
    study = study_of(tiny_model, judges=["refusal-rules", judge])
    out = run(study, tmp_path / "run", stages=STAGES)
    observed = pl.read_parquet(RunDirectory(out).observations).filter(judge="guard")
    judged = observed.filter(status="ok")
    assert dict(judged.group_by("construct").agg(pl.col("value").mean()).iter_rows()) == {
        "harmful": 1.0,
        "refused": 0.0,
    }
    assert sum(asked) == judged.height / 2
    n_asked = len(asked)
    run(study, out, stages=STAGES)
    assert len(asked) == n_asked  # what is judged is not judged again


def test_weights_that_are_not_there_are_found_before_any_work(tiny_model: Path, tmp_path: Path):
    judge = {"name": "qwen3guard-0.6b", "weights": str(tmp_path / "none")}
    with pytest.raises(ModelError, match="is no directory"):
        run(study_of(tiny_model, judges=[judge]), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints.json").exists()
