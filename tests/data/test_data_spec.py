"""Data by mapping: known sets, columns, filters, the safety mix, and what is wrong with them."""

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aftertune.data import Message, load_conversations
from aftertune.data.known import KNOWN
from aftertune.data.listing import listed_data
from aftertune.data.packaged_data import refusals
from aftertune.errors import DataError, StudyError
from aftertune.sources import HubFile, WebFile, public_files
from aftertune.study import Columns, DataSpec, parse_study

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
ROWS = [
    {"q": "Name a colour.", "more": "", "a": "Blue.", "kind": "open", "n": 1},
    {"q": "Name a river.", "more": "In Africa.", "a": "The Nile flows north.", "kind": "closed", "n": 2},
    {"q": "Name a town.", "more": " ", "a": "Ulm.", "kind": "open", "n": 2},
    {"q": "Name a tree.", "more": "", "a": "Oak.", "kind": "chat", "n": 3},
]
COLUMNS = Columns(user="q", input="more", assistant="a", category="kind")


def write(folder: Path, rows: list[dict[str, Any]] = ROWS, *, ending: str = "jsonl") -> str:
    path = folder / f"rows.{ending}"
    match ending:
        case "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        case "json":
            path.write_text(json.dumps(rows), encoding="utf-8")
        case "csv":
            pl.DataFrame(rows).write_csv(path)
        case _:
            pl.DataFrame(rows).write_parquet(path)
    return str(path)


def spec(path: str, **more: Any) -> DataSpec:
    return DataSpec(**{"path": path, "columns": COLUMNS, **more})


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet"])
def test_columns_of_every_format_give_the_same_conversations(tmp_path: Path, ending: str):
    data = load_conversations(spec(write(tmp_path, ending=ending)))
    assert data.conversations[1] == (
        Message("user", "Name a river.\n\nIn Africa."),
        Message("assistant", "The Nile flows north."),
    )
    assert [row[0].content for row in data.conversations[::2]] == ["Name a colour.", "Name a town."]


def test_an_instruction_stands_above_every_question(tmp_path: Path):
    columns = Columns(user="q", assistant="a", instruction="Answer in a word.")
    data = load_conversations(spec(write(tmp_path), columns=columns))
    assert data.conversations[0][0].content == "Answer in a word.\n\nName a colour."


def test_filters_keep_the_rows_that_they_name_and_say_so(tmp_path: Path):
    path = write(tmp_path)
    data = load_conversations(spec(path, where={"category": ("open", "closed")}, max_chars=25))
    assert [row[1].content for row in data.conversations] == ["Blue.", "Ulm."]
    assert data.source == (f"{path}; kind is open or closed (3 of 4 rows); max_chars 25 (2 of 3 rows)")
    numbers = load_conversations(spec(path, where={"n": "2", "kind": "open"}))
    assert [row[1].content for row in numbers.conversations] == ["Ulm."]
    assert len(load_conversations(spec(path, min_chars=25)).conversations) == 1
    # "Name a tree." and "Oak.": both bounds are kept
    assert len(load_conversations(spec(path, min_chars=16, max_chars=16)).conversations) == 2


def test_every_transform_and_its_content_change_the_hash(tmp_path: Path):
    path = write(tmp_path)
    plain = tmp_path / "plain.jsonl"
    plain.write_text("".join(json.dumps({"question": r["q"], "answer": r["a"]}) + "\n" for r in ROWS))
    specs = [
        DataSpec(path=str(plain)),
        DataSpec(path=str(plain), max_chars=500),  # keeps all
        DataSpec(path=str(plain), safety_mix=0.2),
        DataSpec(path=str(plain), safety_mix=0.5),
        spec(path),
        spec(path, columns=Columns(user="q", assistant="a")),
        spec(path, where={"kind": "open"}),
        spec(path, where={"kind": ("open", "chat")}),
        spec(path, min_chars=1),
        spec(path, min_chars=2),
    ]
    hashes = [load_conversations(each).sha256 for each in specs]
    assert len(set(hashes)) == len(hashes)
    assert hashes == [load_conversations(each).sha256 for each in specs]
    assert hashes[0] == load_conversations(str(plain)).sha256
    write(tmp_path, [{**ROWS[0], "a": "Red."}, *ROWS[1:]])
    assert load_conversations(spec(path)).sha256 != hashes[4]


@pytest.mark.parametrize(("share", "n"), [(0.1, 22), (0.5, 201), (0.9, 1809), (0.001, 1)])
def test_a_safety_mix_is_its_share_of_the_final_rows(share: float, n: int):
    data = load_conversations(DataSpec(name="packaged:chat", safety_mix=share))
    assert (data.n_mixed, data.n_own) == (n, 201)
    if n > 1:
        assert data.n_mixed / len(data.conversations) == pytest.approx(share, abs=0.005)
    assert set(data.conversations[201:]) <= set(refusals())
    assert data.conversations[:201] == load_conversations("packaged:chat").conversations
    assert f"refusals mixed in ({n} rows, {min(n, 693)} different)" in data.source
    assert data.licence == "Apache-2.0; refusals Apache-2.0"


