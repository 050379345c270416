"""Under exact numerics a response has the same bytes whatever stands beside it."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

from aftertune.engines import attention
from aftertune.engines.batch import Batch
from aftertune.engines.loading import load_model
from aftertune.errors import EngineError
from aftertune.study import Decoding
from engine_models import (
    ARCHITECTURES,
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


def test_products_that_depend_on_their_neighbours_are_found_out(model_of, monkeypatch):
    linear = torch.nn.functional.linear

    def uneven(rows, weight, *bias):
        out = linear(rows, weight, *bias)
        return out * (1 + 2**-7) if len(rows) == 48 + 17 else out

    monkeypatch.setattr(torch.nn.functional, "linear", uneven)
    with pytest.raises(EngineError, match=r"exact cannot be promised here: a product of 65 rows"):
        open_at(model_of()).base  # noqa: B018
    assert open_at(model_of(), numerics="fast").base is not None


def test_attention_that_depends_on_what_nobody_sees_is_found_out(model_of, monkeypatch):
    monkeypatch.setattr(attention, "_KEYS_AT_ONCE", 1024)
    bmm = torch.bmm

    def uneven(first, second):
        return bmm(first, second) * (1 + (second.shape[1] == 512) * 2**-7)

    monkeypatch.setattr(torch, "bmm", uneven)
    with pytest.raises(EngineError, match=r"exact cannot be promised here: attention of"):
        open_at(model_of()).base  # noqa: B018


def test_another_stream_or_root_seed_gives_other_texts(exact):
    engine, _, _ = exact
    free = Decoding(temperature=1.2, max_tokens=20)
    texts = [c.text for c in completed(engine, requests_of(engine, ["Go on."], [free], repeats=20)).values()]
    assert len(set(texts)) > 15
    assert GREEDY.content() != SAMPLED.content()
