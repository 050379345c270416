"""A tidy table as logs: what it need not say, and what it must."""

from pathlib import Path

import pytest

from aftertune.errors import DataError
from aftertune.formats.tidy import looks_tidy, read_tidy


def written(folder: Path, text: str) -> Path:
    path = folder / "scores.csv"
    path.write_text(text)
    return path


def test_a_table_of_three_columns(tmp_path: Path):
    path = written(tmp_path, "model,item,value,extra\na,1,0.5,x\na,2,,x\nb,1,1,x\n")
    assert looks_tidy(path, path.read_bytes())
    a, b = read_tidy(path)
    assert (a.model, a.task, a.decoding, a.variation, a.seed) == ("a", "unnamed", "unnamed", "baseline", None)
    assert [(s.item, s.repeat, s.scores[0].value, s.scores[0].status) for s in a.samples] == [
        ("1", 1, 0.5, "ok"),
        ("2", 1, None, "missing"),
    ]
    assert a.notes == ("the table's columns extra were not used",)
    assert a.sha256 == b.sha256 and a.part != b.part


def test_seeds_repeats_judges_and_texts(tmp_path: Path):
    head = "model,seed,item,repeat,judge,construct,value,prompt,text"
    rows = "a,1.0,i,1,j,harmful,0,ask,say\na,1.0,i,1,k,refused,1,ask,say\na,2,i,2,j,harmful,1,ask,no\n"
    one, two = read_tidy(written(tmp_path, f"{head}\n{rows}"))
    assert (one.seed, two.seed) == (1, 2)
    (sample,) = one.samples
    assert (sample.prompt, sample.text, [s.judge for s in sample.scores]) == ("ask", "say", ["j", "k"])
    assert [s.construct for s in sample.scores] == ["harmful", "refused"]
    assert two.samples[0].repeat == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model,item,score\na,1,1\n", r"lacks the column value; it has .*\n.*--column NAME=COLUMN"),
        ("model,item,value\na,1,high\n", "line 2: the value is 'high'"),
        ("model,item,value\na,,1\n", "line 2: no item"),
        ("model,item,value\n,1,1\n", "line 2: no model"),
        ("model,item,value,seed\na,1,1,x\n", "line 2: the seed is 'x'"),
        ("model,item,value,repeat\na,1,1,1.5\n", "line 2: the repeat is '1.5'"),
        ("model,item,value,intent\na,1,1,bad\n", "line 2: the intent is 'bad'"),
        ("model,item,value,construct\na,1,1,bad\n", "line 2: the construct is 'bad'"),
    ],
)
def test_what_cannot_be_read_names_the_line(tmp_path: Path, text: str, message: str):
    with pytest.raises(DataError, match=message):
        read_tidy(written(tmp_path, text))
