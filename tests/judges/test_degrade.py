"""The degradations: seeded, and each does what its name says."""

from random import Random

import pytest
from degrade import DEGRADATIONS, Material

from aftertune.judges.incoherence_rules import find_repetition

TEXT = (
    "Mix flour with water. Let the dough rest for an hour, then shape it. Bake it until the crust is brown."
)
MATERIAL = Material(["The bus leaves at nine and comes back at five in the evening."], [" a", "zq", "the"])


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_a_seed_decides(name: str) -> None:
    of = [DEGRADATIONS[name](TEXT, Random(seed), MATERIAL) for seed in (1, 1, *range(2, 20))]
    assert of[0] == of[1] != TEXT
    if name != "answer to another prompt":
        assert len(set(of)) > 1


def test_what_each_keeps() -> None:
    make = {name: degrade(TEXT, Random(1), MATERIAL) for name, degrade in DEGRADATIONS.items()}
    assert sorted(make["word shuffle"].split()) == sorted(TEXT.split())
    for share in (5, 15, 30):
        changed = sum(a != b for a, b in zip(make[f"character noise {share}%"], TEXT, strict=True))
        assert 0 < changed / len(TEXT) < 2.5 * share / 100
    assert TEXT.startswith(make["truncation (sound)"])
    assert find_repetition("", make["sentence loop"]).event and not find_repetition("", TEXT).event
