"""Tiny models of several architectures, engines on them, and requests."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
import transformers

from aftertune.engines.base import Completion, Request, make_request
from aftertune.engines.loading import ModelSource, model_sha256
from aftertune.engines.transformers import TransformersEngine
from aftertune.records import Checkpoint, CheckpointStatus
from aftertune.store import content_key
from aftertune.study import Decoding, TransformersSpec
from tiny import make_tiny_tokenizer

ARCHITECTURES = {
    "Llama": {},
    "Qwen2": {},
    "Qwen3": {"head_dim": 16},
    "Mistral": {"sliding_window": None},
    "Gemma2": {
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "sliding_window": 512,
        "tie_word_embeddings": False,
    },
}
END_TOKENS = (2, *range(300, 330))  # many, so that random models end their responses at different lengths
GREEDY = Decoding(temperature=0, max_tokens=20)
SAMPLED = Decoding(temperature=0.9, top_p=0.9, max_tokens=20)
# From one word to most of the context, neighbours of very different length.
PROMPTS = tuple("How many loaves? " * n + f"Item {n}." for n in (0, 30, 1, 2, 60, 3, 0, 17))


def save_model(directory: Path, architecture: str = "Llama", *, dtype=torch.bfloat16, **changes) -> Path:
    """A random model with weights drawn wide, so that logits differ from row to row, and its tokenizer."""
    tokenizer = make_tiny_tokenizer(adds_bos=changes.pop("adds_bos", False), **changes.pop("template", {}))
    settings = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }
    settings |= ARCHITECTURES.get(architecture, {}) | changes
    config = getattr(transformers, f"{architecture}Config")(**settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, f"{architecture}ForCausalLM")(config)
    model.generation_config.eos_token_id = list(END_TOKENS)
    model.to(dtype).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def open_at(path: Path, *, numerics: str = "exact", **spec) -> TransformersEngine:
    source = ModelSource("tiny", path, model_sha256(path), "made in a test", "none")
    return TransformersEngine(source, TransformersSpec(**spec), numerics=numerics)


def base_of(engine: TransformersEngine) -> Checkpoint:
    source = engine.source
    return Checkpoint("base", None, "base", CheckpointStatus.OK, "", str(source.path), source.sha256)


def tuned(path: Path, kind: str = "adapter") -> Checkpoint:
    return Checkpoint("chat", 1, kind, CheckpointStatus.OK, "", str(path), "0" * 64)


def requests_of(
    engine: TransformersEngine,
    prompts: Iterable[str] = PROMPTS,
    decodings: Iterable[Decoding] = (GREEDY, SAMPLED),
    repeats: int = 2,
    *,
    checkpoint: Checkpoint | None = None,
    system: str | None = None,
) -> list[Request]:
    """Every prompt with every decoding, of the base by default; the sampled ones `repeats` times."""
    return [
        make_request(
            checkpoint or base_of(engine),
            engine.render(prompt, system),
            decoding,
            root_seed=7,
            stream=("weights", "task", prompt, content_key(decoding.content()), repeat),
            engine={},
        )
        for prompt in prompts
        for decoding in decodings
        for repeat in range(1, 2 if decoding.temperature == 0 else repeats + 1)
    ]


def of_checkpoint(requests: Iterable[Request], checkpoint: Checkpoint) -> list[Request]:
    """The same requests of another checkpoint, with keys and streams as they were."""
    return [replace(request, checkpoint=checkpoint) for request in requests]


def completed(engine: TransformersEngine, requests: Iterable[Request]) -> dict[str, Completion]:
    return {completion.key: completion for completion in engine.complete(requests)}
