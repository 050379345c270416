"""Taking on checkpoints: what fits is applied in the engine's dtype, what does not stops with its name."""

import shutil

import pytest
import torch
from peft import (
    AdaptionPromptConfig,
    IA3Config,
    LNTuningConfig,
    LoKrConfig,
    LoraConfig,
    OFTConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    VeraConfig,
    get_peft_model,
)
from safetensors.torch import load_file, save_file

from aftertune.engines.adapters import contents
from aftertune.engines.loading import load_model
from aftertune.errors import EngineError
from aftertune.records import Checkpoint, CheckpointStatus
from engine_models import base_of, completed, of_checkpoint, open_at, requests_of, save_model, tuned

WEIGHTS = "adapter_model.safetensors"


def save_adapter(base, directory, *, seed=1, **changes):
    """A LoRA adapter with both matrices drawn at random."""
    settings = {"r": 4, "target_modules": ["q_proj", "v_proj"], "init_lora_weights": False} | changes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = get_peft_model(load_model(base, dtype=torch.bfloat16, device="cpu"), LoraConfig(**settings))
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "lora_" not in name:
                torch.nn.init.normal_(parameter, std=0.3)
        model.save_pretrained(directory, save_embedding_layers=False)
    return directory


def state(engine):
    """All that decides what the base computes, to the byte."""
    tensors = {**dict(engine.base.named_parameters()), **dict(engine.base.named_buffers())}
    return {
        name: (t.dtype, t.detach().clone().view(torch.uint8).numpy().tobytes()) for name, t in tensors.items()
    }


@pytest.fixture
def engine(model_of):
    return open_at(model_of())


def use(engine, checkpoint):
    return completed(engine, requests_of(engine, ["Hi"], checkpoint=checkpoint))


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_dora": True},
        {"bias": "all"},
        {"modules_to_save": ["lm_head"]},
        {"modules_to_save": ["embed_tokens"]},
        {"trainable_token_indices": [5, 6, 7]},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "olora"},
        {"layer_replication": [[0, 2], [1, 2]]},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_base_comes_back_exactly_after_every_kind_of_adapter(changes, dtype, model_of, tmp_path):
    engine = open_at(model_of("Qwen2" if changes == {"bias": "all"} else "Llama"), dtype=dtype)
    before, requests = state(engine), requests_of(engine)
    expected, probe = completed(engine, requests), engine._probe(engine.base)
    for seed in (1, 2):
        adapter = tuned(save_adapter(engine.source.path, tmp_path / str(seed), seed=seed, **changes))
        assert completed(engine, of_checkpoint(requests, adapter)) != expected
        engine.clean_base()
    assert state(engine) == before
    assert torch.equal(engine._probe(engine.base), probe)
    assert completed(engine, requests) == expected


KINDS = {
    "ia3": lambda: IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
    "lokr": lambda: LoKrConfig(r=4, target_modules=["q_proj"]),
    "oft": lambda: OFTConfig(oft_block_size=8, r=0, target_modules=["q_proj"]),
    "vera": lambda: VeraConfig(r=4, target_modules=["q_proj", "o_proj"]),
    "ln": lambda: LNTuningConfig(task_type="CAUSAL_LM"),
    "prompt": lambda: PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
    "prefix": lambda: PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
    "p": lambda: PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=4, encoder_hidden_size=8),
    "alora": lambda: LoraConfig(
        task_type="CAUSAL_LM", target_modules=["q_proj"], alora_invocation_tokens=[7, 8]
    ),
    "adaption": lambda: AdaptionPromptConfig(task_type="CAUSAL_LM", adapter_len=4, adapter_layers=1),
}


def save_kind(base, directory, kind):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = get_peft_model(load_model(base, dtype=torch.bfloat16, device="cpu"), KINDS[kind]())
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += 0.2 * torch.randn_like(parameter)
        model.save_pretrained(directory)
    return directory


@pytest.mark.filterwarnings("ignore:Unsupported layer type")  # peft 0.21 of the norms that it knows
@pytest.mark.parametrize("kind", ["ia3", "lokr", "oft", "vera", "ln"])
def test_the_base_comes_back_exactly_after_other_methods_than_lora(kind, model_of, tmp_path):
    engine = open_at(model_of(), dtype="float32")
    before, requests = state(engine), requests_of(engine, ["Hi"])
    expected = completed(engine, requests)
    adapter = tuned(save_kind(engine.source.path, tmp_path, kind))
    assert completed(engine, of_checkpoint(requests, adapter)) != expected
    engine.clean_base()
    assert state(engine) == before
    assert completed(engine, requests) == expected


@pytest.mark.parametrize("kind", ["prompt", "prefix", "p", "alora", "adaption"])
def test_an_adapter_that_depends_on_the_text_around_a_token_is_refused(kind, engine, tmp_path):
    adapter = tuned(save_kind(engine.source.path, tmp_path, kind))
    with pytest.raises(EngineError, match=r"of the kind (.|\n)*cannot compute(.|\n)*engine: \{name: openai"):
        use(engine, adapter)
    assert completed(engine, requests_of(engine, ["Hi"]))


def test_a_change_through_data_is_seen_though_torch_does_not_count_it(engine):
    weight, before = engine.base.get_parameter("model.norm.weight"), contents(engine.base)
    version = weight._version
    weight.data[3] += 1
    assert (weight._version, contents(engine.base) == before) == (version, False)
    weight.data[3] -= 1
    assert contents(engine.base) == before
    weight.data[[0, 9]] = weight.data[[9, 0]] + torch.tensor([0, 1]).to(weight)
    assert contents(engine.base) != before


