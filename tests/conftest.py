"""Fixtures that several rooms share."""

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from tiny import make_tiny_model

# No test depends on how fast a machine is.
settings.register_profile(
    "any-speed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any-speed")

SHARED_DATA = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny matrices on several threads wait for each other, for minutes where the cores are busy."""
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a tiny random Llama with a real tokenizer and chat template."""
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def shared_data() -> Path:
    """The public data sets beside the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"{SHARED_DATA} is missing")
    return SHARED_DATA
