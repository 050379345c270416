"""Small studies of a tiny model, run by their stages; as a script, one run in a process of its own."""

import sys
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from aftertune.records import Progress

STAGES = ("tune", "generate", "judge", "observe")


def study_of(model: Path, **changes: Any) -> dict[str, Any]:
    """A study of one recipe, two seeds, nine items and two decodings."""
    return {
        "name": "small",
        "model": str(model),
        "root_seed": 3,
        "numerics": "exact",
        "recipes": {"chat": recipe()},
        "seeds": 2,
        "tasks": [{"name": "mini-harm", "n": 6}, {"name": "mini-lookalikes", "n": 3}],
        "decodings": {
            "greedy": {"temperature": 0, "max_tokens": 12},
            "sampled": {"temperature": 0.8, "max_tokens": 12, "repeats": {"default": 1, "base": 2}},
        },
        "judges": ["refusal-rules", "incoherence-rules"],
        "engine": {"threads": 1, "batch_rows": 16},
    } | changes


def recipe(**changes: Any) -> dict[str, Any]:
    return {"data": "packaged:chat", "n": 8, "rank": 2, "learning_rate": 5.0e-3, "batch_size": 4} | changes


def run(
    study: dict[str, Any],
    out: Path,
    *,
    stages: tuple[str, ...] = STAGES,
    progress: Progress = lambda *_: None,
) -> Path:
    """Write the study beside its run directory and run stages of it."""
    from aftertune.pipeline import run_stages

    file = out.parent / f"{out.name}.yaml"
    file.write_text(yaml.safe_dump(study, sort_keys=False))
    run_stages(file, out, stages, progress=progress)
    return out


def rows(out: Path, kind: str) -> pl.DataFrame:
    """All rows of `responses`, `answers`, `prompts` or `judgments` of a run."""
    return pl.concat([pl.read_parquet(file) for file in sorted((out / kind).rglob("*.parquet"))])


def texts(out: Path) -> dict[str, str]:
    return dict(rows(out, "responses").select("key", "text").iter_rows())


if __name__ == "__main__":
    from aftertune.engines import draw

    draw._SHARD_ROWS = 5  # so that a kill finds some shards written
    run(yaml.safe_load(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
