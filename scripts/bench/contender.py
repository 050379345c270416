"""What every contender takes and prints."""

import argparse
import json
import resource
import sys
from pathlib import Path
from typing import Any


def options(description: str) -> argparse.ArgumentParser:
    """MODEL JOBS.json, with jobs of {"checkpoint": adapter or null, "prompt_token_ids", "seed", …}."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("jobs", type=Path)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--max-tokens", type=int, default=96)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    return parser


def read_jobs(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))


def say(*, start_up_s: float, generation_s: float, responses: int, tokens: int) -> None:
    """One line of JSON; tokens are those drawn, end tokens counted."""
    result = {
        "start_up_s": round(start_up_s, 2),
        "generation_s": round(generation_s, 2),
        "responses": responses,
        "tokens": tokens,
        "tokens_per_s": round(tokens / generation_s, 2),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
        result["peak_gpu_bytes"] = sys.modules["torch"].cuda.max_memory_allocated()
    print(json.dumps(result))
