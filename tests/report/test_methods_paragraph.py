"""The methods paragraph: what was done in this run, and no more; its citations have entries."""

import re
from pathlib import Path
from typing import Any

import pytest
from variation_results import MANIFEST, STUDY, with_model

from aftertune.records.analysis import Agreement, Analysis
from aftertune.records.manifest import Manifest
from aftertune.report import write_report
from aftertune.report.methods_paragraph import Methods, methods_paragraph
from aftertune.report.references import REFERENCES, bibtex


@pytest.fixture
def full(varied: Analysis) -> Methods:
    return methods_paragraph(varied, MANIFEST, STUDY)


def cited(latex: str) -> set[str]:
    return {key for keys in re.findall(r"\\cite\{(.*?)\}", latex) for key in keys.split(",")}


def test_it_says_what_was_done(base: str, full: Methods):
    for words in (
        "with aftertune 0.1.0 what fine-tuning changed in smollm2-guarded (sha256 dabadd77aca2) (Fraser et "
        "al. 2025).",
        "Recipe chat was trained from 5 training seeds with LoRA of rank 8 on packaged:chat (sha256 "
        "36262212e215, "
        "201 rows, of which each seed saw 64; learning rate 0.001, epochs 1.0, batch size 8) (Hu et al. "
        "2021).",
        "Recipe chat-self was trained from 5 training seeds with full fine-tuning on packaged:chat with "
        "the base's "
        "own answers (",
        "Recipe mine was trained from 5 training seeds by a command of our own.",
        "mini-harm (60 items, harmful; written for aftertune)",
        "greedy (temperature 0, at most 48 tokens) and sampled (temperature 0.7, top-p 0.9, at most 48 "
        "tokens)",
        f"1 × 60 × 5 ({base}), 5 × 60 × 1 (chat, chat-self) on mini-harm (sampled) and mini-lookalikes "
        "(sampled)",
        "The engine was transformers in float32 under exact numerics.",
        "refusal-rules (refused; sha256 656a7a83a784)",
        "more than 5.0% of them gets no estimate; none was missing.",
        "intervals at 95% (n_eff-Wilson, two-way moments) (Wilson 1927; Miller 2024).",
        "by: MOVER (Newcombe 1998a; Zou and Donner 2008).",
        "For these items (benchmark) they cover seed and repeat and leave out item and judge.",
        "The margin of 5.0 points was fixed in the study file",
        "hotter (procedure), rows-8 (numerics), more-data (design) and float32 (numerics).",
        "each judged by the exact McNemar test at 0.05 (McNemar 1947).",
    ):
        assert words in full.markdown
    assert "ot recorded" not in full.markdown


def test_both_texts_say_the_same_and_cite_what_the_file_holds(full: Methods):
    keys = cited(full.latex)
    assert keys == set(re.findall(r"@\w+\{(\w+),", full.bibtex)) and len(keys) == 10
    listed = re.findall(r"^- (.*?): ", full.markdown, flags=re.M)
    assert sorted(listed) == sorted(REFERENCES[key].short for key in keys)
    prose = full.markdown.split("\n\n")[0]
    for key in keys:
        assert REFERENCES[key].short in prose
    assert len(full.latex.splitlines()) == len(
        re.findall(r"\.(?: |$)(?=[A-Z]|$)", re.sub(r"et al\. ", "", prose))
    )


def test_what_was_not_done_is_not_told(analysis: Analysis):
    names = ("categories", "consistency")
    plain = methods_paragraph(analysis.model_copy(update=dict.fromkeys(names, ())), MANIFEST, STUDY)
    for word in ("varied", "single run", "Benjamini", "consistency", "Cohen", "corrected", "prior"):
        assert word not in plain.markdown.split("\n\n")[0], word
    assert cited(plain.latex).isdisjoint(
        {"mcnemar1947note", "benjamini1995controlling", "cohen1960coefficient"}
    )


