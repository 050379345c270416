"""transformers' generate as people run it: a checkpoint after another, each loaded with peft, not merged.

Prompts are sorted by length and padded left; attention is transformers' own choice (sdpa); a batch draws
until the last of its rows has ended. It knows nothing of aftertune.

    python -m bench.generate MODEL JOBS.json --batch 32 --dtype float32
"""

import time
from itertools import groupby
from typing import Any

from bench.contender import options, read_jobs, say


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--dtype", default="float32")
    asked = parser.parse_args()
    jobs = read_jobs(asked.jobs)
    start_up_s = generation_s = 0.0
    tokens = 0
    for path, together in groupby(jobs, key=lambda job: job["checkpoint"]):
        start = time.monotonic()
        model, end_tokens, pad = load(asked.model, path, asked.dtype, asked.device)
        loaded = time.monotonic()
        mine = sorted(together, key=lambda job: len(job["prompt_token_ids"]))
        for first in range(0, len(mine), asked.batch):
            drawn = draw(model, mine[first : first + asked.batch], pad, asked.temperature, asked.max_tokens)
            tokens += sum(n_drawn(row, end_tokens) for row in drawn)
        start_up_s += loaded - start
        generation_s += time.monotonic() - loaded
    say(start_up_s=start_up_s, generation_s=generation_s, responses=len(jobs), tokens=tokens)


def load(path: Any, adapter: str | None, dtype: str, device: str) -> tuple[Any, set[int], int]:
    """The model, its end tokens and the token to pad with."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype))
    end = model.generation_config.eos_token_id
    end_tokens = {end} if isinstance(end, int) else set(end)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    return model.to(device).eval(), end_tokens, min(end_tokens)


def draw(
    model: Any, jobs: list[dict[str, Any]], pad: int, temperature: float, max_tokens: int
) -> list[list[int]]:
    """The tokens drawn for each job, padded behind its end."""
    import torch

    width = max(len(job["prompt_token_ids"]) for job in jobs)
    padding = [width - len(job["prompt_token_ids"]) for job in jobs]
    rows = [[pad] * n + job["prompt_token_ids"] for n, job in zip(padding, jobs, strict=True)]
    mask = [[0] * n + [1] * (width - n) for n in padding]
    torch.manual_seed(jobs[0]["seed"])
    with torch.inference_mode():
        out = model.generate(
            input_ids=torch.tensor(rows, device=model.device),
            attention_mask=torch.tensor(mask, device=model.device),
            do_sample=True,
            temperature=temperature,
            top_k=0,  # the whole distribution, as the others draw from
            top_p=1.0,
            max_new_tokens=max_tokens,
            pad_token_id=pad,
        )
    return out[:, width:].tolist()


def n_drawn(row: list[int], end_tokens: set[int]) -> int:
    return next((n for n, token in enumerate(row, start=1) if token in end_tokens), len(row))


if __name__ == "__main__":
    main()
