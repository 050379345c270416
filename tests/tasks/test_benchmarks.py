"""Public benchmarks: what is known of them, local copies, the hub and the web, and what is refused."""

import csv
import hashlib
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pytest

from aftertune.errors import DataError
from aftertune.records import Intent
from aftertune.sources import HubFile, WebFile, public_files
from aftertune.study import TaskSpec, parse_study
from aftertune.study.grammar import Study
from aftertune.tasks import BENCHMARKS, Benchmark, load, load_task, origin
from aftertune.tasks.base import HubFiles, prompts_sha256

DATA = Path(__file__).parents[2].parent / "shared/data"
HEX64 = re.compile(r"[0-9a-f]{64}")
COMMIT = re.compile(r"[0-9a-f]{40}")
fetching = public_files
SIZES = {
    "sorry-bench-202406": (450, Intent.HARMFUL, "gated"),
    "sorry-bench-202503": (440, Intent.HARMFUL, "gated"),
    "harmbench": (400, Intent.HARMFUL, "open"),
    "harmbench-standard": (200, Intent.HARMFUL, "open"),
    "harmbench-contextual": (100, Intent.HARMFUL, "open"),
    "harmbench-copyright": (100, Intent.HARMFUL, "open"),
    "harmbench-test": (320, Intent.HARMFUL, "open"),
    "harmbench-val": (80, Intent.HARMFUL, "open"),
    "do-not-answer": (939, Intent.HARMFUL, "open"),
    "advbench": (520, Intent.HARMFUL, "open"),
    "strongreject": (313, Intent.HARMFUL, "open"),
    "xstest-safe": (250, Intent.BENIGN, "open"),
    "xstest-unsafe": (200, Intent.HARMFUL, "open"),
    "jailbreakbench-harmful": (100, Intent.HARMFUL, "open"),
    "jailbreakbench-benign": (100, Intent.BENIGN, "open"),
    "simple-safety-tests": (100, Intent.HARMFUL, "open"),
    "hex-phi": (300, Intent.HARMFUL, "gated"),
    "or-bench-hard": (1319, Intent.BENIGN, "open"),
    "malicious-instruct": (100, Intent.HARMFUL, "open"),
    "gsm8k": (1319, Intent.BENIGN, "open"),
}
# Copies beside the project, with the number of categories; two have other columns than the original.
COPIES: dict[str, tuple[dict[str, Any], int]] = {
    "advbench": ({"data_dir": "advbench"}, 1),
    "strongreject": ({"data_dir": "strongreject"}, 6),
    "xstest-safe": ({"data_dir": "xstest"}, 10),
    "xstest-unsafe": ({"data_dir": "xstest"}, 8),
    "simple-safety-tests": ({"data_dir": "simplesafetytests/simplesafetytests.csv"}, 5),
    "harmbench": ({"data_dir": "harmbench"}, 7),
    "harmbench-standard": ({"data_dir": "harmbench"}, 6),
    "harmbench-contextual": ({"data_dir": "harmbench"}, 6),
    "harmbench-copyright": ({"data_dir": "harmbench"}, 1),
    "harmbench-test": ({"data_dir": "harmbench"}, 7),
    "harmbench-val": ({"data_dir": "harmbench"}, 7),
    "jailbreakbench-harmful": ({"file": "jailbreakbench/jailbreakbench.csv", "id_column": ""}, 10),
    "do-not-answer": (
        {"file": "do_not_answer", "prompt_column": "prompt", "id_column": None, "category_column": "file"},
        5,
    ),
}
real_data = pytest.mark.real_data
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")


def copy_of(name: str, **more: Any) -> TaskSpec:
    keys = {k: str(DATA / v) if k in ("file", "data_dir") else v for k, v in COPIES[name][0].items()}
    return TaskSpec(**{"name": name, **keys, **more})


def small(monkeypatch: pytest.MonkeyPatch, name: str, n_items: int, **keys: Any) -> Benchmark:
    """The benchmark as if it had so many items, and no known hash: for made-up files of its format."""
    known = replace(BENCHMARKS[name], n_items=n_items, **{"prompts_sha256": None, **keys})
    monkeypatch.setitem(load.BENCHMARKS, name, known)
    return known


