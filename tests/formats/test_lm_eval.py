"""Samples that lm_eval 0.4.13 wrote (data/lm_eval), and what older or damaged ones look like."""

import json
from pathlib import Path
from typing import Any

import pytest

from aftertune.errors import DataError
from aftertune.formats.lm_eval import looks_like_lm_eval, read_lm_eval
from aftertune.formats.lm_eval_results import samples_beside

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
    row: dict[str, Any] = {"resps": [["x"]]}
    row |= {"doc_id": 0, "doc": {"a": 1}, "filter": "none", "metrics": ["acc", "ppl", "f1", "gone"]}
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
        ("[1]\n", "row 1: no sample of lm_eval"),
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


def passes(*answers: str, named: bool = False) -> list[dict[str, Any]]:
    """Rows of three documents for each filter: before 0.4.3 without its name."""
    return [
        {"doc_id": doc, "doc": {"q": doc}, "target": "a", "resps": [["a b"]], "filtered_resps": [answer]}
        | {"exact_match": float(answer == "a")}
        | ({"filter": f"f{at}"} if named else {})
        for at, answer in enumerate(answers)
        for doc in range(3)
    ]


def test_filters_without_names_are_judges_by_their_order(tmp_path: Path):
    log = read_lm_eval(written(tmp_path, passes("[invalid]", "a")))
    assert [[(s.judge, s.value) for s in one.scores] for one in log.samples] == [
        [("exact_match/filter-1", 0.0), ("exact_match/filter-2", 1.0)]
    ] * 3
    assert any("found no answer in 3 of 3 responses" in note for note in log.notes)
    assert any("all documents once for each of filter-1, filter-2" in note for note in log.notes)
    # Two filters that take the same answer are two filters all the same.
    alike = read_lm_eval(written(tmp_path, passes("a", "a", "a")))
    assert [s.judge for s in alike.samples[0].scores] == [f"exact_match/filter-{n}" for n in (1, 2, 3)]


def test_the_filters_names_are_those_of_the_results_file(tmp_path: Path):
    date = "2024-04-08T10-11-12.123456"
    listed = [{"name": "strict"}, {"name": "loose"}]
    results = {"results": {"jars": {}}, "configs": {"jars": {"filter_list": listed}}, "config": {}}
    (tmp_path / f"results_{date}.json").write_text(json.dumps(results))
    log = read_lm_eval(written(tmp_path, passes("[invalid]", "a"), f"samples_jars_{date}.jsonl"))
    assert [s.judge for s in log.samples[0].scores] == ["exact_match/strict", "exact_match/loose"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*passes("a"), *passes("a")[:2]], "document 0 occurs 2 times with one filter"),
        ([*passes("a"), *reversed(passes("a"))], "document 0 occurs 2 times with one filter"),
        (passes("a", "a", named=True) * 2, "document 0 occurs 2 times with one filter"),
        (
            [*passes("a"), *({**row, "resps": [["other"]]} for row in passes("a"))],
            r"document 0 occurs 2 times, with other responses each time\n  → the file holds 2 runs",
        ),
    ],
)
def test_what_is_no_pass_of_another_filter_is_refused(tmp_path: Path, rows: list[Any], message: str):
    with pytest.raises(DataError, match=message):
        read_lm_eval(written(tmp_path, rows))


@pytest.mark.parametrize("nothing", [{"resps": []}, {"resps": [[None]]}, {"resps": None}, {}])
def test_a_row_without_a_response_has_no_score(tmp_path: Path, nothing: dict[str, Any]):
    rows = [{"doc_id": n, "doc": {"q": n}, "resps": [["a"]], "exact_match": 0.0} for n in range(3)]
    del rows[1]["resps"]
    rows[1] |= nothing
    log = read_lm_eval(written(tmp_path, rows))
    assert [s.scores[0].value for s in log.samples] == [0.0, None, 0.0]
    lost = log.samples[1]
    assert (lost.text, lost.reason) == (None, "the sample holds no response")
    assert (lost.scores[0].status, lost.scores[0].reason) == ("missing", lost.reason)


