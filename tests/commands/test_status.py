"""`aftertune status`: of a run that goes on in another process, was killed, is finished, or is none."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from jsonschema import validate

from aftertune.commands.status import status, status_lines
from aftertune.errors import StoreError
from aftertune.pipeline import STAGES
from aftertune.records.progress import RunProgress
from aftertune.store import RunDirectory, read_events, shard_sums
from aftertune.study.grammar import TaskSpec
from aftertune.tasks import load_task
from executor_runs import small_study
from stage_runs import run

DRIVER = Path(__file__).parents[1] / "stage_runs.py"


@pytest.fixture(scope="module")
def finished(tiny_model, tmp_path_factory) -> Path:
    return run(small_study(tiny_model), tmp_path_factory.mktemp("finished") / "run", stages=STAGES)


def by_what(found: RunProgress) -> dict[str, tuple[int | None, int, int, int | None]]:
    return {part.what: (part.wanted, part.done, part.failed, part.missing) for part in found.parts}


def contents(out: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in out.rglob("*") if file.is_file()}


def test_a_finished_run(finished: Path):
    before = contents(finished)
    found = status(finished)
    assert contents(finished) == before  # it writes nothing
    assert found.state == "finished"
    assert found.process is None and found.stage is None
    assert by_what(found) == {
        "trainings": (4, 4, 0, 0),
        "responses": (9 * (5 * 1 + 4 * 1 + 2), 99, 0, 0),
        "responses judged by refusal-rules": (99, 99, 0, 0),
        "responses judged by incoherence-rules": (99, 99, 0, 0),
    }
    assert all(found.written.values())
    assert set(found.spent.stages_s) == set(STAGES)
    assert (found.left.seconds, found.left.why_not) == (None, "no process is at work on this machine")
    assert found.last_event == "run ends"
    assert "4 of 4 trainings" in "\n".join(status_lines(found))


def test_its_json_keeps_to_the_schema(finished: Path):
    def printed(*words: str | Path) -> Any:
        done = subprocess.run([sys.executable, "-m", "aftertune", *words], capture_output=True, check=True)
        return json.loads(done.stdout)

    validate(printed("status", finished, "--json"), printed("schema", "status"))


def test_the_log_tells_each_stage_shard_and_training(finished: Path):
    events = list(read_events(finished / "log.jsonl"))
    assert [e["stage"] for e in events if e["event"] == "stage ends"] == list(STAGES)
    assert sum(e["rows"] for e in events if e["event"] == "shard" and e["stage"] == "generate") == 99
    assert sum(e["event"] == "training" for e in events) == 4
    assert all(e["process_s"] >= 0 and e["pid"] > 0 for e in events)
    sums = RunDirectory(finished).read_manifest().shards
    assert sums == shard_sums(finished / "log.jsonl")
    assert sums["generate"]["rows"] == 99
    assert 0 <= sums["generate"]["longest_s"] <= sums["generate"]["total_s"]
    text = (finished / "log.jsonl").read_text()
    prompts = RunDirectory(finished).read_table(finished / "items.parquet")["prompt"]
    assert not any(prompt in text for prompt in prompts)


def test_a_torn_log_and_a_broken_shard_do_not_stop_it(tiny_model, tmp_path):
    out = run(small_study(tiny_model), tmp_path / "run", stages=("tune", "generate"))
    with (out / "log.jsonl").open("ab") as log:
        log.write(b'{"event": "shard", "stage": "gen\xff')
    shard = next((out / "responses").glob("*.parquet"))
    shard.write_bytes(b"torn")
    found = status(out)
    assert found.state == "interrupted"
    assert found.unreadable == (str(shard),)
    assert by_what(found)["responses"][3] > 0
    assert shard.read_bytes() == b"torn"  # not set aside: that is the run's part
    assert "run the same command again" in status_lines(found)[0]


def test_what_failed_has_its_reason(tiny_model, tmp_path):
    (tmp_path / "fails.py").write_text("import sys; sys.exit('no such luck')")
    recipes = {"mine": {"command": f"{sys.executable} fails.py {{seed}} {{output}}"}}
    out = run(small_study(tiny_model) | {"recipes": recipes}, tmp_path / "run", stages=("tune",))
    [part] = [part for part in status(out).parts if part.stage == "tune"]
    assert (part.wanted, part.done, part.failed, part.missing) == (2, 0, 2, 0)
    assert list(part.reasons.values()) == [2]
    assert next(iter(part.reasons)).startswith("failed: ")


def test_what_is_planned_is_what_is_then_asked_for(tmp_path):
    """One finished checkpoint (whose label has no seed), several, repeats by label, twins, variations."""
    names = ("before", "alone", "first", "second")
    table = tmp_path / "table.parquet"
    schema = {"model": pl.String, "task": pl.String, "item": pl.String, "repeat": pl.Int64, "text": pl.String}
    sizes = {"mini-harm": 4, "mini-lookalikes": 2}
    asked = [load_task(TaskSpec(name=name, n=n), root_seed=2025) for name, n in sizes.items()]
    cells = [(task.name, item.id, repeat) for task in asked for item in task.items for repeat in range(1, 7)]
    rows = [(name, *cell, "text") for name in names for cell in cells]
    pl.DataFrame(rows, schema, orient="row").write_parquet(table)
    sampled = {"temperature": 0.7, "max_tokens": 9}
    by_label = {"default": 1, "base": 5, "chat": 3, "math/2": 4}
    study = {
        "name": "served",
        "model": "before",
        "recipes": {"chat": {"served": ["alone"]}, "math": {"served": ["first", "second"]}},
        "seeds": 2,
        "tasks": [{"name": "mini-harm", "n": 4}, {"name": "mini-lookalikes", "n": 2}],
        "decodings": {
            "greedy": {"temperature": 0, "max_tokens": 9},
            "sampled": sampled | {"repeats": by_label},
            "the-same": sampled | {"repeats": 2},
        },
        "judges": ["refusal-rules"],
        "engine": {"name": "replay", "table": str(table)},
        "variations": [
            {"name": "hotter", "class": "procedure", "change": {"decodings.sampled.temperature": 0.9}},
            {"name": "more", "class": "procedure", "change": {"decodings.sampled.repeats": 6}},
        ],
    }

    def wanted() -> dict[str, int | None]:
        found = status(tmp_path / "run")
        return {part.variation: part.wanted for part in found.parts if part.what == "responses"}

    run(study, tmp_path / "run", stages=("tune",))
    planned = wanted()
    shared = 5 + 3 + 2 + 4  # base, chat, math/1 (the twin's 2), math/2
    assert planned == {
        "baseline": 6 * (4 + shared),
        "hotter": 6 * (4 + 5 + 3 + 1 + 4 + 4 * 2),
        "more": 6 * (4 + 4 * 6),
    }
    run(study, tmp_path / "run", stages=("tune", "generate"))
    assert wanted() == planned


@pytest.mark.slow
def test_while_it_goes_on_and_after_a_kill(tiny_model, tmp_path):
    study = small_study(tiny_model)
    study["decodings"]["sampled"]["repeats"] = 60
    file, out = tmp_path / "driven.yaml", tmp_path / "run"
    file.write_text(yaml.safe_dump(study, sort_keys=False))
    process = subprocess.Popen([sys.executable, str(DRIVER), str(file), str(out)], stderr=subprocess.DEVNULL)
    try:
        seen: list[RunProgress] = []
        while process.poll() is None:
            if (out / "study.json").is_file():
                seen.append(status(out))
                if seen[-1].stage == "generate" and seen[-1].left.seconds is not None:
                    break
            time.sleep(0.05)
        now = seen[-1]
        assert now.state == "at work"
        assert now.process == process.pid
        assert now.left.stage == "generate" and now.left.seconds is not None and now.left.seconds > 0
        wanted, done, _, missing = by_what(now)["responses"]
        assert wanted is not None and 0 < done < wanted and missing == wanted - done
        assert now.spent.stages_s["generate"] > 0
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    after = status(out)
    assert after.state == "interrupted"
    assert after.process is None
    assert by_what(after)["responses"][1] >= done


@pytest.mark.slow
def test_a_variation_has_its_own_lines(tiny_model, tmp_path):
    study = small_study(tiny_model) | {
        "variations": [
            {"name": "shorter", "class": "procedure", "change": {"decodings.sampled.max_tokens": 6}}
        ]
    }
    found = status(run(study, tmp_path / "run"))
    varied = [part for part in found.parts if part.variation == "shorter"]
    assert [part.stage for part in varied] == ["tune", "generate", "judge", "judge"]
    assert all(part.missing == 0 for part in varied)
    assert any("generate · shorter" in line for line in status_lines(found))


def test_what_is_no_run_or_a_newer_one(tmp_path, finished: Path):
    with pytest.raises(StoreError, match=r"is not a run directory: it has no study.json\n.*run one first"):
        status(tmp_path)
    (tmp_path / "study.json").write_bytes((finished / "study.json").read_bytes())
    assert status(tmp_path).state == "not begun"
    (tmp_path / "manifest.json").write_text('{"manifest_version": 999}')
    with pytest.raises(StoreError, match="has version 999"):
        status(tmp_path)
