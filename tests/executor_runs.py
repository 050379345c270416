"""One study for one process, for several and for a cluster, and how their runs are held together."""

import json
from pathlib import Path
from typing import Any

from stage_runs import recipe, rows, run, study_of, texts


def small_study(model: Path) -> dict[str, Any]:
    """Two recipes, one of which asks the base for its answers, two seeds, nine items, two decodings."""
    own = recipe(answers="self", self_max_tokens=12)
    return study_of(model, recipes={"chat": recipe(), "own": own}) | {
        "analysis": {
            "primary": {
                "task": "mini-harm",
                "decoding": "sampled",
                "judge": "incoherence-rules",
                "metric": "incoherence_rate",
                "target": "benchmark",
            }
        }
    }


def undisturbed_run(model: Path, out: Path) -> Path:
    """One process, from the beginning to the end."""
    return run(small_study(model), out)


def compared(out: Path, undisturbed: Path) -> None:
    """Nothing lost, nothing twice, and the same bytes."""
    assert (out / "observations.parquet").read_bytes() == (undisturbed / "observations.parquet").read_bytes()
    assert texts(out) == texts(undisturbed)
    assert rows(out, "responses")["key"].is_unique().all()
    assert hashes(out) == hashes(undisturbed)
    assert not list(out.rglob(".training-*")) and not list(out.rglob(".writing-*"))


def hashes(out: Path) -> dict[str, str]:
    """The checkpoints' hashes, by model and seed."""
    listed = json.loads((out / "checkpoints.json").read_text())
    return {f"{entry['model']}/{entry['seed']}": entry["sha256"] for entry in listed}
