"""Samples that the installed lm_eval writes, of a model through transformers (`make test-formats`)."""

import json
from pathlib import Path

import pytest

pytest.importorskip("lm_eval")
pytestmark = pytest.mark.filterwarnings("ignore")  # of other libraries

from typer.testing import CliRunner  # noqa: E402

from aftertune.cli import app  # noqa: E402
from aftertune.formats.lm_eval import read_lm_eval  # noqa: E402
from formats import make_lm_eval_samples as made  # noqa: E402
from tiny import make_tiny_model  # noqa: E402


def test_two_models_pair_by_what_they_were_asked_with_lm_eval_s_own_means(tmp_path: Path):
    models = {f"m{seed}": make_tiny_model(tmp_path / "models" / f"m{seed}", seed=seed) for seed in (1, 2)}
    folder = made.make(tmp_path / "logs", dict(models), n_items=12)
    files = sorted(folder.rglob("samples_*.jsonl"))
    logs = [read_lm_eval(file) for file in files]
    assert {log.task for log in logs} == {"toy_generate", "toy_choose"}
    assert {log.model for log in logs} == {str(path) for path in models.values()}
    assert all(log.tool.startswith("lm_eval 0.4.") for log in logs)
    assert {tuple(s.item for s in log.samples) for log in logs} == {tuple(s.item for s in logs[0].samples)}
    words = ["import", str(folder), "--out", str(tmp_path / "i"), "--construct", "correct"]
    done = CliRunner().invoke(app, [*words, "--baseline", str(models["m1"])])
    assert done.exit_code == 0, done.output
    told = CliRunner().invoke(app, ["analyze", str(tmp_path / "i"), "--json"])
    rates = {(r["model"], r["task"], r["judge"]): r["estimate"] for r in json.loads(told.stdout)["rates"]}
    for file in folder.rglob("results_*.json"):
        theirs = json.loads(file.read_text("utf-8"))
        for task, metric, judge in (
            ("toy_choose", "acc,none", "acc"),
            ("toy_generate", "exact_match,strict", "exact_match/strict"),
        ):
            ours = rates[theirs["model_name"], task, judge]
            assert ours == pytest.approx(theirs["results"][task][metric]), (task, metric)
