"""A Ray cluster of three nodes, workers joining and leaving, gives the bytes that one process gives."""

import time

import pytest
import yaml

from aftertune.errors import EngineError
from aftertune.pipeline import run_stages
from executor_runs import compared, small_study, undisturbed_run
from stage_runs import STAGES

pytest.importorskip("ray", reason="ray is not installed (the dev extra)")
from ray_cluster import add_node, ray_cluster

pytestmark = [
    pytest.mark.slow,
    # ray's own, while it starts and stops processes
    pytest.mark.filterwarnings(
        "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
    ),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def undisturbed(tiny_model, tmp_path_factory):
    return undisturbed_run(tiny_model, tmp_path_factory.mktemp("one-process") / "run")


def test_three_nodes_of_which_one_leaves_and_another_joins(undisturbed, tiny_model, tmp_path):
    from aftertune.executors.ray import RayExecutor

    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(small_study(tiny_model)))
    joined: list[object] = []
    told: list[tuple[str, int, int]] = []
    with ray_cluster(3) as cluster:
        executor = RayExecutor(address=cluster.address, workers=None)
        leaving = next(node for node in cluster.worker_nodes)

        def progress(stage: str, done: int, total: int) -> None:
            told.append((stage, done, total))
            if stage == "tune" and 0 < done < total and not joined:
                cluster.remove_node(leaving, allow_graceful=False)
                joined.append(add_node(cluster))

        try:
            run_stages(file, tmp_path / "run", STAGES, executor=executor, progress=progress)
            assert joined
            assert executor.n_workers == 3
        finally:
            executor.close()
    compared(tmp_path / "run", undisturbed)
    assert len({done for stage, done, _ in told if stage == "generate"}) > 2


def test_no_cluster_at_an_address():
    from aftertune.executors.ray import RayExecutor

    start = time.monotonic()
    with pytest.raises(EngineError, match=r"cannot join a Ray cluster at 127.0.0.1:1: .*\n.*--address"):
        RayExecutor(address="127.0.0.1:1", workers=None)
    assert time.monotonic() - start < 20
