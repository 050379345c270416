"""report.md: the headline, the warnings and the tables, for a pull request or a notebook."""

from collections.abc import Sequence

from aftertune.foreign_text import visible
from aftertune.report import words
from aftertune.report.checklist import Group
from aftertune.report.headline import Lead, WarningGroup
from aftertune.report.recorded import NOT_RECORDED
from aftertune.report.tables import Table


def markdown(
    study: str,
    *,
    lead: Lead,
    alerts: Sequence[str],
    warnings: Sequence[WarningGroup],
    tables: Sequence[Table],
    figures: Sequence[str],
    checklist: Sequence[Group],
    methods: str,
) -> str:
    """GitHub's Markdown; every text from outside is escaped, and no response is shown.

    Args:
        study: its name.
        lead: the headline in words.
        alerts: what must be known before it.
        warnings: those alike together.
        tables: in the order of the page; the first stands before the warnings.
        figures: file names of the SVGs under figures/, with their alternative texts left to the page.
        checklist: filled in.
        methods: the methods paragraph, Markdown already.
    """
    parts = [f"# {plain(study)}: what the tune changed"]
    parts += [plain(line) for line in lead.lines]
    parts += [f"> **{plain(alert)}**" for alert in alerts]
    for contrast in lead.contrasts:
        numbers = f" ({plain(contrast.numbers)})" if contrast.numbers else ""
        parts.append(f"- **{plain(contrast.title)}**{numbers}. {plain(contrast.sentence)}")
    parts += [_table(table) for table in tables[:1]]
    if warnings:
        parts.append("## Warnings")
        for group in warnings:
            found = [f"  - {plain(entry)}" for entry in group.entries]
            parts.append("\n".join([f"- **{plain(group.title)}.** {plain(group.remedy)}", *found]))
    parts += [f"![{name}](figures/{name}.svg)" for name in figures]
    parts += [_table(table) for table in tables[1:] if table.rows]
    parts += ["## Methods, for a paper", methods.strip(), "## Reporting checklist", _checklist(checklist)]
    return "\n\n".join(parts) + "\n"


def checklist_page(study: str, groups: Sequence[Group]) -> str:
    """checklist.md: a heading per group, a line per question."""
    head = [f"# {plain(study)}: reporting checklist", f"What nobody wrote down is “{NOT_RECORDED}”."]
    return "\n\n".join([*head, _checklist(groups)]) + "\n"


def _checklist(groups: Sequence[Group]) -> str:
    """The checklist's groups, a line a question, for a page that has a title already."""
    return "\n\n".join(
        f"### {plain(group.title)}\n\n"
        + "\n".join(f"- **{plain(question)}**: {plain(answer)}" for question, answer in group.answers)
        for group in groups
    )


def _table(table: Table) -> str:
    lines = [_line(table.columns), _line(["---"] * len(table.columns)), *(_line(row) for row in table.rows)]
    title = f"## {plain(words.capital(table.title))}"
    intro, note = ([plain(text)] if text else [] for text in (table.intro, table.note))
    return "\n\n".join([title, *intro, "\n".join(lines), *note])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell if cell == '---' else plain(cell) for cell in cells)} |"


def plain(text: str) -> str:
    """`text` as Markdown that shows it as it is: no HTML, no markup, no links, one line."""
    shown = visible(text).replace("\\", "\\\\")
    for mark in "*`|~":
        shown = shown.replace(mark, f"\\{mark}")
    shown = shown.replace("](", "]\\(").replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return " ".join(shown.split())
