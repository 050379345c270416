"""aftertune: know what your language model became after fine-tuning, and what that number is worth."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aftertune._version import __version__ as __version__

__all__ = [
    "AftertuneError",
    "Analysis",
    "AnalysisSpec",
    "Run",
    "Study",
    "TableSpec",
    "analyze",
    "check",
    "open",
    "read_study",
    "run",
    "run_study",
    "summary",
]

if TYPE_CHECKING:
    from aftertune.analysis import TableSpec, analyze
    from aftertune.errors import AftertuneError
    from aftertune.pipeline import run_study
    from aftertune.records.analysis import Analysis
    from aftertune.report import summary
    from aftertune.results import Run, open, run
    from aftertune.stages.check import check
    from aftertune.study import AnalysisSpec, Study, read_study

_HOMES = {
    "AftertuneError": "aftertune.errors",
    "Analysis": "aftertune.records.analysis",
    "AnalysisSpec": "aftertune.study",
    "Run": "aftertune.results",
    "Study": "aftertune.study",
    "TableSpec": "aftertune.analysis",
    "analyze": "aftertune.analysis",
    "check": "aftertune.stages.check",
    "open": "aftertune.results",
    "read_study": "aftertune.study",
    "run": "aftertune.results",
    "run_study": "aftertune.pipeline",
    "summary": "aftertune.report",
}


def __getattr__(name: str) -> Any:
    # Loaded when asked for: `import aftertune` and `aftertune --help` need no torch and no polars.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
