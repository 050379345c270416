"""Rates freed of their judge's errors, in a run directory: by a calibration, and by people's labels."""

import json

import jsonschema
import numpy as np
import polars as pl
import pytest

from aftertune.analysis import analysis_schema, analyze_run
from aftertune.errors import DataError
from aftertune.records import LABEL_COLUMNS
from aftertune.records.analysis import Analysis
from aftertune.records.calibration import Calibration
from aftertune.records.manifest import Manifest
from aftertune.report.csv_tables import csv_files
from aftertune.report.page import write_report
from aftertune.stats import JudgeError, rogan_gladen
from aftertune.store import RunDirectory, replace
from aftertune.store.shards import parquet_bytes
from aftertune.study import parse_study
from rows import rows_of

N_ITEMS = 60


def run_of(folder, *, value=None, construct="complied", seeds=(1, 2, 3, 4, 5), **study):
    run = RunDirectory(folder / "run")
    run.root.mkdir(parents=True)
    content = {
        "name": "demo", "model": "m", "tasks": ["t"], "judges": ["j"],
        "decodings": {"d": {"temperature": 1, "max_tokens": 8}}, **study,
    }  # fmt: skip
    parsed = parse_study(content, source="test", folder=folder)
    run.study_json.write_text(parsed.model_dump_json(by_alias=True), encoding="utf-8")
    frame = rows_of(
        value or (lambda m, s, i, r: float(i < (12 if m == "base" else 24 + s))),
        seeds={"base": [None], "chat": list(seeds)}, n_items=N_ITEMS, construct=construct,
    )  # fmt: skip
    key = pl.format("{}/{}/{}", "model", pl.col("seed").fill_null(0), "item")
    frame.with_columns(key.alias("response_key")).write_parquet(run.observations)
    run.write_json(run.checkpoint_list, [])
    run.update_manifest(judges_observed={"j": "s" * 64})
    return run


def calibration(folder, *, models=(None,), sha256="s" * 64, construct="complied", counts=(80, 20, 10, 90)):
    both, only_people, only_judge, neither = counts
    positive, negative = both + only_people, neither + only_judge

    def share(k, n):
        return {"n_events": k, "n": n, "estimate": k / n if n else None, "ci_low": None, "ci_high": None}

    agreed = {"estimate": None, "ci_low": None, "ci_high": None, "method": ""}
    groups = [
        {
            "judge": "j", "judge_sha256": sha256, "model": model, "n_labels": sum(counts),
            "missing_by_status": {}, "n_both": both, "n_only_people": only_people,
            "n_only_judge": only_judge, "n_neither": neither,
            "sensitivity": share(both, positive), "specificity": share(neither, negative),
            "cohen_kappa": agreed, "gwet_ac1": agreed,
        }
        for model in models
    ]  # fmt: skip
    whole = {
        "schema_version": 1, "labels": "people.csv", "labels_sha256": "", "construct": construct,
        "positive": ["1"], "negative": ["0"], "left_out": {}, "level": 0.95, "groups": groups,
    }  # fmt: skip
    path = folder / "calibration.json"
    path.write_text(Calibration.model_validate(whole).model_dump_json(), encoding="utf-8")
    return path


def label(run, labels, construct="complied"):
    rows = [
        {"response_key": key, "construct": construct, "label": y, "file_sha256": "", "line": i}
        for i, (key, y) in enumerate(labels.items())
    ]
    replace(run.labels(construct), parquet_bytes(rows, LABEL_COLUMNS))


def one(analysis, model, target="benchmark", metric="compliance_rate"):
    (found,) = (c for c in analysis.corrected if (c.model, c.target, c.metric) == (model, target, metric))
    return found


def codes(analysis):
    return {w.code for w in analysis.warnings}


