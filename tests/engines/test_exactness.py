"""Under exact numerics a response has the same bytes whatever stands beside it."""

import random
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch.overrides import TorchFunctionMode

from aftertune.engines import attention
from aftertune.engines.batch import Batch
from aftertune.engines.loading import load_model
from aftertune.engines.transformers import TransformersEngine
from aftertune.errors import EngineError
from aftertune.study import Decoding
from engine_models import (
    ARCHITECTURES,
    END_TOKENS,
    GREEDY,
    PROMPTS,
    SAMPLED,
    base_of,
    completed,
    of_checkpoint,
    open_at,
    requests_of,
    tuned,
)


@pytest.fixture
def logits(monkeypatch):
    """The bytes of all logits, by request and number of tokens drawn before."""
    seen: dict[tuple[str, int], bytes] = {}
    append = Batch._append_tokens

    def spy(self, rows, values):
        for row, row_values in zip(rows, values, strict=True):
            seen[row.request.key, len(row.tokens)] = row_values.clone().view(torch.uint8).numpy().tobytes()
        append(self, rows, values)

    monkeypatch.setattr(Batch, "_append_tokens", spy)

    def taken() -> dict[tuple[str, int], bytes]:
        found = dict(seen)
        seen.clear()
        return found

    return taken


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    """A cache in which no way is remembered."""
    monkeypatch.setenv("AFTERTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_and_texts_are_the_same_for_any_number_of_rows(architecture, model_of, logits):
    engine = open_at(model_of(architecture))
    requests = requests_of(engine)
    expected, expected_logits = completed(engine, requests), logits()
    texts = {completion.text for completion in expected.values()}
    assert len(texts) > len(requests) // 2, "the model is too dull to show a difference"
    assert len({completion.n_tokens for completion in expected.values()}) > 1, "no row ends before another"
    for rows in (2, 3, 8):
        engine = open_at(model_of(architecture), batch_rows=rows)
        shuffled = random.Random(rows).sample(requests, len(requests))
        assert completed(engine, shuffled) == expected
        assert logits() == expected_logits


@pytest.mark.parametrize("system", [None, "Be brief."])  # without and with tokens that all prompts share
def test_each_request_alone_and_any_subset(system, model_of, logits):
    engine = open_at(model_of())
    requests = requests_of(engine, system=system)
    expected, expected_logits = completed(engine, requests), logits()
    alone = {
        key: completion for request in requests for key, completion in completed(engine, [request]).items()
    }
    assert alone == expected
    assert logits() == expected_logits


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_subset_in_any_order_beside_any_neighbours(model_of, exact, data):
    engine, requests, expected = exact
    chosen = data.draw(st.lists(st.sampled_from(requests), unique_by=lambda r: r.key, min_size=1))
    assert completed(engine, chosen) == {request.key: expected[request.key] for request in chosen}


@pytest.fixture(scope="module")
def exact(model_of):
    engine = open_at(model_of(), batch_rows=5)
    requests = requests_of(engine)
    return engine, requests, completed(engine, requests)


def test_a_long_neighbour_changes_nothing(exact):
    engine, requests, expected = exact
    long = requests_of(engine, ["Go on."], [Decoding(temperature=1.5, max_tokens=450)], repeats=1)
    got = completed(engine, [*long, *requests])
    assert got.pop(long[0].key).n_tokens > 0
    assert got == expected


def test_more_repeats_and_items_leave_the_others_as_they_are(exact, model_of):
    engine, requests, expected = exact
    more = requests_of(engine, [*(f"Another {n}" for n in range(4)), *(r.prompt.text for r in requests[:0])])
    more += requests_of(engine, repeats=4)
    got = completed(engine, more)
    assert len(got) > len(expected)
    assert {key: got[key] for key in expected} == expected


def test_global_generators_and_determinism_of_a_new_engine(exact, model_of):
    _, requests, expected = exact
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    states = random.getstate(), torch.random.get_rng_state()
    engine = open_at(model_of(), batch_rows=11)
    assert completed(engine, requests) == expected
    assert random.getstate() == states[0]
    assert torch.equal(torch.random.get_rng_state(), states[1])


def test_an_adapter_is_exact_too_and_leaves_the_base_as_it_was(exact, model_of, tmp_path, logits):
    _, requests, expected = exact
    path = model_of()
    model = load_model(path, dtype=torch.bfloat16, device="cpu")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
        get_peft_model(model, config).save_pretrained(tmp_path)
    engine = open_at(path)
    tuned_requests = of_checkpoint(requests, tuned(tmp_path))
    adapted, adapted_logits = completed(engine, tuned_requests), logits()
    assert adapted != expected
    assert completed(engine, requests) == expected
    logits()
    few = open_at(path, batch_rows=3)
    assert completed(few, tuned_requests[::-1]) == adapted
    assert logits() == adapted_logits


def adapters_of(path, directory, n, **changes):
    """Adapters of one base, each with both matrices drawn at random."""
    checkpoints = []
    for seed in range(1, n + 1):
        model = load_model(path, dtype=torch.bfloat16, device="cpu")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "init_lora_weights": False}
            get_peft_model(model, LoraConfig(**(settings | changes))).save_pretrained(directory / str(seed))
        checkpoints.append(replace(tuned(directory / str(seed)), seed=seed))
    return checkpoints


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_base_and_adapters_in_one_pass_or_each_alone(dtype, model_of, tmp_path, logits):
    path = model_of()
    engine = open_at(path, dtype=dtype, batch_rows=64)
    base, *adapters = checkpoints = [base_of(engine), *adapters_of(path, tmp_path, 3)]
    [dora] = adapters_of(path, tmp_path / "dora", 1, use_dora=True)
    requests = [
        replace(request, checkpoint=checkpoint, key=f"{index} {request.key}")
        for index, checkpoint in enumerate([base, dora, *adapters])
        for request in requests_of(engine, PROMPTS[:4], repeats=1)
    ]
    alone, alone_logits = {}, {}
    for checkpoint in [*checkpoints, dora]:
        alone |= completed(engine, [request for request in requests if request.checkpoint == checkpoint])
        alone_logits |= logits()
    assert len({completion.text for completion in alone.values()}) > len(alone) // 2
    for seed, rows in ((1, 64), (2, 3)):
        engine = open_at(path, dtype=dtype, batch_rows=rows)
        shuffled = random.Random(seed).sample(requests, len(requests))
        assert completed(engine, shuffled) == alone
        assert logits() == alone_logits


