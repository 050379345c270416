"""What an executor is: it has jobs done elsewhere, and gives back what came of each as it comes."""

import logging
from collections.abc import Iterator, Sequence
from typing import Protocol

from aftertune.errors import EngineError
from aftertune.executors.work import Job, Outcome

log = logging.getLogger(__name__)

_MOST_DEATHS = 3  # of workers over one job with none finished between them: then it is the job's own fault


class Executor(Protocol):
    """Workers, each with engines that stay open between its jobs."""

    @property
    def n_workers(self) -> int:
        """How many jobs are done at a time now, at least 1."""
        ...

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Outcome]]:
        """Have the jobs done, the longest first; gives each job's place and outcome in the order they end.

        A job whose worker dies is given to another.

        Raises:
            EngineError: workers die again and again, or none can be had.
        """
        ...

    def close(self) -> None:
        """Stop the workers, also in the middle of a job."""
        ...


def longest_first(jobs: Sequence[Job]) -> list[int]:
    """The places of the jobs, so that none of the long ones is left for the end."""
    return sorted(range(len(jobs)), key=lambda place: -jobs[place].weight)


def refuse_deaths(n: int, error: Exception) -> None:
    """Say that a worker died, the `n`-th over its job; after a few of them it is no accident.

    Raises:
        EngineError: so many died over one job, and none was finished between them.
    """
    if n >= _MOST_DEATHS:
        raise EngineError(
            f"{n} workers died one after the other over the same job: {str(error).splitlines()[0]}",
            "were they out of memory? Use fewer workers or a lower engine.batch_rows; what is done is kept",
        ) from error
    log.warning("a worker died: its job is done again")
