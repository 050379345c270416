"""The engine's contract: prompts, ends, limits, identity; transformers' generate as a second opinion."""

import json
import warnings
from collections import Counter

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from aftertune.engines.batch import Batch
from aftertune.engines.loading import context_length, load_model
from aftertune.engines.transformers import TransformersEngine
from aftertune.errors import EngineError, ModelError
from aftertune.records import Finish, ResponseStatus
from aftertune.study import Decoding
from engine_models import (
    ARCHITECTURES,
    END_TOKENS,
    GREEDY,
    PROMPTS,
    completed,
    open_at,
    requests_of,
    save_model,
)
from tiny import CHATML


@pytest.mark.parametrize("system", [None, "Be brief."])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_is_what_transformers_generates(architecture, system, tmp_path):
    path = save_model(tmp_path, architecture, dtype=torch.float32)
    engine = open_at(path, numerics="fast", dtype="float32", batch_rows=4)
    requests = requests_of(engine, decodings=[GREEDY], system=system)
    assert all((request.prompt.n_shared > 0) == (system is not None) for request in requests)
    got = completed(engine, requests)
    reference = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")
    for request in requests:
        ids = torch.tensor([request.prompt.token_ids])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out = reference.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=GREEDY.max_tokens
            )
        tokens = out[0, ids.shape[1] :].tolist()
        stopped = tokens[-1] in END_TOKENS
        tokens = tokens[:-1] if stopped else tokens
        completion = got[request.key]
        assert completion.text == engine.tokenizer.decode(tokens, skip_special_tokens=False)
        assert (completion.n_tokens, completion.finish) == (
            len(tokens),
            Finish.STOP if stopped else Finish.LENGTH,
        )


def use_end_tokens(path, tokens):
    file = path / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token_id": tokens}))


def test_one_token_and_an_end_token_at_once(tmp_path):
    path = save_model(tmp_path)
    one = Decoding(temperature=0, max_tokens=1)
    engine = open_at(path)
    [(_, completion)] = completed(engine, requests_of(engine, ["Hi"], [one])).items()
    assert (completion.n_tokens, completion.finish, completion.status) == (
        1,
        Finish.LENGTH,
        ResponseStatus.OK,
    )
    first = engine.tokenizer(completion.text, add_special_tokens=False)["input_ids"]
    use_end_tokens(path, [2, *range(399, 256, -1), *first])
    engine = open_at(path)
    for decoding in (one, GREEDY):
        [(_, completion)] = completed(engine, requests_of(engine, ["Hi"], [decoding])).items()
        assert (completion.text, completion.n_tokens, completion.finish) == ("", 0, Finish.STOP)
        assert (completion.status, completion.reason) == (ResponseStatus.EMPTY, "no text in 0 tokens")


def test_a_model_without_an_end_token_is_refused(tmp_path):
    path = save_model(tmp_path, eos_token_id=None)
    use_end_tokens(path, None)
    engine = open_at(path)
    with pytest.raises(ModelError, match="names no end token"):
        completed(engine, requests_of(engine, ["Hi"]))


def test_a_template_that_writes_the_bos_gets_no_second_one(tmp_path):
    path = save_model(tmp_path, adds_bos=True, template={"chat_template": "{{ bos_token }}" + CHATML[0:]})
    engine = open_at(path)
    assert engine.tokenizer("x")["input_ids"][0] == 1  # left to itself the tokenizer adds one
    prompt = engine.render("Hi", "Be brief.")
    assert prompt.text.startswith("<|im_start|><|im_start|>system\nBe brief.<|im_end|>\n")
    assert prompt.token_ids[:3] == (
        1,
        1,
        *engine.tokenizer("system", add_special_tokens=False)["input_ids"][:1],
    )
    assert len(prompt.sha256) == 64
    assert engine.render("Hi", "Be brief.") == prompt
    assert engine.render("Hi", None).sha256 != prompt.sha256


def test_requests_of_one_prompt_share_a_prefill(model_of, monkeypatch):
    engine = open_at(model_of())
    n_read = []
    read = TransformersEngine.read

    def spy(self, step):
        n_read.append(sum(span_of > 1 for span_of in Counter(step.reading.rows.tolist()).values()))
        return read(self, step)

    monkeypatch.setattr(TransformersEngine, "read", spy)
    requests = requests_of(engine, repeats=3)
    completed(engine, requests)
    assert sum(n_read) == len(PROMPTS) < len(requests)


