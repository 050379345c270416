"""A short turn of `make fuzz`: the inputs that are kept, and changes of them."""

import random
from pathlib import Path

import pytest
from fuzz_targets import targets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

CORPUS = Path(__file__).parent / "corpus"
TARGETS = targets()
# Bytes that parsers give a meaning of their own.
_PIECES = [
    *b"{}[]\"':,\n\t\\&*!<>#-%=",
    *(bytes([b]) for b in (0, 0x1B, 0x80, 0xFF)),
    b"NaN",
    b"null",
    b"1e999",
]
_PIECES = [bytes([p]) if isinstance(p, int) else p for p in _PIECES]


def kept(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


@pytest.mark.parametrize("name", TARGETS)
def test_the_inputs_that_are_kept(name: str):
    inputs = kept(name)
    assert inputs
    for data in inputs:
        TARGETS[name](data)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(seed=st.integers(0, 2**32), noise=st.binary(max_size=40))
def test_changes_of_them(name: str, seed: int, noise: bytes):
    rng = random.Random(seed)
    data = bytearray(rng.choice([*kept(name), noise]))
    for _ in range(rng.randint(0, 4)):
        at = rng.randint(0, len(data))
        piece = rng.choice([rng.choice(_PIECES), noise[: rng.randint(0, 8)], bytes(data[at : at + 20])])
        data[at : at + rng.choice([0, 0, 1, 5])] = piece
    TARGETS[name](bytes(data))


def test_every_folder_of_inputs_has_a_target():
    assert {path.name for path in CORPUS.iterdir()} >= set(TARGETS)
