"""Runs in object stores on the command line: an address stands where a directory could."""

import hashlib
import os
import re
import signal
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from aftertune.cli.printing import say

# Not http: that is an endpoint's address.
_ADDRESS = re.compile(r"(?P<option>--out=)?(?P<url>(s3|s3a|gs|gcs|az|abfs|abfss|file)://.*)")
_WRITES = {"run", "tune", "generate", "judge", "observe", "analyze", "report", "label"}
_DRAWS = {"run", "tune", "generate", "audit", "demo", "reproduce"}  # those that need checkpoints' weights


@contextmanager
def with_local_copies(words: Sequence[str]) -> Generator[list[str]]:
    """The command's words with each address replaced by a folder that holds the run as it is published.

    What the command writes there is published while it works and when it ends, however it ends.

    Raises:
        StoreError: a store cannot be used, or another driver is at work there.
    """
    command = next((word for word in words if not word.startswith("-")), "")
    with ExitStack() as stack:
        changed: list[str] = []
        for place, word in enumerate(words):
            found = _ADDRESS.fullmatch(word)
            if found is None:
                changed.append(word)
                continue
            out = found["option"] is not None or words[place - 1] == "--out"
            drives = out or command in _WRITES
            local = stack.enter_context(_copy(found["url"], drives=drives, weights=command in _DRAWS))
            changed.append(f"{found['option'] or ''}{local}")
        yield changed


@contextmanager
def _copy(url: str, *, drives: bool, weights: bool) -> Generator[Path]:
    # Here, and not above: no command without an address needs them.
    from aftertune.errors import StoreError
    from aftertune.sources import cache_directory
    from aftertune.store import AtWork, RemoteRun, RunDirectory, no_weights

    local = cache_directory() / "runs" / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16]
    remote = RemoteRun.at(url, local)
    wanted = (lambda _: True) if weights else no_weights
    if not drives:
        if remote.number == 0:
            raise StoreError(f"there is no run at {remote.url}", "give the address that --out was given")
        # A driver on this machine has the newest of all in this very folder: it is left alone.
        with suppress(AtWork), RunDirectory(local).locked():
            remote.fetch(wanted)
        yield local
        return
    with RunDirectory(local).locked():
        remote.fetch(wanted)
    try:
        with remote.driven(_stop_this_process):
            yield local
    except SystemExit:  # how typer ends a command, well or not
        say(f"published: {remote.url}", err=True)
        raise


def _stop_this_process() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
