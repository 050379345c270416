r"""report/tables.tex: rates, differences and the headline's effects of variations as booktabs tables.

The numbers are the page's. No text of a model is in them; names are escaped, since a name may hold any
character. The file needs `\usepackage{booktabs}` and nothing else.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from aftertune.foreign_text import visible
from aftertune.records.analysis import Analysis
from aftertune.report import tables, variation_tables, words
from aftertune.report.select import Headline
from aftertune.report.tables import Table, told_once

_WIDE = 36  # characters; a column with a longer cell is set as a paragraph
_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "/": r"\slash{}",  # a path may break after it
    # In TeX's own fonts these print as other characters.
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\symbol{34}",
    "`": r"\textasciigrave{}",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "→": r"$\rightarrow$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "κ": r"$\kappa$",
    "α": r"$\alpha$",
    "⟨": r"$\langle$",
    "⟩": r"$\rangle$",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "…": r"\ldots{}",
    "“": r"\textquotedblleft{}",
    "”": r"\textquotedblright{}",
    "‘": r"\textquoteleft{}",
    "’": r"\textquoteright{}",
}
_LIGATURES = ("--", "''")  # of TeX's fonts: two characters that would print as one
# Columns of the page's tables, so few that they fit a page; {level} is the analysis's.
_RATES = (
    "model, decoding",
    "rate",
    "{level}, these items",
    "{level}, requests like these",
    "seeds × items × draws",
    "missing",
)
_DIFFERENCES = (
    "contrast",
    "decoding",
    "interval for",
    "difference, {level} interval",
    "p, Holm",
    "verdict",
)
_ONCE = ("metric", "task, decoding", "decoding")
_EFFECTS = (
    "variation, model",
    "metric",
    "task, decoding",
    "baseline → varied",
    "effect in points, {level} interval",
    "noise",
    "p, Holm",
    "verdict",
)


def escape(text: str) -> str:
    """`text` on one line, so that LaTeX prints it as it stands; letters of other scripts stay as they are."""
    shown = " ".join(visible(text).split())
    for pair in _LIGATURES * 2:  # twice: the second pair of three characters begins inside the first
        shown = shown.replace(pair, "\0".join(pair))
    return "".join(_ESCAPES.get(c, c) for c in shown).replace("\0", "{}")


def latex_tables(analysis: Analysis, head: Headline | None) -> str:
    """The file: a `table` environment per table of the page, the headline's first."""
    found: list[str] = []
    if head is not None:
        for kind, columns, group in (
            ("rates", _RATES, tables.rates(analysis, head)),
            ("differences", _DIFFERENCES, tables.differences(analysis, head)),
            ("variations", _EFFECTS, [t for t in variation_tables.effects(analysis, head) if t.main]),
        ):
            found += [
                latex_table(
                    _picked(table, columns, level=f"{analysis.level:.0%}"), label=f"tab:{kind}-{number}"
                )
                for number, table in enumerate(group, start=1)
                if table.rows
            ]
    head_lines = (
        "% Written by aftertune. Put \\usepackage{booktabs} into the preamble and \\input{tables.tex} where",
        "% the tables belong. Names in scripts other than Latin need XeLaTeX or LuaLaTeX.",
    )
    return "\n".join(head_lines) + "\n" + "".join(f"\n{table}" for table in found)


def latex_table(table: Table, *, label: str) -> str:
    r"""One table; `label` is what \ref names, of letters, digits, colons and dashes.

    Raises:
        ValueError: a row has another number of cells than there are columns.
    """
    rows = "".join(f"{_row(row)}\n" for row in table.rows)
    cells = zip(*table.rows, strict=True)
    kinds = "".join(map(_kind, cells)) if table.rows else "l" * len(table.columns)
    note = f"\n\\par\\smallskip {escape(table.note)}" if table.note else ""
    return (
        "\\begin{table}\n"
        "\\centering\n"
        f"\\caption{{{escape(words.capital(table.title))}}}\n"
        f"\\label{{{label}}}\n"
        "\\footnotesize\n"
        f"\\begin{{tabular}}{{{kinds}}}\n"
        "\\toprule\n"
        f"{_row(table.columns)}\n"
        "\\midrule\n"
        f"{rows}"
        "\\bottomrule\n"
        f"\\end{{tabular}}{note}\n"
        "\\end{table}\n"
    )


def _kind(cells: Iterable[str]) -> str:
    """A column's letter: numbers to the right, long texts as a paragraph, all else to the left."""
    texts = list(cells)
    if max(map(len, texts)) > _WIDE:
        return "p{0.22\\linewidth}"
    return "r" if all(text[:1] in "0123456789+−±<" for text in texts) else "l"


def _row(cells: Sequence[str]) -> str:
    texts = [escape(cell) for cell in cells]
    # What follows the `\\` of the row above must not read as its argument.
    start = "{}" if texts[0][:1] in ("[", "*") else ""
    return f"{start}{' & '.join(texts)} \\\\"


def _picked(table: Table, names: Sequence[str], *, level: str) -> Table:
    """The table with these columns alone, in this order."""
    wanted = [name.replace("{level}", level) for name in names]
    # The page says once what is the same in every row; a column that may have gone that way can be absent.
    places = [table.columns.index(name) for name in wanted if name in table.columns or name not in _ONCE]
    columns, *rows = (tuple(row[i] for i in places) for row in (table.columns, *table.rows))
    return told_once(replace(table, columns=columns, rows=tuple(rows)), *_ONCE)