@pytest.mark.slow
def test_beside_the_most_and_the_longest_that_the_context_holds(model_of, logits):
    engine = open_at(model_of(), batch_rows=128)
    requests = requests_of(engine, [f"Item {n}. " + "How many loaves? " * (n % 40) for n in range(100)])
    some = requests[::23]
    expected = {}
    for request in some:
        expected |= completed(engine, [request])
    alone = logits()
    together = completed(engine, requests)
    assert {request.key: together[request.key] for request in some} == expected
    both = logits()
    assert {key: both[key] for key in alone} == alone


class Uneven(TorchFunctionMode):
    """A library whose linear layers compute the last row otherwise where `wrong` says so of their number."""

    def __init__(self, wrong):
        super().__init__()
        self.wrong = wrong

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        uneven = func is torch.nn.functional.linear and self.wrong(args[0].numel() // args[0].shape[-1])
        if uneven:
            out[..., -1, :] *= 1 + 2**-7
        return out


def way_of(path, **spec):
    engine = open_at(path, **spec)
    return engine, engine.identity.get("way")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "way"),
    [
        (lambda n: False, "plain products"),
        (lambda n: n > 128, "products of at most 128 rows"),  # as MKL's of two threads on Skylake-SP
        (lambda n: n > 64, "products of at most 64 rows"),
        (lambda n: n % 8 > 0, "products in tiles of 64 rows, the last one padded"),  # as in MKL's COMPATIBLE
        (lambda n: n != 16, "products in tiles of 16 rows, the last one padded"),
    ],
)
@pytest.mark.usefixtures("fresh_cache")
def test_the_first_way_that_passes_is_taken_and_is_exact(wrong, way, model_of, logits):
    with Uneven(wrong):
        _check_way(way, model_of, logits)