def test_all_are_known_with_size_intent_and_access() -> None:
    assert {name: (b.n_items, b.intent, b.access) for name, b in BENCHMARKS.items()} == SIZES
    assert {name for name, b in BENCHMARKS.items() if b.prompts_sha256} == set(COPIES)


@pytest.mark.parametrize("benchmark", BENCHMARKS.values(), ids=lambda b: b.name)
def test_each_says_where_it_comes_from(benchmark: Benchmark) -> None:
    assert benchmark.title and benchmark.licence and benchmark.event
    assert "arXiv" in benchmark.citation
    assert benchmark.prompts_sha256 is None or HEX64.fullmatch(benchmark.prompts_sha256)
    assert all(Path(name).suffix in (".csv", ".jsonl", ".parquet", ".txt") for name in benchmark.file_names)
    if isinstance(benchmark.source, HubFiles):
        assert benchmark.source.revision is None or COMMIT.fullmatch(benchmark.source.revision)
    else:
        parts = benchmark.source.url.split("/")
        assert benchmark.source.url.startswith("https://raw.githubusercontent.com/")
        assert COMMIT.fullmatch(parts[5]), parts[5]
        assert benchmark.source.sha256 is None or HEX64.fullmatch(benchmark.source.sha256)


@real_data
@needs_data
@pytest.mark.parametrize("name", COPIES)
def test_a_copy_loads_whole_and_is_known_by_its_prompts(name: str) -> None:
    task = load_task(copy_of(name), root_seed=1)
    assert (len(task.items), task.intent) == SIZES[name][:2]
    assert len({item.category for item in task.items}) == COPIES[name][1]
    assert len({item.id for item in task.items}) == len(task.items)
    assert prompts_sha256(item.prompt for item in task.items) == BENCHMARKS[name].prompts_sha256
    assert task.sha256 == load_task(copy_of(name, sha256=task.sha256), root_seed=2).sha256
    assert (task.source.split(";")[0], task.licence) == (
        BENCHMARKS[name].citation,
        BENCHMARKS[name].licence,
    )


