"""Workers as processes of this machine."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from aftertune.errors import EngineError
from aftertune.executors.base import longest_first, refuse_deaths
from aftertune.executors.work import Job, Outcome, Worker

_worker: Worker | None = None  # of a worker's process


class LocalExecutor:
    """A pool of processes, each with its own engines; started at the first job."""

    def __init__(self, workers: int):
        """Raises EngineError for fewer than one worker."""
        if workers < 1:
            raise EngineError(f"--workers is {workers}", "give 1 or more")
        self.n_workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Outcome]]:
        """Have the jobs done; a pool that broke is opened again."""
        waiting = longest_first(jobs)
        n_deaths = 0  # since a job was finished: which one of them broke the pool is not known
        try:
            while waiting:
                try:
                    for place, outcome in self._done(jobs, waiting):
                        waiting.remove(place)
                        n_deaths = 0
                        yield place, outcome
                except BrokenProcessPool as error:
                    self._kill()
                    n_deaths += 1
                    refuse_deaths(n_deaths, error)
        except BaseException:
            self._kill()
            raise

    def close(self) -> None:
        """Stop the workers."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def _done(self, jobs: Sequence[Job], waiting: Sequence[int]) -> Iterator[tuple[int, Outcome]]:
        pool = self._opened()
        futures = {pool.submit(_do, jobs[place]): place for place in waiting}
        for future in as_completed(futures):
            yield futures[future], future.result()

    def _kill(self) -> None:
        """Stop them in the middle of their jobs: what they did not finish is done again by the next run."""
        if self._pool is not None:
            for process in list(self._pool._processes.values()):
                process.kill()
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _opened(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # Not forked: torch's threads do not survive a fork.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.n_workers, mp_context=context, initializer=_start)
        return self._pool


def _start() -> None:
    """In a new worker: the driver answers to Ctrl-C, and a worker does not outlive it."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_driver, daemon=True).start()
    _worker = Worker()


def _end_with_driver() -> None:
    driver = multiprocessing.parent_process()
    assert driver is not None
    driver.join()
    os._exit(1)


def _do(job: Job) -> Outcome:
    assert _worker is not None
    return _worker.do(job)
