"""Values, statuses, intents and constructs as tables from elsewhere write them, in our spelling."""

from collections.abc import Collection

import polars as pl

from aftertune.records import Construct, Intent, JudgmentStatus

MISSING = "missing"  # the status of a judgment that a table or a log should have and has not
_OK = JudgmentStatus.OK.value  # polars takes a StrEnum for a type of its own
NO_VALUE = frozenset({MISSING, *(status.value for status in JudgmentStatus)} - {_OK})
_KNOWN: dict[str, Collection[str]] = {
    "intent": [i.value for i in Intent],
    "construct": [c.value for c in Construct],
    "status": [*NO_VALUE, _OK],
}
_VALUES = {"true": "1", "yes": "1", "false": "0", "no": "0"}
# Between 0 and 1 a comma is a decimal mark, as many countries' spreadsheets write it.
_DECIMAL_COMMA = r"^([01]),([0-9]+)$"


def in_our_spelling(frame: pl.DataFrame) -> pl.DataFrame:
    """The table with known words in small letters, values as numbers write them, and one rule of statuses.

    A value beside a status that says there is none is no judgment, and neither is a status ok without a
    value: both become a judgment without a value, with the reason. Words that are not known stay.
    """
    frame = frame.with_columns(
        _known_words(frame[name], known) for name, known in _KNOWN.items() if _is_text(frame, name)
    )
    if _is_text(frame, "value"):
        frame = frame.with_columns(_number_text(frame["value"]))
    return _one_rule_of_statuses(frame) if _is_text(frame, "status") else frame


def _is_text(frame: pl.DataFrame, name: str) -> bool:
    return name in frame.columns and isinstance(frame[name].dtype, pl.String | pl.Categorical | pl.Enum)


def _known_words(column: pl.Series, known: Collection[str]) -> pl.Series:
    spelled = {
        word: plain
        for word in column.unique().drop_nulls().cast(pl.String)
        if (plain := word.strip().lower()) in known and plain != word
    }
    return column.cast(pl.String).replace(spelled) if spelled else column


def _number_text(column: pl.Series) -> pl.Series:
    text = column.cast(pl.String).str.strip_chars()
    plain = text.str.to_lowercase()
    words = plain.is_in(list(_VALUES))
    return plain.replace(_VALUES).zip_with(words, text).str.replace(_DECIMAL_COMMA, "$1.$2").replace("", None)


def _one_rule_of_statuses(frame: pl.DataFrame) -> pl.DataFrame:
    status, value = frame["status"].cast(pl.String), frame["value"]
    beside = status.is_in(sorted(NO_VALUE)) & value.is_not_null()
    without = (status == _OK) & value.is_null()
    if not (beside | without).any():
        return frame
    reason = frame["reason"].cast(pl.String) if "reason" in frame.columns else pl.lit(None, pl.String)
    said = pl.format("the status is {}, and the value {} beside it was not taken", status, value)
    return frame.with_columns(
        value=pl.when(beside).then(None).otherwise(value),
        status=pl.when(without).then(pl.lit(MISSING)).otherwise(status),
        reason=pl.when(beside & _is_empty(reason)).then(said)
        .when(without & _is_empty(reason)).then(pl.lit("the status is ok, and no value stands beside it"))
        .otherwise(reason),
    )  # fmt: skip


def _is_empty(text: pl.Series | pl.Expr) -> pl.Series | pl.Expr:
    return text.fill_null("") == ""