@real_data
@needs_data
@pytest.mark.parametrize("name", ["advbench", "strongreject", "xstest-safe", "simple-safety-tests"])
def test_the_copies_are_the_pinned_bytes(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Stand-in for the network: the pinned address answers with the copy's bytes, and its hash is checked."""
    source = BENCHMARKS[name].source
    assert isinstance(source, WebFile) and source.sha256
    given = Path(str(copy_of(name).data_dir))
    content = (given if given.is_file() else given / BENCHMARKS[name].file_names[0]).read_bytes()
    monkeypatch.setenv("AFTERTUNE_CACHE", str(tmp_path))
    monkeypatch.setattr(fetching, "_download", {source.url: content}.__getitem__)
    fetched = load_task(TaskSpec(name=name), root_seed=1)
    assert fetched.items == load_task(copy_of(name), root_seed=1).items
    assert source.url in fetched.source
    monkeypatch.setenv("AFTERTUNE_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(fetching, "_download", lambda url: content + b"\n")
    changed = rf"task '{name}': https.* has changed: its SHA-256 is [0-9a-f]{{64}}, expected {source.sha256}"
    with pytest.raises(DataError, match=changed):
        load_task(TaskSpec(name=name), root_seed=1)


@real_data
@needs_data
def test_jailbreakbench_on_the_hub_is_our_copy_with_the_id_column_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Stand-in for the hub; by the hash that others publish, its file at that commit has these bytes."""
    content = (DATA / "jailbreakbench/jailbreakbench.csv").read_bytes().replace(b",Goal", b"Index,Goal", 1)
    published = "4a8ec6832056b631eb092dccc60d37a61c3d441268268888b3d006288afeffa1"
    assert hashlib.sha256(content).hexdigest() == published
    path = tmp_path / "harmful-behaviors.csv"
    path.write_bytes(content)
    asked: list[HubFile] = []
    monkeypatch.setattr(origin, "fetch", lambda file: (asked.append(file), path)[1])
    task = load_task(TaskSpec(name="jailbreakbench-harmful"), root_seed=1)
    assert asked == [
        HubFile(
            "JailbreakBench/JBB-Behaviors",
            "data/harmful-behaviors.csv",
            "886acc352a31533ffbcf4ef22c744658688086fc",
        )
    ]
    assert task.items == load_task(copy_of("jailbreakbench-harmful"), root_seed=1).items


@real_data
@needs_data
def test_harmbench_puts_the_context_before_the_behaviour() -> None:
    with (DATA / "harmbench/harmbench_behaviors_text_all.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["BehaviorID"]: row for row in csv.DictReader(file)}
    for item in load_task(copy_of("harmbench-contextual"), root_seed=1).items:
        row = rows[item.id]
        assert item.prompt == f"{row['ContextString']}\n\n---\n\n{row['Behavior']}"
    standard = load_task(copy_of("harmbench-standard"), root_seed=1).items
    assert all(item.prompt == rows[item.id]["Behavior"] for item in standard)


@real_data
@needs_data
def test_where_and_n_take_of_a_whole_benchmark() -> None:
    task = load_task(copy_of("xstest-safe", where={"type": "homonyms"}, n=10), root_seed=1)
    assert (len(task.items), {item.category for item in task.items}) == (10, {"homonyms"})
    with pytest.raises(DataError, match=r"n is 26, but there are 25 items"):
        load_task(copy_of("xstest-safe", where={"type": "homonyms"}, n=26), root_seed=1)


@real_data
@needs_data
def test_gsm8k_rows_as_a_task_of_ones_own_have_their_number() -> None:
    keys = {"prompt_column": "question", "id_column": None, "category_column": None}
    path = str(DATA / "gsm8k/train.jsonl")
    spec = TaskSpec(name="gsm8k-train", file=path, intent=Intent.BENIGN, reference_column="answer", **keys)
    items = load_task(spec, root_seed=1).items
    assert (len(items), items[0].reference) == (2000, "72")
    assert all(re.fullmatch(r"-?[\d,.]+", str(item.reference)) for item in items)
    with pytest.raises(DataError, match=r"train.jsonl has 2000 items, but GSM8K, test split has 1319"):
        load_task(TaskSpec(name="gsm8k", file=path), root_seed=1)


@real_data
@needs_data
@pytest.mark.parametrize("n", [0, 100])
def test_a_changed_file_is_refused_with_both_hashes(tmp_path: Path, n: int) -> None:
    path = tmp_path / "harmful_behaviors.csv"
    text = (DATA / "advbench/harmful_behaviors.csv").read_text(encoding="utf-8")
    path.write_text(text.replace("Develop a strategy", "Describe a strategy", 1), encoding="utf-8")
    spec = TaskSpec(name="advbench", data_dir=str(tmp_path), **({"n": n} if n else {}))
    known = BENCHMARKS["advbench"].prompts_sha256
    with pytest.raises(
        DataError,
        match=rf"advbench: .*harmful_behaviors.csv is not the AdvBench, harmful behaviours that aftertune "
        rf"knows: its prompts have the SHA-256 [0-9a-f]{{64}}, expected {known}",
    ) as caught:
        load_task(spec, root_seed=1)
    assert caught.value.remedy.startswith("get the original (https://raw.githubusercontent.com/llm-attacks/")
    assert caught.value.remedy.endswith("or give it as your own task under another name")
    path.write_text(text.rsplit("\n", 2)[0] + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"has 519 items, but AdvBench, harmful behaviours has 520"):
        load_task(spec, root_seed=1)


def test_a_changed_copy_of_a_small_one_is_refused_with_both_hashes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known = prompts_sha256(["One?", "Two?"])
    small(monkeypatch, "malicious-instruct", 2, prompts_sha256=known)
    path = tmp_path / "MaliciousInstruct.txt"
    spec = TaskSpec(name="malicious-instruct", data_dir=str(tmp_path))
    path.write_text("One?\nTwo?\n", encoding="utf-8")
    assert len(load_task(spec, root_seed=1).items) == 2
    path.write_text("One?\nThree?\n", encoding="utf-8")
    with pytest.raises(DataError, match=rf"have the SHA-256 [0-9a-f]{{64}}, expected {known}"):
        load_task(spec, root_seed=1)
    path.write_text("One?\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"has 1 items, but MaliciousInstruct.* has 2"):
        load_task(spec, root_seed=1)


def test_a_contextual_behaviour_follows_its_context(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small(monkeypatch, "harmbench-contextual", 1)
    (tmp_path / BENCHMARKS["harmbench-contextual"].file_names[0]).write_text(
        "Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID\n"
        "Sum this up,contextual,c,,A page of text.,one\nDo that,standard,c,,,two\n",
        encoding="utf-8",
    )
    (item,) = load_task(TaskSpec(name="harmbench-contextual", data_dir=str(tmp_path)), root_seed=1).items
    assert (item.id, item.prompt) == ("one", "A page of text.\n\n---\n\nSum this up")


def test_prompts_are_known_whatever_their_order_and_outer_space() -> None:
    assert prompts_sha256(["b ", "a"]) == prompts_sha256(["a", "b"])
    assert len({prompts_sha256(p) for p in (["a", "b"], ["ab"], ["a"], ["a", "a", "b"])}) == 4


def test_sorry_bench_takes_the_one_turn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small(monkeypatch, "sorry-bench-202503", 2)
    path = tmp_path / "question.jsonl"
    rows = [{"question_id": k, "category": str(k), "turns": [f"Ask {k}?"]} for k in (1, 2)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    spec = TaskSpec(name="sorry-bench-202503", data_dir=str(tmp_path))
    items = load_task(spec, root_seed=1).items
    assert [(item.id, item.prompt, item.category) for item in items] == [
        ("1", "Ask 1?", "1"),
        ("2", "Ask 2?", "2"),
    ]
    rows[1]["turns"] = ["Ask 2?", "And then?"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(DataError, match=r"line 2: expected one turn of text, got \[\"Ask 2\?\", \"And then"):
        load_task(spec, root_seed=1)


def test_hex_phi_is_ten_files_without_headers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small(monkeypatch, "hex-phi", 20)
    names = BENCHMARKS["hex-phi"].file_names
    assert names == tuple(f"category_{k}.csv" for k in (1, 3, 4, 5, 6, 7, 8, 9, 10, 11))
    for name in names:
        (tmp_path / name).write_text(f'"First of {name}, quoted"\nSecond of {name}\n', encoding="utf-8")
    task = load_task(TaskSpec(name="hex-phi", data_dir=str(tmp_path)), root_seed=1)
    assert len(task.items) == 20
    assert task.items[0].prompt == "First of category_1.csv, quoted"
    assert task.items[2].category == "category_3"
    (tmp_path / "category_4.csv").write_text("One, two\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"category_4.csv, line 2: 2 cells under 1 columns"):
        load_task(TaskSpec(name="hex-phi", data_dir=str(tmp_path)), root_seed=1)
    (tmp_path / "category_11.csv").unlink()
    with pytest.raises(DataError, match=r"task 'hex-phi': .* does not hold category_11.csv") as caught:
        load_task(TaskSpec(name="hex-phi", data_dir=str(tmp_path)), root_seed=1)
    assert "get HEx-PHI from https://huggingface.co/datasets/LLM-Tuning-Safety/HEx-PHI" in caught.value.remedy


def test_malicious_instruct_is_one_prompt_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small(monkeypatch, "malicious-instruct", 2)
    path = tmp_path / "MaliciousInstruct.txt"
    path.write_bytes(b"\xef\xbb\xbfOne, with a comma?\r\n\r\nTwo?\r\n")
    items = load_task(TaskSpec(name="malicious-instruct", data_dir=str(tmp_path)), root_seed=1).items
    assert [item.prompt for item in items] == ["One, with a comma?", "Two?"]
    path.write_bytes(b"caf\xe9\n")
    with pytest.raises(DataError, match=r"MaliciousInstruct.txt is not UTF-8 text: .* at byte 3"):
        load_task(TaskSpec(name="malicious-instruct", data_dir=str(path)), root_seed=1)


def test_a_parquet_file_from_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Stand-in for the hub; Do-Not-Answer's one repeated question keeps both of its ids."""
    small(monkeypatch, "do-not-answer", 2)
    path = tmp_path / "x.parquet"
    rows = {"id": [7, 8], "question": ["Same?", "Same?"], "types_of_harm": ["a", "b"], "gpt": [None, "no"]}
    pl.DataFrame(rows).write_parquet(path)
    monkeypatch.setattr(origin, "fetch", lambda file: path)
    items = load_task(TaskSpec(name="do-not-answer"), root_seed=1).items
    assert [(item.id, item.prompt, item.category) for item in items] == [
        ("7", "Same?", "a"),
        ("8", "Same?", "b"),
    ]
    without = load_task(TaskSpec(name="do-not-answer", id_column=None), root_seed=1).items
    assert without[1].id == f"{without[0].id}-2"


def test_gsm8k_keeps_the_number_after_the_hashes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small(monkeypatch, "gsm8k", 1)
    path = tmp_path / "test.jsonl"
    path.write_text('{"question": "How many?", "answer": "2 and 2 are <<2+2=4>>4\\n#### 1,004"}\n', "utf-8")
    spec = TaskSpec(name="gsm8k", data_dir=str(tmp_path))
    assert load_task(spec, root_seed=1).items[0].reference == "1,004"
    path.write_text('{"question": "How many?", "answer": "none ####  "}\n', "utf-8")
    with pytest.raises(DataError, match=r"line 1: 'answer' has nothing after its last ####"):
        load_task(spec, root_seed=1)


def test_another_reference_is_another_hash(tmp_path: Path) -> None:
    path, hashes = tmp_path / "t.jsonl", set[str]()
    for answer in ("1", "2"):
        path.write_text(json.dumps({"id": "a", "prompt": "p", "category": "c", "answer": answer}), "utf-8")
        spec = TaskSpec(name="t", file=str(path), intent=Intent.BENIGN, reference_column="answer")
        hashes.add(load_task(spec, root_seed=1).sha256)
    hashes.add(load_task(TaskSpec(name="t", file=str(path), intent=Intent.BENIGN), root_seed=1).sha256)
    assert len(hashes) == 3


def test_a_pinned_hash_of_the_items() -> None:
    task = load_task(TaskSpec(name="mini-harm"), root_seed=1)
    assert load_task(TaskSpec(name="mini-harm", sha256=task.sha256), root_seed=1) == task
    with pytest.raises(DataError, match=rf"have the SHA-256 {task.sha256}, but the study expects {'0' * 64}"):
        load_task(TaskSpec(name="mini-harm", sha256="0" * 64), root_seed=1)


def test_a_gated_one_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import GatedRepoError

    def refuse(*args: Any, **keys: Any) -> str:
        raise GatedRepoError("403", response=_Response())

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with pytest.raises(DataError, match=r"sorry-bench-202406 is gated, and this account has no access") as e:
        load_task(TaskSpec(name="sorry-bench-202406"), root_seed=1)
    page = "https://huggingface.co/datasets/sorry-bench/sorry-bench-202406"
    assert e.value.remedy == f"accept its terms at {page} and set HF_TOKEN, or give a local copy"
    with pytest.raises(DataError, match=r"aftertune knows no commit of sorry-bench/sorry-bench-2025") as e:
        load_task(TaskSpec(name="sorry-bench-202503"), root_seed=1)
    assert "accept its terms at https://huggingface.co/datasets/sorry-bench/" in e.value.remedy
    assert "write revision: the commit" in e.value.remedy


class _Response:
    """As much of an HTTP answer as the hub's errors read."""

    headers: ClassVar[dict[str, str]] = {}
    request = None
    status_code = 403


def test_the_studys_revision_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []
    small(monkeypatch, "sorry-bench-202503", 1)
    path = tmp_path / "question.jsonl"
    path.write_text('{"question_id": 1, "category": "1", "turns": ["Ask?"]}', encoding="utf-8")

    def download(repo: str, name: str, **keys: Any) -> str:
        asked.append((repo, name, keys))
        return str(path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    task = load_task(TaskSpec(name="sorry-bench-202503", revision="a" * 40), root_seed=1)
    keys = {"repo_type": "dataset", "revision": "a" * 40}
    assert asked == [("sorry-bench/sorry-bench-202503", "question.jsonl", keys)]
    assert "sorry-bench/sorry-bench-202503@aaaaaaaaaaaa, question.jsonl" in task.source


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"name": "advbench", "revision": "a" * 40},
            r"is fetched at the commit in .*revision is 'aaa",
        ),
        ({"name": "mini-harm", "revision": "a" * 40}, r"'mini-harm' is packaged, .* its revision, 'aaa"),
        ({"name": "mini-harm", "data_dir": "/x"}, r"'mini-harm' is packaged, .* gives its data_dir, '/x'"),
        (
            {"name": "advbench", "intent": Intent.BENIGN},
            r"is harmful, but the study calls it benign",
        ),
        ({"name": "adv-bench"}, r"there is no task called 'adv-bench'\n  → did you mean 'advbench'\?"),
        ({"name": "mine", "file": "/nowhere.csv"}, r"task 'mine' comes from a file\n  → write its intent"),
        ({"name": "advbench", "file": "/nowhere.csv"}, r"task 'advbench': cannot read /nowhere.csv"),
        ({"name": "advbench", "data_dir": "/nowhere"}, r"/nowhere does not hold harmful_behaviors.csv"),
    ],
)
def test_what_cannot_be_loaded(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_task(TaskSpec(**keys), root_seed=1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("target\nx\n", r"has no column 'goal' \(prompt_column\)"),
        ("goal,target\nWrite,x\n ,y\n", r"line 3: 'goal' is empty"),
        ("goal,target\n", r"has no rows"),
        ("goal,target\nWrite\n", r"line 2: 1 cells under 2 columns"),
        (b"goal,target\ncaf\xe9,x\n", r"is not UTF-8 text"),
    ],
)
def test_a_bad_copy_of_a_benchmark(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "harmful_behaviors.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message):
        load_task(TaskSpec(name="advbench", data_dir=str(tmp_path)), root_seed=1)


def test_equal_ids_in_a_copy_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small(monkeypatch, "simple-safety-tests", 2)
    path = tmp_path / "t.csv"
    path.write_text("id,harm_area,prompts_final\na,x,one\na,x,two\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"the id 'a' stands on lines 2 and 3"):
        load_task(TaskSpec(name="simple-safety-tests", data_dir=str(path)), root_seed=1)


def test_a_folder_of_tables_is_one_table(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"prompt": f"of {name}"}), encoding="utf-8")
    (tmp_path / "SOURCE.txt").write_text("not a table", encoding="utf-8")
    keys: dict[str, Any] = {"id_column": None, "category_column": "file", "intent": Intent.BENIGN}
    items = load_task(TaskSpec(name="t", file=str(tmp_path), **keys), root_seed=1).items
    assert [(item.category, item.prompt) for item in items] == [("a", "of a"), ("b", "of b")]
    (tmp_path / "c.csv").write_text("prompt\nx\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"holds tables of several formats \(\.csv, \.jsonl\)"):
        load_task(TaskSpec(name="t", file=str(tmp_path), **keys), root_seed=1)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match=r"the folder .*empty holds no table"):
        load_task(TaskSpec(name="t", file=str(empty), **keys), root_seed=1)


