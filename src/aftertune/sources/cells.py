"""Cells of a CSV that people open in a spreadsheet: text that it would run as a formula is made plain.

A spreadsheet runs a cell that begins with one of = + - @ (or with a tab or line end before it), and a model's
text is hostile. Such a cell gets an apostrophe before it; so does one that begins with an apostrophe, so that
taking one away gives every text back.
"""

ID_COLUMN = "aftertune_id"  # a table with this column was written by us, with safe cells
_RUN = ("=", "+", "-", "@", "\t", "\r", "\n", "'")


def safe_cell(text: str) -> str:
    """The text, with an apostrophe before it where a spreadsheet might run it."""
    return f"'{text}" if text.startswith(_RUN) else text


def plain_cell(cell: str) -> str:
    """The text that `safe_cell` was given."""
    return cell.removeprefix("'")
