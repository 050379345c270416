"""Tiny models of several architectures, on one thread."""

from collections.abc import Callable
from pathlib import Path

import pytest

from engine_models import save_model


@pytest.fixture(scope="session")
def model_of(tmp_path_factory) -> Callable[[str], Path]:
    """The directory of the tiny model of an architecture, made once."""
    made: dict[str, Path] = {}

    def get(architecture: str = "Llama") -> Path:
        if architecture not in made:
            made[architecture] = save_model(tmp_path_factory.mktemp(architecture), architecture)
        return made[architecture]

    return get
