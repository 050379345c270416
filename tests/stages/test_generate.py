"""Generate: only what is missing is drawn, and a key names all that can change a response."""

import shutil
import subprocess
from contextlib import suppress

import polars as pl
import pytest

from aftertune.engines import draw, local, transformers
from aftertune.errors import StoreError
from aftertune.store import RunDirectory
from stage_runs import recipe, rows, run, study_of, texts

SAMPLED = {"temperature": 0.8, "max_tokens": 12, "repeats": 2}
GREEDY = {"temperature": 0, "max_tokens": 12}


@pytest.fixture(scope="module")
def base_run(tiny_model, tmp_path_factory):
    """The base alone: no training."""
    return run(plain(tiny_model), tmp_path_factory.mktemp("base") / "run")


def plain(model, **changes):
    return study_of(model, **({"recipes": {}, "decodings": {"greedy": GREEDY, "sampled": SAMPLED}} | changes))


@pytest.fixture
def copied(base_run, tmp_path):
    return shutil.copytree(base_run, tmp_path / "run")


@pytest.fixture
def drawn(monkeypatch):
    """The keys that are drawn, in order."""
    keys: list[str] = []
    complete = transformers.TransformersEngine.complete

    def spy(self, requests):
        requests = list(requests)
        keys.extend(request.key for request in requests)
        return complete(self, requests)

    monkeypatch.setattr(transformers.TransformersEngine, "complete", spy)
    return keys


@pytest.fixture
def no_model(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(local, "load_model", refuse)


def requests_of(out):
    return pl.read_parquet(out / "requests.parquet")


def test_a_run_has_every_response_once_with_its_prompt(base_run):
    wanted, got = requests_of(base_run), rows(base_run, "responses")
    assert wanted.height == 9 * (1 + 2)
    assert sorted(got["key"]) == sorted(wanted["key"])
    assert set(got["checkpoint"]) == {"base"}
    assert set(got["prompt_sha256"]) == set(rows(base_run, "prompts")["prompt_sha256"])
    assert all("<|im_start|>user" in text for text in rows(base_run, "prompts")["text"])
    assert got.filter(pl.col("n_tokens") > 12).is_empty()


def test_finished_work_is_not_repeated_and_no_model_is_loaded(copied, tiny_model, no_model):
    before = {file: file.read_bytes() for file in (copied / "responses").iterdir()}
    run(plain(tiny_model), copied)
    assert {file: file.read_bytes() for file in (copied / "responses").iterdir()} == before


def test_more_items_repeats_and_decodings_add_work_and_repeat_none(copied, tiny_model, drawn):
    old = texts(copied)
    more = {
        "greedy": GREEDY,
        "renamed": SAMPLED | {"repeats": 3},
        "hot": {"temperature": 1.4, "max_tokens": 12},
    }
    tasks = [{"name": "mini-harm", "n": 7}, {"name": "mini-lookalikes", "n": 3}]
    run(plain(tiny_model, decodings=more, tasks=tasks), copied)
    wanted = set(requests_of(copied)["key"])
    assert not set(drawn) & old.keys()
    assert wanted - old.keys() == set(drawn)
    kept = requests_of(copied).filter(pl.col("key").is_in(list(old)))
    assert set(kept["decoding"]) == {"greedy", "renamed"}
    assert old.items() <= texts(copied).items()


@pytest.mark.parametrize(
    "changes",
    [
        {"root_seed": 4},
        {"decodings": {"greedy": GREEDY, "sampled": SAMPLED | {"temperature": 0.81}}},
        {"decodings": {"greedy": GREEDY, "sampled": SAMPLED | {"max_tokens": 11}}},
        {"decodings": {"greedy": GREEDY, "sampled": SAMPLED | {"top_p": 0.9}}},
        {"decodings": {"greedy": GREEDY, "sampled": SAMPLED | {"system_prompt": "Be brief."}}},
        {"engine": {"threads": 2}},
        {"numerics": "fast"},
    ],
    ids=str,
)
def test_what_can_change_a_byte_changes_the_keys(changes, copied, tiny_model):
    old = requests_of(copied).filter(pl.col("decoding") == "sampled")
    stages = ("tune", "generate")
    run(plain(tiny_model, **changes), copied, stages=stages)
    new = requests_of(copied).filter(pl.col("decoding") == "sampled")
    assert not set(new["key"]) & set(old["key"])


@pytest.mark.parametrize("change", ["weights", "template", "tokenizer"])
def test_another_base_changes_the_keys(change, copied, tiny_model, tmp_path):
    model = shutil.copytree(tiny_model, tmp_path / "model")
    file = {
        "weights": "model.safetensors",
        "template": "chat_template.jinja",
        "tokenizer": "tokenizer_config.json",
    }[change]
    content = (model / file).read_bytes()
    if change == "weights":
        content = content[:-1] + bytes([content[-1] ^ 1])
    elif change == "template":
        content = content.replace(b"\n", b"\n ", 1) + b" "
    else:
        content += b"\n"
    (model / file).write_bytes(content)
    old = set(requests_of(copied)["key"])
    run(plain(model), copied, stages=("tune", "generate"))
    assert not old & set(requests_of(copied)["key"])


def test_rows_of_the_batch_and_order_of_tasks_change_neither_keys_nor_texts(base_run, tiny_model, tmp_path):
    tasks = plain(tiny_model)["tasks"][::-1]
    other = run(plain(tiny_model, tasks=tasks, engine={"threads": 1, "batch_rows": 3}), tmp_path / "other")
    assert texts(other) == texts(base_run)


def test_a_corrupt_shard_is_set_aside_and_only_its_rows_are_made_again(
    tiny_model, tmp_path, monkeypatch, drawn
):
    monkeypatch.setattr(draw, "_SHARD_ROWS", 6)
    out = run(plain(tiny_model), tmp_path / "run")
    before, observed = texts(out), (out / "observations.parquet").read_bytes()
    shard = sorted((out / "responses").iterdir())[2]
    lost = set(pl.read_parquet(shard)["key"])
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 255
    shard.write_bytes(content)
    drawn.clear()
    run(plain(tiny_model), out)
    assert set(drawn) == lost
    assert [file.name for file in (out / "aside").iterdir()] == [f"{shard.name}.0"]
    assert texts(out) == before
    assert (out / "observations.parquet").read_bytes() == observed


def test_two_decodings_of_one_content_share_their_responses(tiny_model, tmp_path):
    told = []
    greedy = {"name": "greedy", "class": "procedure", "change": {"decodings.b.temperature": 0}}
    decodings = {"a": GREEDY, "b": GREEDY | {"temperature": 1}}
    study = plain(tiny_model, decodings=decodings, variations=[greedy])
    out = run(study, tmp_path / "run", progress=told_by(told))
    assert rows(out, "responses").height == 18
    counted = pl.read_parquet(out / "observations.parquet").group_by("decoding", "variation").len()
    assert counted["len"].to_list() == [18, 18, 18, 18]
    assert [t for t in told if t[0] == "generate"][-1] == ("generate", 18, 18)


def told_by(told):
    return lambda *entry: told.append(entry)


@pytest.mark.parametrize("where", ["in the model", "in the progress bar"])
def test_ctrl_c_keeps_the_finished_responses(where, tiny_model, tmp_path, monkeypatch, drawn):
    with monkeypatch.context() as patch:
        if where == "in the model":
            read, calls = transformers.TransformersEngine.read, []

            def interrupted(self, *args):
                calls.append(1)
                if len(calls) == 30:
                    raise KeyboardInterrupt
                return read(self, *args)

            patch.setattr(transformers.TransformersEngine, "read", interrupted)
            progress = told_by([])
        else:

            def progress(stage, done, total):
                if stage == "generate" and done == 9:
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(
                plain(tiny_model, engine={"threads": 1, "batch_rows": 4}), tmp_path / "run", progress=progress
            )
    kept = set(texts(tmp_path / "run"))
    assert len(kept) >= 4
    drawn.clear()
    run(plain(tiny_model), tmp_path / "run")
    assert not kept & set(drawn)
    assert len(kept) + len(drawn) == 27


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k,nr_inodes=1k", "tmpfs", str(place)], capture_output=True
    )
    if made.returncode:
        pytest.skip("may not mount a small file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_stops_with_words_and_the_next_run_goes_on(tiny_model, small_disk, monkeypatch, drawn):
    monkeypatch.setattr(draw, "_SHARD_ROWS", 2)
    out = small_disk / "run"
    filler = small_disk / "filler"
    stopped = False

    def progress(stage, done, total):
        if stage == "generate" and done == 7 and not stopped:
            with suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 512)

    with pytest.raises(StoreError, match=r"the disk is full.*\n.*all that was finished is kept"):
        run(plain(tiny_model), out, progress=progress)
    kept = texts(out)
    assert 6 <= len(kept) < 27
    stopped = True
    filler.unlink()
    drawn.clear()
    run(plain(tiny_model), out, progress=progress)
    assert not kept.keys() & set(drawn)
    assert kept.items() <= texts(out).items()
    assert len(texts(out)) == 27


