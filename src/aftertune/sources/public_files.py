"""One public file, at a pinned revision, into the user's cache; nothing is fetched twice."""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.error import URLError
from urllib.request import Request, urlopen

from aftertune.errors import DataError

_TIMEOUT_S = 60.0
_MAX_BYTES = 512_000_000


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a Hugging Face repository; `revision` is a commit. `gated`: its terms must be accepted."""

    repo: str
    path: str
    revision: str
    kind: Literal["dataset", "model"] = "dataset"
    gated: bool = False

    @property
    def name(self) -> str:
        """Where it is, in words."""
        return f"{self.repo}@{self.revision[:12]}, {self.path}"

    @property
    def page(self) -> str:
        """Where a person reads about it and asks for access."""
        return f"https://huggingface.co/{'datasets/' if self.kind == 'dataset' else ''}{self.repo}"


@dataclass(frozen=True, slots=True)
class WebFile:
    """A file at a https address that names a commit, and the hash of its bytes where it is known."""

    url: str
    sha256: str | None = None

    @property
    def name(self) -> str:
        """Where it is, in words."""
        return self.url


def fetch(file: HubFile | WebFile) -> Path:
    """The file's place in the user's cache, fetched if it is not there.

    Raises:
        DataError: it cannot be had (for a gated one: how to get access), or its bytes have another hash.
    """
    return _from_hub(file) if isinstance(file, HubFile) else _from_web(file)


def cache_directory() -> Path:
    """Where fetched files and packaged models are kept: $AFTERTUNE_CACHE, or ~/.cache/aftertune."""
    return Path(os.environ.get("AFTERTUNE_CACHE") or Path.home() / ".cache" / "aftertune")


def _from_hub(file: HubFile) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(file.repo, file.path, repo_type=file.kind, revision=file.revision))
    except GatedRepoError as error:
        raise DataError(
            f"{file.repo} is gated, and this account has no access",
            f"accept its terms at {file.page} and set HF_TOKEN, or give a local copy",
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        gate = f"; it is gated: accept its terms at {file.page} and set HF_TOKEN" if file.gated else ""
        raise DataError(
            f"cannot get {file.name} from the hub: {str(error).splitlines()[0][:300]}",
            f"check the network{gate}; or give a local copy",
        ) from error


def keep_copy(file: WebFile, copy: Path) -> Path:
    """Put a local copy of a file where `fetch` finds it, for a machine without a network.

    Raises:
        DataError: it cannot be read, or its bytes have another hash than the file that is pinned.
    """
    try:
        content = copy.read_bytes()
    except OSError as error:
        raise DataError(f"{copy} cannot be read: {error.strerror}", "give the file's path") from error
    found = hashlib.sha256(content).hexdigest()
    if file.sha256 not in (None, found):
        raise DataError(
            f"{copy} is not {file.url}: its SHA-256 is {found}, expected {file.sha256}",
            "give a copy of the file that is pinned",
        )
    _keep(_place(file), content)
    return fetch(file)


def _place(file: WebFile) -> Path:
    suffix = Path(file.url.split("?")[0]).suffix
    return cache_directory() / "files" / f"{hashlib.sha256(file.url.encode()).hexdigest()[:32]}{suffix}"


def _from_web(file: WebFile) -> Path:
    if not file.url.startswith("https://"):
        raise DataError(f"{file.url} is no https address", "write https://…")
    target = _place(file)
    if not target.is_file():
        _keep(target, _download(file.url))
    found = hashlib.sha256(target.read_bytes()).hexdigest()
    if file.sha256 is not None and found != file.sha256:
        target.unlink()
        raise DataError(
            f"{file.url} has changed: its SHA-256 is {found}, expected {file.sha256}",
            "give a local copy of the file that was pinned",
        )
    return target


def _download(url: str) -> bytes:
    try:
        with urlopen(Request(url, headers={"User-Agent": "aftertune"}), timeout=_TIMEOUT_S) as answer:
            content: bytes = answer.read(_MAX_BYTES + 1)
    except (URLError, OSError, ValueError) as error:
        raise DataError(f"cannot get {url}: {error}", "check the network, or give a local copy") from error
    if len(content) > _MAX_BYTES:
        raise DataError(f"{url} has more than {_MAX_BYTES} bytes", "give a local copy of the right file")
    return content


def _keep(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, scratch = tempfile.mkstemp(dir=target.parent)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(content)
    os.replace(scratch, target)
