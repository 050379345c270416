"""The replay engine: a study of recorded responses, judged and analysed as if they were drawn."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aftertune.commands.estimate import estimate_lines
from aftertune.engines.replay import ReplayEngine
from aftertune.errors import AftertuneError, DataError, StudyError
from aftertune.pipeline import STAGES
from aftertune.stages.check import check
from aftertune.study import parse_study
from aftertune.tasks import load_task
from stage_runs import rows, run

PRIMARY = {
    "task": "mini-harm",
    "decoding": "sampled",
    "judge": "refusal-rules",
    "metric": "refusal_rate",
    "target": "benchmark",
}
REFUSAL, COMPLIANCE = "I cannot help with that.", "Sure. First, open the box and then look inside."


def study(table: Path, **changes: Any) -> dict[str, Any]:
    return {
        "name": "recorded",
        "model": "before",
        "recipes": {"chat": {"served": ["after-1", "after-2"]}},
        "seeds": 2,
        "tasks": [{"name": "mini-harm", "n": 6}],
        "decodings": {"sampled": {"temperature": 0.7, "max_tokens": 20, "repeats": 2}},
        "judges": ["refusal-rules"],
        "engine": {"name": "replay", "table": str(table)},
        "analysis": {"primary": PRIMARY},
    } | changes


def items(tmp_path: Path) -> list[str]:
    spec = parse_study(study(tmp_path / "x"), source="s", folder=tmp_path).tasks[0]
    return [item.id for item in load_task(spec, root_seed=2025).items]


@pytest.fixture
def recorded(tmp_path: Path) -> pl.DataFrame:
    """The base refuses everything, one seed half of it, the other nothing."""
    refused = {"before": 6, "after-1": 3, "after-2": 0}
    return pl.DataFrame(
        {
            "model": model,
            "task": "mini-harm",
            "item": item,
            "repeat": repeat,
            "text": REFUSAL if n < refused[model] else COMPLIANCE,
        }
        for model in refused
        for n, item in enumerate(items(tmp_path))
        for repeat in (1, 2)
    )


def written(frame: pl.DataFrame, tmp_path: Path) -> Path:
    path = tmp_path / "table.parquet"
    frame.write_parquet(path)
    return path


@pytest.mark.slow
def test_a_study_of_recorded_responses(recorded, tmp_path):
    out = run(study(written(recorded, tmp_path)), tmp_path / "run", stages=STAGES)
    observed = pl.read_parquet(out / "observations.parquet")
    assert observed.height == 3 * 6 * 2
    rates = observed.group_by("model", "seed").agg(pl.col("value").mean()).sort("model", "seed")
    assert rates["value"].to_list() == [1.0, 0.5, 0.0]
    assert (out / "report" / "index.html").is_file()
    # Again: nothing is drawn. Another table: everything is, under other keys.
    n = rows(out, "responses").height
    run(study(tmp_path / "table.parquet"), out, stages=STAGES)
    assert rows(out, "responses").height == n
    written(recorded.with_columns(text=pl.lit(REFUSAL)), tmp_path)
    run(study(tmp_path / "table.parquet"), out, stages=STAGES)
    assert pl.read_parquet(out / "observations.parquet")["value"].mean() == 1.0


def test_what_the_table_lacks_has_failed_and_is_no_value(recorded, tmp_path):
    frame = recorded.with_row_index().with_columns(
        text=pl.when(pl.col("index") == 5)
        .then(None)
        .when(pl.col("index") == 6)
        .then(pl.lit(" "))
        .otherwise("text"),
        finish=pl.when(pl.col("index") == 7).then(pl.lit("exploded")).otherwise(pl.lit("stop")),
    )
    out = run(study(written(frame.filter(pl.col("index") != 4), tmp_path)), tmp_path / "run")
    responses = rows(out, "responses").filter(pl.col("status") != "ok").sort("reason")
    assert list(responses.select("status", pl.col("reason").str.head(23)).iter_rows()) == [
        ("failed", "recorded with an end th"),
        ("failed", "recorded without a text"),
        ("empty", "recorded without text"),
        ("failed", "the table holds no resp"),
    ]
    observed = pl.read_parquet(out / "observations.parquet").filter(pl.col("status") != "ok")
    assert observed.height == 4
    assert observed["value"].null_count() == 4


def test_two_decodings_are_told_apart_by_name(recorded, tmp_path):
    both = pl.concat(
        [
            recorded.with_columns(decoding=pl.lit("sampled")),
            recorded.with_columns(decoding=pl.lit("hot"), text=pl.lit(COMPLIANCE)),
        ]
    )
    decodings = {
        name: {"temperature": t, "max_tokens": 20, "repeats": 2}
        for name, t in (("sampled", 0.7), ("hot", 1.5))
    }
    out = run(study(written(both, tmp_path), decodings=decodings), tmp_path / "run")
    rates = pl.read_parquet(out / "observations.parquet").group_by("decoding").agg(pl.col("value").mean())
    assert dict(rates.iter_rows()) == {"sampled": 0.5, "hot": 0.0}


def checked(frame: pl.DataFrame, tmp_path: Path, **changes: Any) -> list[str]:
    """What `check` prints."""
    given = study(written(frame, tmp_path), **changes)
    return estimate_lines(*check(parse_study(given, source="s", folder=tmp_path)))


def test_check_says_what_single_responses_are_absent_and_what_is_not_asked_for(recorded, tmp_path):
    lines = checked(recorded, tmp_path)
    assert lines[0] == "recorded: all keys and data are in order; the table holds what is asked for"
    assert not [line for line in lines if "note" in line or "endpoint" in line]
    more = pl.concat(
        [
            recorded.tail(-1),
            recorded.filter(repeat=1).with_columns(repeat=pl.lit(3, pl.Int64)),
            recorded.with_columns(model=pl.lit("other")),
            recorded.with_columns(task=pl.lit("second"), item=pl.lit("a")).unique(["model", "repeat"]),
        ]
    )
    found = "\n".join(checked(more, tmp_path))
    assert "note         1 of 36 responses are not in the table and will have failed" in found
    assert (
        "note         the study does not ask for models other, tasks second, items a, repeats 3 of the table"
    ) in found


NAMED = {"decoding": "sampled"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            NAMED | {"decoding": "greedy"},
            r"no decoding sampled of .*; it has greedy, the study asks for sampled",
        ),
        (
            NAMED | {"task": "mini_harm"},
            r"no task mini-harm of .*; it has mini_harm, the study asks for mini-h",
        ),
        (NAMED | {"item": "x"}, r"no item .* of task 'mini-harm'; it has x, the study asks for"),
        (NAMED | {"repeat": 0}, r"no repeat 1, 2 of .*; it has 0, the study asks for 1, 2\n.*count from 1"),
        (NAMED | {"repeat": 1}, r"no repeat 2 of .*; it has 1, the study asks for 1, 2"),
        ({"repeat": 1}, r"no repeat 2 of "),
        ({"model": "base"}, r"no response of 'before'; it has the models base, the study asks for after-1, "),
    ],
)
@pytest.mark.parametrize("of", ["all", "one model"])
def test_check_refuses_a_table_of_something_else(change, message, of, recorded, tmp_path):
    """Before anything is run: else every response would have failed and every judgment be missing."""
    altered = recorded.with_columns(**{k: pl.lit(v, recorded.schema.get(k)) for k, v in change.items()})
    altered = altered.unique(["model", "task", "item", "repeat"], maintain_order=True)
    if of == "one model" and "item" not in change:  # an item must be there of any model
        kept = (
            recorded.with_columns(pl.lit("sampled").alias("decoding")) if "decoding" in change else recorded
        )
        mine = pl.col("model") == "before"
        altered = pl.concat([altered.filter(mine | (pl.col("model") == "base")), kept.filter(~mine)])
        altered = altered.unique(["model", "task", "item", "repeat"], maintain_order=True)
        message = message.partition("; it has the models")[0]
    with pytest.raises(DataError, match=message):
        checked(altered, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop("text"), r"no column 'text'\n.*it has model, task"),
        (lambda f: f.with_columns(repeat=pl.lit("once")), "a column of another type"),
        (lambda f: f.with_columns(model=pl.lit("before")), r"no response of 'after-1'"),
        (lambda f: pl.concat([f, f]), r"36 responses|twice"),
    ],
)
def test_a_table_that_cannot_be_meant(change, message, recorded, tmp_path):
    with pytest.raises(DataError, match=message):
        run(study(written(change(recorded), tmp_path)), tmp_path / "run")


def test_what_does_not_go_with_it(tmp_path):
    table = tmp_path / "none.parquet"
    with pytest.raises(StudyError, match="is of this machine, and the engine is a table"):
        parse_study(
            study(table, recipes={"chat": {"data": "packaged:chat", "n": 8}}), source="s", folder=tmp_path
        )
    with pytest.raises(StudyError, match="exact cannot be promised by a table"):
        parse_study(study(table, numerics="exact"), source="s", folder=tmp_path)
    with pytest.raises(AftertuneError, match=r"cannot read the table .*none\.parquet"):
        found = parse_study(study(table), source="s", folder=tmp_path)
        ReplayEngine(found, found.engine)  # type: ignore[arg-type]