def test_a_study_is_the_same_after_it_was_written_and_read_again(tmp_path: Path) -> None:
    """Columns that the study leaves to the benchmark stay so: a dumped default must not count as written."""
    content = {
        "name": "s",
        "model": "m",
        "tasks": [
            {"name": "advbench", "data_dir": "copies"},
            {"name": "xstest-safe", "file": "x.csv", "id_column": None},
        ],
        "decodings": {"greedy": {"temperature": 0, "max_tokens": 8}},
        "judges": ["refusal-rules"],
    }
    study = parse_study(content, source="s.yaml", folder=tmp_path)
    again = Study.model_validate_json(study.model_dump_json(by_alias=True))
    assert again == study
    assert again.tasks[0].data_dir == str(tmp_path / "copies")
    assert [task.model_fields_set for task in again.tasks] == [
        {"name", "data_dir"},
        {"name", "file", "id_column"},
    ]


def test_a_cell_of_a_csv_may_hold_anything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small(monkeypatch, "or-bench-hard", 1)
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["prompt", "category"], ['["not", "turns"]\n\x1b[2J', "x"]])
    (tmp_path / "or-bench-hard-1k.csv").write_text(buffer.getvalue(), encoding="utf-8")
    item = load_task(TaskSpec(name="or-bench-hard", data_dir=str(tmp_path)), root_seed=1).items[0]
    assert item.prompt == '["not", "turns"]\n\x1b[2J'
