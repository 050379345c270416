"""The transformers engine: its own decoding loop over a transformers model, for the base and its adapters.

Rows leave the batch as they finish and new ones take their place; a prompt is prefilled once for all its
requests that stand together; each row draws from its own named stream. Under `exact` numerics (DESIGN
section 3) a response has the same bytes whatever stands beside it: every prompt is prefilled alone, a step
has so many rows that no product is a small one, the rows see cache lengths in steps, attention is plain
matrix products in bfloat16, and adapters are never merged.
"""

import hashlib
import importlib.metadata
import inspect
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache

from aftertune.engines.adapters import AttachedAdapter, attach
from aftertune.engines.attention import MATMUL_ATTENTION
from aftertune.engines.base import Completion, Prompt, Request
from aftertune.engines.batch import Batch, Row
from aftertune.engines.loading import (
    ModelSource,
    context_length,
    load_model,
    load_tokenizer,
    pick_device,
    pick_dtype,
    render_chat,
)
from aftertune.engines.rows import LENGTH_STEP, RowCache
from aftertune.errors import EngineError, ModelError
from aftertune.records import Checkpoint, Finish, ResponseStatus
from aftertune.study import TransformersSpec

LOOP_REVISION = 3  # raise it when a change of this loop, its attention or its sampling changes bytes
# torch 2.13 on CPU computes a bfloat16 product of at most 16³ multiplications (rows × inputs × outputs), or
# of a single row, in kernels of its own, which add in another order (docs/log.md, 2026-11-21).
_SMALL_PRODUCT = 16**3
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
_PROBE = "Say in one sentence what you do."