def _check_way(way, model_of, logits):
    engine, found = way_of(model_of())
    assert found == way
    assert engine.reproducibility["way"] == way
    requests = requests_of(engine, [f"Item {n}. " + "How many loaves? " * (n % 9) for n in range(40)])
    expected, expected_logits = completed(engine, requests), logits()
    for rows in (2, 7, 31):
        engine = open_at(model_of(), batch_rows=rows)
        some = random.Random(rows).sample(requests, 30)
        assert completed(engine, some) == {request.key: expected[request.key] for request in some}
        got = logits()
        assert got == {key: expected_logits[key] for key in got}


@pytest.mark.usefixtures("fresh_cache")
def test_one_thread_is_the_last_way(model_of):
    calls = count()
    with Uneven(lambda n: torch.get_num_threads() > 1 and next(calls) % 2 == 0):
        engine, found = way_of(model_of(), threads=2)
        assert found == "plain products, on 1 thread"
        assert engine.identity["threads"] == 2
        requests = requests_of(engine, PROMPTS[:3])
        few = open_at(model_of(), threads=2, batch_rows=2)
        assert completed(engine, requests) == completed(few, requests)
        assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("fresh_cache")
def test_where_no_way_passes_exact_is_refused_and_left_open_it_is_fast(model_of):
    calls = count()
    with Uneven(lambda n: next(calls) % 2 == 0):
        _check_fast(model_of)


def _check_fast(model_of):
    with pytest.raises(EngineError, match=r"exact cannot be promised here: a product of \d+ rows.*\n.*fast"):
        open_at(model_of()).identity  # noqa: B018
    engine = open_at(model_of(), numerics=None)
    assert engine.numerics == engine.identity["numerics"] == "fast"
    assert "way" not in engine.identity
    assert "a product of" in engine.reproducibility["exact_refused"]
    assert completed(engine, requests_of(engine, PROMPTS[:2]))


def test_attention_that_depends_on_its_neighbours_is_computed_in_fixed_shapes(
    model_of, monkeypatch, logits, fresh_cache
):
    bmm = torch.bmm
    fixed = {16 * 2, 2}  # 16 rows at once, or one, of two key heads

    def uneven(first, second):
        return bmm(first, second) * (1 + (len(first) not in fixed or second.shape[2] == 512) * 2**-7)

    monkeypatch.setattr(torch, "bmm", uneven)
    engine, found = way_of(model_of())
    assert found == "plain products, attention of 16 rows at a time"
    requests = requests_of(engine, [f"Item {n}. " + "How many loaves? " * (n % 9) for n in range(20)])
    expected, expected_logits = completed(engine, requests), logits()
    assert completed(open_at(model_of(), batch_rows=3), requests[::-1]) == expected
    assert logits() == expected_logits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_in_fixed_shapes_is_attention(dtype):
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(5, 4, 3, 16, generator=generator).to(dtype)
    keys, values = torch.randn(2, 5, 2, 160, 16, generator=generator).to(dtype)
    hidden = (torch.arange(160) >= 150).expand(5, 1, 3, 160)
    plain = attention.attend(query, keys, values, hidden, attention.Settings(0.25))
    fixed = attention.attend(query, keys, values, hidden, attention.Settings(0.25, rows_at_once=4))
    torch.testing.assert_close(fixed, plain, rtol=0.01, atol=0.01 if dtype == torch.bfloat16 else 1e-5)


