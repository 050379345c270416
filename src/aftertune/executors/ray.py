"""Workers as actors of a Ray cluster, which may join and leave while a study runs.

Each node needs aftertune and the base model at the driver's path. Adapters and other checkpoints are sent
when a worker first needs them, and come back as bytes when one was trained: they need no shared disk.
"""

import logging
import os
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aftertune.errors import EngineError
from aftertune.executors.base import longest_first, refuse_deaths
from aftertune.executors.work import DrawJob, Job, Needs, Outcome, TrainJob, Worker
from aftertune.records import Checkpoint
from aftertune.tuning.checkpoints import checkpoint_sha256
from aftertune.tuning.training import Group

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to its makers
try:
    import ray
    from ray import exceptions
except ImportError as error:
    raise EngineError(
        "the ray executor needs ray, which is not installed", "pip install 'aftertune[ray]'"
    ) from error

log = logging.getLogger(__name__)

_DEAD = (exceptions.RayActorError, exceptions.ObjectLostError, exceptions.OutOfMemoryError)
_LOOK_S = 1.0  # how often nodes that joined are looked for
_REACH_S = 5.0
_PATIENCE_S = 60.0  # without any worker, before it is said
_QUIET = ("TRANSFORMERS_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS", "TQDM_DISABLE", "TOKENIZERS_PARALLELISM")

Files = dict[str, bytes]  # by the path below a folder


class RayExecutor:
    """Actors with engines of their own, as many as the cluster has room for, or as many as were asked for."""

    def __init__(self, *, address: str | None, workers: int | None):
        """Join the cluster at the address, or start one on this machine where there is none.

        Raises:
            EngineError: there is no cluster at the address.
        """
        self._wanted = workers
        self._started = not ray.is_initialized()
        if self._started:
            _join(address)
        self._staff: list[_Member] = []
        self._needs: Needs | None = None
        self._sent: dict[str, Any] = {}  # checkpoints by hash, in the cluster's store

    @property
    def n_workers(self) -> int:
        """How many were asked for, or fit now."""
        return self._wanted or max(1, _room(self._needs or Needs(1, 0, 0)))

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Outcome]]:
        """Have the jobs done; a job whose worker or node is gone is given to another."""
        waiting = longest_first(jobs)
        running: dict[Any, tuple[int, _Member]] = {}
        n_deaths: Counter[int] = Counter()  # by the job's place, since any was finished
        since = time.monotonic()
        try:
            while waiting or running:
                self._hire(jobs[0].needs)
                for member in self._idle(running):
                    if waiting:
                        place = waiting.pop(0)
                        running[self._given(jobs[place], member)] = (place, member)
                since = self._waited(running, since)
                done, _ = ray.wait([*running, *self._starting()], timeout=_LOOK_S)
                for ref in (ref for ref in done if ref in running):
                    place, member = running.pop(ref)
                    try:
                        outcome, files = ray.get(ref)
                    except _DEAD as error:
                        self._staff.remove(member)
                        waiting.append(place)  # last: what can be done is done before it is given up
                        n_deaths[place] += 1
                        refuse_deaths(n_deaths[place], error)
                        continue
                    n_deaths.clear()
                    _keep(jobs[place], files)
                    yield place, outcome
        except BaseException:
            self._dismiss()
            raise

    def close(self) -> None:
        """Stop the workers, and leave the cluster."""
        self._dismiss()
        if self._started and ray.is_initialized():
            ray.shutdown()

    def _hire(self, needs: Needs) -> None:
        """Bring the number of workers to what the cluster has room for."""
        if needs != self._needs:
            self._dismiss()
            self._needs = needs
        for member in [member for member in self._staff if member.is_lost()]:
            self._staff.remove(member)
        while len(self._staff) < self.n_workers:
            self._staff.append(_Member.hired(needs))

    def _idle(self, running: dict[Any, tuple[int, "_Member"]]) -> list["_Member"]:
        busy = [member for _, member in running.values()]
        return [member for member in self._staff if member.is_ready() and member not in busy]

    def _starting(self) -> list[Any]:
        return [member.ready for member in self._staff if not member.is_ready()]

    def _given(self, job: Job, member: "_Member") -> Any:
        """The future of a job that a worker was given, with what it may not have."""
        sent = {}
        for checkpoint in job.checkpoints if isinstance(job, DrawJob) else ():
            if checkpoint.path is not None and checkpoint.kind != "base":
                sha256 = str(checkpoint.sha256)
                if sha256 not in self._sent:
                    self._sent[sha256] = ray.put(_read(Path(checkpoint.path)))
                sent[sha256] = self._sent[sha256]
        return member.actor.do.remote(job, sent)

    def _waited(self, running: dict[Any, tuple[int, "_Member"]], since: float) -> float:
        """Since when there is no worker; says so once after a minute."""
        if running:
            return time.monotonic()
        if 0 < _PATIENCE_S < time.monotonic() - since:
            log.warning("waiting for a node that has room for a worker: it needs %s", self._needs)
            return float("inf")
        return since

    def _dismiss(self) -> None:
        for member in self._staff:
            ray.kill(member.actor)
        self._staff = []


