"""Samples that lm_eval 0.4.13 wrote (data/lm_eval), and what older or damaged ones look like."""

import json
from pathlib import Path
from typing import Any

import pytest

from aftertune.errors import DataError
from aftertune.formats.lm_eval import looks_like_lm_eval, read_lm_eval

DATA = Path(__file__).parent / "data" / "lm_eval"
GENERATE, CHOOSE = (next((DATA / "tiny-1").glob(f"samples_toy_{kind}_*")) for kind in ("generate", "choose"))


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]


def written(folder: Path, rows: list[dict[str, Any]], name: str = "samples_t.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_generation_task():
    log = read_lm_eval(GENERATE)
    assert (log.task, log.tool, log.model) == ("toy_generate", "lm_eval 0.4.13", "/tmp/lml/models/tiny-1")
    assert log.checkpoint == "hf /tmp/lml/models/tiny-1 pretrained=/tmp/lml/models/tiny-1"
    assert log.decoding == "do_sample=False+max_gen_toks=8"
    rows = rows_of(GENERATE)
    assert len(log.samples) == 4 and len(rows) == 8  # two filters of each document
    for sample, row in zip(log.samples, rows[:4], strict=True):
        assert sample.item == row["doc_hash"][:16] and sample.prompt_sha256 == row["prompt_hash"]
        assert (sample.text, sample.prompt) == (row["resps"][0][0], row["doc"]["question"])
        assert sample.reference == row["target"] and sample.repeat == 1
        assert [s.judge for s in sample.scores] == ["exact_match/strict", "exact_match/loose"]
        assert sample.scores[0].value == row["exact_match"]


def test_options_scored_by_likelihood_have_no_text():
    log = read_lm_eval(CHOOSE)
    assert {s.text for s in log.samples} == {None}
    assert {s.reason for s in log.samples} == {"the options were scored: there is no text"}
    assert [s.judge for s in log.samples[0].scores] == ["acc", "acc_norm"]
    assert [s.scores[0].value for s in log.samples] == [row["acc"] for row in rows_of(CHOOSE)]


def test_both_tasks_and_both_models_name_an_item_alike():
    other = read_lm_eval(next((DATA / "tiny-2").glob("samples_toy_generate_*")))
    assert [s.item for s in other.samples] == [s.item for s in read_lm_eval(GENERATE).samples]


def test_samples_of_an_older_0_4(tmp_path: Path):
    """Without hashes and without the list of metrics, and with arguments as lists."""
    old = [
        {
            k: v
            for k, v in row.items()
            if k not in ("doc_hash", "prompt_hash", "target_hash", "metrics", "filter")
        }
        | {"arguments": [[row["doc"]["question"], {"until": ["\n"]}]]}
        for row in rows_of(GENERATE)[:4]
    ]
    log = read_lm_eval(written(tmp_path, old))
    new = read_lm_eval(GENERATE)
    assert [s.item for s in log.samples] == [
        s.item for s in new.samples
    ]  # the hash is made as lm_eval makes it
    assert [s.prompt_sha256 for s in log.samples] == [s.prompt_sha256 for s in new.samples]
    assert [s.scores[0].judge for s in log.samples] == ["exact_match"] * 4
    assert log.model is None and "no results file" in log.notes[0]


def test_what_is_no_number_has_no_value(tmp_path: Path):
    row = {"doc_id": 0, "doc": {"a": 1}, "filter": "none", "metrics": ["acc", "ppl", "f1", "gone"]}
    row |= {"acc": True, "ppl": [-3.5, 7], "f1": float("nan")}
    scores = read_lm_eval(written(tmp_path, [row])).samples[0].scores
    assert [(s.judge, s.value, s.status) for s in scores] == [
        ("acc", 1.0, "ok"),
        ("ppl", None, "unparsed"),
        ("f1", None, "unparsed"),
        ("gone", None, "unparsed"),
    ]
    assert scores[1].reason == "no number: [-3.5, 7]"


def test_the_same_document_twice_is_two_items_or_a_file_written_twice(tmp_path: Path):
    rows = rows_of(CHOOSE)
    again = [{**rows[0], "doc_id": 9}]
    items = [s.item for s in read_lm_eval(written(tmp_path, [*rows, *again])).samples]
    assert items[0] == f"{rows[0]['doc_hash'][:16]}-0" and items[-1] == f"{rows[0]['doc_hash'][:16]}-9"
    with pytest.raises(DataError, match="document 0 occurs 2 times with one filter"):
        read_lm_eval(written(tmp_path, [*rows, rows[0]]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no samples"),
        ('{"doc_id": 0, "doc": {}}\n{"doc_id": 1, ', r"line 2: not JSON.*\n  → copy the file again"),
        ('{"doc_id": 0}\n', "line 1: no sample of lm_eval"),
        ("[1]\n", "line 1: no sample of lm_eval"),
    ],
)
def test_what_is_no_samples_file(tmp_path: Path, text: str, message: str):
    path = tmp_path / "samples_t.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_lm_eval(path)


def test_it_is_known_by_its_first_line():
    assert looks_like_lm_eval(GENERATE, GENERATE.read_bytes())
    assert not looks_like_lm_eval(Path("x.jsonl"), b'{"prompt": "a"}')