def test_a_file_that_was_kept_without_responses_keeps_its_scores(tmp_path: Path):
    rows = [{"doc_id": n, "doc": {"q": n}, "exact_match": 1.0} for n in range(3)]
    log = read_lm_eval(written(tmp_path, rows))
    assert [s.scores[0].value for s in log.samples] == [1.0] * 3
    assert "it holds no responses, scores alone" in log.notes


def test_empty_responses_are_counted(tmp_path: Path):
    rows = [{"doc_id": n, "doc": {"q": n}, "resps": [[""]], "exact_match": 0.0} for n in range(3)]
    log = read_lm_eval(written(tmp_path, rows))
    assert "3 responses are empty: lm_eval's scores of them are taken" in log.notes


DATES = ("2026-11-30T22-42-51.836382", "2026-11-30T23-00-00.000001")
RESULTS = {
    "results": {"t": {"exact_match,none": 1.0}},
    "configs": {"t": {"generation_kwargs": {"temperature": 0}}},
    "config": {"model_args": "pretrained=org/tuned,dtype=float32"},
}


def placed(folder: Path, results: dict[str, str], samples: list[str]) -> Path:
    """Results files, each with a model's name, and samples files; the path of the first of these."""
    for name, model in results.items():
        (folder / name).write_text(json.dumps(RESULTS | {"model_name": model}))
    paths = [written(folder, passes("a"), name) for name in samples]
    return paths[0]


@pytest.mark.parametrize(
    ("results", "samples", "model"),
    [
        ({f"mine_{DATES[0]}.json": "m"}, [f"samples_t_{DATES[0]}.jsonl"], "m"),  # --output_path mine.json
        ({f"a_{DATES[0]}.json": "m", f"a_{DATES[1]}.json": "n"}, [f"samples_t_{DATES[1]}.jsonl"], "n"),
        ({"renamed.json": "m"}, [f"samples_t_{DATES[0]}.jsonl"], "m"),
        ({"renamed.json": "m"}, [f"samples_t_{d}.jsonl" for d in DATES], None),  # of which of the two?
        ({"a.json": "m", "b.json": "n"}, [f"samples_t_{DATES[0]}.jsonl"], None),
        ({f"mine_{DATES[1]}.json": "m"}, [f"samples_t_{DATES[0]}.jsonl"], None),  # of another run
        ({"renamed.json": "m"}, [f"samples_other_{DATES[0]}.jsonl"], None),  # of another task
        ({"mine.json": ""}, ["pretrained__org__tuned,dtype__float32_t.jsonl"], "org/tuned"),  # before 0.4.3
        ({"mine.json": ""}, ["pretrained__org__base,dtype__float32_t.jsonl"], None),
    ],
)
def test_a_results_file_under_another_name(
    tmp_path: Path, results: dict[str, str], samples: list[str], model: str | None
):
    log = read_lm_eval(placed(tmp_path, results, samples))
    assert log.model == model
    assert (log.decoding == "temperature=0") == (model is not None)
    assert any("no results file" in note for note in log.notes) == (model is None)
    if model is not None:
        assert log.task == "t"


def test_a_results_file_that_is_given_stands_for_its_samples(tmp_path: Path):
    samples = placed(tmp_path, {f"mine_{DATES[0]}.json": "m"}, [f"samples_t_{DATES[0]}.jsonl"])
    assert samples_beside(tmp_path / f"mine_{DATES[0]}.json") == [samples]
    assert samples_beside(samples) == []
    samples.unlink()
    with pytest.raises(DataError, match=r"no samples beside it\n  → .*--log_samples"):
        samples_beside(tmp_path / f"mine_{DATES[0]}.json")


def test_samples_of_0_4_1_are_one_list(tmp_path: Path):
    path = tmp_path / "samples_t.jsonl"
    path.write_text(json.dumps(passes("a"), indent=2))
    assert looks_like_lm_eval(path, path.read_bytes())
    assert [s.scores[0].value for s in read_lm_eval(path).samples] == [1.0] * 3
