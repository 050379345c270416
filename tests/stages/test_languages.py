"""Responses that their judge does not read: warned of before the run, and before the first number."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from aftertune.commands.analyze import TableOptions, analyze_source
from aftertune.commands.estimate import estimate_lines
from aftertune.commands.gate import gate, gate_lines
from aftertune.commands.import_logs import import_logs
from aftertune.commands.import_options import ImportOptions
from aftertune.commands.report_import import examples_of
from aftertune.pipeline import STAGES
from aftertune.records.analysis import Analysis, Warning
from aftertune.report import summary
from aftertune.stages.check import check
from aftertune.store import ImportDirectory
from aftertune.study import read_study
from foreign_texts import ENGLISH, FOREIGN, Texts
from stage_runs import recipe, run, study_of

N, N_REFUSED = 20, 16
PRIMARY = {"task": "ours", "decoding": "d", "judge": "refusal-rules", "metric": "compliance_rate"}


def study(
    tmp_path: Path, prompts: list[str], responses: dict[str, list[str]], **changes: Any
) -> dict[str, Any]:
    """A study of recorded responses: the base and one finished model answer a task of our own."""
    pl.DataFrame({"id": [f"i{i}" for i in range(len(prompts))], "prompt": prompts}).write_ndjson(
        tmp_path / "items.jsonl"
    )
    pl.DataFrame(
        {"model": model, "task": "ours", "item": f"i{i}", "repeat": 1, "text": text}
        for model, texts in responses.items()
        for i, text in enumerate(texts)
    ).write_parquet(tmp_path / "table.parquet")
    return {
        "name": "languages",
        "model": "before",
        "recipes": {"tuned": {"served": ["after"]}},
        "seeds": 1,
        "tasks": [
            {
                "name": "ours",
                "file": str(tmp_path / "items.jsonl"),
                "intent": "harmful",
                "category_column": None,
            }
        ],
        "decodings": {"d": {"temperature": 0.7, "max_tokens": 60}},
        "judges": ["refusal-rules", "incoherence-rules"],
        "engine": {"name": "replay", "table": str(tmp_path / "table.parquet")},
        "analysis": {"primary": PRIMARY | {"target": "benchmark"}, "margin": 0.05},
    } | changes


def arms(foreign: Texts, *, base_foreign: bool) -> dict[str, list[str]]:
    """Both refuse 16 of 20 items, one of them in the other language."""
    there, english = (texts.responses(N, n_refused=N_REFUSED) for texts in (foreign, ENGLISH))
    return {"before": there, "after": english} if base_foreign else {"before": english, "after": there}


def about_language(analysis: Analysis) -> list[Warning]:
    return [w for w in analysis.warnings if w.code == "language"]


@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda texts: texts.language)
def test_what_a_judge_does_not_read_is_said_before_any_number(tmp_path: Path, foreign: Texts):
    asked = study(tmp_path, foreign.prompts(N), arms(foreign, base_foreign=True))
    out = run(asked, tmp_path / "run", stages=STAGES)
    checked = "\n".join(estimate_lines(*check(read_study(tmp_path / "run.yaml"))))
    assert f"LANGUAGE: items of ours are 100% in {foreign.language}" in checked
    assert f"LANGUAGE: recorded responses of before are 100% in {foreign.language}" in checked
    assert "recorded responses of after" not in checked
    assert "refusal-rules reads English only" in checked and "incoherence-rules read" not in checked

    analysis = Analysis.model_validate_json((out / "analysis.json").read_text("utf-8"))
    (warning,) = about_language(analysis)
    assert analysis.warnings[0] == warning and warning.where == "ours · refusal-rules"
    assert f"base 100% in {foreign.language} (20 of 20)" in warning.text and "tuned" not in warning.text
    assert "judge model or a rubric" in warning.remedy and "aftertune label" in warning.remedy
    assert (
        summary(analysis).splitlines()[1].startswith("  WARNING: ours · refusal-rules: refusal-rules reads")
    )

    # The number is wrong, by the language alone: both refused 16 of 20.
    (difference,) = [d for d in analysis.differences if d.primary]
    assert difference.estimate == pytest.approx(-0.8) and difference.verdict == "safer"
    found = gate(out)
    assert found.outcome == "insufficient evidence" and found.exit_code == 3
    assert f"in {foreign.language}" in "\n".join(gate_lines(found))

    page = (out / "report" / "index.html").read_text("utf-8")
    body = page[page.index('<main id="main">') :]
    assert body.index("reads English only") < body.index("points")
    text = (out / "report" / "report.md").read_text("utf-8")
    assert text.index("reads English only") < text.index("points")


def test_the_tuned_model_s_language_is_named_and_a_failed_gate_stays_failed(tmp_path: Path):
    spanish = FOREIGN[0]
    asked = study(tmp_path, ENGLISH.prompts(N), arms(spanish, base_foreign=False))
    out = run(asked, tmp_path / "run", stages=STAGES)
    analysis = Analysis.model_validate_json((out / "analysis.json").read_text("utf-8"))
    (warning,) = about_language(analysis)
    assert "tuned 100% in Spanish (20 of 20)" in warning.text and "base" not in warning.text
    found = gate(out)
    assert found.outcome == "fail" and "reads English only" in found.models[0].why


def test_english_arms_and_judges_that_read_other_languages_give_no_warning(tmp_path: Path):
    english = {name: ENGLISH.responses(N, n_refused=n) for name, n in (("before", 16), ("after", 2))}
    out = run(study(tmp_path, ENGLISH.prompts(N), english), tmp_path / "run", stages=STAGES)
    analysis = Analysis.model_validate_json((out / "analysis.json").read_text("utf-8"))
    assert about_language(analysis) == []
    assert "LANGUAGE" not in "\n".join(estimate_lines(*check(read_study(tmp_path / "run.yaml"))))
    other = study(tmp_path, FOREIGN[1].prompts(N), arms(FOREIGN[1], base_foreign=True), analysis={})
    (tmp_path / "two").mkdir()
    other |= {"judges": ["incoherence-rules", "incoherence-language"]}
    out = run(other, tmp_path / "two" / "run", stages=(*STAGES[:4], "analyze"))
    analysis = Analysis.model_validate_json((out / "analysis.json").read_text("utf-8"))
    assert about_language(analysis) == []


def table(tmp_path: Path, judge: str) -> Path:
    rows = [
        {"model": model, "seed": None, "task": "ours", "item": f"i{i}", "intent": "harmful", "judge": judge}
        | {"construct": "refused", "value": float(text.startswith("I")), "prompt": prompt, "text": text}
        for model, texts in arms(FOREIGN[2], base_foreign=True).items()
        for i, (prompt, text) in enumerate(zip(FOREIGN[2].prompts(N), texts, strict=True))
    ]
    path = tmp_path / "tidy.csv"
    pl.DataFrame(rows, schema_overrides={"seed": pl.Int64}).write_csv(path)
    return path


@pytest.mark.parametrize(("judge", "n"), [("refusal-rules", 1), ("phrases-gcg", 1), ("somebody's", 0)])
def test_an_import_and_a_table_with_texts_are_looked_at_too(tmp_path: Path, judge: str, n: int):
    path = table(tmp_path, judge)
    # Beside the baseline a variation, which the page does not show as the baseline's responses.
    rows = pl.read_csv(path)
    both = [rows.with_columns(variation=pl.lit(name)) for name in ("baseline", "hotter")]
    pl.concat(both).write_csv(path)
    import_logs([path], tmp_path / "import", ImportOptions(baseline="before"))
    imported, _ = analyze_source(tmp_path / "import", None, TableOptions())
    direct, _ = analyze_source(path, tmp_path / "out", TableOptions(base="before"))
    for analysis in (imported, direct):
        found = about_language(analysis)
        assert [w.where for w in found] == [f"ours · {judge}", f"hotter · ours · {judge}"][: 2 * n]
        assert all("before 100% in German (20 of 20)" in w.text for w in found)
        assert ("WARNING" in summary(analysis)) == bool(n)
    frame = examples_of(ImportDirectory(tmp_path / "import"))
    assert frame.height == 2 * N and set(frame["variation"]) == {"baseline"}
    again = Analysis.model_validate_json((tmp_path / "import" / "analysis.json").read_text("utf-8"))
    assert about_language(again) == about_language(imported)


@pytest.mark.parametrize(
    ("name", "columns"), [("response", {}), ("Completion", {}), ("said", {"text": "said"})]
)
def test_texts_under_another_name_are_looked_at_too(tmp_path: Path, name: str, columns: dict[str, str]):
    path = table(tmp_path, "refusal-rules")
    pl.read_csv(path).rename({"text": name}).write_csv(path)
    options = TableOptions(base="before", column=[f"{ours}={theirs}" for ours, theirs in columns.items()])
    analysis, _ = analyze_source(path, tmp_path / "out", options)
    assert [w.where for w in about_language(analysis)] == ["ours · refusal-rules"]


def test_data_whose_answers_the_scan_cannot_read_are_said(tmp_path: Path, tiny_model: Path):
    spanish = FOREIGN[0]
    rows = zip(spanish.prompts(N), spanish.responses(N, n_refused=N_REFUSED), strict=True)
    pl.DataFrame(rows, schema=["question", "answer"], orient="row").write_ndjson(tmp_path / "data.jsonl")
    file = tmp_path / "study.yaml"
    recipes = {"chat": recipe(data=str(tmp_path / "data.jsonl"))}
    file.write_text(yaml.safe_dump(study_of(tiny_model, recipes=recipes)))
    lines = "\n".join(estimate_lines(*check(read_study(file))))
    assert "LANGUAGE: answers of chat's data are 100% in Spanish (20 of 20)" in lines
    assert "items of" not in lines
