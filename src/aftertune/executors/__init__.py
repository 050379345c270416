"""Executors give a study's trainings and draws to other processes, of this machine or of a Ray cluster.

What they give back is the same to the byte as from one process, where the engine's numerics are exact: a
response's random numbers belong to the response, a training's to its recipe and seed, and the driver alone
writes into the run directory.
"""

from typing import Literal

from aftertune.executors.base import Executor
from aftertune.executors.pooled import PooledEngine, PooledTrainers
from aftertune.executors.work import Setup, WarmEngines

__all__ = ["Executor", "PooledEngine", "PooledTrainers", "Setup", "WarmEngines", "open_executor"]

ExecutorName = Literal["local", "ray"]


def open_executor(name: ExecutorName, *, workers: int | None, address: str | None) -> Executor | None:
    """An executor; None where one process, this one, does all.

    Args:
        name: `local` for processes of this machine, `ray` for a Ray cluster.
        workers: how many at a time; by default 1 locally, and on Ray as many as the cluster has room for.
        address: of the Ray cluster (`auto` for this machine's, or host:port); None starts one here.

    Raises:
        EngineError: ray is not installed, or there is no cluster at the address.
    """
    if name == "ray":
        from aftertune.executors.ray import RayExecutor

        return RayExecutor(address=address, workers=workers)
    if workers is None or workers == 1:
        return None
    from aftertune.executors.local import LocalExecutor

    return LocalExecutor(workers)
