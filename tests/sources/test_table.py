"""Tables from users: what is read, and what every fault says."""

import json

import pytest

from aftertune.errors import DataError
from aftertune.sources import read_table


def values(content: str | bytes, name: str) -> list[dict[str, str]]:
    content = content if isinstance(content, bytes) else content.encode()
    return [row.values for row in read_table(content, name).rows]


def test_csv_with_quotes_commas_newlines_and_a_byte_order_mark() -> None:
    table = read_table('\ufeffid,prompt\r\n1,"one, and\r\ntwo"\r\n\r\n2,"say ""hi"""\r\n'.encode(), "a/b.CSV")
    assert table.columns == ("id", "prompt")
    assert [row.values for row in table.rows] == [
        {"id": "1", "prompt": "one, and\r\ntwo"},
        {"id": "2", "prompt": 'say "hi"'},
    ]
    assert [row.line for row in table.rows] == [2, 5]


def test_jsonl_and_json_give_the_same_rows() -> None:
    rows = [
        {"id": 1, "prompt": "line\u2028separator"},
        {"id": "x", "prompt": "p", "safe": True, "note": None},
    ]
    lines = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n"
    expected = [{"id": "1", "prompt": "line\u2028separator"}, {"id": "x", "prompt": "p", "safe": "true"}]
    assert values(lines, "t.jsonl") == expected
    assert values(json.dumps(rows), "t.json") == expected
    assert read_table(lines.encode(), "t.jsonl").columns == ("id", "prompt", "safe")
    assert [row.line for row in read_table(lines.encode(), "t.jsonl").rows] == [1, 3]


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_a_file_without_rows_is_an_empty_table(name: str) -> None:
    assert values("", name) == []
    assert values("\n", name) == []


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("a\tb\n", "t.tsv", r"t\.tsv: a task is read from CSV, JSONL, JSON or Parquet, got the ending 'tsv'"),
        ("a", "folder.d/t", r"got the ending ''"),
        ("prompt\nnaïve\n".encode("latin-1"), "t.csv", r"t\.csv is not UTF-8 text: .* at byte 9"),
        ('id,prompt\n1,"open\nmore\n', "t.csv", r"t\.csv, line 2: not CSV"),
        ("id,prompt\n1,a\n2,b,c\n", "t.csv", r"t\.csv, line 3: 3 cells under 2 columns"),
        ("id,id\n1,a\n", "t.csv", r"the header has the column 'id' more than once"),
        ('{"id": 1}\n{"id": \n', "t.jsonl", r"t\.jsonl, line 2: not JSON"),
        ('{"id": 1}\n[1]\n', "t.jsonl", r"t\.jsonl, line 2: expected columns and values, got \[1\]"),
        ('{"id": 1}', "t.json", r"t\.json: expected a list of rows, got dict"),
        ('[{"id": 1}, 5]', "t.json", r"t\.json, row 2: expected columns and values, got 5"),
        (
            '{"p": "\\ud800"}',
            "t.jsonl",
            r"t\.jsonl, line 1: 'p' holds half of a surrogate pair: .*ud800",
        ),
        ('{"p": ' + "9" * 5000 + "}", "t.jsonl", r"t\.jsonl, line 1: not JSON"),
        ("[" * 100_000, "t.json", r"t\.json: not JSON"),
    ],
)
def test_faults_name_the_line_and_the_value(content: str | bytes, name: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        values(content, name)
    assert caught.value.remedy
