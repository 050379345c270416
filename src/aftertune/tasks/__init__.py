"""Tasks: pinned lists of items; packaged, public benchmarks, or from a user's table."""

from aftertune.tasks.base import Benchmark
from aftertune.tasks.benchmarks import BENCHMARKS
from aftertune.tasks.load import items_sha256, known_tasks, load_task
from aftertune.tasks.packaged_tasks import packaged_task_names

__all__ = ["BENCHMARKS", "Benchmark", "items_sha256", "known_tasks", "load_task", "packaged_task_names"]