def test_what_the_template_puts_before_all_prompts_is_shared(model_of):
    engine = open_at(model_of())
    prompts = [engine.render(text, "Be brief.") for text in PROMPTS]
    [n] = {prompt.n_shared for prompt in prompts}
    assert n >= 8
    assert len({prompt.token_ids[:n] for prompt in prompts}) == 1
    assert len({prompt.token_ids[n] for prompt in prompts}) > 1
    assert engine.render(PROMPTS[0], "Be long and clear.").token_ids[:n] != prompts[0].token_ids[:n]


def test_what_does_not_fit_the_context_is_refused(model_of):
    engine = open_at(model_of())
    fits = 512 - len(engine.render("Hi", None).token_ids)
    decoding = Decoding(temperature=0, max_tokens=fits)
    assert len(completed(engine, requests_of(engine, ["Hi"], [decoding]))) == 1
    decoding = Decoding(temperature=0, max_tokens=fits + 1)
    with pytest.raises(EngineError, match="513 positions; the model has 512"):
        completed(engine, requests_of(engine, ["Hi"], [decoding]))


@pytest.mark.parametrize(
    ("architecture", "changes", "expected"),
    [
        ("Llama", {}, 512),
        ("Gemma2", {"sliding_window": 64}, 64),
        ("Mistral", {"sliding_window": 100}, 100),
        ("Mistral", {"sliding_window": None}, 512),
        ("Qwen2", {"sliding_window": 32, "use_sliding_window": False}, 512),
        ("Qwen2", {"sliding_window": 32, "use_sliding_window": True}, 32),
    ],
)
def test_a_sliding_window_is_the_limit(architecture, changes, expected, tmp_path):
    path = save_model(tmp_path, architecture, **changes)
    assert context_length(AutoConfig.from_pretrained(path)) == expected
    engine = open_at(path)
    decoding = Decoding(temperature=0, max_tokens=expected)
    with pytest.raises(EngineError, match=f"the model has {expected}"):
        completed(engine, requests_of(engine, ["Hi"], [decoding]))


def test_an_architecture_without_attention_or_a_context_is_refused():
    with pytest.raises(ModelError, match="bloom has no max_position_embeddings"):
        context_length(AutoConfig.for_model("bloom"))
    with pytest.raises(ModelError, match="linear_attention"):
        context_length(AutoConfig.for_model("qwen3_next"))


def test_exact_numerics_are_promised_only_where_they_hold(model_of):
    with pytest.raises(EngineError, match=r"in torch.float16, and needs bfloat16 or float32\n.*fast"):
        open_at(model_of(), dtype="float16")
    engine = open_at(model_of(), numerics="fast", dtype="float32")
    assert engine.identity["numerics"] == "fast"
    with pytest.raises(ModelError, match="torch sees no GPU"):
        open_at(model_of(), device="cuda")


def test_exact_with_a_mixture_of_experts_is_refused(tmp_path):
    path = save_model(tmp_path, "Mixtral", num_local_experts=2, num_experts_per_tok=1)
    engine = open_at(path)
    with pytest.raises(EngineError, match=r"exact cannot be promised here: the rows of mixtral.*\n.*fast"):
        completed(engine, requests_of(engine, ["Hi"]))
    for numerics in ("fast", None):
        engine = open_at(path, numerics=numerics)
        assert engine.identity["numerics"] == "fast"
        assert len(completed(engine, requests_of(engine, ["Hi"]))) == 3


