"""Figures of the faults, which `make test-faults` writes into docs/reliability.json and its page."""

import os
import time
from datetime import UTC, datetime
from typing import Any

import pytest


class Recorder:
    """Keeps what each test of a fault measured; written at the end of the session where it is asked for."""

    def __init__(self) -> None:
        self.figures: dict[str, dict[str, Any]] = {}
        self._start = time.monotonic()

    def __call__(self, fault: str, **figures: Any) -> None:
        self.figures[fault] = {**figures, "seconds": round(time.monotonic() - self._start, 1)}
        self._start = time.monotonic()


_RECORDER = Recorder()


@pytest.fixture
def record_faults() -> Recorder:
    _RECORDER._start = time.monotonic()
    return _RECORDER


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if os.environ.get("RECORD_FAULTS") and exitstatus == 0 and _RECORDER.figures:
        from reliability_page import write_figures

        write_figures(_RECORDER.figures, at=datetime.now(UTC))
