"""Killed with -9 at random moments, 50 times in a row over one study: the driver, a worker, a Ray node.

Nothing is lost, nothing is there twice, and the observations are those of a run that nobody disturbed.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from aftertune.engines import draw
from aftertune.executors import open_executor
from aftertune.executors.local import LocalExecutor
from aftertune.pipeline import run_stages
from executor_runs import compared, small_study
from stage_runs import STAGES, rows, run

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(1800),
    # ray's own, while it starts and stops processes
    pytest.mark.filterwarnings(
        "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
    ),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

N_KILLS = 50
DRIVER = Path(__file__).parents[1] / "stage_runs.py"


def study(model: Path) -> dict[str, Any]:
    """Large enough that 50 lives do not finish it: some 4,000 responses, written five at a time."""
    small = small_study(model)
    decodings = small["decodings"]
    decodings["sampled"]["repeats"] = 6
    return small | {
        "seeds": 3,
        "tasks": [{"name": "mini-harm", "n": 60}, {"name": "mini-lookalikes", "n": 20}],
        "decodings": decodings,
    }


@pytest.fixture(scope="module")
def undisturbed(tiny_model, tmp_path_factory):
    return run(study(tiny_model), tmp_path_factory.mktemp("undisturbed") / "run")


@pytest.fixture
def short_shards(monkeypatch):
    monkeypatch.setattr(draw, "_SHARD_ROWS", 5)


def n_files(out: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(out))


def finished(out: Path, undisturbed: Path) -> dict[str, int]:
    compared(out, undisturbed)
    judgments = rows(out, "judgments")
    assert judgments.select("response_key", "judge", "judge_repeat", "construct").is_unique().all()
    return {"responses": rows(out, "responses").height, "judgments": judgments.height}


def test_the_driver(undisturbed, tiny_model, tmp_path, record_faults):
    rng = random.Random(1)
    file = tmp_path / "driven.yaml"
    file.write_text(yaml.safe_dump(study(tiny_model), sort_keys=False))
    out = tmp_path / "run"
    command = [sys.executable, str(DRIVER), str(file), str(out)]

    def life() -> subprocess.Popen[str]:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    n_killed = n_ended = 0
    while n_killed < N_KILLS and n_ended < 3:
        process = life()
        before, wanted, pause = n_files(out), rng.randint(0, 10), rng.uniform(0, 0.2)
        while process.poll() is None:
            if n_files(out) >= before + wanted:
                time.sleep(pause)
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        process.communicate()
        n_killed += process.returncode == -signal.SIGKILL
        n_ended += process.returncode == 0
    assert n_killed == N_KILLS, f"the study was finished after {n_killed} kills: make it larger"
    process = life()
    _, complaint = process.communicate()
    assert process.returncode == 0, complaint
    record_faults("driver killed", kills=n_killed, **finished(out, undisturbed))


def disturbed(
    model: Path, folder: Path, executor: Any, kill: Callable[[], bool], *, every: tuple[int, int], seed: int
) -> int:
    """Run the study; kill somebody each time that so many jobs are done, so that work gets on between."""
    rng, n_killed, last = random.Random(seed), 0, ("", -1)
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(study(model), sort_keys=False))
    left = rng.randint(*every)

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal n_killed, last, left
        if stage not in ("tune", "generate") or (stage, done) == last or not done < total:
            return
        last, left = (stage, done), left - 1
        if left <= 0 and n_killed < N_KILLS:
            n_killed += kill()
            left = rng.randint(*every)

    run_stages(file, folder / "run", STAGES, executor=executor, progress=progress)
    return n_killed


def test_local_workers(undisturbed, tiny_model, tmp_path, short_shards, record_faults, monkeypatch):
    monkeypatch.setattr("aftertune.executors.pooled._JOBS_A_WORKER", 200)  # short jobs, for many kills
    monkeypatch.setattr("aftertune.executors.pooled._BATCHES_A_JOB", 1)
    rng = random.Random(2)
    executor = open_executor("local", workers=2, address=None)
    assert isinstance(executor, LocalExecutor)

    def kill() -> bool:
        pool = executor._pool
        if pool is None or not pool._processes:
            return False
        try:
            os.kill(rng.choice(sorted(pool._processes)), signal.SIGKILL)
        except ProcessLookupError:  # it died of the kill before
            return False
        return True

    try:
        n_killed = disturbed(tiny_model, tmp_path, executor, kill, every=(4, 8), seed=3)
    finally:
        executor.close()
    assert n_killed == N_KILLS
    record_faults("local workers killed", kills=n_killed, **finished(tmp_path / "run", undisturbed))


def test_ray_workers_and_nodes(undisturbed, tiny_model, tmp_path, short_shards, record_faults, monkeypatch):
    pytest.importorskip("ray", reason="ray is not installed (the dev extra)")
    from aftertune.executors.ray import RayExecutor
    from ray_cluster import add_node, ray_cluster

    monkeypatch.setattr("aftertune.executors.pooled._JOBS_A_WORKER", 200)
    monkeypatch.setattr("aftertune.executors.pooled._BATCHES_A_JOB", 1)
    rng = random.Random(4)
    kinds: list[str] = []
    with ray_cluster(3) as cluster:
        executor = RayExecutor(address=cluster.address, workers=None)

        def kill() -> bool:
            if rng.random() < 0.3:  # all processes of a node at once; another joins
                node = rng.choice(sorted(cluster.worker_nodes, key=lambda n: n.node_ip_address))
                cluster.remove_node(node, allow_graceful=False)
                add_node(cluster)
                kinds.append("node")
                return True
            actors = [
                process
                for process in psutil.process_iter(["cmdline"])
                if process.info["cmdline"] and process.info["cmdline"][0].startswith("ray::_Actor")
            ]
            if not actors:
                return False
            rng.choice(actors).kill()
            kinds.append("worker")
            return True

        try:
            n_killed = disturbed(tiny_model, tmp_path, executor, kill, every=(4, 8), seed=5)
        finally:
            executor.close()
    assert n_killed == N_KILLS
    counts = {"workers": kinds.count("worker"), "nodes": kinds.count("node")}
    record_faults(
        "Ray workers and nodes killed", kills=n_killed, **counts, **finished(tmp_path / "run", undisturbed)
    )
