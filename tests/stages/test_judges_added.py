"""A judge that is added to a run directory judges the responses that are there, and stays."""

import polars as pl
import pytest

from aftertune.errors import AftertuneError, StoreError, StudyError
from aftertune.judges.added import add_judges, drop_judges, judges_of, named_specs
from aftertune.pipeline import run_stages
from aftertune.store import RunDirectory
from aftertune.study import Study
from stage_runs import run, study_of

ADDED = "incoherence-rules"


@pytest.fixture(scope="module")
def small(tiny_model):
    greedy = {"greedy": {"temperature": 0, "max_tokens": 8}}
    return study_of(tiny_model, recipes={}, decodings=greedy, judges=["refusal-rules"])


@pytest.fixture
def out(small, tmp_path):
    return run(small, tmp_path / "run")


def judges_seen(out):
    return set(pl.read_parquet(out / "observations.parquet")["judge"])


def test_it_judges_without_generating_and_a_later_run_keeps_it(out, small):
    before = {path: path.read_bytes() for path in (out / "responses").glob("*.parquet")}
    add_judges(RunDirectory(out), named_specs([ADDED], None))
    run_stages(None, out, ("judge", "observe", "analyze", "report"))
    assert judges_seen(out) == {"refusal-rules", ADDED}
    assert {path: path.read_bytes() for path in (out / "responses").glob("*.parquet")} == before
    run(small, out)
    assert judges_seen(out) == {"refusal-rules", ADDED}
    observed = RunDirectory(out).read_manifest().judges_observed
    assert set(observed) == {"refusal-rules", ADDED}


def test_what_was_added_can_be_dropped(out):
    directory = RunDirectory(out)
    add_judges(directory, named_specs([ADDED], None))
    add_judges(directory, named_specs([ADDED], None))  # again is no fault
    drop_judges(directory, [ADDED])
    run_stages(None, out, ("judge", "observe"))
    assert judges_seen(out) == {"refusal-rules"}
    with pytest.raises(StudyError, match=f"no judge called '{ADDED}' was added"):
        drop_judges(directory, [ADDED])


def test_a_judge_of_the_study_is_refused(out):
    with pytest.raises(StudyError, match="the study already has a judge called 'refusal-rules'"):
        add_judges(RunDirectory(out), named_specs(["refusal-rules"], None))


def test_the_studys_own_judge_holds_where_it_comes_to_have_the_name(out, small):
    directory = RunDirectory(out)
    add_judges(directory, named_specs([ADDED], None))
    run(small | {"judges": ["refusal-rules", ADDED]}, out)
    study = Study.model_validate(directory.read_json(directory.study_json), strict=False)
    assert [spec.name for spec in judges_of(directory, study)] == ["refusal-rules", ADDED]
    assert judges_seen(out) == {"refusal-rules", ADDED}


def test_a_study_file_gives_the_settings(tmp_path, out):
    with pytest.raises(StudyError, match=r"has no judge called 'refusal-rule'\n  → did you mean"):
        named_specs(["refusal-rule"], out.parent / "run.yaml")
    (spec,) = named_specs(["refusal-rules"], out.parent / "run.yaml")
    assert spec.name == "refusal-rules"


@pytest.mark.parametrize("text", ["{", "[1]", '[{"name": "x", "key": 1}]', "\xff"])
def test_a_broken_list_is_told(out, text):
    directory = RunDirectory(out)
    directory.judges_added.write_text(text, encoding="latin-1")
    with pytest.raises(StoreError, match="judges_added"):
        run_stages(None, out, ("judge",))
    assert issubclass(StoreError, AftertuneError)
