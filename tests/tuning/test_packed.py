"""Packed batches against padded ones, our adapter layers against peft's, and seeds together against alone."""

import copy
import math

import pytest
import torch
import transformers
from torch.nn import functional

from aftertune.errors import TuningError
from aftertune.records import CheckpointStatus
from aftertune.study import TuneRecipe
from aftertune.tuning import train as training
from aftertune.tuning import trainable
from aftertune.tuning.encode import IGNORED, Example
from aftertune.tuning.lora import NotStackableError
from aftertune.tuning.optimise import answer_logits, collate
from aftertune.tuning.packed import can_pack, packed
from aftertune.tuning.streams import TrainingStreams
from aftertune.tuning.trainer import seeds_that_fit, trains_together

SIZES = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}
ARCHITECTURES = {
    "Llama": {},
    "Qwen2": {},
    "Qwen3": {"head_dim": 16},
    "Mistral": {"sliding_window": None},
    "Gemma2": {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 64},
    "Phi3": {},
    "Olmo2": {},
    "GPTNeoX": {},
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128},
    "OPT": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "Mixtral": {"num_local_experts": 4},
}


def model_of(architecture: str = "Llama", dtype: torch.dtype = torch.float32, **changes):
    settings = {**SIZES, **ARCHITECTURES[architecture], **changes}
    config = getattr(transformers, f"{architecture}Config")(**settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config)
    return model.to(dtype)


