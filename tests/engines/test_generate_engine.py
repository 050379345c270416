"""The generate engine: our own loop as a second opinion, whose numbers a row draws, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_engine import use_end_tokens, with_norm
from test_engine_adapters import save_adapter
from transformers import GenerationConfig

from aftertune import seeds
from aftertune.engines import generate, open_engine, open_local_engine
from aftertune.engines.generate import GenerateEngine
from aftertune.engines.loading import ModelSource, model_sha256
from aftertune.errors import EngineError, StudyError
from aftertune.records import Finish
from aftertune.study import Decoding, GenerateSpec, Study, parse_study
from engine_models import (
    ARCHITECTURES,
    END_TOKENS,
    GREEDY,
    PROMPTS,
    SAMPLED,
    completed,
    of_checkpoint,
    open_at,
    requests_of,
    save_model,
    tuned,
)
from stage_runs import rows, run, study_of

DISTINCT = tuple(dict.fromkeys(PROMPTS))
STUDY: dict[str, Any] = {
    "name": "small",
    "model": "smollm2-guarded",
    "tasks": ["mini-harm"],
    "decodings": {"greedy": {"temperature": 0, "max_tokens": 8}},
    "judges": ["refusal-rules"],
}


def opened(path: Path, **spec) -> GenerateEngine:
    source = ModelSource("tiny", path, model_sha256(path), "made in a test", "none")
    return GenerateEngine(source, GenerateSpec(**{"dtype": "float32"} | spec))


@pytest.fixture(scope="module")
def wide(tmp_path_factory) -> Path:
    """A tiny Llama saved in float32."""
    return save_model(tmp_path_factory.mktemp("wide"), dtype=torch.float32)


@pytest.fixture(scope="module")
def even(tmp_path_factory) -> Path:
    """A tiny Llama whose logits all are 0: its draws are the stream's numbers and nothing else."""
    return with_norm_of_zeros(save_model(tmp_path_factory.mktemp("even"), dtype=torch.float32))


def with_norm_of_zeros(path: Path) -> Path:
    tensors = load_file(path / "model.safetensors")
    tensors["model.norm.weight"].zero_()
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    return path


# What is the same.


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_alone_in_float32_every_text_is_that_of_our_own_loop(architecture: str, tmp_path: Path):
    path = save_model(tmp_path, architecture, dtype=torch.float32)
    ours = open_at(path, numerics="fast", dtype="float32")
    requests = requests_of(ours)
    expected = completed(ours, requests)
    finishes = {completion.finish for completion in expected.values()}
    assert finishes == {Finish.STOP, Finish.LENGTH}
    for attention in ("eager",) if architecture == "Gemma2" else ("sdpa", "eager"):
        engine = opened(path, batch_rows=1, attention=attention)
        assert completed(engine, requests) == expected, attention


def test_beside_others_in_float32_nearly_every_text_is_that_of_our_own_loop(wide: Path):
    ours = open_at(wide, numerics="fast", dtype="float32")
    requests = requests_of(ours)
    expected, got = completed(ours, requests), completed(opened(wide, batch_rows=5), requests)
    assert got.keys() == expected.keys()
    assert sum(got[key] != expected[key] for key in got) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"use_dora": True}], ids=str)
def test_base_adapters_and_full_checkpoints_take_turns(changes, wide: Path, tmp_path: Path):
    adapter = tuned(save_adapter(wide, tmp_path / "adapter", **changes))
    other = tuned(save_adapter(wide, tmp_path / "other", seed=2))
    full = tuned(save_model(tmp_path / "full", dtype=torch.float32, initializer_range=0.4), "full")
    ours, engine = open_at(wide, numerics="fast", dtype="float32"), opened(wide, batch_rows=1)
    base = requests_of(ours, PROMPTS[:3])
    expected = {c.label + c.kind: completed(ours, of_checkpoint(base, c)) for c in (adapter, full)}
    expected["base"] = completed(ours, base)
    assert completed(engine, of_checkpoint(base, adapter)) == expected["chat/1adapter"] != expected["base"]
    assert completed(engine, of_checkpoint(base, other)) != expected["chat/1adapter"]
    assert completed(engine, of_checkpoint(base, full)) == expected["chat/1full"] != expected["base"]
    assert completed(engine, base) == expected["base"]


