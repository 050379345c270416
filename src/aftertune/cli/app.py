"""The door: the typer app, and what becomes of a fault."""

import logging
import os
import signal
import sys
import traceback
import warnings
from typing import Annotated

import typer

from aftertune._version import __version__
from aftertune.cli.addresses import with_local_copies
from aftertune.cli.printing import Interrupted, say, stop
from aftertune.errors import MODEL_PACKAGES, AftertuneError, MissingModelPackages, out_of_memory
from aftertune.foreign_text import for_terminal
from aftertune.processor import use_strict_products

_LESS_MEMORY = "lower engine.batch_rows, a recipe's batch_size, or --workers; what was finished is kept"

app = typer.Typer(
    name="aftertune",
    help="Know what your language model became after fine-tuning, and what that number is worth.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command; a fault that a user can mend is a message and exit code 2, never a traceback."""
    _log_to_stderr()
    _end_like_ctrl_c()
    _plain_without_colour()
    debug = "--debug" in sys.argv
    if debug:  # before or after the command's name, which typer would not let it stand after
        sys.argv.remove("--debug")
    _quiet_libraries()
    use_strict_products()
    try:
        with with_local_copies(sys.argv[1:]) as words:
            app(args=words)
    except Exception as error:
        stop(traceback.format_exc(), 1) if debug else stop(*_told(error))
    finally:
        _close_stdout()


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of a fault; may stand after the command too.")
    ] = False,
) -> None:
    if version:
        say(f"aftertune {__version__}")
        raise typer.Exit()


def _told(error: Exception) -> tuple[str, int]:
    """What is said of a fault, and the exit code: 2 where a user can mend it."""
    if isinstance(error, AftertuneError):
        return str(error), 2
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in MODEL_PACKAGES:
        return str(MissingModelPackages([str(error.name)])), 2
    if said := out_of_memory(error):
        return f"out of memory: {said}\n  → {_LESS_MEMORY}", 2
    if isinstance(error, OSError):
        named = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return f"{named}\n  → check that path, its permissions and the disk's space", 2
    return f"{type(error).__name__}: {error}\n  → a fault of aftertune: run with --debug and report it", 1


def _plain_without_colour() -> None:
    # rich leaves out colours alone, and bold text and moving bars are escapes too.
    if os.environ.get("NO_COLOR"):
        os.environ["TERM"] = "dumb"


def _end_like_ctrl_c() -> None:
    # A scheduler's or a closed terminal's way to end us: workers are stopped as after Ctrl-C.
    def interrupt(signum: int, _: object) -> None:
        raise Interrupted(signum)

    signums = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]  # none on Windows
    for signum in signums:
        if signal.getsignal(signum) is not signal.SIG_IGN:  # nohup
            signal.signal(signum, interrupt)


def _close_stdout() -> None:
    # A reader that left (`| head -1`) is no fault; at exit Python would print one.
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Shown(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return for_terminal(super().format(record))


def _log_to_stderr() -> None:
    # On our own logger: other libraries' advice must not come under our name.
    handler = logging.StreamHandler()
    handler.setFormatter(_Shown("aftertune: %(message)s"))
    logging.getLogger("aftertune").addHandler(handler)


def _quiet_libraries() -> None:
    # Their bars and advice would stand between ours; faults still arrive as exceptions.
    warnings.filterwarnings("ignore", module=r"(transformers|peft|torch|bitsandbytes)\b")
    logging.getLogger("bitsandbytes").setLevel(logging.CRITICAL)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
