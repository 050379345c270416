"""What is absent is said in words, wherever it stands."""

import re
from pathlib import Path

import pytest

from aftertune.records.analysis import Analysis, Bounds, Missing, Rate
from aftertune.records.manifest import Manifest
from aftertune.report import summary, write_report

ONE_SEED = "one seed: it cannot say what another would give"
GONE = Missing(n=40, n_observations=300, by_status={"unparsed": 40})


def base_only(analysis: Analysis) -> Analysis:
    names = ("differences", "components", "flips", "consistency")
    rates = tuple(r for r in analysis.rates if r.model == analysis.base)
    return analysis.model_copy(update=dict.fromkeys(names, ()) | {"rates": rates})


def one_seed(analysis: Analysis) -> Analysis:
    def cut(rate: Rate) -> Rate:
        if rate.model == analysis.base:
            return rate
        absent = {"benchmark": None, "population": None, "spread": None, "why_no_interval": ONE_SEED}
        return rate.model_copy(update={"per_seed": rate.per_seed[:1], "n_seeds": 1} | absent)

    numbers = dict.fromkeys(("ci_low", "ci_high", "se", "p_value", "p_adjusted", "margin_low", "margin_high"))
    differences = tuple(d.model_copy(update=numbers) for d in analysis.differences)
    update = {"rates": tuple(map(cut, analysis.rates)), "differences": differences, "components": ()}
    return analysis.model_copy(update=update)


def missing(analysis: Analysis) -> Analysis:
    absent = {"estimate": None, "benchmark": None, "population": None, "spread": None, "missing": GONE}
    absent |= {
        "bounds": Bounds(low=0.35, high=0.483),
        "why_no_interval": "13.3% of the judgments are missing",
    }
    numbers = ("estimate", "ci_low", "ci_high", "se", "p_value", "p_adjusted", "margin_low", "margin_high")
    undecided = dict.fromkeys(numbers) | {
        "verdict": "no conclusion",
        "sentence": "No conclusion: too many are missing.",
    }
    return analysis.model_copy(
        update={
            "rates": tuple(r.model_copy(update=absent) for r in analysis.rates),
            "differences": tuple(d.model_copy(update=undecided) for d in analysis.differences),
        }
    )


def no_checkpoint_rates(analysis: Analysis) -> Analysis:
    def cut(rate: Rate) -> Rate:
        seeds = tuple(s.model_copy(update={"estimate": None, "share_length": None}) for s in rate.per_seed)
        return rate.model_copy(update={"per_seed": seeds})

    components = tuple(
        c.model_copy(update=dict.fromkeys(("ci_low", "ci_high", "f", "p_value"))) for c in analysis.components
    )
    update = {"rates": tuple(map(cut, analysis.rates)), "components": components, "primary": None}
    return analysis.model_copy(update=update)


CASES = {
    base_only: (
        "There is no contrast",
        "no tuned model beside a reference",
        "at least two seeds",
        "no recipe to hold",
    ),
    one_seed: (ONE_SEED, "41.7%, no interval", "+30.0 points, no interval"),
    missing: (
        "no conclusion: between 35.0% and 48.3%",
        "13.3% of the judgments",
        "chat: no conclusion",
        "40 of 300",
    ),
    no_checkpoint_rates: ("not given",),
}


@pytest.mark.parametrize("change", CASES, ids=lambda change: change.__name__)
def test_absent_values_are_said_in_words(analysis: Analysis, tmp_path: Path, change):
    changed = change(analysis)
    write_report(changed, examples=None, manifest=Manifest(git=None), out=tmp_path)
    pages = {p.name: p.read_text(encoding="utf-8") for p in tmp_path.rglob("*") if p.is_file()}
    pages["index.html"] = re.sub(r"<(style|script)\b.*?</\1>", "", pages["index.html"], flags=re.S)
    for words in CASES[change]:
        assert words in pages["index.html"]
    for name, text in (pages | {"summary": summary(changed)}).items():
        shown = re.sub(
            r"Content-Security-Policy[^>]*|(fill|stroke|display|pointer-events)=\"none\"|False Discovery",
            "",
            text,
        )
        assert not re.search(r"\b(None|nan|NaN|null|undefined|True|False)\b", shown) or name.endswith(
            ".csv"
        ), name
        assert not re.search(r"\b(None|nan|NaN|null)\b", shown), name


def test_a_study_without_a_primary_says_so(analysis: Analysis, tmp_path: Path):
    loose = analysis.model_copy(update={"primary": None})
    write_report(loose, examples=None, manifest=Manifest(), out=tmp_path)
    text = (tmp_path / "index.html").read_text()
    assert "No primary contrast was fixed before the run" in text
    assert "No responses are shown" in text
    assert "No manifest was given" in text
