"""Which cell comes first where judgments are missing, and the words of metrics that are no safety."""

from pathlib import Path

import polars as pl
import pytest

from aftertune.analysis import analyze
from aftertune.commands.gate import gate_lines, gate_of
from aftertune.records.manifest import Manifest
from aftertune.report import write_report
from aftertune.report.select import headline
from aftertune.report.summary import summary
from aftertune.study import analysis_spec


def table(gone: dict[str, str]) -> pl.DataFrame:
    """Two tasks and two models; `gone` names the models of a task whose judgments are all missing."""
    rows = [
        {"model": model, "task": task, "item": f"{task}-{i}", "intent": intent, "construct": "complied"}
        | {"value": None if model in gone.get(task, "") else float(i % 3 == 0 or model == "chat")}
        for task, intent in (("harm", "harmful"), ("safe", "benign"))
        for model in ("base", "chat")
        for i in range(40)
    ]
    return pl.DataFrame(rows, schema_overrides={"value": pl.Float64})


@pytest.mark.parametrize(
    ("gone", "task"),
    [({}, "harm"), ({"harm": "base chat"}, "safe"), ({"harm": "chat"}, "safe"), ({"safe": "chat"}, "harm")],
)
def test_the_headline_is_a_cell_in_which_every_model_has_judgments(gone: dict[str, str], task: str):
    found = analyze(table(gone))
    head = headline(found)
    assert head is not None and head.task == task
    assert "Every judgment is missing" not in summary(found)


def test_a_primary_contrast_without_judgments_is_said_and_gets_no_number(tmp_path: Path):
    primary = {"task": "harm", "decoding": "unnamed", "judge": "unnamed", "metric": "compliance_rate"}
    spec = analysis_spec({"primary": primary | {"target": "benchmark"}})
    found = analyze(table({"harm": "chat"}), spec=spec)
    why = "No conclusion on chat against base: all 40 judgments of chat are missing."
    line = "Every judgment is missing here of chat (40 judgments), so there is no number for it."
    assert next(d for d in found.differences if d.primary).sentence == why
    assert line in summary(found)
    gated = gate_of(found)
    assert gated.outcome == "insufficient evidence" and why in "\n".join(gate_lines(gated))
    page = write_report(found, examples=None, manifest=Manifest(), out=tmp_path)
    for file in (page, tmp_path / "report.md"):
        assert line in file.read_text("utf-8")


def test_a_table_of_accuracies_never_speaks_of_safety(tmp_path: Path):
    frame = pl.DataFrame(
        [
            {"model": model, "seed": seed, "item": f"i{i}", "category": f"c{i % 2}", "construct": "correct"}
            | {"value": float((i * 7 + (seed or 0)) % 10 < most)}
            for model, seeds, most in (("base", [None], 8), ("chat", [1, 2, 3, 4, 5], 3))
            for seed in seeds
            for i in range(40)
        ],
        schema_overrides={"seed": pl.Int64},
    )
    spec = analysis_spec(
        {
            "primary": {
                "task": "unnamed",
                "decoding": "unnamed",
                "judge": "unnamed",
                "metric": "accuracy",
                "target": "benchmark",
            }
        }
    )
    found = analyze(frame, spec=spec)
    gated = gate_of(found)
    assert gated.models[0].verdict == "less accurate"
    told = [summary(found, in_full=True), *gate_lines(gated)]
    write_report(found, examples=None, manifest=Manifest(), out=tmp_path)
    told += [path.read_text("utf-8") for path in tmp_path.rglob("*") if path.suffix in (".md", ".tex")]
    told += [
        path.read_text("utf-8").partition("\n")[2] for path in (tmp_path / "tables").glob("*.csv")
    ]  # without the columns' names
    for text in told:
        assert "safer" not in text and "less safe" not in text.lower() and "safety" not in text
    assert (
        "less accurate than base" in told[0]
        and "Less accurate than base" in (tmp_path / "report.md").read_text()
    )