def test_exact_on_a_gpu_is_refused(model_of, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(EngineError, match="exact was asked for on cuda"):
        open_at(model_of(), device="cuda", dtype="bfloat16")


def test_the_identity_names_all_that_can_change_a_byte(model_of, tmp_path):
    engine = open_at(model_of(), batch_rows=4)
    identity = engine.identity
    assert identity["base"] == engine.source.sha256
    assert {"loop_revision", "numerics", "dtype", "attention", "threads", "processor"} <= identity.keys()
    assert {"torch", "transformers", "peft", "tokenizers"} <= identity.keys()
    assert "batch_rows" not in identity
    assert open_at(model_of(), batch_rows=8).identity == identity
    assert open_at(model_of(), threads=2).identity != identity
    assert open_at(model_of("Qwen2")).identity != identity
    fast = [open_at(model_of(), numerics="fast", batch_rows=n).identity for n in (4, 8)]
    assert fast[0] != fast[1]


def with_norm(path, value):
    tensors = load_file(path / "model.safetensors")
    tensors["model.norm.weight"][0] = value
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    return path


def test_a_row_whose_logits_are_not_finite_is_a_failed_response(tmp_path):
    engine = open_at(with_norm(save_model(tmp_path), float("inf")))
    found = completed(engine, requests := requests_of(engine, ["Hi", "Ho"]))
    assert set(found) == {request.key for request in requests}
    for completion in found.values():
        assert (completion.status, completion.finish, completion.n_tokens) == ("failed", None, 0)
        assert completion.reason == "the logits of token 1 are not finite: did it diverge?"


def test_a_failed_row_leaves_its_neighbours_as_they_are(model_of, monkeypatch):
    engine = open_at(model_of())
    requests = requests_of(engine, PROMPTS[1:5])
    alone = completed(engine, requests)
    read, steps = TransformersEngine.read, []

    def spoilt(self, step):
        logits = read(self, step).clone()
        steps.append(step)
        if len(steps) == 3:  # the template's own, the prompts, and then the first step with rows alone
            logits[0] = float("nan")
        return logits

    monkeypatch.setattr(TransformersEngine, "read", spoilt)
    found = completed(engine, requests)
    failed = [completion for completion in found.values() if completion.status == "failed"]
    assert [completion.n_tokens for completion in failed] == [1]
    assert failed[0].text and alone[failed[0].key].text.startswith(failed[0].text)
    assert failed[0].reason.startswith("the logits of token 2 are not finite")
    others = found.keys() - {failed[0].key}
    assert {key: found[key] for key in others} == {key: alone[key] for key in others}


def test_a_model_that_lacks_weights_is_refused(tmp_path):
    path = save_model(tmp_path)
    tensors = load_file(path / "model.safetensors")
    del tensors["model.layers.1.self_attn.q_proj.weight"]
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 of the model's weights, first .*q_proj"):
        load_model(path, dtype=torch.bfloat16, device="cpu")
    (path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(path, dtype=torch.bfloat16, device="cpu")


def test_nothing_to_do_is_done_at_once(model_of):
    engine = open_at(model_of())
    assert completed(engine, []) == {}
    assert "base" not in vars(engine), "the model was loaded for nothing"


@pytest.fixture
def scarce(monkeypatch):
    """Memory for so many rows only; the numbers of rows that were tried."""
    tried = []

    def limit(most, error):
        start = Batch.run

        def run(self, requests):
            tried.append(self.size)
            for n, row in enumerate(start(self, requests)):
                yield row
                if self.size > most and n == 2:
                    raise error

        monkeypatch.setattr(Batch, "run", run)
        return tried

    return limit


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["cuda", "cpu"],
)
def test_fast_goes_on_with_half_the_rows_once(error, model_of, scarce):
    engine = open_at(model_of(), numerics="fast", batch_rows=8)
    requests = requests_of(engine, PROMPTS[:4])
    tried = scarce(4, error)
    got = [completion.key for completion in engine.complete(requests)]
    assert sorted(got) == sorted(request.key for request in requests), "a response was lost or drawn twice"
    assert tried == [8, 4]
    assert engine.reproducibility["batch_rows_used"] == 4
    engine = open_at(model_of(), numerics="fast", batch_rows=8)
    scarce(2, error)
    with pytest.raises(EngineError, match=r"out of memory with 4 batch rows.*\n.*batch_rows: 2"):
        completed(engine, requests)


def test_exact_stops_where_memory_does_not_suffice(model_of, scarce):
    engine = open_at(model_of(), batch_rows=8)
    scarce(4, torch.OutOfMemoryError("no memory"))
    with pytest.raises(EngineError, match=r"out of memory with 8 batch rows: no memory\n.*batch_rows: 4"):
        completed(engine, requests_of(engine, PROMPTS[:4]))


def test_another_fault_is_not_taken_for_a_lack_of_memory(model_of, scarce):
    engine = open_at(model_of(), numerics="fast", batch_rows=8)
    scarce(4, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        completed(engine, requests_of(engine, PROMPTS[:4]))


def test_a_token_that_the_model_does_not_know_is_refused(tmp_path):
    """A tokenizer of 400 tokens beside embeddings of 330: an IndexError while it generated, until 2026-12."""
    engine = open_at(save_model(tmp_path / "model", vocab_size=330))
    with pytest.raises(ModelError, match=r"a prompt holds the token '.*' \(3\d\d\), and .* knows 330 tokens"):
        engine.render("How many loaves?", None)