def test_an_adapter_computes_in_the_dtype_of_the_engine_and_the_rotation_stays_in_float32(engine, tmp_path):
    engine = open_at(engine.source.path, dtype="bfloat16")
    use(engine, tuned(save_adapter(engine.source.path, tmp_path, use_dora=True)))
    assert {parameter.dtype for parameter in engine._active.parameters()} == {torch.bfloat16}
    assert {buffer.dtype for buffer in engine._active.buffers()} == {torch.float32}
    plain = tuned(save_adapter(engine.source.path, tmp_path / "plain"))
    use(engine, plain)
    matrices = [matrix for pair in engine._adapters[plain].layers.values() for matrix in pair]
    assert {matrix.dtype for matrix in matrices} == {torch.bfloat16}


def test_an_adapter_that_changes_nothing_stops_the_run(engine, tmp_path):
    path = save_adapter(engine.source.path, tmp_path, init_lora_weights=True)  # B is zero
    with pytest.raises(EngineError, match="adapter checkpoint chat/1 does not change the logits of its base"):
        use(engine, tuned(path))
    assert completed(engine, requests_of(engine, ["Hi"]))


def test_a_weak_adapter_is_seen(engine, tmp_path):
    path = save_adapter(engine.source.path, tmp_path)
    tensors = load_file(path / WEIGHTS)
    weak = {name: tensor * (0.02 if "lora_B" in name else 1) for name, tensor in tensors.items()}
    save_file(weak, path / WEIGHTS, metadata={"format": "pt"})
    use(engine, tuned(path))
    assert tuned(path) in engine._adapters


def broken(kind, base, directory):
    path = save_adapter(base, directory)
    tensors = load_file(path / WEIGHTS)
    first = min(tensors)
    match kind:
        case "another shape":
            tensors[first] = torch.zeros(7, 7, dtype=torch.bfloat16)
        case "a tensor missing":
            del tensors[first]
        case "a tensor too many":
            tensors[first.replace("layers.0", "layers.9")] = tensors[first].clone()
        case "not tensors":
            (path / WEIGHTS).write_bytes(b"nothing")
            return path
        case "no configuration":
            (path / "adapter_config.json").unlink()
        case "not JSON":
            (path / "adapter_config.json").write_text("{")
        case "another architecture":
            return save_adapter(
                save_model(directory / "other", hidden_size=32, head_dim=16), directory / "adapter"
            )
        case "other layers":
            config = path / "adapter_config.json"
            config.write_text(config.read_text().replace("q_proj", "c_attn").replace("v_proj", "c_proj"))
    save_file(tensors, path / WEIGHTS, metadata={"format": "pt"})
    return path


@pytest.mark.parametrize(
    "kind",
    [
        "another shape",
        "a tensor missing",
        "a tensor too many",
        "not tensors",
        "no configuration",
        "not JSON",
        "another architecture",
        "other layers",
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_by_name_and_the_base_is_not_hurt(kind, engine, tmp_path):
    before = state(engine)
    with pytest.raises(
        EngineError, match=r"checkpoint chat/1: the adapter in .*\n.*trained on this very base"
    ):
        use(engine, tuned(broken(kind, engine.source.path, tmp_path)))
    assert state(engine) == before
    use(engine, tuned(save_adapter(engine.source.path, tmp_path / "good")))


def test_a_checkpoint_without_weights_is_refused(engine, tmp_path):
    diverged = Checkpoint("chat", 2, "adapter", CheckpointStatus.DIVERGED, "step 3", None, None)
    with pytest.raises(EngineError, match="checkpoint chat/2 is diverged"):
        use(engine, diverged)
    with pytest.raises(EngineError, match="checkpoint chat/1: the adapter in"):
        use(engine, tuned(tmp_path / "nowhere"))
    with pytest.raises(EngineError, match=r"checkpoint chat/1: .*config\.json cannot be read"):
        use(engine, tuned(tmp_path / "nowhere", "full"))


def test_a_full_checkpoint_stands_in_for_the_base(engine, tmp_path):
    requests = requests_of(engine)
    expected = completed(engine, requests)
    full = save_model(tmp_path / "full")
    tensors = load_file(full / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"] * 1.5
    save_file(tensors, full / "model.safetensors", metadata={"format": "pt"})
    assert completed(engine, of_checkpoint(requests, tuned(full, "full"))) != expected
    assert completed(engine, requests) == expected
    same = shutil.copytree(engine.source.path, tmp_path / "same")
    with pytest.raises(EngineError, match="full checkpoint chat/1 does not change the logits"):
        use(engine, tuned(same, "full"))


@pytest.mark.parametrize(
    ("changes", "beside"),
    [
        ({}, True),
        ({"r": 1}, True),
        ({"target_modules": "all-linear", "use_rslora": True}, True),
        ({"use_dora": True}, False),
        ({"target_modules": ["q_proj", "lm_head"]}, False),
        ({"rank_pattern": {"q_proj": 2}}, False),
    ],
    ids=str,
)
def test_an_adapter_beside_the_base_computes_what_peft_does(changes, beside, engine, tmp_path):
    adapter = tuned(save_adapter(engine.source.path, tmp_path, **changes))
    ids = engine.render("How many loaves?", None).token_ids
    got = engine.logits(adapter, ids).float()
    assert (adapter in engine._adapters) == beside
    model = load_model(engine.source.path, dtype=engine.dtype, device="cpu")
    peft_model = PeftModel.from_pretrained(model, tmp_path, autocast_adapter_dtype=False).eval()
    with torch.inference_mode():
        expected = peft_model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()
    torch.testing.assert_close(got, expected, rtol=1e-4 if engine.dtype == torch.float32 else 0.1, atol=1e-3)
    assert not torch.equal(got, engine.logits(base_of(engine), ids).float())
