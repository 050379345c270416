"""Make once what all contenders work on: five adapters, and the prompts of the packaged tasks as tokens.

python -m bench.material WORK       # writes WORK/material.json; some minutes the first time
"""

import json
import sys
from pathlib import Path

STUDY = Path(__file__).with_name("study.yaml")
ROUND = ("mini-harm", "mini-lookalikes", "mini-harm", "mini-numbers")  # any number of items mixes them alike


def main(work: Path) -> None:
    from aftertune.engines import open_local_engine
    from aftertune.engines.loading import resolve_model
    from aftertune.pipeline import run_stages
    from aftertune.store import RunDirectory
    from aftertune.study import read_study

    run = RunDirectory(work / "tuned")
    run_stages(STUDY, run.root, ("tune",))
    study = read_study(STUDY)
    source = resolve_model(study.model)
    engine = open_local_engine(study, source)
    items = {task: iter(rows["prompt"]) for (task,), rows in run.read_table(run.items).group_by("task")}
    prompts = []
    while (prompt := next(items[ROUND[len(prompts) % len(ROUND)]], None)) is not None:
        prompts.append({"prompt": prompt, "token_ids": engine.render(prompt, None).token_ids})
    found = {
        "model": str(source.path),
        "dtype": str(engine.dtype).removeprefix("torch."),
        # The base has no adapter.
        "checkpoints": [
            None if entry["kind"] == "base" else entry["path"] for entry in run.read_json(run.checkpoint_list)
        ],
        "examples": next(iter(study.recipes.values())).n,
        "prompts": prompts,
    }
    (work / "material.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