def rows_of(lengths: list[int]) -> list[Example]:
    draws = torch.Generator().manual_seed(1)
    rows = []
    for n in lengths:
        ids = torch.randint(3, 300, (n,), generator=draws).tolist()
        asked = max(1, n // 3)
        rows.append(Example(tuple(ids), (IGNORED,) * asked + tuple(ids[asked:])))
    return rows


ROWS = rows_of([5, 40, 17, 23, 9, 31, 3, 28, 12, 36, 20, 7])


def recipe(**settings) -> TuneRecipe:
    default = {"data": "x", "rank": 4, "batch_size": 4, "learning_rate": 5e-3, "epochs": 2}
    return TuneRecipe.model_validate({**default, **settings})


def streams(*seeds: int) -> list[TrainingStreams]:
    return [TrainingStreams(2025, "chat", seed) for seed in seeds]


def together(model, seeds, rows=ROWS, **settings):
    logs: dict[int, list] = {place: [] for place in range(len(seeds))}
    outcomes = training.train_together(
        model,
        rows,
        recipe(**settings),
        streams=streams(*seeds),
        pad_token_id=0,
        on_step=lambda place, log: logs[place].append(log),
    )
    return outcomes, logs


def trained(model, seed=1, **settings):
    outcomes, logs = together(model, [seed], **settings)
    return outcomes[0], logs[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_packed_rows_give_the_logits_and_gradients_of_each_row_alone(architecture, dtype):
    """The second implementation is transformers' own attention on one unpadded row."""
    model = model_of(architecture, dtype, attn_implementation="eager").eval()
    rows = ROWS[:5]
    assert can_pack(model, 40)
    wanted, losses = [], 0.0
    for row in rows:
        labels = torch.tensor(row.labels[1:])
        logits = model(torch.tensor([row.input_ids])).logits[0, :-1][labels != IGNORED]
        losses += functional.cross_entropy(logits.float(), labels[labels != IGNORED], reduction="sum")
        wanted.append(logits)
    losses.backward()
    grads = {name: p.grad.float() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    tokens = collate([rows], packs=True, pad_token_id=0, device=model.device, fused=False)
    assert tokens.input_ids.shape == (1, sum(len(row.input_ids) for row in rows))
    with packed(model):
        logits = answer_logits(model, tokens)
        functional.cross_entropy(logits.float(), tokens.answers, reduction="sum").backward()
    tolerance = 1e-4 if dtype == torch.float32 else 5e-2
    assert relative(logits, torch.cat(wanted)) < tolerance
    for name, parameter in model.named_parameters():
        # The softmax does not see a key's bias: its gradient is 0 but for rounding.
        if name in grads and grads[name].norm() > 1e-3 and not name.endswith("k_proj.bias"):
            assert relative(parameter.grad, grads[name]) < 4 * tolerance, name


def relative(got: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((got.detach().float() - wanted.detach().float()).norm() / wanted.detach().float().norm())


@pytest.mark.parametrize("fused", [False, True])
def test_a_rows_logits_do_not_depend_on_its_neighbours(fused):
    model = model_of().eval()

    def last_of(rows: list[Example]) -> torch.Tensor:
        tokens = collate([rows], packs=True, pad_token_id=0, device=model.device, fused=fused)
        with packed(model), torch.no_grad():
            return answer_logits(model, tokens)[-26:]

    alone = last_of([ROWS[1]])
    for before in (ROWS[:1], ROWS[2:6], rows_of([100, 2])):
        assert torch.allclose(last_of([*before, ROWS[1]]), alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_packed_training_has_the_losses_of_a_padded_one(method, dtype, tolerance, monkeypatch):
    model = model_of(dtype=dtype)
    _, ours = trained(model, method=method, epochs=3)
    monkeypatch.setattr(training, "can_pack", lambda *_: False)
    _, padded = trained(model, method=method, epochs=3)
    assert [log.n_tokens for log in ours] == [log.n_tokens for log in padded]
    assert [log.loss for log in ours] == pytest.approx([log.loss for log in padded], rel=tolerance)
    assert [log.grad_norm for log in ours] == pytest.approx(
        [log.grad_norm for log in padded], rel=10 * tolerance
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("settings", [{}, {"gradient_checkpointing": True}, {"accumulation": 2}], ids=str)
def test_our_adapter_layers_train_as_pefts(dtype, tolerance, settings, monkeypatch):
    model = model_of("Qwen2", dtype)  # whose q, k and v have biases
    outcome, ours = trained(model, **settings)
    monkeypatch.setattr(trainable, "_is_plain", lambda layer: False)
    of_peft, theirs = trained(model, **settings)
    assert [log.loss for log in ours] == pytest.approx([log.loss for log in theirs], rel=tolerance)
    assert outcome.config == of_peft.config
    assert outcome.tensors.keys() == of_peft.tensors.keys()
    moved = math.sqrt(sum(float(t.square().sum()) for n, t in of_peft.tensors.items() if "lora_B" in n))
    apart = math.sqrt(sum(float((outcome.tensors[n] - t).square().sum()) for n, t in of_peft.tensors.items()))
    assert apart < (1e-3 if dtype == torch.float32 else 0.2) * moved


def test_rows_longer_than_a_sliding_window_are_padded_and_right():
    narrow = model_of("Mistral", sliding_window=8)
    assert not can_pack(narrow, 40)
    assert can_pack(narrow, 8)
    _, logs = trained(narrow, batch_size=12, epochs=1)
    total = n = 0
    for row in ROWS:
        k = sum(label != IGNORED for label in row.labels[1:])
        with torch.no_grad():
            loss = narrow(torch.tensor([row.input_ids]), labels=torch.tensor([row.labels])).loss
        total, n = total + k * loss.item(), n + k
    assert logs[0].loss == pytest.approx(total / n, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["Llama", "Gemma2", "Phi3"])
@pytest.mark.parametrize("settings", [{}, {"accumulation": 2}, {"n": 7, "epochs": 3}], ids=str)
def test_seeds_together_learn_what_each_learns_alone(architecture, settings):
    """In float32: losses to 1e-4, weights to 1e-3 of how far they moved."""
    model = model_of(architecture)
    outcomes, logs = together(model, [1, 2, 3], **settings)
    for place, seed in enumerate([1, 2, 3]):
        alone, of_alone = trained(model, seed, **settings)
        assert outcomes[place].rows == alone.rows
        assert [(log.step, log.n_tokens, log.learning_rate) for log in logs[place]] == [
            (log.step, log.n_tokens, log.learning_rate) for log in of_alone
        ]
        for name in ("loss", "grad_norm"):
            wanted = [getattr(log, name) for log in of_alone]
            assert [getattr(log, name) for log in logs[place]] == pytest.approx(wanted, rel=1e-4)
        assert outcomes[place].config == alone.config
        assert outcomes[place].tensors.keys() == alone.tensors.keys()
        moved = sum(float(t.square().sum()) for n, t in alone.tensors.items() if "lora_B" in n)
        apart = sum(float((outcomes[place].tensors[n] - t).square().sum()) for n, t in alone.tensors.items())
        assert math.sqrt(apart) < 1e-3 * math.sqrt(moved)


def test_seeds_together_are_the_same_to_the_byte_twice_in_a_row():
    model = model_of(dtype=torch.bfloat16)
    before = copy.deepcopy(model.state_dict())
    first, _ = together(model, [1, 2])
    second, _ = together(model, [1, 2])
    for one, two in zip(first, second, strict=True):
        assert all(torch.equal(tensor, two.tensors[name]) for name, tensor in one.tensors.items())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.config._attn_implementation == "sdpa"


def test_a_seed_that_diverges_is_recorded_and_leaves_the_others_alone(monkeypatch):
    drawn = trainable._drawn

    def spoilt(matrix, name, of):
        return drawn(matrix, name, of) * (1e38 if of.seed == 2 else 1)

    model = model_of()
    monkeypatch.setattr(trainable, "_drawn", spoilt)
    outcomes, logs = together(model, [1, 2, 3])
    assert [outcome.status for outcome in outcomes] == [
        CheckpointStatus.OK,
        CheckpointStatus.DIVERGED,
        CheckpointStatus.OK,
    ]
    assert outcomes[1].reason.startswith(f"step {len(logs[1]) + 1} of 6: the loss is ")
    assert (outcomes[1].tensors, outcomes[1].config) == (None, None)
    assert [len(logs[place]) for place in (0, 2)] == [6, 6]
    for place, seed in ((0, 1), (2, 3)):
        _, alone = trained(model, seed)
        assert [log.loss for log in logs[place]] == pytest.approx([log.loss for log in alone], rel=1e-4)


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning")  # peft mends it itself
@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("Llama", {"dropout": 0.1}),
        ("Llama", {"method": "full"}),
        ("GPT2", {}),  # its layers are no nn.Linear
        ("Llama", {"target_modules": ["lm_head"]}),  # reads the answers' tokens alone
    ],
)
def test_what_cannot_go_together_goes_one_after_another(architecture, settings):
    model = model_of(architecture)
    outcomes, logs = together(model, [1, 2], epochs=1, **settings)
    assert [len(entries) for entries in logs.values()] == [3, 3]
    for place, seed in enumerate([1, 2]):
        alone, _ = trained(model, seed, epochs=1, **settings)
        assert all(torch.equal(outcomes[place].tensors[n], tensor) for n, tensor in alone.tensors.items())


def test_what_is_wrong_with_a_recipe_is_still_an_error_together():
    with pytest.raises(TuningError, match=r"target_modules .* do not fit the model") as caught:
        together(model_of(), [1, 2], target_modules=["qkv"])
    assert not isinstance(caught.value, NotStackableError)


def test_as_many_seeds_are_trained_at_once_as_fit_in_memory():
    """By hand: 2 layers of width 32 (q and o 32→32, k and v 32→16, three of 32 and 64), a head of 32→300."""
    model = model_of()
    vectors = 2 * (2 * (2 * 64 + 2 * 48 + 3 * 96) + 332)
    needed = 60 * (4 * vectors + 8 * 2 * 4 * 40)
    for n_seeds in (1, 2, 7):
        assert seeds_that_fit(model, [40, 20], free_bytes=n_seeds * needed * 10 // 6 + 10) == n_seeds
    assert seeds_that_fit(model, [40, 20], free_bytes=0) == 1


def test_seeds_share_passes_on_a_gpu_alone():
    assert trains_together("cuda", recipe())
    assert not trains_together("cpu", recipe())
    assert not trains_together("cuda", recipe(dropout=0.1))
    assert not trains_together("cuda", recipe(method="full"))
