"""`aftertune judges calibrate`: people's labels against judges."""

import hashlib
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aftertune.errors import DataError, StudyError, nearest
from aftertune.records import Construct, Intent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aftertune.judges.measure import Labelled
    from aftertune.records.calibration import Calibration, CalibrationGroup, Share
    from aftertune.sources import Row, Table
    from aftertune.study import JudgeSpec

_YES, _NO = ("1", "yes", "true"), ("0", "no", "false")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LabelOptions:
    """Which column is which, and what the labels mean."""

    question_column: Annotated[
        str, typer.Option("--question-column", help="The column of what was asked.")
    ] = "question"
    response_column: Annotated[str, typer.Option("--response-column", help="The column of the response.")] = (
        "response"
    )
    label_column: Annotated[str, typer.Option("--label-column", help="The column of people's label.")] = (
        "label"
    )
    model_column: Annotated[
        str | None,
        typer.Option("--model-column", help="Whose response it is; `model` where there is such a column."),
    ] = None
    positive: Annotated[
        list[str] | None,
        typer.Option("--positive", help="A label that means the event; 1, yes and true by default."),
    ] = None
    negative: Annotated[
        list[str] | None,
        typer.Option("--negative", help="A label that means no event; 0, no and false by default."),
    ] = None
    leave_out: Annotated[
        list[str] | None, typer.Option("--leave-out", help="A label whose rows are left out, and counted.")
    ] = None
    construct: Annotated[
        str, typer.Option("--construct", help="What the labels say: refused, complied, harmful, …")
    ] = "refused"
    intent: Annotated[
        str, typer.Option("--intent", help="Of what was asked: harmful or benign; rules do not look at it.")
    ] = "harmful"
    level: Annotated[float, typer.Option("--level", help="Of the intervals.")] = 0.95


def calibrate_labels(
    labels: Path, specs: "Sequence[JudgeSpec]", out: Path, options: LabelOptions
) -> "Calibration":
    """Judge labelled responses and write how the judges did to `out`.

    Raises:
        DataError: the table cannot be read, lacks a column, or holds a label that was not named.
        StudyError: a judge does not judge the construct.
    """
    from aftertune.judges import get_judge
    from aftertune.judges.measure import calibrate
    from aftertune.records.calibration import CALIBRATION_VERSION, Calibration
    from aftertune.sources import read_table
    from aftertune.store import replace

    construct, _ = _meaning(options)
    content = _content(labels)
    table = read_table(content, str(labels), escape=True)
    if table.escaped:
        n = len(table.escaped)
        log.warning("%s: %d rows hold half of a surrogate pair, judged as its escape in JSON", labels, n)
    found, left_out = labelled_rows(table, options)
    positive, negative = _vocabulary(options)
    calibration = Calibration(
        schema_version=CALIBRATION_VERSION,
        labels=labels.name,
        labels_sha256=hashlib.sha256(content).hexdigest(),
        construct=construct.value,
        positive=positive,
        negative=negative,
        left_out=left_out,
        level=options.level,
        groups=tuple(
            group
            for spec in specs
            for group in calibrate(get_judge(spec), found, construct, level=options.level)
        ),
    )
    replace(out, (calibration.model_dump_json(indent=2) + "\n").encode())
    return calibration


def labelled_rows(table: "Table", options: LabelOptions) -> "tuple[list[Labelled], dict[str, int]]":
    """The rows with their meaning, and how many were left out by label.

    Raises:
        DataError: a column is missing, or a label was not named.
    """
    names = (options.question_column, options.response_column, options.label_column)
    model = options.model_column or ("model" if "model" in table.columns else None)
    for column in (*names, *((model,) if model else ())):
        if column not in table.columns:
            raise DataError(f"{table.source} has no column {column!r}", _column_hint(column, table.columns))
    positive, negative = _vocabulary(options)
    left = tuple(options.leave_out or ())
    given = [_label(row.values.get(options.label_column, ""), options) for row in table.rows]
    _refuse_other(table, given, (*positive, *negative, *left))
    counted = Counter(label for label in given if label in left)
    rows = [
        _labelled(row, table, options, event=label in positive, model=model)
        for row, label in zip(table.rows, given, strict=True)
        if label not in left
    ]
    _refuse_twice(table)
    if not rows:
        raise DataError(f"{table.source} holds no labelled response", "give a table with rows")
    return rows, dict(sorted(counted.items()))


def _label(cell: str, options: LabelOptions) -> str:
    """The label in a cell; of yes and no that nobody spelled out, as spreadsheets write them (TRUE)."""
    label = cell.strip()
    own = options.positive is None and label not in (options.leave_out or ())
    return label.lower() if own and label.lower() in (*_YES, *_NO) else label


