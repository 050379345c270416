"""The products of the base's weights alone, for 64 rows: what no engine in this dtype can pass here.

    python -m bench.products MODEL --dtype float32 --rows 64

An engine of 64 rows makes these products once for every 64 tokens that it draws, and attention, adapters,
sampling and the reading of prompts come on top. Prints one line of JSON.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

N_TIMES = 11


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rows", type=int, default=64)
    asked = parser.parse_args()
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(asked.model, dtype=getattr(torch, asked.dtype))
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    inputs = {
        size: torch.randn(asked.rows, size, dtype=layers[0].weight.dtype)
        for size in {layer.in_features for layer in layers}
    }
    seconds = []
    with torch.inference_mode():
        for _ in range(N_TIMES):
            start = time.perf_counter()
            for layer in layers:
                layer(inputs[layer.in_features])
            seconds.append(time.perf_counter() - start)
    step_s = median(seconds)
    flop = 2 * asked.rows * sum(layer.weight.numel() for layer in layers)
    result = {
        "rows": asked.rows,
        "step_s": step_s,
        "gflop_per_s": round(flop / step_s / 1e9, 1),
        "tokens_per_s": round(asked.rows / step_s, 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
