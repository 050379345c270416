"""The demo's study, made small, through the real vLLM, beside the transformers engine (`make test-vllm`).

vLLM's kernels are not ours, so greedy texts part where two tokens are close; what is asserted is what must
hold anyhow. `VLLM_TEST_REPORT` names a file for the measured numbers.
"""

import importlib.util
import json
import os
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from aftertune.engines import open_engine, open_local_engine
from aftertune.engines.base import Completion, Engine, Request, make_request
from aftertune.engines.loading import resolve_model
from aftertune.errors import EngineError
from aftertune.pipeline import run_study
from aftertune.records import RESPONSE_COLUMNS, Checkpoint, CheckpointStatus
from aftertune.store import RunDirectory, content_key, read_shards
from aftertune.study import Study

_FOUND = importlib.util.find_spec("vllm")
pytestmark = [
    pytest.mark.skipif(
        _FOUND is None or _FOUND.origin is None, reason="vLLM is not installed here (make test-vllm)"
    ),
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("default"),  # vLLM's own
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """The demo's study with a few items, seeds and tokens, run from check to report."""
    content: dict[str, Any] = yaml.safe_load(
        (files("aftertune.commands") / "studies" / "demo.yaml").read_text(encoding="utf-8")
    )
    del content["numerics"]
    content |= {"seeds": 2, "engine": {"name": "vllm", "max_model_len": 512, "gpu_memory_utilization": 0.3}}
    content["recipes"]["chat"]["n"] = 16
    content["recipes"]["chat-self"] |= {"n": 8, "self_max_tokens": 16}
    for task, n in zip(content["tasks"], (4, 2, 2), strict=True):
        task["n"] = n
    content["decodings"]["greedy"]["max_tokens"] = 16
    content["decodings"]["sampled"] |= {"max_tokens": 16, "repeats": {"default": 1, "base": 2}}
    folder = tmp_path_factory.mktemp("demo")
    (folder / "demo.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    page = run_study(folder / "demo.yaml", folder / "run")
    assert page.is_file()
    return RunDirectory(folder / "run")


def study_of(run: RunDirectory) -> Study:
    return Study.model_validate_json(run.study_json.read_text(encoding="utf-8"))


def responses(run: RunDirectory) -> pl.DataFrame:
    return read_shards(run.responses, RESPONSE_COLUMNS, aside=run.aside)


def checkpoints(run: RunDirectory) -> list[Checkpoint]:
    return [Checkpoint.from_json(entry) for entry in run.read_json(run.checkpoint_list)]


def requests_of(
    run: RunDirectory, engine: Engine, decoding: str, *, of: list[Checkpoint], system: dict[str, Any]
) -> dict[tuple[str, str], Request]:
    """The first draw of every item, by checkpoint and item, under the identity `system`."""
    study = study_of(run)
    chosen = study.decodings[decoding]
    content = content_key(chosen.content())
    return {
        (checkpoint.label, item["item"]): make_request(
            checkpoint,
            engine.render(item["prompt"], chosen.system_prompt),
            chosen,
            root_seed=study.root_seed,
            stream=(str(checkpoint.sha256), item["task"], item["item"], content, 1),
            engine=system,
        )
        for checkpoint in of
        for item in run.read_table(run.items).iter_rows(named=True)
    }


def drawn(engine: Engine, requests: dict[tuple[str, str], Request]) -> dict[tuple[str, str], Completion]:
    by_key = {completion.key: completion for completion in engine.complete(requests.values())}
    return {place: by_key[request.key] for place, request in requests.items()}


def stored(run: RunDirectory, decoding: str) -> dict[tuple[str, str], dict[str, Any]]:
    rows = responses(run).filter(pl.col("decoding") == decoding, pl.col("repeat") == 1)
    return {(row["checkpoint"], row["item"]): row for row in rows.iter_rows(named=True)}


def vllm_of(run: RunDirectory) -> Engine:
    study = study_of(run)
    return open_engine(study, lambda: resolve_model(study.model), local=pytest.fail)


def report(**numbers: Any) -> None:
    path = os.environ.get("VLLM_TEST_REPORT")
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(numbers) + "\n")


def test_every_request_has_exactly_one_response(run: RunDirectory):
    found, asked = responses(run), run.read_table(run.requests)
    assert found["key"].n_unique() == len(found)
    assert set(found["key"]) == set(asked["key"])
    assert found["status"].is_in(["ok", "empty"]).all()
    assert set(found["finish"].unique()) <= {"stop", "length"}
    identity = run.read_manifest().recorded()["engine"]
    assert identity["engine"] == "vllm"
    assert identity["batch_invariant"] is False


def test_greedy_texts_beside_the_transformers_engine(run: RunDirectory):
    theirs = stored(run, "greedy")
    local = open_local_engine(study_of(run), resolve_model(study_of(run).model))
    requests = requests_of(run, local, "greedy", of=checkpoints(run), system=local.identity)
    ours = drawn(local, requests)
    assert theirs.keys() == ours.keys()
    n_equal, first_equal, parted = 0, 0, []
    for place, mine in ours.items():
        a = local.tokenizer(mine.text, add_special_tokens=False)["input_ids"]
        b = local.tokenizer(theirs[place]["text"], add_special_tokens=False)["input_ids"]
        shared = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        n_equal += mine.text == theirs[place]["text"]
        first_equal += shared > 0
        if mine.text != theirs[place]["text"]:
            parted.append(shared)
        else:  # the same text has the same count and end, so both engines count alike
            assert (mine.n_tokens, str(mine.finish)) == (theirs[place]["n_tokens"], theirs[place]["finish"])
    report(greedy=len(ours), equal=n_equal, first_token_equal=first_equal, parted_at=sorted(parted))
    assert first_equal >= 0.9 * len(ours)
    assert n_equal >= 0.3 * len(ours)


def test_adapters_act(run: RunDirectory):
    texts = stored(run, "greedy")
    items = {item for _, item in texts}
    for checkpoint in checkpoints(run)[1:]:
        changed = sum(texts["base", i]["text"] != texts[checkpoint.label, i]["text"] for i in items)
        assert changed >= 1, checkpoint.label


def test_the_same_requests_give_the_same_texts_and_the_base_is_free_of_adapters(run: RunDirectory):
    engine, base = vllm_of(run), checkpoints(run)[:1]
    again = {}
    for name in ("greedy", "sampled"):
        requests = requests_of(run, engine, name, of=base, system=engine.identity)
        again[name] = drawn(engine, requests)
    seeds_equal = []
    for name, completions in again.items():
        before = stored(run, name)  # drawn there in one batch with the adapters' requests
        same = [before[place]["text"] == done.text for place, done in completions.items()]
        assert all(before[place]["key"] == done.key for place, done in completions.items())
        seeds_equal.append(sum(same))
    report(base_alone_as_among_adapters=dict(zip(again, seeds_equal, strict=True)), of=len(again["greedy"]))
    # Without a promise of batch invariance the neighbours may move a close choice, but not most texts.
    assert min(seeds_equal) >= 0.5 * len(again["greedy"])
    requests = requests_of(run, engine, "sampled", of=base, system=engine.identity)
    assert {k: d.text for k, d in drawn(engine, requests).items()} == {
        k: d.text for k, d in again["sampled"].items()
    }


def test_a_full_checkpoint_has_a_vllm_of_its_own(run: RunDirectory, tmp_path: Path):
    from safetensors.torch import load_file, save_file

    engine, base = vllm_of(run), checkpoints(run)[0]
    folder = tmp_path / "full"
    shutil.copytree(str(base.path), folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] *= 0.5
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    full = Checkpoint("full", 1, "full", CheckpointStatus.OK, "", str(folder), "1" * 64)
    requests = requests_of(run, engine, "sampled", of=[full], system=engine.identity)
    some = dict(list(requests.items())[:3])
    assert all(done.status == "ok" for done in drawn(engine, some).values())


def broken(checkpoint: Checkpoint, folder: Path, *, zeros: bool = False, **config: Any) -> Checkpoint:
    from safetensors.torch import load_file, save_file

    shutil.copytree(str(checkpoint.path), folder)
    settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    (folder / "adapter_config.json").write_text(json.dumps(settings | config), encoding="utf-8")
    weights = load_file(folder / "adapter_model.safetensors")
    if zeros:
        weights = {name: tensor * 0 if "lora_B" in name else tensor for name, tensor in weights.items()}
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return Checkpoint("chat", 9, "adapter", CheckpointStatus.OK, "", str(folder), "9" * 64)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"zeros": True}, "chat/9 does not change the logits of its base"),
        ({"use_dora": True}, "chat/9: vLLM refuses the adapter .*DoRA"),
    ],
)
def test_adapters_that_cannot_be_used_are_named(run: RunDirectory, tmp_path: Path, how, words: str):
    engine, tuned = vllm_of(run), checkpoints(run)[1]
    found = broken(tuned, tmp_path / "broken", **how)
    requests = requests_of(run, engine, "greedy", of=[found], system=engine.identity)
    with pytest.raises(EngineError, match=words):
        drawn(engine, requests)


def test_what_ended_is_kept_where_vllm_is_killed(run: RunDirectory):
    import psutil

    engine, base = vllm_of(run), checkpoints(run)[:1]
    requests = requests_of(run, engine, "sampled", of=base, system=engine.identity)
    done = []
    with pytest.raises(EngineError, match="vLLM died"):
        for completion in engine.complete(requests.values()):
            done.append(completion)
            if len(done) == 1:
                for child in psutil.Process().children(recursive=True):
                    child.kill()
    assert 1 <= len(done) < len(requests)