def test_what_was_found_is_remembered_and_a_broken_memory_is_found_again(model_of, fresh_cache, monkeypatch):
    engine, found = way_of(model_of())
    [kept] = (fresh_cache / "exact").glob("*.json")
    with monkeypatch.context() as patched:
        patched.setattr(TransformersEngine, "_load", None)  # nothing is loaded to know the way
        assert way_of(model_of())[1] == found
    kept.write_text("{", encoding="utf-8")
    assert way_of(model_of())[1] == found
    before = engine.identity
    monkeypatch.setenv("MKL_CBWR", "AVX2,STRICT")
    assert way_of(model_of())[1] == found
    assert len(list((fresh_cache / "exact").glob("*.json"))) == 2
    assert open_at(model_of()).identity == {**before, "MKL_CBWR": "AVX2,STRICT"}


@pytest.mark.usefixtures("fresh_cache")
def test_an_adapter_of_a_rank_that_was_not_tried_is_checked(model_of, tmp_path):
    engine = open_at(model_of())
    [adapter] = adapters_of(model_of(), tmp_path, 1, r=24)
    requests = of_checkpoint(requests_of(engine, PROMPTS[:2]), adapter)
    assert completed(engine, requests)
    again = open_at(model_of())
    calls = count()
    with (
        Uneven(lambda n: n == 64 and next(calls) % 2 == 0),
        pytest.raises(EngineError, match=r"checkpoint chat/1: numerics: exact cannot be promised.*\n.*fast"),
    ):
        completed(again, requests)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("system", ["A b.", "Be brief."])
def test_one_sick_adapter_leaves_its_neighbours_as_they_are(dtype, system, model_of, tmp_path):
    path = model_of()
    [sound, sick] = adapters_of(path, tmp_path, 2)
    weights = load_file(f"{sick.path}/adapter_model.safetensors")
    last = [name for name in weights if "layers.1" in name and "lora_B" in name]
    # Of the last layer alone, so that its prompts read well and what it writes is what harms others.
    save_file(
        {name: torch.full_like(w, torch.nan) if name in last else w for name, w in weights.items()},
        f"{sick.path}/adapter_model.safetensors",
    )
    engine = open_at(path, dtype=dtype, batch_rows=4)
    requests = [
        replace(request, checkpoint=checkpoint, key=f"{name} {request.key}")
        for request in requests_of(engine, PROMPTS[:6], system=system)
        for name, checkpoint in (("sick", sick), ("base", base_of(engine)), ("sound", sound))
    ]
    random.Random(5).shuffle(requests)
    together = completed(engine, requests)
    for name, one in (("base", base_of(engine)), ("sound", sound)):
        mine = [request for request in requests if request.checkpoint == one]
        alone = completed(open_at(path, dtype=dtype), mine)
        assert {key: got for key, got in together.items() if key.startswith(name)} == alone
    failed = [got for key, got in together.items() if key.startswith("sick")]
    assert {got.status.value for got in failed} == {"failed"}
    assert all("not finite" in got.reason for got in failed)


@pytest.mark.parametrize("numerics", ["exact", "fast"])
@pytest.mark.parametrize("system", ["A b.", "Go on please.", None])
def test_what_prompts_share_is_read_as_it_stands(numerics, system, model_of):
    """A shared beginning of fewer tokens than a step needs is read beside tokens of nobody."""
    engine = open_at(model_of(), dtype="float32", numerics=numerics, batch_rows=4)
    for request in requests_of(engine, PROMPTS[2:5], [GREEDY], system=system):
        ids = list(request.prompt.token_ids)
        while len(ids) < len(request.prompt.token_ids) + GREEDY.max_tokens:
            with torch.inference_mode():
                token = int(engine.base(torch.tensor([ids])).logits[0, -1].argmax())
            if token in END_TOKENS:
                break
            ids.append(token)
        expected = engine.tokenizer.decode(ids[len(request.prompt.token_ids) :], skip_special_tokens=True)
        assert completed(engine, [request])[request.key].text == expected


def test_another_stream_or_root_seed_gives_other_texts(exact):
    engine, _, _ = exact
    free = Decoding(temperature=1.2, max_tokens=20)
    texts = [c.text for c in completed(engine, requests_of(engine, ["Go on."], [free], repeats=20)).values()]
    assert len(set(texts)) > 15
    assert GREEDY.content() != SAMPLED.content()
