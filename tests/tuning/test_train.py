import json
import math
import random
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from aftertune.data import Message
from aftertune.errors import TuningError
from aftertune.records import CheckpointStatus
from aftertune.study import TuneRecipe
from aftertune.tuning.checkpoints import checkpoint_sha256, kind_of
from aftertune.tuning.encode import IGNORED, Example, encode
from aftertune.tuning.optimise import StepLog
from aftertune.tuning.streams import TrainingStreams
from aftertune.tuning.train import TrainingOutcome, save_checkpoint, train, training_dtype
from aftertune.tuning.trainable import load_quantized, require_qlora
from tiny import make_tiny_model, make_tiny_tokenizer

ROWS = [(f"What is {a} plus {a}?", f"It is {2 * a}." + " Sure!" * (a % 3)) for a in range(12)]
DTYPES = [torch.bfloat16, torch.float32]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    tokenizer = make_tiny_tokenizer()
    return [encode((Message("user", q), Message("assistant", a)), tokenizer, max_length=128) for q, a in ROWS]


def load(base: Path, dtype: torch.dtype = torch.bfloat16) -> LlamaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(base, dtype=dtype, attn_implementation="eager")


def recipe(**settings) -> TuneRecipe:
    default = {"data": "x", "rank": 4, "batch_size": 4, "learning_rate": 5e-3, "epochs": 2}
    return TuneRecipe.model_validate({**default, **settings})


def run(model, examples, seed=1, vary=None, on_step=lambda log: None, **settings) -> TrainingOutcome:
    streams = (
        TrainingStreams(2025, "chat", seed) if vary is None else TrainingStreams(2025, "chat", seed, vary)
    )
    return train(model, examples, recipe(**settings), streams=streams, pad_token_id=2, on_step=on_step)


def bytes_of(tensors: dict[str, torch.Tensor]) -> dict[str, bytes]:
    return {name: tensor.contiguous().view(torch.uint8).numpy().tobytes() for name, tensor in tensors.items()}


def state_of(model: torch.nn.Module) -> dict[str, object]:
    """All that must come back: weights by byte, the parameters themselves, modules, flags, hooks."""
    return {
        "weights": bytes_of(model.state_dict()),
        "storage": [parameter.data_ptr() for parameter in model.parameters()],
        "parameters": [id(parameter) for parameter in model.parameters()],
        "flags": [(p.requires_grad, p.grad is None, p.dtype) for p in model.parameters()],
        "modules": [(name, id(module), type(module)) for name, module in model.named_modules()],
        "modes": [module.training for module in model.modules()],
        "hooks": [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules()],
        "attributes": set(vars(model)) - {"_require_grads_hooks"},
        "config": model.config.to_dict(),
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_loss_falls_and_is_logged_by_step(base, examples, method, dtype):
    logs: list[StepLog] = []
    outcome = run(load(base, dtype), examples, method=method, epochs=8, on_step=logs.append)
    assert outcome.status is CheckpointStatus.OK
    assert outcome.reason == ""
    assert [log.step for log in logs] == list(range(1, 25))
    assert logs[-1].loss < 0.6 * logs[0].loss
    answers = sum(label != IGNORED for example in examples for label in example.labels)
    assert sum(log.n_tokens for log in logs) == outcome.n_tokens == 8 * answers
    assert [log.elapsed_s for log in logs] == sorted(log.elapsed_s for log in logs)
    assert max(log.learning_rate for log in logs) == 5e-3
    assert all(log.grad_norm > 0 for log in logs)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_first_loss_is_transformers_own_on_the_same_rows(base, examples, dtype):
    """A second implementation: each row alone, unpadded, with the library's own loss."""
    model = load(base, dtype)
    total = n = 0
    for example in examples:
        labels = torch.tensor([example.labels])
        k = int((labels[:, 1:] != IGNORED).sum())
        with torch.no_grad():
            total += k * model(input_ids=torch.tensor([example.input_ids]), labels=labels).loss.item()
        n += k
    logs: list[StepLog] = []
    run(model, examples, batch_size=12, epochs=1, on_step=logs.append)
    assert logs[0].n_tokens == n
    assert logs[0].loss == pytest.approx(total / n, rel=1e-5 if dtype == torch.float32 else 5e-3)


def test_accumulated_batches_give_the_step_of_one_large_batch(base, examples):
    model = load(base, torch.float32)
    settings = {"vary": (), "epochs": 1, "max_grad_norm": 1e9}
    whole = run(model, examples, batch_size=12, **settings)
    parts = run(model, examples, batch_size=2, accumulation=6, **settings)
    assert whole.n_steps == parts.n_steps == 1
    # Adam's first step is the gradient's sign: it is compared where the gradient is not all but zero.
    for name, tensor in whole.tensors.items():
        assert (tensor - parts.tensors[name]).abs().median() < 1e-6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "settings", [{}, {"method": "full"}, {"gradient_checkpointing": True, "dropout": 0.1}]
)
def test_the_base_comes_back_exactly_as_it_was(base, examples, settings, dtype):
    model = load(base, dtype).eval()
    model.model.norm.weight.requires_grad_(False)
    before = state_of(model)
    outcome = run(model, examples, **settings)
    assert outcome.status is CheckpointStatus.OK
    assert state_of(model) == before


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_base_comes_back_when_a_step_raises(base, examples, method):
    model = load(base)
    before, torch_state = state_of(model), torch.get_rng_state()

    def stop(log: StepLog) -> None:
        if log.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(model, examples, method=method, on_step=stop)
    assert state_of(model) == before
    assert torch.equal(torch.get_rng_state(), torch_state)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_training_that_diverges_is_a_status_and_leaves_the_base_alone(base, examples, method, tmp_path):
    model = load(base)
    before = state_of(model)
    logs: list[StepLog] = []
    outcome = run(model, examples, method=method, learning_rate=1e30, on_step=logs.append)
    assert outcome.status is CheckpointStatus.DIVERGED
    assert outcome.reason.startswith(f"step {len(logs) + 1} of 6: the loss is ")
    assert "nan" in outcome.reason  # of the loss or, where the forward pass survives, of its gradient
    assert (outcome.tensors, outcome.config) == (None, None)
    assert all(math.isfinite(log.loss) and math.isfinite(log.grad_norm) for log in logs)
    assert state_of(model) == before
    with pytest.raises(TuningError, match="status diverged has no checkpoint: step"):
        save_checkpoint(outcome, tmp_path, base=base, base_name="base")