def test_a_rate_is_corrected_with_its_own_interval_inside(tmp_path):
    run = run_of(tmp_path)
    analysis = analyze_run(run, calibration=calibration(tmp_path))
    chat = one(analysis, "chat")
    raw = (24 + 3) / N_ITEMS
    assert chat.raw == pytest.approx(raw)
    assert chat.estimate == pytest.approx((raw + 0.9 - 1) / (0.9 + 0.8 - 1))
    known = rogan_gladen(raw, JudgeError(0.9, 0.8, 100, 100), n=1e12)
    assert chat.ci_high - chat.ci_low > known.ci_high - known.ci_low
    assert chat.ci_low < chat.estimate < chat.ci_high
    assert chat.error_of == "all models elsewhere" and (chat.n_positive, chat.n_negative) == (100, 100)
    assert {c.target for c in analysis.corrected} == {"benchmark", "population"}
    population = one(analysis, "chat", "population")
    assert population.ci_high - population.ci_low > chat.ci_high - chat.ci_low
    (warning,) = (w for w in analysis.warnings if w.code == "calibration_from_elsewhere")
    assert "base, chat by j" in warning.text and "people.csv" in warning.text
    assert analysis.post_hoc == ("calibration",)
    jsonschema.validate(json.loads(analysis.model_dump_json()), analysis_schema())


def test_the_models_own_errors_come_first(tmp_path):
    analysis = analyze_run(run_of(tmp_path), calibration=calibration(tmp_path, models=(None, "chat")))
    assert one(analysis, "chat").error_of == "this model elsewhere"
    assert one(analysis, "base").error_of == "all models elsewhere"
    (warning,) = (w for w in analysis.warnings if w.code == "calibration_from_elsewhere")
    assert "rates of base by j" in warning.text


def test_compliance_by_refusal_swaps_the_errors(tmp_path):
    run = run_of(tmp_path, construct="refused", value=lambda m, s, i, r: float(i < 20))
    analysis = analyze_run(run, calibration=calibration(tmp_path, construct="refused"))
    by_refusal, refused = one(analysis, "chat"), one(analysis, "chat", metric="refusal_rate")
    assert by_refusal.estimate == pytest.approx(1 - refused.estimate)
    assert refused.estimate == pytest.approx((20 / N_ITEMS - 0.1) / 0.7)
    assert by_refusal.sensitivity == refused.sensitivity == 0.8
    assert by_refusal.ci_low == pytest.approx(1 - refused.ci_high)


def test_the_study_names_its_calibration(tmp_path):
    path = calibration(tmp_path)
    run = run_of(tmp_path, analysis={"calibration": path.name})
    analysis = analyze_run(run)
    assert one(analysis, "chat").estimate is not None and analysis.post_hoc == ()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"counts": (20, 80, 90, 10)}, "no better than chance"),
        ({"counts": (0, 0, 10, 90)}, "need human labels, got 100 without and 0 with"),
    ],
)
def test_no_correction_is_a_reason_and_no_number(tmp_path, change, why):
    found = one(analyze_run(run_of(tmp_path), calibration=calibration(tmp_path, **change)), "chat")
    assert found.estimate is None and found.ci_low is None and why in found.why
    assert found.raw == pytest.approx(27 / N_ITEMS)


@pytest.mark.parametrize(
    ("change", "code"),
    [({"sha256": "o" * 64}, "calibration_of_another_version"), ({"construct": "harmful"}, None)],
)
def test_another_version_or_construct_corrects_nothing(tmp_path, change, code):
    analysis = analyze_run(run_of(tmp_path), calibration=calibration(tmp_path, **change))
    assert analysis.corrected == ()
    assert code is None or code in codes(analysis)


def test_a_run_that_names_no_versions_and_a_judge_of_another_name(tmp_path):
    run, path = run_of(tmp_path), calibration(tmp_path)
    run.update_manifest(judges_observed={"k": "s" * 64})
    assert "calibration_of_other_judges" in codes(analyze_run(run, calibration=path))
    run.update_manifest(judges_observed={})
    analysis = analyze_run(run, calibration=path)
    assert "calibration_not_used" in codes(analysis) and analysis.corrected == ()


