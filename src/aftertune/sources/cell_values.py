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
_NAMES = ("study", "model", "checkpoint", "task", "item", "category", "decoding", "variation", "judge")
_INTEGERS = ("seed", "repeat", "judge_repeat")
OWN = "response_key"  # a table of ours has this column, and its names are ours already
# How R, pandas, SQL and spreadsheets write that a cell holds no number; a model can be called "none".
_NOTHING = frozenset(
    {"na", "n/a", "nan", "null", "none", "nil", "<na>", "#n/a", "#nv", "#null!", "\\n", ".", "-"}
)
_NO_NAME = frozenset({"na", "nan", "null", "<na>", "#n/a"})
_VALUES = {"true": "1", "yes": "1", "false": "0", "no": "0"}
# Between 0 and 1 a comma is a decimal mark, as many countries' spreadsheets write it.
_DECIMAL_COMMA = r"^([01]),([0-9]+)$"


def in_our_spelling(frame: pl.DataFrame) -> pl.DataFrame:
    """The table with known words in small letters, values as numbers write them, and one rule of statuses.

    A number that the table says is none (NA, NULL, NaN) is none, and such a model has no name; of an item
    these may be the name. White space around names tells nothing apart. A value beside a status that says
    there is none is no judgment, and neither is a status ok without a value: both become a judgment without
    a value, with the reason. Words that are not known stay.
    """
    if OWN not in frame.columns:
        frame = frame.with_columns(_bare(frame[name]) for name in _NAMES if _is_text(frame, name))
        if _is_text(frame, "model"):
            frame = frame.with_columns(_emptied(frame["model"], _NO_NAME))
    empties = dict.fromkeys(_KNOWN, frozenset[str]()) | dict.fromkeys(_INTEGERS, _NOTHING)
    frame = frame.with_columns(
        _emptied(frame[name], words) for name, words in empties.items() if _is_text(frame, name)
    )
    frame = frame.with_columns(
        _known_words(frame[name], known) for name, known in _KNOWN.items() if _is_text(frame, name)
    )
    frame = _values_or_reasons(frame) if "value" in frame.columns else frame
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


def _bare(column: pl.Series) -> pl.Series:
    spelled = {word: word.strip() for word in column.unique().drop_nulls().cast(pl.String)}
    spelled = {word: bare for word, bare in spelled.items() if bare != word}
    return column.cast(pl.String).replace(spelled) if spelled else column


def _emptied(column: pl.Series, nothing: Collection[str]) -> pl.Series:
    """The column with null for what is blank, or a word for nothing."""
    words = column.unique().drop_nulls().cast(pl.String).to_list()
    found = [word for word in words if word.strip().lower() in {"", *nothing}]
    return column.cast(pl.String).replace(found, [None] * len(found)) if found else column


def _values_or_reasons(frame: pl.DataFrame) -> pl.DataFrame:
    """The table with values as numbers write them; a word for nothing is none, and the reason says it."""
    value = frame["value"]
    if _is_text(frame, "value"):
        words = [
            word for word in value.unique().drop_nulls().cast(pl.String) if word.strip().lower() in _NOTHING
        ]
        nothing = value.cast(pl.String).is_in(words).fill_null(value=False)
        value = _number_text(value)
    elif value.dtype.is_float():
        nothing = value.is_nan().fill_null(value=False)
    else:
        return frame
    if not nothing.any():
        return frame.with_columns(value)
    reason = _reasons(frame)
    return frame.with_columns(
        value=value.set(nothing, None),
        reason=pl.when(pl.lit(nothing) & _is_empty(reason))
        .then(pl.format("the table says {} in place of a value", frame["value"].cast(pl.String)))
        .otherwise(reason),
    )


def _number_text(column: pl.Series) -> pl.Series:
    text = column.cast(pl.String).str.strip_chars()
    plain = text.str.to_lowercase()
    words = plain.is_in(list(_VALUES))
    return plain.replace(_VALUES).zip_with(words, text).str.replace(_DECIMAL_COMMA, "$1.$2").replace("", None)


def _reasons(frame: pl.DataFrame) -> pl.Series:
    if "reason" in frame.columns:
        return frame["reason"].cast(pl.String)
    return pl.Series("reason", [None] * frame.height, dtype=pl.String)


def _one_rule_of_statuses(frame: pl.DataFrame) -> pl.DataFrame:
    status, value = frame["status"].cast(pl.String), frame["value"]
    beside = status.is_in(sorted(NO_VALUE)) & value.is_not_null()
    without = (status == _OK) & value.is_null()
    if not (beside | without).any():
        return frame
    reason = _reasons(frame)
    said = pl.format("the status is {}, and the value {} beside it was not taken", status, value)
    return frame.with_columns(
        value=pl.when(beside).then(None).otherwise(value),
        status=pl.when(without).then(pl.lit(MISSING)).otherwise(status),
        reason=pl.when(beside & _is_empty(reason)).then(said)
        .when(without & _is_empty(reason)).then(pl.lit("the status is ok, and no value stands beside it"))
        .otherwise(reason),
    )  # fmt: skip


def _is_empty(text: pl.Series) -> pl.Series:
    return text.fill_null("") == ""
