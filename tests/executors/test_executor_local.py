"""Other processes of this machine give the bytes that one process gives."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml

from aftertune.errors import EngineError
from aftertune.executors import open_executor
from aftertune.executors.base import longest_first
from aftertune.executors.local import LocalExecutor
from aftertune.executors.work import Job, Outcome, Worker
from aftertune.pipeline import run_stages
from executor_runs import compared, small_study, undisturbed_run
from stage_runs import STAGES


@pytest.fixture(scope="module")
def undisturbed(tiny_model, tmp_path_factory):
    return undisturbed_run(tiny_model, tmp_path_factory.mktemp("one-process") / "run")


class _Job:
    """A job of another kind, for the executor alone: what it does is done in the worker."""

    def __init__(self, weight: float, what: str = "", path: Path | None = None):
        self.weight = weight
        self.what = what
        self.path = path


def _do(worker: Worker, job: _Job) -> Outcome:
    if job.what == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if job.what == "dies once" and job.path is not None and not job.path.exists():
        job.path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if job.what == "fails":
        raise MemoryError("no room")
    return Outcome([])


@pytest.fixture
def workers(monkeypatch):
    """Workers that do the jobs of this file. They are forked here, so that they have the replaced method."""
    from aftertune.executors import local

    monkeypatch.setattr(Worker, "do", _do)
    context = multiprocessing.get_context("fork")
    monkeypatch.setattr(local.multiprocessing, "get_context", lambda _: context)
    executor = LocalExecutor(2)
    yield executor
    executor.close()


def jobs_of(*jobs: _Job) -> list[Job]:
    return list(jobs)  # type: ignore[return-value]


def test_the_longest_are_given_out_first():
    assert longest_first(jobs_of(_Job(1.0), _Job(5.0), _Job(3.0), _Job(5.0))) == [1, 3, 2, 0]


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
class TestWorkersThatDie:
    def test_a_job_whose_worker_dies_is_done_again(self, workers, tmp_path, caplog):
        jobs = jobs_of(*(_Job(n) for n in range(5)), _Job(9, "dies once", tmp_path / "died"))
        assert sorted(place for place, _ in workers.run(jobs)) == list(range(6))
        assert "a worker died" in caplog.text

    def test_a_job_that_kills_its_worker_each_time_is_named_as_such(self, workers):
        with pytest.raises(EngineError, match=r"3 workers died.*the same job.*\n.*out of memory.*kept"):
            list(workers.run(jobs_of(_Job(1, "dies"))))

    def test_a_fault_of_ours_comes_through(self, workers):
        with pytest.raises(MemoryError, match="no room"):
            list(workers.run(jobs_of(_Job(1, "fails"))))


def test_without_workers_there_is_no_executor():
    assert open_executor("local", workers=None, address=None) is None
    assert open_executor("local", workers=1, address=None) is None
    with pytest.raises(EngineError, match=r"--workers is 0\n.*1 or more"):
        LocalExecutor(0)


@pytest.mark.slow
def test_four_processes_give_the_bytes_of_one(undisturbed, tiny_model, tmp_path):
    executor = open_executor("local", workers=4, address=None)
    assert executor is not None
    told: list[tuple[str, int, int]] = []
    try:
        file = tmp_path / "study.yaml"
        file.write_text(yaml.safe_dump(small_study(tiny_model)))
        run_stages(file, tmp_path / "run", STAGES, executor=executor, progress=lambda *now: told.append(now))
    finally:
        executor.close()
    compared(tmp_path / "run", undisturbed)
    drawn = [done for stage, done, _ in told if stage == "generate"]
    assert drawn == sorted(drawn)
    assert len(set(drawn)) > 2  # it moves as jobs end
    assert not multiprocessing.active_children()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signum", "code"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.faults), (signal.SIGTERM, 143)]
)
def test_an_interrupted_run_leaves_no_worker_and_goes_on(undisturbed, tiny_model, tmp_path, signum, code):
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(small_study(tiny_model)))
    command = [sys.executable, "-m", "aftertune", "run", str(file), "--out", str(tmp_path / "run")]
    process = subprocess.Popen([*command, "--workers", "2"], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = ""
    for line in process.stderr:  # until its workers are there
        said += line
        if len(workers := psutil.Process(process.pid).children(recursive=True)) >= 2 and "tune" in line:
            break
    process.send_signal(signum)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == code, said + rest
    assert "what was finished is kept" in rest
    assert "Traceback" not in rest
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    done = subprocess.run([*command, "--workers", "2"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    compared(tmp_path / "run", undisturbed)


@pytest.mark.slow
def test_options_that_do_not_go_together_are_refused(tiny_model, tmp_path):
    def said(*options: str) -> str:
        command = [sys.executable, "-m", "aftertune", "run", "study.yaml", *options]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 2
        return " ".join(done.stderr.replace("│", " ").split())

    (tmp_path / "study.yaml").write_text(yaml.safe_dump(small_study(tiny_model)))
    assert "known: local, ray" in said("--executor", "slurm")
    assert "--address goes with --executor ray" in said("--address", "auto")
    assert "equal to 1" in said("--workers", "0")
