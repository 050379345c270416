"""Tasks: packaged and from users' files, their filters, subsets, hashes and faults."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftertune.errors import DataError
from aftertune.records import Intent, Item
from aftertune.study import TaskSpec
from aftertune.tasks import items_sha256, load_task, packaged_task_names
from aftertune.tasks.subset import largest_remainder, stratified_subset

DATA = Path(__file__).parents[2].parent / "shared/data"


def spec(path: Path, **keys: Any) -> TaskSpec:
    return TaskSpec(**{"name": "mine", "file": str(path), "intent": Intent.HARMFUL, **keys})


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(
        tmp_path / "t.jsonl",
        [
            {"id": f"i{k}", "prompt": f"p{k}", "category": "ab"[k % 2], "kind": "xyz"[k % 3]}
            for k in range(12)
        ],
    )


def test_packaged_tasks_are_whole() -> None:
    sizes = {name: load_task(TaskSpec(name=name), root_seed=0) for name in packaged_task_names()}
    assert {name: (len(task.items), task.intent) for name, task in sizes.items()} == {
        "mini-harm": (120, Intent.HARMFUL),
        "mini-lookalikes": (60, Intent.BENIGN),
        "mini-numbers": (60, Intent.BENIGN),
    }
    assert all(item.reference for item in sizes["mini-numbers"].items)
    harm = sizes["mini-harm"]
    assert set(Counter(item.category for item in harm.items).values()) == {10}
    assert len({item.prompt for item in harm.items}) == 120
    assert (harm.source, harm.licence) == ("written for aftertune", "Apache-2.0")


def test_a_packaged_subset_takes_its_share_of_every_category() -> None:
    task = load_task(TaskSpec(name="mini-harm", n=60), root_seed=7)
    assert set(Counter(item.category for item in task.items).values()) == {5}


def test_a_users_file_by_column_names(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('\ufeffq,key,area\n"How,\nthen?",../../etc/passwd,a\nWhy?,é \u202e,b\n', encoding="utf-8")
    task = load_task(
        spec(path, prompt_column="q", id_column="key", category_column="area", source="us"), root_seed=0
    )
    assert task.items == (Item("../../etc/passwd", "How,\nthen?", "a"), Item("é \u202e", "Why?", "b"))
    assert (task.name, task.intent, task.source, task.licence) == ("mine", Intent.HARMFUL, "us", "not stated")


def test_without_id_and_category_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", [{"prompt": "one"}, {"prompt": "two"}])
    first, second = load_task(spec(path, id_column=None, category_column=None), root_seed=0).items
    assert (first.category, second.category) == ("all", "all")
    assert first.id == "7692c3ad3540bb80"
    assert first.id != second.id


def test_where_keeps_rows_that_have_every_value(file: Path) -> None:
    task = load_task(spec(file, where={"kind": "x", "category": "a"}), root_seed=0)
    assert [item.id for item in task.items] == ["i0", "i6"]


def test_the_hash_covers_intent_ids_prompts_categories_and_order() -> None:
    items = (Item("a", "b", "c"), Item("d", "e", "f"))
    variants = [
        (Intent.HARMFUL, items),
        (Intent.BENIGN, items),
        (Intent.HARMFUL, items[::-1]),
        (Intent.HARMFUL, items[:1]),
        (Intent.HARMFUL, (Item("x", "b", "c"), items[1])),
        (Intent.HARMFUL, (Item("a", "x", "c"), items[1])),
        (Intent.HARMFUL, (Item("a", "b", "x"), items[1])),
        (Intent.HARMFUL, (Item("ab", "", "c"), items[1])),
    ]
    hashes = {items_sha256(intent, content) for intent, content in variants}
    assert len(hashes) == len(variants)
    assert items_sha256(*variants[0]) == items_sha256(*variants[0])


def test_a_subset_depends_on_the_root_seed_alone(file: Path) -> None:
    drawn = load_task(spec(file, n=6), root_seed=1)
    np.random.seed(5)  # noqa: NPY002 the global generator must not matter
    assert load_task(spec(file, n=6), root_seed=1) == drawn
    others = {load_task(spec(file, n=6), root_seed=seed).sha256 for seed in range(8)}
    assert len(others) > 1


def subset_ids(items: tuple[Item, ...], n: int) -> set[str]:
    return {item.id for item in stratified_subset(items, n, root_seed=3, task="t")}


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6), data=st.data())
def test_laws_of_the_subset(sizes: list[int], data: st.DataObject) -> None:
    items = tuple(Item(f"{c}-{k}", "p", f"c{c}") for c, size in enumerate(sizes) for k in range(size))
    n = data.draw(st.integers(1, len(items)))
    drawn = stratified_subset(items, n, root_seed=3, task="t")
    assert len(drawn) == n
    assert list(drawn) == [item for item in items if item in set(drawn)]
    counts = Counter(item.category for item in drawn)
    for c, size in enumerate(sizes):
        assert abs(counts[f"c{c}"] - n * size / len(items)) < 1
    shuffled = tuple(data.draw(st.permutations(items)))
    assert subset_ids(shuffled, n) == {item.id for item in drawn}


def test_a_larger_n_and_another_category_keep_the_draws() -> None:
    items = tuple(Item(f"{c}{k}", "p", c) for c in "ab" for k in range(10))
    assert subset_ids(items, 6) < subset_ids(items, 12)
    more = (*items, *(Item(f"c{k}", "p", "c") for k in range(10)))
    assert subset_ids(items, 6) < subset_ids(more, 9)


def test_largest_remainder_by_hand() -> None:
    # Quotas 4.67, 3.33, 2.00 of 10: the one seat that is left goes to a.
    assert largest_remainder({"a": 7, "b": 5, "c": 3}, 10) == {"a": 5, "b": 3, "c": 2}
    assert largest_remainder({"b": 1, "a": 1, "c": 1}, 2) == {"a": 1, "b": 1, "c": 0}


@pytest.mark.parametrize(
    ("keys", "message", "remedy"),
    [
        ({"prompt_column": "promt"}, r"has no column 'promt' \(prompt_column\)", "did you mean 'prompt'?"),
        ({"id_column": "ids"}, r"has no column 'ids' \(id_column\)", "or write id_column: null"),
        (
            {"category_column": "zzz"},
            r"no column 'zzz'",
            "known: id, prompt, category, kind, or write category",
        ),
        ({"where": {"knd": "x"}}, r"no column 'knd' \(where\)", "did you mean 'kind'?"),
        (
            {"where": {"kind": "q"}},
            r"no row of .* is left with kind = 'q'",
            "values there are: 'x', 'y', 'z'",
        ),
        ({"where": {"kind": "x"}, "n": 5}, r"n is 5, but there are 4 items", "n: 4 or less"),
    ],
)
def test_faults_of_the_spec(file: Path, keys: dict[str, Any], message: str, remedy: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_task(spec(file, **keys), root_seed=0)
    assert remedy in caught.value.remedy


def test_faults_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*gone\.csv: No such file"):
        load_task(spec(tmp_path / "gone.csv"), root_seed=0)
    with pytest.raises(DataError, match=r"the folder .* holds no table"):
        load_task(spec(tmp_path), root_seed=0)
    empty = tmp_path / "e.csv"
    empty.write_text("id,prompt,category\n")
    with pytest.raises(DataError, match=r"e\.csv has no rows"):
        load_task(spec(empty), root_seed=0)
    row = {"id": "a", "prompt": "p", "category": "c"}
    twins = write(tmp_path / "d.jsonl", [row, {**row, "id": "b"}, row])
    with pytest.raises(DataError, match=r"the id 'a' stands on lines 1 and 3"):
        load_task(spec(twins), root_seed=0)
    with pytest.raises(DataError, match=r"stands on lines 1 and 2") as caught:
        load_task(spec(twins, id_column=None), root_seed=0)
    assert "the prompts are the same" in caught.value.remedy
    for column in row:
        for blank in ({column: " "}, {column: None}):
            holed = write(tmp_path / "h.jsonl", [row, {**row, "id": "b", **blank}])
            with pytest.raises(DataError, match=rf"h\.jsonl, line 2: '{column}' is empty"):
                load_task(spec(holed), root_seed=0)


def test_faults_of_the_name() -> None:
    with pytest.raises(DataError, match=r"there is no task called 'mini-harms'") as caught:
        load_task(TaskSpec(name="mini-harms"), root_seed=0)
    assert "did you mean 'mini-harm'?" in caught.value.remedy
    with pytest.raises(DataError, match=r"'mini-harm' is harmful, but the study calls it benign"):
        load_task(TaskSpec(name="mini-harm", intent=Intent.BENIGN), root_seed=0)


@pytest.mark.real_data
@pytest.mark.skipif(not DATA.exists(), reason="needs ../shared/data")
@pytest.mark.parametrize(
    ("keys", "total", "n_categories"),
    [
        (
            {
                "file": str(DATA / "harmbench/harmbench_behaviors_text_all.csv"),
                "intent": Intent.HARMFUL,
                "prompt_column": "Behavior",
                "id_column": "BehaviorID",
                "category_column": "SemanticCategory",
                "where": {"FunctionalCategory": "standard"},
            },
            200,
            6,
        ),
        (
            {
                "file": str(DATA / "xstest/xstest_prompts.csv"),
                "intent": Intent.BENIGN,
                "category_column": "type",
                "where": {"label": "safe"},
            },
            250,
            10,
        ),
    ],
)
def test_public_benchmarks_by_column_names(keys: dict[str, Any], total: int, n_categories: int) -> None:
    whole = load_task(TaskSpec(name="public", **keys), root_seed=2025)
    assert len(whole.items) == total
    hundred = load_task(TaskSpec(name="public", n=100, **keys), root_seed=2025)
    assert len(hundred.items) == 100
    assert set(hundred.items) < set(whole.items)
    sizes = Counter(item.category for item in whole.items)
    drawn = Counter(item.category for item in hundred.items)
    assert len(drawn) == n_categories
    assert all(abs(drawn[name] - 100 * size / total) < 1 for name, size in sizes.items())
    with Path(keys["file"]).open(encoding="utf-8-sig", newline="") as file:
        texts = {row[keys.get("prompt_column", "prompt")] for row in csv.DictReader(file)}
    assert {item.prompt for item in whole.items} <= texts
