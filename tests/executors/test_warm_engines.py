"""A worker loads the base model once, however many jobs and checkpoints it is given."""

import pytest

from aftertune.engines.transformers import TransformersEngine
from aftertune.errors import EngineError
from aftertune.executors import Setup, WarmEngines
from aftertune.executors.pooled import PooledEngine
from aftertune.executors.work import DrawJob, Worker
from executor_runs import small_study
from stage_runs import run

pytestmark = pytest.mark.slow


@pytest.fixture
def run_of(tiny_model, tmp_path):
    from aftertune.store import RunDirectory

    return RunDirectory(run(small_study(tiny_model), tmp_path / "run", stages=("tune",)))


class _Recorded:
    """An executor that keeps what it is given, and has a worker of this process do it."""

    n_workers = 2

    def __init__(self):
        self.jobs = []
        self.worker = Worker()

    def run(self, jobs):
        self.jobs += jobs
        yield from ((place, self.worker.do(job)) for place, job in enumerate(jobs))

    def close(self):
        pass


def test_the_base_is_loaded_once(run_of, monkeypatch):
    from aftertune.pipeline import _Engines
    from aftertune.stages.generate import generate

    loads = []
    load = TransformersEngine.__init__

    def counted(self, *args, **kwargs):
        loads.append(args)
        load(self, *args, **kwargs)

    monkeypatch.setattr(TransformersEngine, "__init__", counted)
    executor = _Recorded()
    generate(run_of, open_engine=lambda: _Engines(executor).drawing(run_of), progress=lambda *_: None)
    draws = [job for job in executor.jobs if isinstance(job, DrawJob)]
    assert len(draws) > 3
    assert len({c.label for job in draws for c in job.checkpoints}) == 5  # the base and two seeds of two
    assert len(loads) == 2  # here, for its identity and its template, and in the worker


def test_a_worker_with_another_identity_is_refused(run_of):
    from aftertune.pipeline import _setup

    setup = _setup(run_of)
    engine = PooledEngine(WarmEngines().drawing(setup), _Recorded(), setup)
    job = DrawJob(Setup(setup.study, setup.source), {**engine.identity, "torch": "1.0"}, None, ())
    outcome = Worker().do(job)
    assert isinstance(outcome.error, EngineError)
    assert "torch: " in str(outcome.error) and "'1.0' at the driver" in str(outcome.error)
    assert outcome.made == []