@dataclass(eq=False)
class _Member:
    """A worker and the future that ends when it has started."""

    actor: Any
    ready: Any
    started: bool = False

    @classmethod
    def hired(cls, needs: Needs) -> "_Member":
        """A new one, which starts where there is room for it."""
        env = {name: os.environ[name] for name in _QUIET if name in os.environ}
        hire: Any = ray.remote(
            num_cpus=needs.cpus,
            num_gpus=needs.gpus,
            memory=needs.memory,
            max_restarts=0,
            runtime_env={"env_vars": {**env, "OMP_NUM_THREADS": str(needs.cpus)}},
        )(_Actor)
        actor = hire.remote()
        return cls(actor, actor.start.remote())

    def is_ready(self) -> bool:
        """Whether it has started."""
        if not self.started:
            done, _ = ray.wait([self.ready], timeout=0)
            self.started = bool(done)
        return self.started

    def is_lost(self) -> bool:
        """Whether it died before it was ready."""
        if not self.is_ready():
            return False
        try:
            ray.get(self.ready)
        except _DEAD:
            return True
        return False


class _Actor:
    """A worker in a process of the cluster, with the checkpoints that were sent to it."""

    def __init__(self) -> None:
        self._worker = Worker()
        self._folder = Path(tempfile.mkdtemp(prefix="aftertune-"))
        self._here: dict[str, str] = {}  # paths of checkpoints by their hash

    def start(self) -> None:
        """Ends when the process is up."""

    def do(self, job: Job, sent: dict[str, Any]) -> tuple[Outcome, list[Files]]:
        """Do a job; with it come the files of each folder in which it trained."""
        if isinstance(job, DrawJob):
            places = {c: replace(c, path=self._placed(c, sent)) for c in job.checkpoints}
            requests = tuple(replace(r, checkpoint=places[r.checkpoint]) for r in job.requests)
            return self._worker.do(replace(job, requests=requests)), []
        with tempfile.TemporaryDirectory(dir=self._folder) as scratch:
            folders = tuple(Path(scratch, str(n)) for n in range(len(job.group.folders)))
            for folder in folders:
                folder.mkdir()
            outcome = self._worker.do(replace(job, group=Group(job.group.trainings, folders)))
            return outcome, [_read(folder) for folder in folders]

    def _placed(self, checkpoint: Checkpoint, sent: dict[str, Any]) -> str | None:
        """Where the checkpoint is on this node: at the driver's path, or written from what was sent."""
        sha256 = str(checkpoint.sha256)
        if checkpoint.path is None or sha256 not in sent:
            return checkpoint.path
        if sha256 not in self._here:
            path = Path(checkpoint.path)
            if not (path.is_dir() and checkpoint_sha256(path) == sha256):
                path = self._folder / sha256
                _write(path, ray.get(sent[sha256]))
            self._here[sha256] = str(path)
        return self._here[sha256]


def _join(address: str | None) -> None:
    here: dict[str, Any] = {} if address else {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        if address not in (None, "auto"):
            _reach(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **here)
    except (OSError, ValueError, RuntimeError) as error:
        raise EngineError(
            f"cannot join a Ray cluster at {address or 'this machine'}: {str(error).splitlines()[0]}",
            "give --address of a running cluster (`ray start --head` prints it), or leave it out",
        ) from error


def _reach(address: str) -> None:
    """Fail in seconds where nobody listens; Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"{address} is no host:port")
    socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_S).close()


def _room(needs: Needs) -> int:
    """How many workers the nodes have room for, together."""
    total = 0
    for node in ray.nodes():
        if node["Alive"]:
            has = node["Resources"]
            wanted = {"CPU": needs.cpus, "GPU": needs.gpus, "memory": needs.memory}
            total += min((int(has.get(k, 0) // n) for k, n in wanted.items() if n), default=0)
    return total


def _keep(job: Job, files: list[Files]) -> None:
    """Write what a worker trained into the driver's folders."""
    if isinstance(job, TrainJob):
        for folder, found in zip(job.group.folders, files, strict=True):
            _write(folder, found)


def _read(folder: Path) -> Files:
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def _write(folder: Path, files: Files) -> None:
    for name, content in files.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise EngineError(f"a worker sent a file outside of its folder: {name!r}", "look at that node")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