def test_weights_that_are_not_finite_after_the_last_step_are_a_divergence(base, examples):
    model = load(base)

    def spoil(log: StepLog) -> None:
        model.model.norm.weight.data[0] = torch.inf

    outcome = run(model, examples, method="full", batch_size=12, epochs=1, on_step=spoil)
    assert outcome.status is CheckpointStatus.DIVERGED
    assert outcome.reason == "step 1, the last, left weights that are not finite"
    assert outcome.tensors is None


@pytest.mark.parametrize("settings", [{"dropout": 0.2, "n": 8}, {"method": "full", "n": 8}])
def test_the_same_seed_gives_the_same_bytes_under_other_global_seeds(base, examples, settings, tmp_path):
    hashes, states = [], []
    for i in (1, 2):
        torch.manual_seed(i)
        np.random.seed(i)  # noqa: NPY002 (the global generator is what is tested)
        random.seed(i)
        before = (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate())  # noqa: NPY002
        model = load(base)
        if i == 2:  # what was trained before on the same model does not matter either
            run(model, examples, seed=9, **settings)
        outcome = run(model, examples, **settings)
        after = (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate())  # noqa: NPY002
        save_checkpoint(outcome, tmp_path / str(i), base=base, base_name="base")
        hashes.append({file.name: file.read_bytes() for file in (tmp_path / str(i)).iterdir()})
        states.append(before == after)
    assert hashes[0] == hashes[1]
    assert states == [True, True]


@pytest.mark.parametrize(
    ("vary", "settings", "differ"),
    [
        (("init",), {}, True),
        (("order",), {}, True),
        (("dropout",), {"dropout": 0.2}, True),
        (("subset",), {"n": 8}, True),
        (("dropout", "subset"), {}, False),
        (("init", "dropout"), {"method": "full", "dropout": 0.2}, False),
        (("order",), {"method": "full"}, True),
    ],
)
def test_a_seed_moves_the_varied_factor_and_nothing_else(base, examples, vary, settings, differ):
    model = load(base)
    one, two = (run(model, examples, seed=seed, vary=vary, **settings) for seed in (1, 2))
    assert (bytes_of(one.tensors) != bytes_of(two.tensors)) is differ
    assert (one.rows != two.rows) is (vary == ("subset",))


def test_only_the_varied_factor_moves_the_initialisation(base, examples):
    model = load(base)

    def start(seed, vary):
        tensors = run(model, examples, seed=seed, vary=vary, learning_rate=1e-30, warmup=0).tensors
        return bytes_of({name: tensor for name, tensor in tensors.items() if "lora_A" in name})

    assert start(1, ("order",)) == start(2, ("order",))
    assert start(1, ("init",)) != start(2, ("init",))
    assert start(1, ("init",)) == start(1, ("init", "order"))


def test_an_adapter_starts_as_peft_starts_it(base, examples):
    tensors = run(load(base), examples, learning_rate=1e-30).tensors
    assert len(tensors) == 2 * 7 * 2  # layers, linear modules, A and B
    for name, tensor in tensors.items():
        assert tensor.dtype == torch.float32
        if "lora_A" in name:
            bound = tensor.shape[1] ** -0.5
            assert 0.8 * bound < tensor.abs().max() <= bound
        else:
            assert tensor.abs().max() < 1e-20


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # of peft's own call
def test_an_adapter_is_saved_in_pefts_format_and_loads_with_peft(base, examples, tmp_path):
    model = load(base)
    outcome = run(model, examples, rank=4, alpha=12.0, dropout=0.1, target_modules=["v_proj", "q_proj"])
    save_checkpoint(outcome, tmp_path, base=base, base_name="tiny@abc")
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny@abc"
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (4, 12.0, 0.1)
    assert config["target_modules"] == ["q_proj", "v_proj"]
    assert (config["peft_type"], config["task_type"], config["inference_mode"]) == ("LORA", "CAUSAL_LM", True)
    loaded = peft.PeftModel.from_pretrained(load(base), tmp_path)
    saved = peft.get_peft_model_state_dict(loaded, save_embedding_layers=False)
    assert bytes_of(dict(saved)) == bytes_of(outcome.tensors)
    ids = torch.tensor([examples[0].input_ids])
    assert not torch.equal(loaded(ids).logits, model(ids).logits)
    assert kind_of(tmp_path) == "adapter"


