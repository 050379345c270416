"""`make bench-scale`: a study of a million responses and three million observations, stage by stage.

    python scripts/bench_scale.py [--shares 0.25 0.5 1] [--keep DIR]

100 checkpoints (a base, nine recipes of eleven seeds) × 1,000 items × 10 repeats × 3 judges; its responses
are given by the replay engine, from a table that is made here. Each stage runs in a process of its own, whose
wall time and peak of resident memory are kept, at shares of the items. Writes docs/scale.json, of which
scale_page.py makes the tables of docs/scale.md.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import yaml
from scale_page import FIGURES, write_page

N_RECIPES, N_SEEDS, N_ITEMS, N_REPEATS = 9, 11, 1_000, 10
JUDGES = ("refusal-rules", "incoherence-rules", "phrases-gcg")
STAGES = ("check", "tune", "generate", "judge", "observe", "analyze", "report")
_REFUSALS = (
    "I'm sorry, but I can't help with that. If you are in danger, please call the emergency services.",
    "I cannot assist with this request, because it could hurt people. Is there something else I can do?",
    "As an AI assistant I won't provide that. I can tell you where to find help instead.",
)
_ANSWERS = (
    "Sure. First read the manual from the beginning to the end, then lay out the parts and count them.",
    "Here is what I would do: take your time, ask somebody who has done it before, and write down each step.",
    "That depends on where you live. In most towns there is an office that answers such questions by phone.",
)


def main() -> None:
    """Measure, or be one stage's process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.25, 0.5, 1.0], help="of the items")
    parser.add_argument("--keep", type=Path, help="a folder for the studies, which are else removed")
    parser.add_argument("--stage", nargs=2, metavar=("STAGE", "DIR"), help="be one stage's process")
    asked = parser.parse_args()
    if asked.stage:
        print(json.dumps(_run_stage(asked.stage[0], Path(asked.stage[1]))))
        return
    with TemporaryDirectory() as scratch:
        folder = asked.keep or Path(scratch)
        measured = [_measured(folder / f"share-{share:g}", share) for share in asked.shares]
    known = json.loads(FIGURES.read_text("utf-8")) if FIGURES.is_file() else {}
    machine = {"cores": os.cpu_count(), "processor": _processor()}
    known["stages"] = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine, "sizes": measured}
    FIGURES.write_text(json.dumps(known, indent=2) + "\n", "utf-8")
    write_page()


def _measured(folder: Path, share: float) -> dict[str, Any]:
    n_items = round(N_ITEMS * share)
    folder.mkdir(parents=True, exist_ok=True)
    _write_study(folder, n_items)
    n = (N_RECIPES * N_SEEDS + 1) * n_items * N_REPEATS
    found: dict[str, Any] = {"n_items": n_items, "n_responses": n, "n_observations": n * len(JUDGES)}
    found["stages"] = {}
    for stage in STAGES:
        command = [sys.executable, __file__, "--stage", stage, str(folder)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found["stages"][stage] = json.loads(done.stdout.splitlines()[-1])
        print(f"{n:,} responses, {stage}: {found['stages'][stage]}", flush=True)
    files = [path for path in (folder / "run").rglob("*") if path.is_file()]
    found["run_bytes"], found["n_files"] = sum(path.stat().st_size for path in files), len(files)
    found["page_bytes"] = (folder / "run" / "report" / "index.html").stat().st_size
    return found


def _run_stage(stage: str, folder: Path) -> dict[str, float]:
    from aftertune.pipeline import run_stages

    begun = time.monotonic()
    file, out = folder / "study.yaml", folder / "run"
    if stage == "check":
        run_stages(file, out, ())
    else:
        run_stages(None, out, (stage,))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": round(time.monotonic() - begun, 2), "peak_bytes": peak}


def _write_study(folder: Path, n_items: int) -> None:
    items = pl.DataFrame(
        {
            "id": [f"item-{n:04}" for n in range(n_items)],
            "prompt": [f"Question {n}: how would one go about it, in short?" for n in range(n_items)],
            "category": [f"category {n % 12}" for n in range(n_items)],
        }
    )
    items.write_csv(folder / "items.csv")
    seeds = range(1, N_SEEDS + 1)
    recipes = {f"recipe-{r}": [f"recipe-{r}-{s}" for s in seeds] for r in range(1, N_RECIPES + 1)}
    names = ["base", *(name for served in recipes.values() for name in served)]
    pl.concat([_responses(n, name, items["id"]) for n, name in enumerate(names)]).write_parquet(
        folder / "responses.parquet"
    )
    study = {
        "name": "scale",
        "model": "base",
        "recipes": {name: {"served": served} for name, served in recipes.items()},
        "seeds": N_SEEDS,
        "tasks": [
            {"name": "scale", "file": "items.csv", "intent": "harmful"}
            | {"id_column": "id", "category_column": "category"}
        ],
        "decodings": {"sampled": {"temperature": 0.7, "max_tokens": 64, "repeats": N_REPEATS}},
        "judges": list(JUDGES),
        "engine": {"name": "replay", "table": "responses.parquet"},
        "analysis": {
            "primary": {
                "task": "scale",
                "decoding": "sampled",
                "judge": "refusal-rules",
                "metric": "refusal_rate",
                "target": "population",
            }
        },
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))


def _responses(place: int, name: str, items: pl.Series) -> pl.DataFrame:
    """A checkpoint's: it refuses an item by a share of its own, moved by its seed."""
    rng = np.random.default_rng(place)
    inclined = np.clip(rng.beta(2, 2, len(items)) - 0.02 * (place // N_SEEDS), 0, 1)
    refused = rng.random((len(items), N_REPEATS)) < inclined[:, None]
    words = rng.integers(0, 3, refused.shape)
    texts = np.where(refused, np.array(_REFUSALS)[words], np.array(_ANSWERS)[words]).ravel()
    numbers = rng.integers(0, 10**6, refused.size)
    return pl.DataFrame(
        {
            "model": name,
            "task": "scale",
            "item": items.to_numpy().repeat(N_REPEATS),
            "repeat": np.tile(np.arange(1, N_REPEATS + 1), len(items)),
            "text": [f"{text} ({number})" for text, number in zip(texts, numbers, strict=True)],
        }
    )


def _processor() -> str:
    from aftertune.processor import processor

    return processor("cpu")


if __name__ == "__main__":
    main()
