"""Whether exact numerics hold under the instruction set that the environment sets; one JSON object on stdout.

Run as a process of its own, since libraries read these settings when they start:
`MKL_CBWR=COMPATIBLE python machine_trial.py FOLDER`.
"""

import json
import random
import sys
from pathlib import Path

import torch

from engine_models import END_TOKENS, completed, open_at, requests_of, save_model


def trial(folder: Path, dtype: str, threads: int) -> dict[str, object]:
    """The way that was found, and whether texts depend on the rows at work and their order."""
    engine = open_at(folder, dtype=dtype, threads=threads, numerics=None)
    prompts = [f"Item {n}. " + "How many loaves? " * (n % 7) for n in range(8)]
    requests = requests_of(engine, prompts, repeats=1)
    expected = completed(engine, requests)
    differ = 0
    for rows in (2, 5):
        few = open_at(folder, dtype=dtype, threads=threads, numerics=None, batch_rows=rows)
        got = completed(few, random.Random(rows).sample(requests, len(requests)))
        differ += sum(got[key] != expected[key] for key in expected)
    texts = len({completion.text for completion in expected.values()})
    return {"way": engine.identity.get("way"), "differ": differ, "texts": texts, "of": len(requests)}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    if not (folder / "config.json").is_file():
        save_model(folder, dtype=torch.float32, eos_token_id=list(END_TOKENS))
    tried = (("float32", 1), ("float32", 2), ("float32", 4), ("bfloat16", 2))
    found = {f"{dtype} {threads}": trial(folder, dtype, threads) for dtype, threads in tried}
    print(json.dumps({"capability": torch.backends.cpu.get_cpu_capability(), "found": found}))