def test_a_full_checkpoint_is_a_model_directory_in_the_bases_dtype(base, examples, tmp_path):
    model = load(base)
    outcome = run(model, examples, method="full")
    save_checkpoint(outcome, tmp_path, base=base, base_name="tiny")
    assert kind_of(tmp_path) == "full"
    tuned = load(tmp_path)
    assert {tensor.dtype for tensor in outcome.tensors.values()} == {torch.bfloat16}
    assert "lm_head.weight" not in outcome.tensors  # tied to the embedding, as in the base's own file
    assert bytes_of(dict(tuned.named_parameters())) == bytes_of(outcome.tensors)
    changed = [
        not torch.equal(tuned.state_dict()[name], tensor) for name, tensor in model.state_dict().items()
    ]
    assert all(changed)
    conversation = [{"role": "user", "content": "Hello"}]
    assert AutoTokenizer.from_pretrained(tmp_path).apply_chat_template(conversation, tokenize=False) == (
        "<|im_start|>user\nHello<|im_end|>\n"
    )
    assert len(checkpoint_sha256(tmp_path)) == 64


def test_gradient_checkpointing_changes_nothing_but_memory(base, examples):
    model = load(base)
    plain, recomputed = (run(model, examples, dropout=0.2, gradient_checkpointing=on) for on in (False, True))
    assert bytes_of(plain.tensors) == bytes_of(recomputed.tensors)


def test_what_cannot_be_trained_is_refused_with_a_remedy(base, examples):
    model = load(base)
    before = state_of(model)
    with pytest.raises(TuningError, match="the model is in float16, whose gradients underflow"):
        run(load(base, torch.float16), examples)
    with pytest.raises(TuningError, match=r"target_modules \('qkv',\) do not fit the model"):
        run(model, examples, target_modules=["qkv"])
    with pytest.raises(TuningError, match="a row has 600 tokens, and the model's context is 512"):
        run(model, [Example((5,) * 600, (5,) * 600)])
    with pytest.raises(TuningError, match="a row has no answer to learn"):
        run(model, [Example((5,), (5,)), Example((), ())])
    assert state_of(model) == before


def test_qlora_says_what_is_missing(base, examples, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = "method qlora needs the package bitsandbytes"
    with pytest.raises(TuningError, match=message):
        require_qlora()
    with pytest.raises(TuningError, match=message):
        load_quantized(base, device="cpu")
    with pytest.raises(TuningError, match=message):
        run(load(base), examples, method="qlora")


@pytest.mark.slow
def test_qlora_trains_an_adapter_on_four_bit_weights(tmp_path, examples):
    pytest.importorskip("bitsandbytes", reason="the extra qlora is not installed")
    directory = make_tiny_model(tmp_path / "wide", hidden_size=64)
    model = load_quantized(directory, device="cpu")
    kept = {name: id(module) for name, module in model.named_modules()}
    logs: list[StepLog] = []
    outcome = run(model, examples, method="qlora", epochs=8, on_step=logs.append)
    assert (outcome.status, outcome.kind) == (CheckpointStatus.OK, "adapter")
    assert logs[-1].loss < 0.8 * logs[0].loss
    assert {name: id(module) for name, module in model.named_modules()} == kept
    again = run(model, examples, method="qlora", epochs=8)
    assert bytes_of(again.tensors) == bytes_of(outcome.tensors)
    save_checkpoint(outcome, tmp_path / "adapter", base=directory, base_name="wide")
    ids = torch.tensor([examples[0].input_ids])
    with torch.inference_mode():
        plain = load(directory)(ids).logits
        tuned = PeftModel.from_pretrained(load(directory), tmp_path / "adapter")(ids).logits
    assert not torch.equal(plain, tuned)


def test_a_four_bit_model_is_for_qlora_alone(tmp_path, examples):
    pytest.importorskip("bitsandbytes", reason="the extra qlora is not installed")
    model = load_quantized(make_tiny_model(tmp_path, hidden_size=64), device="cpu")
    with pytest.raises(TuningError, match="method lora cannot train this model: it is loaded in 4 bits"):
        run(model, examples, method="lora")
    with pytest.raises(TuningError, match="method qlora cannot train this model: it is not loaded in 4 bits"):
        run(load(make_tiny_model(tmp_path / "plain")), examples, method="qlora")


def test_the_dtype_for_training_is_one_that_can_be_trained():
    assert training_dtype("cpu") in DTYPES
