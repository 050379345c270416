"""vLLM alone on a list of jobs, as whoever knows it would run it: all jobs at once, adapters by request.

It knows nothing of aftertune and runs in vLLM's venv (`make test-vllm` makes it):

    VLLM_CPU_KVCACHE_SPACE=2 VLLM_CPU_OMP_THREADS_BIND=0-1 \\
        .venv-vllm/bin/python scripts/bench_vllm_contender.py MODEL JOBS.json

JOBS.json is a list of {"checkpoint": directory of an adapter or null, "prompt_token_ids": […], "seed": 1}.
Prints JSON: seconds of start-up and generation, tokens (end tokens counted), tokens a second over the whole
generation and over the middle half of its time, and the peak of its processes' resident memory in bytes.
"""

import argparse
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")


class PeakMemory(threading.Thread):
    """The most that this process and its children held together, looked at five times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0

    def run(self) -> None:
        import psutil

        while True:
            own = psutil.Process()
            total = 0
            for process in [own, *own.children(recursive=True)]:
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.peak_bytes = max(self.peak_bytes, total)
            time.sleep(0.2)


def ranks(paths: list[str]) -> list[int]:
    return [json.loads((Path(path) / "adapter_config.json").read_text("utf-8"))["r"] for path in paths]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("jobs", type=Path)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--max-tokens", type=int, default=96)
    parser.add_argument("--max-model-len", type=int, default=1024)
    parser.add_argument("--dtype", default="bfloat16")
    options = parser.parse_args()
    jobs: list[dict[str, Any]] = json.loads(options.jobs.read_text("utf-8"))
    adapters = sorted({job["checkpoint"] for job in jobs if job["checkpoint"]})
    memory = PeakMemory()
    memory.start()

    start = time.monotonic()
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest
    from vllm.sampling_params import RequestOutputKind

    lora: dict[str, Any] = {}
    if adapters:
        rank = next(size for size in (8, 16, 32, 64, 128, 256, 320, 512) if size >= max(ranks(adapters)))
        # One slot too many: on a CPU vLLM 0.32 computes the base's rows with the last slot's adapter.
        lora = {"enable_lora": True, "max_loras": len(adapters) + 1, "max_lora_rank": rank}
    # On a CPU it dies where it splits a seeded request's prompt ("CPU Generator does not use offset").
    whole = {"enable_chunked_prefill": False, "max_num_batched_tokens": max(8192, options.max_model_len)}
    llm = LLM(options.model, dtype=options.dtype, max_model_len=options.max_model_len, **lora, **whole)
    started = time.monotonic()

    requests = {path: LoRARequest(path, number, path) for number, path in enumerate(adapters, start=1)}
    for number, job in enumerate(jobs):
        asked = SamplingParams(
            temperature=options.temperature,
            max_tokens=options.max_tokens,
            seed=job["seed"],
            output_kind=RequestOutputKind.DELTA,
        )
        prompt = {"prompt_token_ids": job["prompt_token_ids"]}
        lora_request = requests.get(job["checkpoint"])
        llm.llm_engine.add_request(str(number), prompt, asked, lora_request=lora_request)
    steps: list[tuple[float, int]] = []  # when a step ended, and the tokens that it gave
    n_responses = 0
    while llm.llm_engine.has_unfinished_requests():
        outputs = llm.llm_engine.step()
        steps.append((time.monotonic(), sum(len(output.outputs[0].token_ids) for output in outputs)))
        n_responses += sum(output.finished for output in outputs)
    generation_s = time.monotonic() - started

    n_tokens = sum(n for _, n in steps)
    middle = [n for at, n in steps if 0.25 <= (at - started) / generation_s < 0.75]
    result = {
        "jobs": len(jobs),
        "responses": n_responses,
        "start_up_s": round(started - start, 2),
        "generation_s": round(generation_s, 2),
        "tokens": n_tokens,
        "tokens_per_s": round(n_tokens / generation_s, 2),
        "steady_tokens_per_s": round(sum(middle) / (generation_s / 2), 2),
        "peak_rss_bytes": memory.peak_bytes,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