def _labelled(
    row: "Row", table: "Table", options: LabelOptions, *, event: bool, model: str | None
) -> "Labelled":
    from aftertune.judges import Case
    from aftertune.judges.measure import Labelled
    from aftertune.records import Finish, Item, Response, ResponseStatus
    from aftertune.sources.cells import ID_COLUMN, plain_cell

    own = ID_COLUMN in table.columns
    question, text = (row.values.get(c, "") for c in (options.question_column, options.response_column))
    if own:
        question, text = plain_cell(question), plain_cell(text)
    name, key = row.values.get(model, "") if model else "", f"line {row.line}"
    status = ResponseStatus.OK if text.strip() else ResponseStatus.EMPTY
    reason = "" if status is ResponseStatus.OK else "no text"
    sha = hashlib.sha256(question.encode()).hexdigest()
    response = Response(key, "", "labels", key, "", 0, sha, 0, text, 0, Finish.STOP, status, reason)
    return Labelled(
        Case(Item(key, question, "all"), _meaning(options)[1], response), event=event, model=name or None
    )


def _meaning(options: LabelOptions) -> tuple[Construct, Intent]:
    constructs, intents = [c.value for c in Construct], [i.value for i in Intent]
    if options.construct not in constructs:
        raise StudyError(
            f"there is no construct {options.construct!r}", nearest(options.construct, constructs)
        )
    if options.intent not in intents:
        raise StudyError(f"there is no intent {options.intent!r}", nearest(options.intent, intents))
    if not 0.5 < options.level < 1:
        raise StudyError(f"--level is a share between 0.5 and 1, got {options.level}", "write 0.95")
    return Construct(options.construct), Intent(options.intent)


def _vocabulary(options: LabelOptions) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if (options.positive is None) != (options.negative is None):
        raise DataError("--positive and --negative belong together", "name the labels of both kinds")
    positive, negative = tuple(options.positive or _YES), tuple(options.negative or _NO)
    twice = {*positive} & {*negative} | ({*positive} | {*negative}) & {*(options.leave_out or ())}
    if twice:
        raise DataError(
            f"the label {min(twice)!r} is given two meanings",
            "name each label once, as --positive, --negative or --leave-out",
        )
    return positive, negative


def _refuse_other(table: "Table", given: list[str], known: tuple[str, ...]) -> None:
    others = Counter(label for label in given if label not in known)
    if not others:
        return
    line = next(row.line for row, label in zip(table.rows, given, strict=True) if label in others)
    listed = ", ".join(f"{label[:60]!r} ({n} rows)" for label, n in others.most_common(8))
    raise DataError(
        f"{table.source}, line {line}: labels that nobody explained: {listed}"
        + (f" and {len(others) - 8} more" if len(others) > 8 else ""),
        "say what each means with --positive LABEL or --negative LABEL, or leave its rows out with"
        " --leave-out LABEL",
    )


def _refuse_twice(table: "Table") -> None:
    """Refuse a response of ours with two labels, as of two people: each response counts once."""
    from aftertune.sources.cells import ID_COLUMN

    lines: dict[str, int] = {}
    for row in table.rows:
        name = row.values.get(ID_COLUMN, "").strip()
        if name and name in lines:
            raise DataError(
                f"{table.source}: the id {name[:60]!r} stands on line {lines[name]} and on line {row.line}",
                "keep one label of each response; measure two people's labels from two files",
            )
        lines[name] = row.line


def _column_hint(column: str, columns: tuple[str, ...]) -> str:
    return f"{nearest(column, columns)} (columns: {', '.join(columns) or 'none'}); name it with --…-column"


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", "give a CSV of people's labels") from error


def calibration_rows(calibration: "Calibration") -> "list[dict[str, str]]":
    """The groups in words, a row each."""
    return [_row(group) for group in calibration.groups]


def _row(group: "CalibrationGroup") -> dict[str, str]:
    missing = ", ".join(f"{n} {status}" for status, n in group.missing_by_status.items())
    kappa, ac1 = group.cohen_kappa, group.gwet_ac1
    return {
        "judge": group.judge,
        "responses of": group.model or "all",
        "labels": str(group.n_labels),
        "not judged": missing or "0",
        "sensitivity": _share(group.sensitivity),
        "specificity": _share(group.specificity),
        "Cohen's κ": _limits(kappa.estimate, kappa.ci_low, kappa.ci_high),
        "AC1": _limits(ac1.estimate, ac1.ci_low, ac1.ci_high),
    }


def _share(share: "Share") -> str:
    if share.n == 0:
        return "no such label"
    return f"{_limits(share.estimate, share.ci_low, share.ci_high)} of {share.n}"


def _limits(estimate: float | None, low: float | None, high: float | None) -> str:
    if estimate is None:
        return "undefined"
    return f"{estimate:.3f}" if low is None or high is None else f"{estimate:.3f} [{low:.3f}, {high:.3f}]"