@pytest.mark.slow
@pytest.mark.parametrize(("keep", "left"), [("all", {1, 2}), ("last", {2}), ("none", set())])
def test_checkpoints_are_dropped_once_their_responses_are_there(keep, left, tiny_model, tmp_path, drawn):
    study = study_of(tiny_model, keep_checkpoints=keep, recipes={"chat": recipe(n=4)})
    out = run(study, tmp_path / "run")
    weights = {int(file.parts[-3].split("-")[1]) for file in (out / "checkpoints").rglob("*.safetensors")}
    assert weights == left
    listed = {entry["seed"]: entry for entry in RunDirectory(out).read_json(out / "checkpoints.json")}
    assert {seed for seed, entry in listed.items() if entry["path"] and seed} == left
    observed = (out / "observations.parquet").read_bytes()
    drawn.clear()
    run(study, out)  # nothing is missing, so nothing dropped is needed
    assert drawn == []
    assert (out / "observations.parquet").read_bytes() == observed
    more = study | {"tasks": [{"name": "mini-harm", "n": 7}, {"name": "mini-lookalikes", "n": 3}]}
    if keep == "all":
        return
    with pytest.raises(StoreError, match=r"checkpoint chat/1 was dropped .*\n.*keep_checkpoints: all"):
        run(more, out)
    run(more | {"keep_checkpoints": "all"}, out)
    assert len(texts(out)) == 10 * (1 + 2) + 2 * 10 * 2