def test_requests_stand_together_by_checkpoint_and_decoding_in_their_order(wide: Path, monkeypatch):
    engine, batches = opened(wide, batch_rows=3), []
    monkeypatch.setattr(GenerateEngine, "_drawn", lambda self, batch: batches.append(batch) or [])
    requests = requests_of(engine, PROMPTS[:4], repeats=1)
    assert completed(engine, requests) == {}
    kinds = [[request.decoding for request in batch] for batch in batches]
    assert kinds == [[GREEDY] * 3, [GREEDY], [SAMPLED] * 3, [SAMPLED]]
    in_order = [request.prompt.token_ids for batch in batches for request in batch]
    assert in_order == [engine.render(prompt, None).token_ids for prompt in PROMPTS[:4]] * 2


# Whose numbers a row draws.


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("batch_rows", [1, 5, 32])
def test_a_row_draws_the_numbers_of_its_own_stream_whatever_stands_beside_it(side, batch_rows, even: Path):
    decoding = Decoding(temperature=0.7, max_tokens=20)
    engine = opened(even, batch_rows=batch_rows, padding_side=side)
    requests = requests_of(engine, decodings=[decoding], repeats=3)
    torch.manual_seed(batch_rows)
    before = torch.random.get_rng_state()
    got = completed(engine, reversed(requests) if batch_rows == 5 else requests)
    assert torch.equal(torch.random.get_rng_state(), before)
    n_vocabulary = engine.base.config.vocab_size
    for request in requests:
        numbers = seeds.stream(request.root_seed, *request.stream).random(20)
        tokens = [int(number * n_vocabulary) for number in numbers]  # all are as likely
        end = next((at for at, token in enumerate(tokens) if token in END_TOKENS), None)
        completion = got[request.key]
        assert completion.text == engine.tokenizer.decode(tokens[:end], skip_special_tokens=False)
        assert completion.finish is (Finish.LENGTH if end is None else Finish.STOP)
    assert len({completion.text for completion in got.values()}) > len(PROMPTS)


def test_what_a_checkpoint_says_of_decoding_is_left_out(wide: Path, tmp_path: Path):
    path = save_model(tmp_path, dtype=torch.float32)
    config = GenerationConfig.from_pretrained(path)
    config.update(repetition_penalty=5.0, min_new_tokens=15, suppress_tokens=list(range(100)), do_sample=True)
    config.save_pretrained(path)
    plain = opened(wide)
    requests = requests_of(plain, PROMPTS[:3])
    assert completed(opened(path), requests) == completed(plain, requests)


# Padding.


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_right_padding_is_left_as_it_is(attention: str, wide: Path):
    one = Decoding(temperature=0, max_tokens=1)
    left, right = (opened(wide, attention=attention, padding_side=side) for side in ("left", "right"))
    requests = requests_of(left, DISTINCT, [one])
    lengths = torch.tensor([len(request.prompt.token_ids) for request in requests])
    mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
    ids = torch.full_like(mask, left.tokenizer.pad_token_id)
    for row, request in enumerate(requests):
        ids[row, : lengths[row]] = torch.tensor(request.prompt.token_ids)
    positions = torch.arange(mask.shape[1]) * mask
    with torch.inference_mode():
        logits = left.base(input_ids=ids, attention_mask=mask, position_ids=positions).logits
    at_the_end, at_the_last = logits[:, -1].argmax(-1), logits[range(len(ids)), lengths - 1].argmax(-1)

    def texts(tokens: torch.Tensor) -> list[str]:
        kept = [[] if token in END_TOKENS else [token] for token in tokens.tolist()]
        return [left.tokenizer.decode(row, skip_special_tokens=False) for row in kept]

    assert [c.text for c in completed(left, requests).values()] == texts(at_the_last)
    assert [c.text for c in completed(right, requests).values()] == texts(at_the_end)
    assert texts(at_the_end) != texts(at_the_last)


def test_only_padded_rows_suffer_from_right_padding(wide: Path):
    left, right = opened(wide), opened(wide, padding_side="right")
    requests = requests_of(left, DISTINCT, [GREEDY])
    longest = max(len(request.prompt.token_ids) for request in requests)
    whole, spoilt = completed(left, requests), completed(right, requests)
    changed = {r.key for r in requests if whole[r.key] != spoilt[r.key]}
    assert changed
    assert not changed & {r.key for r in requests if len(r.prompt.token_ids) == longest}
    alone = opened(wide, padding_side="right", batch_rows=1)
    assert completed(alone, requests) == completed(opened(wide, batch_rows=1), requests)


# Ends and faults.


