"""A log's file name is made of foreign names and is never a path."""

from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from aftertune.formats.inspect_export import Judged, _file_name, _identity


@given(st.text(), st.text())
def test_a_file_name_is_plain_whatever_the_names(task: str, checkpoint: str):
    named = {"task": task, "checkpoint": checkpoint, "decoding": "/"}
    name = _file_name(datetime(2026, 1, 2, tzinfo=UTC), named, "i")
    assert Path(name).name == name and name.startswith("2026-01-02T00-00-00") and name.endswith("_i.eval")
    assert name.isascii() and name.isprintable() and len(name) < 130


def test_two_cells_have_two_identities_and_one_the_same_each_time():
    judged = Judged(None, {}, {"root_seed": 3}, datetime(2026, 1, 2, tzinfo=UTC))  # type: ignore[arg-type]
    first = {"study": "s"}
    made = [_identity(judged, {"task": task}, first) for task in ("a", "b", "a")]
    assert made[0] != made[1] and made[0] == made[2]
