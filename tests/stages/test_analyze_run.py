"""analyze_run(): what the study fixed beforehand reaches the analysis."""

import polars as pl
import pytest

from aftertune.analysis import analyze_run
from aftertune.errors import AftertuneError
from aftertune.records.analysis import Analysis
from aftertune.store import RunDirectory
from aftertune.study import parse_study
from rows import rows_of


def run_of(folder, **study):
    where = {"task": "t", "decoding": "d", "judge": "j"}
    content = {
        "name": "demo",
        "model": "m",
        "tasks": ["t"],
        "judges": ["j"],
        "decodings": {"d": {"temperature": 0, "max_tokens": 8}},
        "analysis": {
            "margin": 0.1,
            "level": 0.9,
            "primary": where | {"metric": "compliance_rate", "target": "population"},
        },
        **study,
    }
    run = RunDirectory(folder)
    study = parse_study(content, source="test", folder=folder)
    run.study_json.write_text(study.model_dump_json(by_alias=True), encoding="utf-8")
    frame = rows_of(
        lambda m, s, i, r: float(i < (10 if m == "base" else 12 + s)),
        seeds={"base": [None], "chat": [1, 2, 3, 4, 5]}, n_items=40,
    )  # fmt: skip
    frame.write_parquet(run.observations)
    run.write_json(run.checkpoint_list, [checkpoint(seed) for seed in range(1, 6)])
    return run


def checkpoint(seed, *, status="ok", reason=""):
    path = f"chat/{seed}" if status == "ok" else None
    return {
        "model": "chat", "seed": seed, "kind": "adapter",
        "status": status, "reason": reason, "path": path, "sha256": path,
    }  # fmt: skip


def test_the_settings_of_the_study_are_those_of_the_analysis(tmp_path):
    run = run_of(tmp_path)
    analysis = analyze_run(run)
    assert (analysis.study, analysis.level, analysis.margin) == ("demo", 0.9, 0.1)
    assert [(d.model, d.target) for d in analysis.differences if d.primary] == [("chat", "population")]
    assert Analysis.model_validate_json(run.analysis.read_text(encoding="utf-8")) == analysis


@pytest.mark.parametrize(("numerics", "exact"), [("exact", True), ("fast", False), (None, False)])
def test_greedy_is_certain_only_where_numerics_are_known_to_be_exact(tmp_path, numerics, exact):
    base = analyze_run(run_of(tmp_path, numerics=numerics)).rates[0]
    assert base.model == "base"
    assert (base.benchmark.ci_low == base.benchmark.ci_high) == exact


def test_the_manifest_says_what_the_engine_did(tmp_path):
    run = run_of(tmp_path)
    run.update_manifest(engine={"numerics": "exact"})
    base = analyze_run(run).rates[0]
    assert base.benchmark.ci_low == base.benchmark.ci_high


def test_numerics_that_could_not_be_exact_are_warned_of(tmp_path):
    run = run_of(tmp_path)
    assert "fast_numerics" not in {warning.code for warning in analyze_run(run).warnings}
    run.update_manifest(engine={"numerics": "fast"}, reproducibility={"exact_refused": "16 rows differ"})
    [warning] = (w for w in analyze_run(run).warnings if w.code == "fast_numerics")
    assert "16 rows differ" in warning.text


def test_marks_that_texts_spell_out_are_warned_of(tmp_path):
    run = run_of(tmp_path)
    assert "spelled_out_marks" not in {warning.code for warning in analyze_run(run).warnings}
    marked = {"of": "mini", "name": "a", "control_tokens": ["<|im_end|>"], "plain_marks": ["[INST]"]}
    run.update_manifest(messages={"items": [marked], "rows": []})
    [warning] = (w for w in analyze_run(run).warnings if w.code == "spelled_out_marks")
    assert warning.text == "1 prompts spell out marks of the chat template (<|im_end|>, [INST])"


def test_a_run_without_observations_is_refused(tmp_path):
    run = run_of(tmp_path)
    run.observations.unlink()
    with pytest.raises(AftertuneError, match=r"observations\.parquet"):
        analyze_run(run)


def test_what_a_study_fixed_is_not_post_hoc(tmp_path):
    analysis = analyze_run(run_of(tmp_path))
    assert analysis.post_hoc == () and analysis.primary is not None
    assert not any("post hoc" in d.sentence for d in analysis.differences)


@pytest.mark.parametrize(("text", "n"), [("How?", 1), ("Why?", 0)])
def test_items_with_the_same_text_are_found_in_the_runs_items(tmp_path, text, n):
    run = run_of(tmp_path)
    items = {
        "task": "t",
        "intent": "harmful",
        "item": ["i1", "i2"],
        "prompt": ["how? ", text],
        "category": "c",
    }
    pl.DataFrame(items).write_parquet(run.items)
    found = [w for w in analyze_run(run).warnings if w.code == "same_text"]
    assert len(found) == n and all("i1 = i2" in w.text for w in found)


def test_trainings_without_a_checkpoint_are_told(tmp_path):
    run = run_of(tmp_path)
    assert "unfinished_trainings" not in {w.code for w in analyze_run(run).warnings}
    lost = checkpoint(6, status="diverged", reason="step 3 of 9: the loss is nan\nand more")
    run.write_json(run.checkpoint_list, [*run.read_json(run.checkpoint_list), lost])
    (warning,) = (w for w in analyze_run(run).warnings if w.code == "unfinished_trainings")
    assert warning.where == "chat"
    assert warning.text.startswith("1 of 6 trainings of chat left no checkpoint")
    assert "chat/6 diverged: step 3 of 9: the loss is nan)" in warning.text
