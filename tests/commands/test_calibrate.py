"""`judges calibrate`: people's labels against judges, and label files that are wrong."""

import json
import sys

import pytest

from aftertune.cli import main
from aftertune.commands.calibrate import LabelOptions, calibrate_labels
from aftertune.errors import AftertuneError, DataError, StudyError
from aftertune.judges.added import named_specs
from aftertune.records.calibration import Calibration
from aftertune.sources.cells import plain_cell, safe_cell

NO = "I cannot help with that request."
YES = "Open a terminal and list the processes."
ROWS = [  # people's word, the response, whose it is
    ("1", NO, "a"), ("1", NO, "a"), ("1", YES, "a"), ("0", YES, "a"),
    ("0", YES, "b"), ("0", NO, "b"), ("1", NO, "b"), ("0", "", "b"),
]  # fmt: skip


def table(folder, rows=ROWS, header="question,response,label,model"):
    path = folder / "labels.csv"
    lines = [header, *(f'How?,"{text}",{label},{model}' for label, text, model in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def measured(path, folder, **options) -> Calibration:
    judges = named_specs(["refusal-rules"], None)
    return calibrate_labels(path, judges, folder / "calibration.json", LabelOptions(**options))


def test_counts_overall_and_of_each_model(tmp_path):
    found = measured(table(tmp_path), tmp_path)
    whole, a, b = found.groups
    assert (whole.model, a.model, b.model) == (None, "a", "b")
    counts = [(g.n_both, g.n_only_people, g.n_only_judge, g.n_neither) for g in found.groups]
    assert counts == [(3, 1, 1, 2), (2, 1, 0, 1), (1, 0, 1, 1)]
    assert whole.n_labels == 8 and whole.missing_by_status == {"skipped": 1}
    assert whole.sensitivity.estimate == 0.75 and whole.sensitivity.n == 4
    assert whole.specificity.estimate == pytest.approx(2 / 3)
    assert whole.sensitivity.ci_low < 0.75 < whole.sensitivity.ci_high
    assert whole.cohen_kappa.ci_low <= whole.cohen_kappa.estimate == pytest.approx(5 / 12)
    assert whole.gwet_ac1.estimate == pytest.approx(1 - (2 / 7) / (1 - 2 * (8 / 14) * (6 / 14)))
    written = (tmp_path / "calibration.json").read_text("utf-8")
    assert Calibration.model_validate_json(written) == found


def test_full_agreement_claims_no_certainty_and_a_kind_without_labels_has_no_share(tmp_path):
    whole = measured(table(tmp_path, [("1", NO, ""), ("1", NO, "")]), tmp_path).groups[0]
    assert whole.specificity.estimate is None and whole.specificity.n == 0
    assert whole.cohen_kappa.estimate is None
    assert whole.gwet_ac1.estimate == 1 and whole.gwet_ac1.ci_low is None


@pytest.mark.parametrize(
    ("label", "options", "message"),
    [
        ("maybe", {}, r"labels.csv, line 10: labels that nobody explained: 'maybe' \(1 rows\)"),
        ("", {}, r"nobody explained: ''"),
        ("=cmd()", {}, r"nobody explained: '=cmd\(\)'"),
        ("x", {"positive": ["1"]}, "belong together"),
        ("x", {"leave_out": ["1"]}, "the label '1' is given two meanings"),
        ("1", {"label_column": "lable"}, r"no column 'lable'\n  → did you mean 'label'"),
        ("1", {"model_column": "judged"}, "no column 'judged'"),
        ("1", {"construct": "refusd"}, "no construct 'refusd'"),
        ("1", {"construct": "harmful"}, "'refusal-rules' does not judge 'harmful'"),
        ("1", {"intent": "evil"}, "no intent 'evil'"),
        ("1", {"level": 95}, "share between 0.5 and 1, got 95"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_written(tmp_path, label, options, message):
    with pytest.raises(AftertuneError, match=message):
        measured(table(tmp_path, [*ROWS, (label, YES, "a")]), tmp_path, **options)
    assert not (tmp_path / "calibration.json").exists()


def test_a_label_can_be_left_out_and_is_counted(tmp_path):
    path = table(tmp_path, [*ROWS, ("unsure", YES, "a")])
    found = measured(path, tmp_path, leave_out=["unsure"])
    assert found.left_out == {"unsure": 1} and found.groups[0].n_labels == 8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("question,response,label\nHow?,Näh,1\n".encode("latin-1"), "is not UTF-8 text"),
        (b"question,response,label\nHow?,a,b,1\n", "line 2: 4 cells under 3 columns"),
        (b'question,response,label\nHow?,"a,1\n', "line 2: not CSV"),
        (b"question,response,response,label\n", "the column 'response' more than once"),
        (b"", "has no column 'question'"),
        (b"question,response,label\n", "has no column 'question'"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path, content, message):
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        measured(path, tmp_path)


def test_an_absent_table_and_an_unknown_judge(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*labels.csv: No such file"):
        measured(tmp_path / "labels.csv", tmp_path)
    with pytest.raises(StudyError, match="did you mean 'refusal-rules'"):
        named_specs(["refusal-rule"], None)


@pytest.mark.parametrize("text", ["=1+1", "+x", "-x", "@x", "\tx", "'x", "''=x", "x", "", "x=1"])
def test_a_safe_cell_is_no_formula_and_gives_its_text_back(text):
    assert not safe_cell(text).startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert plain_cell(safe_cell(text)) == text


def test_safe_cells_are_undone_in_a_table_of_ours_alone(tmp_path):
    rows = [("1", f"'{NO}", ""), ("0", YES, "")]
    ours = table(tmp_path, rows, header="question,response,label,aftertune_id")
    assert measured(ours, tmp_path).groups[0].n_both == 1


def test_two_labels_of_one_response_are_not_two_responses(tmp_path):
    rows = [("1", NO, "r_1"), ("0", YES, "r_2"), ("0", NO, "r_1")]
    ours = table(tmp_path, rows, header="question,response,label,aftertune_id")
    with pytest.raises(DataError, match="the id 'r_1' stands on line 2 and on line 4"):
        measured(ours, tmp_path)


@pytest.mark.real_data
def test_xstests_people_and_the_refusal_rules(tmp_path, shared_data, monkeypatch, capsys):
    (path,) = (shared_data / "xstest_human_labels").glob("*.csv")
    words = ["--judge", "refusal-rules", "--question-column", "prompt", "--response-column", "completion"]
    words += ["--label-column", "final_label", "--positive", "2_full_refusal", "--positive"]
    words += ["3_partial_refusal", "--negative", "1_full_compliance", "--out", str(tmp_path / "c.json")]
    monkeypatch.setattr(sys, "argv", ["aftertune", "judges", "calibrate", str(path), *words, "--json"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    (whole,) = json.loads(capsys.readouterr().out)["groups"]
    assert whole["sensitivity"]["n"] == 240 and whole["specificity"]["n"] == 210
    assert whole["sensitivity"]["estimate"] >= 185 / 240 and whole["specificity"]["estimate"] >= 202 / 210
