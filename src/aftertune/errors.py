"""What aftertune raises. Every message says what was wrong, the value got, and what to do."""

import difflib
import errno
from collections.abc import Iterable
from importlib.util import find_spec

MODEL_PACKAGES = ("torch", "transformers", "peft", "safetensors", "tokenizers")  # the extra `models`

# How Python, torch and the dynamic loader say that memory does not suffice, in errors of several types.
_NO_MEMORY = ("allocate memory", "out of memory", "failed to map segment", "can't start new thread")


class AftertuneError(Exception):
    """A fault that a user can mend; the command prints it without a traceback and exits with 2.

    Args:
        what: what was wrong, with the value got.
        remedy: what to do about it.
    """

    def __init__(self, what: str, remedy: str):
        super().__init__(f"{what}\n  → {remedy}")
        self.what = what
        self.remedy = remedy

    def __reduce__(self):
        return type(self), (self.what, self.remedy)


class StudyError(AftertuneError):
    """The study file is wrong: an unknown key, a wrong type, a name that leads nowhere."""


class DataError(AftertuneError):
    """A task, a tuning set or a table of observations is wrong."""


class ModelError(AftertuneError):
    """A model directory, its tokenizer, its template or an adapter is wrong."""


class EngineError(AftertuneError):
    """Generation cannot go on, or cannot keep its promise of exactness."""


class TuningError(AftertuneError):
    """Training cannot start. A training that fails or diverges is a status, not this."""


class StoreError(AftertuneError):
    """The run directory is locked, full, read-only, or lacks a file that a stage needs."""


class MissingModelPackages(AftertuneError):
    """Packages of the extra `models`, which load, tune and run models, are not installed."""

    def __init__(self, packages: Iterable[str]):
        super().__init__(
            f"this needs model libraries that are not installed: {', '.join(packages)}",
            "pip install 'aftertune[models]'",
        )

    def __reduce__(self):
        return AftertuneError, (self.what, self.remedy)


def need_models() -> None:
    """Refuse at once, before any work, what needs the extra `models` where it is not installed.

    Raises:
        MissingModelPackages: it is not.
    """
    missing = [name for name in MODEL_PACKAGES if find_spec(name) is None]
    if missing:
        raise MissingModelPackages(missing)


def nearest(got: str, known: Iterable[str]) -> str:
    """The hint for a name that leads nowhere: the most similar known one, or all of them."""
    names = list(known)
    close = difflib.get_close_matches(got, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names) or 'none'}"


def out_of_memory(error: Exception) -> str | None:
    """The first line of an error which says that memory does not suffice; nothing for any other error."""
    said = str(error).partition("\n")[0]
    is_memory = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    # Of torch, which most commands do without.
    is_memory = is_memory or type(error).__name__ == "OutOfMemoryError"
    if is_memory or any(words in said.lower() for words in _NO_MEMORY):
        return said or type(error).__name__
    return None