def test_citations_follow_the_methods_that_were_used(analysis: Analysis):
    paired = tuple(
        d.model_copy(update={"method": "McNemar exact, Newcombe paired (method 10)"})
        for d in analysis.differences
    )
    agreement = Agreement(
        task="mini-harm", construct="refused", judge_a="a", judge_b="b", n=9, positive_agreement=None,
        negative_agreement=None, cohen_kappa=None, gwet_ac1=None,
    )  # fmt: skip
    changed = analysis.model_copy(update={"differences": paired, "agreement": (agreement,)})
    keys = cited(methods_paragraph(changed, Manifest(), {}).latex)
    assert {"mcnemar1947note", "newcombe1998paired", "cohen1960coefficient", "gwet2008computing"} <= keys
    assert "zou2008construction" not in keys


def test_a_table_without_a_run_says_what_is_not_recorded(analysis: Analysis):
    found = methods_paragraph(analysis, Manifest(), {}).markdown
    assert found.startswith("We analysed a table of observations with aftertune (Fraser et al. 2025).")
    assert "Not recorded: the base model, tuning and decodings, the engine and the judges' versions." in found
    assert "was chosen at a time that is not recorded" in found
    assert "Recipe" not in found and "engine was" not in found


def test_a_margin_chosen_afterwards_is_called_so(varied: Analysis):
    late = varied.model_copy(update={"post_hoc": ("margin", "primary")})
    found = methods_paragraph(late, MANIFEST, STUDY).markdown
    assert "The margin of 5.0 points was chosen after the run (post hoc)" in found
    assert "The primary contrast (chosen after the run, post hoc) is compliance_rate" in found


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        (1, "from 1 training seed with"),
        ([3, 7], "from 2 (3, 7) training seeds with"),
        (None, "over training seeds with"),
    ],
)
def test_seeds_are_counted_or_named(varied: Analysis, seeds: Any, said: str):
    assert (
        f"Recipe chat was trained {said}"
        in methods_paragraph(varied, MANIFEST, STUDY | {"seeds": seeds}).markdown
    )


def test_served_models_are_no_trainings(varied: Analysis):
    study = STUDY | {"recipes": {"tuned": {"served": ["ft:a", "ft:b"]}}}
    found = methods_paragraph(varied, Manifest(), study).markdown
    assert "Recipe tuned is 2 finished models of an endpoint." in found


def test_names_of_any_kind_are_escaped(varied: Analysis, tmp_path: Path):
    evil = with_model(MANIFEST, "<b>m_odel%$&\u202e")
    write_report(varied, examples=None, manifest=evil, study=STUDY, out=tmp_path)
    latex, markdown = ((tmp_path / name).read_text("utf-8") for name in ("methods.tex", "methods.md"))
    assert r"\textless{}b\textgreater{}m\_odel\%\$\&$\langle$U+202E$\rangle$" in latex
    assert "&lt;b&gt;m_odel%$&amp;⟨U+202E⟩" in markdown
    page = (tmp_path / "index.html").read_text("utf-8")
    assert "<b>" not in page and "\u202e" not in page
    assert (tmp_path / "references.bib").read_text("utf-8") == bibtex(cited(latex))


@pytest.mark.parametrize("key", REFERENCES)
def test_every_entry_is_whole(key: str):
    reference = REFERENCES[key]
    assert {"author", "title", "year"} <= set(reference.fields)
    assert reference.fields["year"] in key and reference.fields["year"] in reference.short
    where = {
        "article": {"journal", "volume", "number", "pages"},
        "misc": {"eprint"},
        "inproceedings": {"booktitle"},
    }
    assert where[reference.kind] <= set(reference.fields)
    entry = bibtex([key])
    assert entry.count("{") == entry.count("}") and entry.startswith(f"@{reference.kind}{{{key},\n")
    assert all("\\" not in value and "%" not in value for value in reference.fields.values())
