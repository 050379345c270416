r"""tables.tex: without TeX here, the escapes, the braces, the environments and the columns are counted."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftertune.records.analysis import Analysis
from aftertune.records.manifest import Manifest
from aftertune.report import write_report
from aftertune.report.latex import escape, latex_table, latex_tables
from aftertune.report.select import headline
from aftertune.report.tables import Table

# What LaTeX gives a meaning of its own, and the names by which it prints it.
PRINTED = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#",
    "$": r"\$", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\symbol{34}", "`": r"\textasciigrave{}",
    "/": r"\slash{}",
}  # fmt: skip
EVIL = "a_b%c&d#e$f{g}h~i^j\\k"


def commands_of(text: str) -> list[str]:
    """The text cut into commands (with their empty or numeric argument), math and single characters."""
    return re.findall(r"\\[a-z]+\{(?:\d*)\}|\$[^$]*\$|\\[a-z]+|\\.|.", text)


def printed(text: str) -> str:
    """What LaTeX would print of escaped text, by the list above; bare braces print nothing."""
    names = {latex: char for char, latex in PRINTED.items()}
    return "".join(names.get(part, part) for part in commands_of(text) if part not in ("{", "}"))


def braces(text: str) -> int:
    """How many groups are open at the end; fails where one closes that was never opened."""
    depth = 0
    for part in re.findall(r"\\.|[{}]", text):
        depth += {"{": 1, "}": -1}.get(part, 0)
        assert depth >= 0, text
    return depth


def rows_of(tex: str) -> list[tuple[int, list[int]]]:
    """For each tabular its number of columns, and the number of cells of each row."""
    found: list[tuple[int, list[int]]] = []
    for kinds, body in re.findall(r"\\begin\{tabular\}\{([^\n]*)\}\n(.*?)\\end\{tabular\}", tex, flags=re.S):
        n_columns = len(re.sub(r"p\{0\.22\\linewidth\}", "p", kinds))
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        found.append((n_columns, [1 + len(re.findall(r"(?<!\\)&", line)) for line in lines]))
    return found


@pytest.mark.parametrize(("char", "latex"), PRINTED.items())
def test_every_special_character_is_escaped(char: str, latex: str):
    assert escape(f"a{char}b") == f"a{latex}b"
    assert escape(char * 2) == latex * 2


def test_escaping_takes_each_character_once():
    assert escape(EVIL) == (r"a\_b\%c\&d\#e\$f\{g\}h\textasciitilde{}i\textasciicircum{}j\textbackslash{}k")
    assert escape(r"\textbackslash{}") == r"\textbackslash{}textbackslash\{\}"
    assert escape(r"\input{/etc/passwd}") == r"\textbackslash{}input\{\slash{}etc\slash{}passwd\}"


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("+3.1 − 2 × 4 ± 1 → x", r"+3.1 $-$ 2 $\times$ 4 $\pm$ 1 $\rightarrow$ x"),
        ("38.3%–45.0%", r"38.3\%\textendash{}45.0\%"),
        ("a--b", "a-{}-b"),
        ("a---b", "a-{}-{}-b"),
        ("it's 'quoted' ''twice''", "it's 'quoted' '{}'twice'{}'"),
        ("“so”", r"\textquotedblleft{}so\textquotedblright{}"),
        ("two\nlines\tand  more", "two lines and more"),
        ("a\u202eb\x00c", r"a$\langle$U+202E$\rangle$b$\langle$U+0000$\rangle$c"),
        ("é 日本", "é 日本"),
        ("", ""),
    ],
)
def test_other_characters(text: str, latex: str):
    assert escape(text) == latex


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40))
def test_what_is_escaped_prints_as_it_was(text: str):
    latex = escape(text)
    assert braces(latex) == 0
    assert printed(latex) == " ".join(text.split())
    # Nothing special is left bare: neither a comment nor a column, parameter, script or math sign.
    bare = re.sub(r"\\[a-z]+\{\d*\}|\\[_%&#${}]", "", latex)
    assert not re.search(r"[_%&#$~^\\]", bare)


@given(st.text(max_size=30))
def test_no_text_breaks_a_table(text: str):
    tex = latex_table(Table("T", ("a", "b"), ((text, text), ("x", "1"))), label="tab:x")
    assert braces(tex) == 0
    assert rows_of(tex) == [(2, [2, 2, 2])]


@pytest.mark.parametrize("name", ["[x]", "*", "[5pt]"])
def test_a_row_never_reads_as_an_argument_of_the_row_above(name: str):
    tex = latex_table(Table("T", ("a", "b"), (("x", "y"), (name, "z"))), label="tab:x")
    assert f"\\\\\n{{}}{name} & z" in tex


def test_columns_are_aligned_by_what_they_hold():
    rows = (("chat", "41.7%", "why " * 12), ("base", "−1.2", "short"))
    tex = latex_table(Table("T", ("a", "b", "c"), rows), label="tab:x")
    assert r"\begin{tabular}{lrp{0.22\linewidth}}" in tex


def test_a_row_of_another_length_is_no_table():
    with pytest.raises(ValueError, match="shorter"):
        latex_table(Table("T", ("a", "b"), (("x", "y"), ("z",))), label="tab:x")


def whole(analysis: Analysis) -> str:
    return latex_tables(analysis, headline(analysis))


def test_the_file_is_whole_and_its_numbers_are_the_page_s(base: str, varied: Analysis, tmp_path: Path):
    write_report(varied, examples=None, manifest=Manifest(), out=tmp_path)
    tex = (tmp_path / "tables.tex").read_text("utf-8")
    assert tex == whole(varied)
    assert braces(tex) == 0
    opened = re.findall(r"\\begin\{(\w+)\}", tex)
    assert opened == [name for _ in range(8) for name in ("table", "tabular")]
    assert re.findall(r"\\end\{(\w+)\}", tex) == [name for _ in range(8) for name in ("tabular", "table")]
    for rule in ("toprule", "midrule", "bottomrule", "caption", "label"):
        assert tex.count(f"\\{rule}") == 8
    for n_columns, cells in rows_of(tex):
        assert set(cells) == {n_columns}
    labels = re.findall(r"\\label\{(.*?)\}", tex)
    assert labels == [
        *(f"tab:rates-{i}" for i in (1, 2, 3, 4)), "tab:differences-1",
        *(f"tab:variations-{i}" for i in (1, 2, 3)),
    ]  # fmt: skip
    assert (
        r"chat, sampled & 41.7\% & [36.2\%, 47.2\%] & [30.7\%, 52.7\%] & 5 $\times$ 60 $\times$ 1 & 0 of"
    ) in tex
    assert rf"chat $-$ {base} (primary) & sampled & these items & +30.0 points [+21.0, +40.0] &" in tex
    assert r"hotter, chat & 41.7\% $\rightarrow$ 50.9\% & +9.2 [+4.2, +14.2] & $\pm$4.1 & 0.020 &" in tex


def test_names_of_any_kind_are_escaped_in_it(varied: Analysis):
    raw = varied.model_dump_json().replace('"chat"', '"chat_%&#$~^{"').replace('"hotter"', '"50%_hot"')
    tex = whole(Analysis.model_validate_json(raw))
    assert r"chat\_\%\&\#\$\textasciitilde{}\textasciicircum{}\{" in tex and r"50\%\_hot" in tex
    assert braces(tex) == 0
    for n_columns, cells in rows_of(tex):
        assert set(cells) == {n_columns}
    for line in tex.splitlines():
        assert line.startswith("%") or not re.search(r"(?<!\\)[%#_~^]", line), line


def test_an_empty_analysis_gives_no_table(analysis: Analysis):
    empty = analysis.model_copy(update={"rates": (), "differences": (), "primary": None})
    assert "begin{table}" not in whole(empty)