def test_an_end_token_at_once_is_an_empty_response(wide: Path, tmp_path: Path):
    path = save_model(tmp_path, dtype=torch.float32)
    first = opened(path)
    requests = requests_of(first, ["Hi"], [Decoding(temperature=0, max_tokens=1)])
    [completion] = first.complete(requests)
    assert (completion.n_tokens, completion.finish) == (1, Finish.LENGTH)
    tokens = first.tokenizer(completion.text, add_special_tokens=False)["input_ids"]
    use_end_tokens(path, [2, *range(399, 256, -1), *tokens])
    [completion] = opened(path).complete(requests)
    assert (completion.text, completion.n_tokens, completion.finish) == ("", 0, Finish.STOP)
    assert (completion.status, completion.reason) == ("empty", "no text in 0 tokens")


def test_a_row_whose_logits_are_not_finite_is_a_failed_response(tmp_path: Path):
    engine = opened(with_norm(save_model(tmp_path), float("inf")))
    found = completed(engine, requests := requests_of(engine, ["Hi", "Ho"]))
    assert set(found) == {request.key for request in requests}
    for completion in found.values():
        assert (completion.status, completion.finish, completion.n_tokens) == ("failed", None, 0)
        assert completion.reason == "the logits of token 1 are not finite: did it diverge?"


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_a_fault_counts_for_its_row_and_only_before_its_end(decoding, wide: Path, monkeypatch):
    engine = opened(wide)
    requests = requests_of(engine, DISTINCT, [decoding])
    whole = completed(engine, requests)
    draw, step = generate._Drawing._tokens, 6

    def spoilt(self, scores, at):
        if at == step:
            scores[1:] = float("nan")  # all rows but the first
        return draw(self, scores, at)

    monkeypatch.setattr(generate._Drawing, "_tokens", spoilt)
    found = completed(engine, requests)
    untouched = {requests[0].key} | {
        key for key, c in whole.items() if c.n_tokens < step and c.finish is Finish.STOP
    }
    assert {key: found[key] for key in untouched} == {key: whole[key] for key in untouched}
    assert len(untouched) > 1
    failed = found.keys() - untouched
    assert failed
    for key in failed:
        assert (found[key].status, found[key].n_tokens, found[key].finish) == ("failed", step, None)
        assert found[key].reason.startswith(f"the logits of token {step + 1} are not finite")
        assert whole[key].text.startswith(found[key].text)


@pytest.mark.parametrize(
    ("batch_rows", "error", "remedy"),
    [
        (8, torch.OutOfMemoryError("CUDA out of memory"), r"lower engine.batch_rows: .*batch_rows: 4"),
        (8, RuntimeError("DefaultCPUAllocator: can't allocate memory"), r"lower engine.batch_rows"),
        (1, MemoryError("none"), "lower max_tokens and run again"),
    ],
    ids=["cuda", "cpu", "one row"],
)
def test_memory_that_does_not_suffice_stops(batch_rows, error, remedy, wide: Path, monkeypatch):
    def without_memory(self, batch):
        raise error

    monkeypatch.setattr(GenerateEngine, "_generate", without_memory)
    engine = opened(wide, batch_rows=batch_rows)
    with pytest.raises(EngineError, match=rf"out of memory with {batch_rows} batch rows.*\n.*{remedy}"):
        completed(engine, requests_of(engine, ["Hi"]))
    error = RuntimeError("shapes do not match")
    with pytest.raises(RuntimeError, match="shapes do not match"):
        completed(engine, requests_of(engine, ["Hi"]))


def test_what_cannot_be_used_is_refused(wide: Path, tmp_path: Path):
    engine = opened(wide)
    long = Decoding(temperature=0, max_tokens=512)
    with pytest.raises(EngineError, match="positions; the model has 512"):
        completed(engine, requests_of(engine, ["Hi"], [long]))
    idle = tuned(save_adapter(wide, tmp_path / "idle", init_lora_weights=True))  # B is zero
    with pytest.raises(EngineError, match="adapter checkpoint chat/1 does not change the logits"):
        completed(engine, requests_of(engine, ["Hi"], checkpoint=idle))
    with pytest.raises(EngineError, match="full checkpoint chat/1 does not change the logits"):
        completed(engine, requests_of(engine, ["Hi"], checkpoint=tuned(wide, "full")))
    strange = save_adapter(save_model(tmp_path / "large", hidden_size=96), tmp_path / "strange")
    with pytest.raises(EngineError, match=r"checkpoint chat/1: the adapter in .* does not fit its base"):
        completed(engine, requests_of(engine, ["Hi"], checkpoint=tuned(strange)))
    plain = completed(opened(wide), requests := requests_of(engine, ["Hi"]))
    assert completed(engine, requests) == plain, "a refusal left something behind"


