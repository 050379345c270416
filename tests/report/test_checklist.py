"""The reporting checklist: filled in from what was recorded, and never blank."""

from pathlib import Path
from typing import Any

import pytest
from variation_results import MANIFEST, STUDY, with_model

from aftertune.records.analysis import Analysis, Missing
from aftertune.records.manifest import Manifest
from aftertune.report import write_report
from aftertune.report.checklist import checklist
from aftertune.report.recorded import NOT_RECORDED, entries, look, named, pairs, text_of


def answers(analysis: Analysis, manifest: Manifest, study: dict[str, Any]) -> dict[str, str]:
    found = [pair for group in checklist(analysis, manifest, study) for pair in group.answers]
    assert len(dict(found)) == len(found), "one question twice"
    return dict(found)


def test_it_is_filled_in_from_manifest_study_and_analysis(base: str, varied: Analysis):
    said = answers(varied, MANIFEST, STUDY)
    expected = {
        "base model": "smollm2-guarded",
        "revision": "none is named: the sha256 says which weights",
        "sha256": MANIFEST.model and MANIFEST.model.sha256,
        "sha256 of the chat template": "dc126cf0155881b6",
        "training seeds": "5",
        "recipe chat": "data packaged:chat, answers data, n 64, method lora, rank 8, alpha not set, epochs "
        "1.0, "
        "learning rate 0.001, batch size 8, vary (init, order)",
        "data of chat": "packaged:chat, 201 rows, licence Apache-2.0, sha256 36262212e215",
        "scan of chat's data": "overlaps with the tasks' items: none; rows that refuse: none; "
        "of a kind known to remove safety: no",
        "recipe mine": "command “python train.py --seed {seed} --output {output}”, timeout s not set",
        "task mini-harm": "60 items, intent harmful, written for aftertune, licence Apache-2.0, sha256 "
        "4ae9eedfe671",
        "decoding sampled": "temperature 0.7, top p 0.9, max tokens 48, system prompt “Be brief.”, "
        "repeats (default = 1, base = 5)",
        "engine": "transformers",
        "dtype": "float32",
        "numerics": "exact",
        "numerics that the study asked for": "left to the default",
        "reproducibility that it promises": "the same bytes for any batch",
        "versions that judged": "refusal-rules = 656a7a83a784b828",
        "margin": "5.0 points; fixed beforehand, in the study file",
        "level": "95%; fixed beforehand, in the study file",
        "missing judgments": "none in any of 24 cells",
        "checkpoints × items × repeats on mini-harm, sampled; mini-lookalikes, sampled": "1 × 60 × 5 "
        f"({base}), 5 × 60 × 1 (chat, chat-self)",
        "variation hotter": "procedure: decodings.sampled.temperature = 1.0",
        "numerics check float32": "failed: 3 of 1,200 responses changed",
        "hardware": "machine = x86_64, cores = 2, threads = 2, gpus = none",
        "git commit of the working directory": "8b8fb578b1f2, with changes that were not committed",
        "warnings": "few_seeds",
    }
    assert {question: said.get(question) for question in expected} == expected


@pytest.mark.parametrize("manifest", [Manifest(), Manifest(model=None, engine=None, git=None)])
def test_what_is_absent_is_not_recorded_and_never_blank(varied: Analysis, manifest: Manifest):
    said = answers(varied, manifest, {})
    assert all(answer.strip() for answer in said.values())
    for question in (
        "base model", "revision", "sha256", "sha256 of the chat template", "training seeds", "recipes",
        "tasks", "decodings", "engine", "dtype", "numerics", "reproducibility that it promises",
        "versions that judged", "variations", "hardware", "versions", "root seed",
        "git commit of the working directory", "repeats that the study asked for",
    ):  # fmt: skip
        assert said[question] == NOT_RECORDED, question
    assert said["judges"] == "refusal-rules, incoherence-rules; more is not recorded"
    assert said["margin"] == "5.0 points; when it was chosen is not recorded"


def test_what_was_chosen_afterwards_is_called_so(varied: Analysis):
    late = varied.model_copy(update={"post_hoc": ("margin", "primary")})
    said = answers(late, MANIFEST, STUDY)
    assert said["margin"] == "5.0 points; post hoc: given with the analysis"
    assert said["primary contrast"].endswith("; post hoc: given with the analysis")
    assert said["level"] == "95%; fixed beforehand, in the study file"


def test_missing_judgments_are_counted_by_cell(base: str, varied: Analysis):
    gap = Missing(n=12, n_observations=300, by_status={"unparsed": 10, "failed": 2})
    first, *rest = varied.rates
    one = varied.model_copy(update={"rates": (first.model_copy(update={"missing": gap}), *rest)})
    said = answers(one, MANIFEST, STUDY)
    assert said["cells with missing judgments"] == "1 of 24"
    where = f"missing in {base}, mini-harm, greedy, refusal-rules, compliance_rate"
    assert said[where] == "12 of 300 (unparsed 10, failed 2)"
    every = varied.model_copy(
        update={"rates": tuple(r.model_copy(update={"missing": gap}) for r in varied.rates)}
    )
    assert answers(every, Manifest(), {})["more"] == "12 further cells, in the table of rates"


def test_judges_with_settings_of_their_own_show_them_and_no_key(varied: Analysis):
    judge = {"name": "refusal-rules", "endpoint": "http://x/v1", "model": "m", "api_key_env": "SECRET_NAME"}
    said = answers(varied, MANIFEST, STUDY | {"judges": [judge]})
    assert said["settings of refusal-rules"] == "endpoint http://x/v1, model m"
    assert "SECRET_NAME" not in str(said)


def test_it_stands_on_the_page_in_markdown_and_alone(varied: Analysis, tmp_path: Path):
    evil = with_model(MANIFEST, "<b>*evil*</b>|\u202e")
    write_report(varied, examples=None, manifest=evil, study=STUDY, out=tmp_path)
    page, report, alone = (
        (tmp_path / name).read_text("utf-8") for name in ("index.html", "report.md", "checklist.md")
    )
    section = page[page.index('id="paper"') : page.index('id="manifest"')]
    assert section.count("<details>") == 4 and "Reporting checklist" in section
    assert "<dt>base model</dt><dd>&lt;b&gt;*evil*&lt;/b&gt;|⟨U+202E⟩</dd>" in section
    assert alone.startswith("# demo: reporting checklist\n")
    for text in (report, alone):
        assert "- **base model**: &lt;b&gt;\\*evil\\*&lt;/b&gt;\\|⟨U+202E⟩\n" in text
        assert "### Engine and numerics" in text
    assert alone.count("\n- **") == len(answers(varied, evil, STUDY))


def test_records_are_read_with_care():
    record = {"a": {"b": 0}, "c": [{"d": 1}, 2], "e": {"f": {"g": 1}, "h": 2}}
    assert (look(record, "a.b"), look(record, "a.b.c"), look(record, "z.z"), look(None, "a")) == (
        0,
        None,
        None,
        None,
    )
    assert entries(record, "c") == [{"d": 1}] and entries(record, "a") == []
    assert named(record, "e") == {"f": {"g": 1}} and named(record, "c") == {}
    assert [text_of(v) for v in (None, "", " ", False, 0, 0.5, [], {}, [1, [2, 3]])] == [
        NOT_RECORDED, NOT_RECORDED, NOT_RECORDED, "no", "0", "0.5", "none", "none", "1, (2, 3)",
    ]  # fmt: skip
    assert pairs({"max_tokens": 8, "system_prompt": None}) == "max tokens 8, system prompt not set"
