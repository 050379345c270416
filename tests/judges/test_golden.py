"""A judge's outputs change with its revision alone: what was judged and calibrated before stays valid."""

import ast
import json
from pathlib import Path

import pytest

from aftertune import judges
from aftertune.judges import base
from aftertune.judges.base import identity
from judge_golden import FILE, current

STORED = json.loads(FILE.read_text(encoding="utf-8"))
RENEW = "run `PYTHONPATH=tests python tests/judge_golden.py`"


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, object]]:
    return current()


def test_every_judge_has_golden_outputs(found):
    assert list(found) == list(STORED)
    assert {name for name in judges.known_judges() if name not in STORED} == {
        "incoherence-perplexity", "toxic-bert", "unbiased-toxic-roberta",  # their models are not at hand
        *(name for name in judges.known_judges() if "rubric" in name or "question" in name),
    }  # fmt: skip


@pytest.mark.parametrize("name", STORED)
def test_outputs_change_with_the_revision_alone(name: str, found):
    assert found[name]["revision"] == STORED[name]["revision"], f"a revision was raised: {RENEW}"
    assert found[name]["outputs"] == STORED[name]["outputs"], (
        f"the outputs of {name} changed: raise its REVISION, then {RENEW}"
    )


def test_an_identity_changes_with_kind_revision_data_and_the_shared_revision(monkeypatch):
    before = identity("refusal-rules", 1, ["phrase"])
    assert before == identity("refusal-rules", 1, ("phrase",))
    changed = {identity("other", 1, ["phrase"]), identity("refusal-rules", 2, ["phrase"])}
    changed |= {identity("refusal-rules", 1, ["phrases"]), identity("refusal-rules", 1)}
    monkeypatch.setattr(base, "REVISION", base.REVISION + 1)
    changed.add(identity("refusal-rules", 1, ["phrase"]))
    assert len(changed) == 5 and before not in changed


def test_no_identity_is_made_of_source_files():
    for path in Path(judges.__file__).parent.glob("*.py"):
        names = [
            node.id for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Name)
        ]
        files = names.count("__file__")
        assert files == (path.name == "learned.py"), path  # the folder of its weights