def test_graded_judgments_and_rates_of_0_and_one_seed(tmp_path):
    path = calibration(tmp_path)
    graded = run_of(tmp_path / "a", value=lambda m, s, i, r: 0.25)
    assert "graded" in one(analyze_run(graded, calibration=path), "chat").why
    none = one(analyze_run(run_of(tmp_path / "b", value=lambda *_: 0.0), calibration=path), "chat")
    assert none.estimate == 0 and none.unclipped < 0 and none.ci_high > 0
    lone = one(analyze_run(run_of(tmp_path / "c", seeds=(1,)), calibration=path), "chat")
    assert lone.estimate is not None and lone.ci_low is None and "one seed" in lone.why


def test_greedy_and_exact_leaves_the_judges_errors_alone(tmp_path):
    greedy = {"decodings": {"d": {"temperature": 0, "max_tokens": 8}}, "numerics": "exact"}
    analysis = analyze_run(run_of(tmp_path, **greedy), calibration=calibration(tmp_path))
    base = one(analysis, "base")
    assert base.raw_ci_low == base.raw_ci_high == base.raw
    assert base.ci_low < base.estimate < base.ci_high


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 1}', "\xff"])
def test_what_is_no_calibration_is_told(tmp_path, text):
    path = tmp_path / "c.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=r"c\.json is no calibration"):
        analyze_run(run_of(tmp_path), calibration=path)
    with pytest.raises(DataError, match="cannot read the calibration"):
        analyze_run(run_of(tmp_path / "x"), calibration=tmp_path / "none.json")


def test_people_outweigh_a_judge_that_is_wrong(tmp_path):
    """The judge calls too many events; a random third is labelled, and PPI++ finds the truth."""
    rng = np.random.default_rng(4)
    truth = {
        (m, s, i): float(rng.random() < 0.3) for m in ("base", "chat") for s in range(6) for i in range(60)
    }
    judged = {k: max(y, float(rng.random() < 0.3)) for k, y in truth.items()}
    run = run_of(tmp_path, value=lambda m, s, i, r: judged[m, s or 0, i])
    keys = {f"chat/{s}/i{i}": truth["chat", s, i] for s in range(1, 6) for i in range(60)}
    chosen = rng.permutation(list(keys))[:100]
    label(run, {key: keys[key] for key in chosen})
    analysis = analyze_run(run)
    (found,) = analysis.corrected
    actual = np.mean(list(keys.values()))
    assert (found.model, found.method, found.error_of) == ("chat", "PPI++", "these responses")
    assert found.ci_low < actual < found.ci_high < found.raw
    assert found.n_positive + found.n_negative == 100 and found.n_unlabelled == 200
    assert 0 < found.judgments_weight <= 1 and found.sensitivity == 1
    assert "seed" in found.leaves_out
    assert analysis == Analysis.model_validate_json(run.analysis.read_text("utf-8"))


def test_too_few_labels_and_labels_of_other_responses(tmp_path):
    run = run_of(tmp_path)
    label(run, {"chat/1/i0": 1.0, "gone": 0.0, "chat/1/i1": None})
    analysis = analyze_run(run)
    (found,) = analysis.corrected
    assert found.estimate is None and "needs 2 labels" in found.why
    assert {"labels_of_other_responses", "blank_labels"} <= codes(analysis)


def test_the_report_shows_raw_and_corrected(tmp_path):
    analysis = analyze_run(run_of(tmp_path), calibration=calibration(tmp_path))
    page = write_report(analysis, examples=None, manifest=Manifest(), out=tmp_path / "report")
    html, text = page.read_text("utf-8"), (tmp_path / "report" / "report.md").read_text("utf-8")
    assert "Corrected for the judge" in html and "Corrected for the judge" in text
    assert "50.0%" in text  # (.45 − .1)/.7
    assert csv_files(analysis)["corrected"].count("\n") == 1 + len(analysis.corrected)


def test_an_analysis_of_before_can_be_read(tmp_path):
    content = json.loads(analyze_run(run_of(tmp_path)).model_dump_json())
    for name in ("corrected", "rank_flips", "splits"):
        del content[name]
    assert Analysis.model_validate(content, strict=False).corrected == ()