class TransformersEngine:
    """Completes requests with one base model and, in turn, its adapters or full checkpoints."""

    def __init__(self, source: ModelSource, spec: TransformersSpec, *, numerics: str | None = None):
        """Choose device, dtype and attention; the base is loaded at its first use.

        Args:
            source: where the base model stands.
            spec: rows, threads, dtype and device.
            numerics: `exact` or `fast`; by default exact on CPU and fast elsewhere.

        Raises:
            EngineError: exact numerics were asked for where they cannot be promised.
        """
        self.source = source
        self.spec = spec
        self.device = pick_device(spec.device)
        self.numerics = numerics or ("exact" if self.device == "cpu" else "fast")
        self.dtype = pick_dtype(spec.dtype, self.device)
        if self.numerics == "exact":
            self._promise_exact()
        if spec.threads is not None:
            torch.set_num_threads(spec.threads)
        self.attention = "sdpa" if self.numerics == "fast" and self.device == "cuda" else MATMUL_ATTENTION
        self.tokenizer = load_tokenizer(source.path)
        self._active: Any = None
        self._taken: Checkpoint | None = None  # whose model is active
        self._fewest_rows = 1
        self._adapter: AttachedAdapter | None = None

    def _promise_exact(self) -> None:
        if self.device != "cpu":
            raise EngineError(
                f"numerics: exact was asked for on {self.device}, where it is not promised",
                "write `numerics: fast`, or `engine: {device: cpu}`",
            )
        if self.dtype != torch.bfloat16:
            raise EngineError(
                f"numerics: exact needs bfloat16, got {self.dtype}: products change with their neighbours",
                "write `engine: {dtype: bfloat16}`, or `numerics: fast`",
            )

    @cached_property
    def base(self) -> PreTrainedModel:
        """The base model, loaded at its first use, with or without an adapter beside its weights."""
        return self._load(self.source.path)

    def clean_base(self) -> PreTrainedModel:
        """The base model without any adapter: tuning trains on this very object."""
        self._detach()
        return self.base

    @property
    def identity(self) -> dict[str, Any]:
        """All of the engine that can change a response's bytes."""
        identity: dict[str, Any] = {
            "engine": "transformers",
            "base": self.source.sha256,  # an adapter's own hash does not name the base that it is used on
            "loop_revision": LOOP_REVISION,
            "numerics": self.numerics,
            "dtype": str(self.dtype).removeprefix("torch."),
            "attention": self.attention,
            "threads": torch.get_num_threads(),
            "processor": _processor(self.device),
            **{
                name: importlib.metadata.version(name)
                for name in ("torch", "transformers", "peft", "tokenizers")
            },
        }
        if self.numerics == "fast":
            identity["batch_rows"] = self.spec.batch_rows
        return identity

    def render(self, prompt: str, system_prompt: str | None) -> Prompt:
        """Apply the chat template once; the tokenizer adds no second BOS."""
        messages = [{"role": "user", "content": prompt}]
        if system_prompt is not None:
            messages.insert(0, {"role": "system", "content": system_prompt})
        text = render_chat(self.tokenizer, messages, add_generation_prompt=True)
        token_ids = tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        return Prompt(text, token_ids, hashlib.sha256(text.encode()).hexdigest())

    def _use(self, checkpoint: Checkpoint) -> None:
        """Take on the base, an adapter (beside the base's weights, never merged) or a full checkpoint.

        Raises:
            EngineError: the checkpoint has no weights, does not fit the base, or does not change its logits.
        """
        if checkpoint == self._taken:
            return
        if checkpoint.path is None:
            raise EngineError(
                f"checkpoint {checkpoint.label} is {checkpoint.status.value}", "train it again first"
            )
        self._detach()
        if checkpoint.kind == "base":
            self._take(self.base, checkpoint)
            return
        path, before = Path(checkpoint.path), self._probe(self.base)
        try:
            model = self._load(path) if checkpoint.kind == "full" else self._attach(path)
        except (EngineError, ModelError) as error:
            raise EngineError(f"checkpoint {checkpoint.label}: {error.what}", error.remedy) from error
        if torch.equal(before, self._probe(model)):
            raise EngineError(
                f"the {checkpoint.kind} checkpoint {checkpoint.label} does not change the logits of its base",
                f"look at {path}: was it trained, and on this base?",
            )
        self._take(model, checkpoint)

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Complete requests; those with one prompt that stand together share its prefill.

        A row whose logits are not finite is a failed response; the others go on.

        Raises:
            EngineError: a prompt and its max_tokens do not fit the model's context, or a checkpoint has no
                weights, does not fit the base, or does not change its logits.
        """
        pending = list(requests)
        for request in pending:
            self._check_length(request)
        for checkpoint, mine in groupby(pending, key=lambda request: request.checkpoint):
            self._use(checkpoint)
            n_cached = max(self.spec.batch_rows, self._fewest_rows)
            batch = Batch(self, size=self.spec.batch_rows, n_cached=n_cached, end_tokens=self.end_tokens)
            for row in batch.run(list(mine)):
                yield self._completion(row)

    @cached_property
    def end_tokens(self) -> frozenset[int]:
        """The tokens that end a response."""
        config = self.base.generation_config
        end = config.eos_token_id if config else None
        end = self.base.config.eos_token_id if end is None else end
        if end is None:
            raise ModelError(
                "the model names no end token", "write eos_token_id into its generation_config.json"
            )
        return frozenset([end] if isinstance(end, int) else end)

    @cached_property
    def _cache_word(self) -> str:
        """What the model calls its cache: transformers 5.24 renames it, model by model."""
        known = inspect.signature(self.base.forward).parameters
        return "cache" if "cache" in known else "past_key_values"

    def _check_length(self, request: Request) -> None:
        n_prompt, max_tokens = len(request.prompt.token_ids), request.decoding.max_tokens
        longest = context_length(self.base.config)
        if n_prompt + max_tokens > longest:
            raise EngineError(
                f"a prompt of {n_prompt} tokens and max_tokens {max_tokens} need {n_prompt + max_tokens} "
                f"positions; the model has {longest}",
                "shorten the prompt or lower max_tokens",
            )

    def _attach(self, path: Path) -> Any:
        base = self.base
        del self.base  # spoilt where the adapter does not fit
        self._adapter = attach(base, path)
        self.base = base
        return self._adapter.model.eval()

    def _detach(self) -> None:
        self._active = self._taken = None
        if self._adapter is not None:
            unspoilt = self._adapter.detach()
            self._adapter = None
            if not unspoilt:
                del self.base

    def _take(self, model: Any, checkpoint: Checkpoint) -> None:
        self._active, self._taken = model, checkpoint
        if self.numerics == "exact":
            config = self.base.config.get_text_config()
            if any(getattr(config, name, None) for name in _EXPERTS):
                raise EngineError(
                    f"numerics: exact is not promised for {config.model_type}: the rows meet in its experts",
                    "write `numerics: fast`",
                )
            sizes = [weight.numel() for weight in model.parameters() if weight.ndim == 2]
            # The products of attention, for all heads of one row, over the shortest cache.
            size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
            sizes.append(config.num_attention_heads * size * LENGTH_STEP)
            self._fewest_rows = max(2, _SMALL_PRODUCT // min(sizes) + 1)

    def _load(self, path: Path) -> PreTrainedModel:
        return load_model(path, dtype=self.dtype, device=self.device, attention=self.attention).eval()

    @torch.inference_mode()
    def _probe(self, model: Any) -> torch.Tensor:
        """The logits at every token of a prompt: a weak change may not show at the last one."""
        ids = torch.tensor([self.render(_PROBE, None).token_ids], device=self.device)
        return model(input_ids=ids, use_cache=False).logits

    @torch.inference_mode()
    def logits(self, checkpoint: Checkpoint, token_ids: Sequence[int]) -> torch.Tensor:
        """The logits after each token of one text, computed alone; tokens × vocabulary."""
        self._use(checkpoint)
        ids = torch.tensor([list(token_ids)], device=self.device)
        return self._active(input_ids=ids, use_cache=False).logits[0]

    @torch.inference_mode()
    def prefill(self, prompt: Prompt) -> tuple[torch.Tensor, DynamicCache]:
        """The logits after a prompt (1 × vocabulary) and its keys and values; always computed alone."""
        ids = torch.tensor([prompt.token_ids], device=self.device)
        n = ids.shape[1]
        seen = torch.ones(n, n, dtype=torch.bool, device=self.device).tril()[None, None]
        cache = DynamicCache()
        # An index, not a count: a slice of one row would make torch copy the whole output matrix each time.
        last = torch.tensor([n - 1], device=self.device)
        out = self._active(
            input_ids=ids,
            attention_mask=seen,
            **{self._cache_word: cache},
            use_cache=True,
            logits_to_keep=last,
        )
        return out.logits[:, -1], cache

    @torch.inference_mode()
    def step(self, tokens: list[int], positions: list[int], cache: RowCache) -> torch.Tensor:
        """Read one token a row; logits of rows × vocabulary, for the rows given."""
        n = len(tokens)
        filler = max(0, self._fewest_rows - n)
        ids = torch.tensor(tokens + [0] * filler, device=self.device)[:, None]
        places = torch.tensor(positions + [0] * filler, device=self.device)
        cache.aim(places)
        seen = torch.arange(cache.visible, device=self.device)[None, :] <= places[:, None]
        out = self._active(
            input_ids=ids,
            position_ids=places[:, None],
            attention_mask=seen[:, None, None, :],
            **{self._cache_word: cache},
            use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[:n, -1]

    def _completion(self, row: Row) -> Completion:
        """The text of a row that ended; its end token is not counted."""
        tokens = row.tokens[:-1] if row.finish is Finish.STOP else row.tokens
        text = str(self.tokenizer.decode(tokens, skip_special_tokens=True))
        if row.fault:
            return Completion(row.request.key, text, len(tokens), None, ResponseStatus.FAILED, row.fault)
        status = ResponseStatus.OK if text.strip() else ResponseStatus.EMPTY
        reason = "" if text.strip() else f"no text in {len(tokens)} tokens"
        return Completion(row.request.key, text, len(tokens), row.finish, status, reason)


def _processor(device: str) -> str:
    """What decides which kernels compute; libraries look beyond the capability that torch names."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    extras = [name for name in ("amx_bf16", "arm_bf16", "avx512_bf16") if found.get(name)]
    return " ".join([torch.backends.cpu.get_cpu_capability(), *extras])