def test_an_architecture_without_sdpa_is_refused_before_anything_is_loaded(model_of):
    with pytest.raises(EngineError, match=r"no sdpa attention for .* gemma2\n.*attention: eager"):
        opened(model_of("Gemma2"))
    assert opened(model_of("Gemma2"), attention="eager").attention == "eager"


# The study.


def test_the_identity_names_all_that_can_change_a_byte(wide: Path, model_of):
    identity = opened(wide).identity
    assert identity["engine"] == "generate"
    assert identity["base"] == model_sha256(wide)
    assert {"revision", "numerics", "processor", "torch", "transformers", "peft", "tokenizers"} <= set(
        identity
    )
    changes = {
        "batch_rows": 8,
        "attention": "eager",
        "padding_side": "right",
        "dtype": "bfloat16",
        "threads": 2,
    }
    for key, value in changes.items():
        assert opened(wide, **{key: value}).identity == {**identity, key: value}
        torch.set_num_threads(1)
    assert opened(wide, device="cpu").identity == identity
    said = opened(wide, batch_rows=8).reproducibility
    assert said["promise"].startswith("none: bytes may change with the rows beside a row")
    assert (said["batch_rows"], said["padding_side"], said["attention"]) == (8, "left", "sdpa")


def test_a_study_names_it(wide: Path):
    engine = {"name": "generate", "batch_rows": 1, "attention": "eager", "padding_side": "right"}
    content = {**STUDY, "model": str(wide), "engine": {**engine, "dtype": "float16"}}
    study = parse_study(content, source="s", folder=Path())
    assert study.engine == GenerateSpec(
        batch_rows=1, attention="eager", padding_side="right", dtype="float16"
    )
    assert Study.model_validate_json(study.model_dump_json(by_alias=True)) == study
    source = ModelSource("tiny", wide, "0" * 64, "", "")
    drawing = open_engine(study, lambda: source, local=pytest.fail)
    assert isinstance(drawing, GenerateEngine)
    assert drawing.identity["padding_side"] == "right"
    local = open_local_engine(study, source)
    assert (local.dtype, local.numerics) == (torch.float16, "fast")
    study = study.model_copy(update={"engine": GenerateSpec(dtype="bfloat16", device="cpu", threads=1)})
    local = open_local_engine(study, source)
    assert (local.dtype, local.numerics, local.spec.threads) == (torch.bfloat16, "exact", 1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"numerics": "exact"},
            "numerics: exact cannot be promised by transformers' generate: leave it out",
        ),
        (
            {"engine": {"name": "generate", "batch_rows": 0}},
            r"engine\.batch_rows: expected at least 1, got 0",
        ),
        ({"engine": {"name": "generate", "padding": "left"}}, r"padding: unknown key; .*'padding_side'"),
        ({"engine": {"name": "generate", "attention": "flash"}}, r"engine\.attention: .*'sdpa' or 'eager'"),
        ({"engine": {"padding_side": "left"}}, r"engine\.padding_side: unknown key"),
        ({"engine": {"name": "generat"}}, "no engine is called 'generat'; did you mean 'generate'"),
    ],
)
def test_a_wrong_study_is_refused_in_the_words_of_the_file(changes: Any, words: str):
    with pytest.raises(StudyError, match=words):
        parse_study({**STUDY, "engine": {"name": "generate"}, **changes}, source="s", folder=Path())


@pytest.mark.slow
def test_its_stages_tune_with_our_own_loop_and_draw_with_generate(tiny_model: Path, tmp_path: Path):
    changes: dict[str, Any] = {"numerics": "fast", "tasks": [{"name": "mini-harm", "n": 3}], "seeds": 1}
    engine = {"name": "generate", "dtype": "float32", "threads": 1, "batch_rows": 2}
    out = run(study_of(tiny_model, engine=engine, **changes), tmp_path / "run", stages=("tune", "generate"))
    responses = rows(out, "responses")
    assert responses.height == 3 * (2 + 3)  # of chat/1 two decodings, of the base one and two repeats
    assert set(responses["checkpoint"]) == {"base", "chat/1"}
    assert set(responses["status"]) <= {"ok", "empty"}
    before = sorted(path.name for path in (out / "responses").rglob("*.parquet"))
    run(study_of(tiny_model, engine=engine, **changes), out, stages=("tune", "generate"))
    assert sorted(path.name for path in (out / "responses").rglob("*.parquet")) == before