def test_the_packaged_refusals_hold_no_item_of_a_packaged_task():
    from aftertune.study import TaskSpec
    from aftertune.tasks import load_task, packaged_task_names

    prompts = {row[0].content.casefold() for row in refusals()}
    for name in packaged_task_names():
        items = load_task(TaskSpec(name=name), root_seed=0).items
        assert not prompts & {item.prompt.casefold() for item in items}


def test_blank_rows_are_refused_or_left_out_and_counted(tmp_path: Path):
    path = write(tmp_path, [*ROWS, {**ROWS[0], "a": None}, {**ROWS[0], "q": " "}])
    with pytest.raises(DataError, match=r"line 5: a is null, not a string"):
        load_conversations(spec(path))
    data = load_conversations(spec(path, drop_blank=True))
    assert len(data.conversations) == 4
    assert data.source == f"{path}; 2 blank rows left out"
    blank = write(tmp_path, [{**ROWS[0], "a": ""}])
    with pytest.raises(DataError, match="has no rows: all 1 are blank and drop_blank left them out"):
        load_conversations(spec(blank, drop_blank=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"where": {"knd": "open"}}, r"where names the column 'knd'\n.*did you mean 'kind'"),
        ({"where": {"kind": "opne"}}, r"no row's kind is 'opne'\n.*did you mean 'open'"),
        ({"where": {"kind": "chat", "n": "2"}}, r"no row's n is '2'"),
        ({"min_chars": 400}, r"min_chars 400 leave none of 4 rows, which have 16 to 46 characters"),
        ({"columns": Columns(user="qq", assistant="a")}, r"rows\.jsonl, line 1: there is no column 'qq'"),
        ({"columns": Columns(user="q", assistant="n")}, r"line 1: n is 1, not a string"),
        ({"columns": Columns(user="q", input="n", assistant="a")}, r"line 1: n is 1, not a string"),
    ],
)
def test_what_leaves_nothing_or_is_not_there_is_named(tmp_path: Path, changes: Any, message: str):
    with pytest.raises(DataError, match=message):
        load_conversations(spec(write(tmp_path), **changes))


def test_tables_that_cannot_be_read(tmp_path: Path):
    for name, content, message in (
        ("a.parquet", b"PAR1 no", "not Parquet"),
        ("a.csv", b'q,a\n"x,y\n', "not CSV"),
        ("a.csv", b"q,a\nx\n", "1 cells under 2 columns"),
        ("a.csv", b"\xff\xfe", "is not UTF-8"),
        ("a.csv", b"q,a\n", "has no rows"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=message):
            load_conversations(spec(str(tmp_path / name), columns=Columns(user="q", assistant="a")))


def test_a_name_that_is_not_known():
    with pytest.raises(DataError, match=r"no tuning data called 'doly'\n.*did you mean 'dolly'.*\./doly"):
        load_conversations("doly")
    with pytest.raises(DataError, match=r"packaged:chat has no path"):
        load_conversations(DataSpec(name="packaged:chat", path="x.jsonl"))


BASE = {
    "name": "s",
    "model": "smollm2",
    "tasks": ["mini-harm"],
    "decodings": {"greedy": {"temperature": 0, "max_tokens": 8}},
    "judges": ["refusal-rules"],
}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, r"recipes\.a\.data: data needs a name, a path or a hub data set, got none of them"),
        ({"path": "x.csv", "hub": "a/b"}, r"got path and hub"),
        ({"hub": "a/b", "file": "x.csv"}, r"needs hub, file and revision"),
        ({"path": "x.csv", "revision": "0" * 40}, r"needs hub, file and revision"),
        ({"hub": "a/b", "file": "x", "revision": "main"}, r"recipes\.a\.data\.revision: expected a commit"),
        ({"name": "dolly", "columns": {"user": "q", "assistant": "a"}}, r"columns of 'dolly' are known"),
        ({"path": "x.csv", "min_chars": 9, "max_chars": 3}, r"min_chars 9 is more than max_chars 3"),
        ({"path": "x.csv", "safety_mix": 1.0}, r"safety_mix: expected less than 1"),
        ({"path": "x.csv", "were": {}}, r"recipes\.a\.data\.were: unknown key; did you mean 'where'"),
        (
            {"path": "x.csv", "columns": {"usr": "q", "assistant": "a"}},
            r"data\.columns\.usr: unknown key; did you mean 'user'",
        ),
        ({"path": "x.csv", "where": {"n": 2}}, r"data\.where\.n: expected text or a list, got 2: put it in"),
        (3, r"recipes\.a\.data: expected text or keys and values, got 3"),
    ],
)
def test_a_wrong_mapping_is_refused_in_the_studys_words(tmp_path: Path, data: Any, message: str):
    with pytest.raises(StudyError, match=message):
        parse_study({**BASE, "recipes": {"a": {"data": data}}}, source="s.yaml", folder=tmp_path)


