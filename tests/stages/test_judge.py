"""Judge: what is missing is judged once, by each judge."""

import polars as pl
import pytest

from aftertune.errors import StudyError
from aftertune.judges import get_judge
from aftertune.judges.base import no_values
from aftertune.judges.rule_judge import RuleJudge
from aftertune.records import JudgmentStatus
from aftertune.stages import judge as stage
from aftertune.stages.observe import observe
from aftertune.store import RunDirectory
from aftertune.study import JudgeSpec
from stage_runs import rows, run, study_of


@pytest.fixture
def out(tiny_model, tmp_path):
    return run(study(tiny_model), tmp_path / "run")


def study(model, **changes):
    greedy = {"greedy": {"temperature": 0, "max_tokens": 8}}
    return study_of(model, recipes={}, decodings=greedy, judges=["refusal-rules"], **changes)


@pytest.fixture
def judged(monkeypatch):
    """The keys of the responses that are judged."""
    keys: list[str] = []
    one = RuleJudge.judge

    def spy(self, cases, *, repeat=0):
        keys.extend(case.response.key for case in cases)
        return one(self, cases, repeat=repeat)

    monkeypatch.setattr(RuleJudge, "judge", spy)
    return keys


def test_every_response_is_judged_once_for_every_construct(out, tiny_model, judged):
    constructs = get_judge(JudgeSpec(name="refusal-rules")).constructs
    judgments = rows(out, "judgments")
    assert judgments.height == 9 * len(constructs)
    assert set(judgments["response_key"]) == set(rows(out, "responses")["key"])
    run(study(tiny_model), out)
    assert judged == []


def test_another_judge_judges_the_same_responses(out, tiny_model, judged):
    before = (out / "responses").stat().st_mtime_ns
    run(study(tiny_model) | {"judges": ["refusal-rules", "incoherence-rules"]}, out)
    assert len(judged) == 9
    assert (out / "responses").stat().st_mtime_ns == before
    assert set(pl.read_parquet(out / "observations.parquet")["judge"]) == {
        "refusal-rules",
        "incoherence-rules",
    }


def test_a_missing_shard_is_judged_again_and_alone(tiny_model, tmp_path, judged, monkeypatch):
    monkeypatch.setattr(stage, "_SHARD_RESPONSES", 2)
    out = run(study(tiny_model), tmp_path / "run")
    observed = (out / "observations.parquet").read_bytes()
    shards = (out / "judgments").rglob("*.parquet")
    shard = next(path for path in shards if pl.read_parquet(path).height == 2)
    lost = set(pl.read_parquet(shard)["response_key"])
    shard.unlink()
    judged.clear()
    run(study(tiny_model), out)
    assert set(judged) == lost
    assert len(judged) == 2
    assert (out / "observations.parquet").read_bytes() == observed


def test_progress_counts_responses_for_each_judge(tiny_model, tmp_path):
    told = []
    both = study(tiny_model) | {"judges": ["refusal-rules", "incoherence-rules"]}
    run(both, tmp_path / "run", progress=lambda *entry: told.append(entry))
    counts = [entry[1:] for entry in told if entry[0] == "judge"]
    assert counts[0] == (0, 18)
    assert counts[-1] == (18, 18)
    assert counts == sorted(counts)


def test_a_judge_that_failed_is_asked_again_and_what_it_says_then_stands(out, monkeypatch):
    down = RuleJudge.judge

    def failing(self, cases, *, repeat=0):
        for case in cases:
            yield no_values(case, self, JudgmentStatus.FAILED, reason="the endpoint was down")

    for shard in (out / "judgments").rglob("*.parquet"):
        shard.unlink()
    monkeypatch.setattr(RuleJudge, "judge", failing)
    directory = RunDirectory(out)
    stage.judge(directory, progress=lambda *_: None)
    assert set(rows(out, "judgments")["status"]) == {"failed"}
    monkeypatch.setattr(RuleJudge, "judge", down)
    stage.judge(directory, progress=lambda *_: None)
    observe(directory)
    assert set(pl.read_parquet(directory.observations)["status"]) == {"ok"}
    n_shards = len(list((out / "judgments").rglob("*.parquet")))
    stage.judge(directory, progress=lambda *_: None)
    assert len(list((out / "judgments").rglob("*.parquet"))) == n_shards


def test_correctness_is_judged_only_where_an_answer_is_expected(tiny_model, tmp_path):
    tasks = [{"name": "mini-harm", "n": 2}, {"name": "mini-numbers", "n": 2}]
    greedy = {"greedy": {"temperature": 0, "max_tokens": 4}}
    judges = ["refusal-rules", "number-match"]
    out = run(
        study_of(tiny_model, recipes={}, decodings=greedy, judges=judges, tasks=tasks), tmp_path / "run"
    )
    observed = pl.read_parquet(RunDirectory(out).observations)
    assert set(observed.filter(judge="number-match")["task"]) == {"mini-numbers"}
    assert observed.filter(judge="refusal-rules").height == 4


def test_a_judge_of_correctness_needs_a_task_with_answers(tiny_model, tmp_path):
    with pytest.raises(StudyError, match="number-match' needs expected answers, and no task has any"):
        run(study(tiny_model) | {"judges": ["number-match"]}, tmp_path / "run")
