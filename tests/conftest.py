"""Fixtures that several rooms share."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# No test depends on how fast a machine is.
settings.register_profile(
    "any-speed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any-speed")

SHARED_DATA = Path(__file__).parents[1].parent / "shared" / "data"


# Tests of the base install (base_install.txt) run where torch is not installed.
@pytest.fixture(autouse=find_spec("torch") is not None)
def one_thread():
    """Tiny matrices on several threads wait for each other, for minutes where the cores are busy."""
    import torch

    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a tiny random Llama with a real tokenizer and chat template."""
    from tiny import make_tiny_model

    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def shared_data() -> Path:
    """The public data sets beside the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"{SHARED_DATA} is missing")
    return SHARED_DATA