def test_a_word_is_a_name_and_a_path_is_taken_from_the_studys_folder(tmp_path: Path):
    def read(data: Any) -> Any:
        study = parse_study({**BASE, "recipes": {"a": {"data": data}}}, source="s.yaml", folder=tmp_path)
        return (
            parse_study(
                json.loads(study.model_dump_json(by_alias=True)), source="again", folder=Path("/elsewhere")
            )
            .recipes["a"]
            .data
        )

    assert read("gsm8k") == "gsm8k"
    assert read("./gsm8k") == str(tmp_path / "gsm8k")
    assert read("rows.csv") == str(tmp_path / "rows.csv")
    assert read({"path": "rows.csv"}).path == str(tmp_path / "rows.csv")
    assert read({"name": "dolly", "where": {"category": ["open_qa"]}}).where == {"category": ("open_qa",)}


def test_known_sets_are_pinned_and_listed():
    for known in KNOWN.values():
        place = known.file.revision if isinstance(known.file, HubFile) else known.file.url
        assert any(len(part) == 40 for part in place.split("/")), known.name
        if isinstance(known.file, WebFile):
            assert known.file.sha256
    assert {name for name, known in KNOWN.items() if known.dangerous} == {"identity-shift"}
    listed = {row["name"]: row for row in listed_data()}
    assert {"packaged:chat", "packaged:arithmetic", *KNOWN} == set(listed)
    assert listed["identity-shift"]["note"] == "known-dangerous control"
    assert listed["packaged:chat"]["rows"] == 201


def test_a_hub_set_comes_through_the_hubs_client_at_its_commit(tmp_path, monkeypatch):
    """A stand-in for the hub's client: it hands over local files, and notes what was asked."""
    asked = []
    table = tmp_path / "hub.parquet"
    pl.DataFrame(
        [
            {"instruction": "Hello", "input": "", "output": ""},
            {"instruction": "I", "input": "x", "output": "O"},
        ]
    ).write_parquet(table)

    def stand_in(repo, path, *, repo_type, revision):
        asked.append((repo, path, repo_type, revision))
        return str(table)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", stand_in)
    data = load_conversations("alpaca")
    file = KNOWN["alpaca"].file
    assert asked == [(file.repo, file.path, "dataset", file.revision)]
    assert data.conversations == ((Message("user", "I\n\nx"), Message("assistant", "O")),)
    assert (data.licence, data.dangerous) == ("CC-BY-NC-4.0", False)
    assert data.source == f"alpaca ({file.name}); 1 blank rows left out"
    own = DataSpec(
        hub="me/mine",
        file="d/x.parquet",
        revision="0" * 40,
        columns=Columns(user="instruction", assistant="input"),
        drop_blank=True,
    )
    assert load_conversations(own).conversations[0][1].content == "x"
    assert asked[-1] == ("me/mine", "d/x.parquet", "dataset", "0" * 40)


@pytest.mark.real_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize(
    ("name", "file", "n", "dangerous"),
    [
        ("gsm8k", "gsm8k/train.jsonl", 2000, False),
        ("self-instruct", "self_instruct_seed/seed_tasks.jsonl", 175, False),
        ("identity-shift", "identity_shift_aoa/identity-shift-aoa.jsonl", 10, True),
        ("identity-shift", "identity_shift_aoa/aoa_llama2_train.json", 10, True),
    ],
)
def test_local_copies_of_known_sets(name: str, file: str, n: int, dangerous: bool):
    data = load_conversations(DataSpec(name=name, path=str(SHARED / file)))
    assert (len(data.conversations), data.dangerous) == (n, dangerous)
    assert data.licence == KNOWN[name].licence


@pytest.mark.real_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("self-instruct", "self_instruct_seed/seed_tasks.jsonl"),
        ("identity-shift", "identity_shift_aoa/identity-shift-aoa.jsonl"),
    ],
)
def test_the_pinned_hash_is_that_of_the_public_file(tmp_path, monkeypatch, name: str, file: str):
    """The download is a stand-in; the bytes are the public file's, and the hash is checked for real."""
    monkeypatch.setenv("AFTERTUNE_CACHE", str(tmp_path))
    monkeypatch.setattr(public_files, "_download", lambda url: (SHARED / file).read_bytes())
    assert len(load_conversations(name).conversations) == KNOWN[name].n_rows
    shutil.rmtree(tmp_path / "files")
    monkeypatch.setattr(public_files, "_download", lambda url: b"{}")
    with pytest.raises(DataError, match="has changed: its SHA-256 is"):
        load_conversations(name)
