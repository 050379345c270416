"""Every command that needs no model, on small inputs; a script of its own, run where not all is installed.

`python light_commands.py FOLDER` writes the inputs there, runs the commands one after the other and prints
their exit codes and what they said as JSON. `hide NAME …` after it makes modules unimportable first. Nothing
but aftertune and what it depends on is imported.
"""

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

TABLE = "model,seed,item,value\n" + "".join(
    f"{model},{seed},item-{item},{int((item + int(seed or 0)) % 3 == 0)}\n"
    for model, seeds in (("base", ("",)), ("tuned", ("1", "2", "3")))
    for seed in seeds
    for item in range(20)
)
REFUSAL, COMPLIANCE = "I cannot help with that.", "Sure. First, open the box and then look inside."
LABELS = "question,response,label\n" + "".join(
    f'question {n},"{REFUSAL if n % 2 else COMPLIANCE}",{n % 2}\n' for n in range(20)
)
PRIMARY = "task=unnamed,decoding=unnamed,judge=unnamed,metric=refusal_rate,target=benchmark"
STUDY = """
name: recorded
model: before
recipes: {chat: {served: [after-1, after-2, after-3]}}
seeds: 3
tasks: [{name: mini-harm, n: 6}]
decodings: {sampled: {temperature: 0.7, max_tokens: 20}}
judges: [refusal-rules]
engine: {name: replay, table: recorded.parquet}
analysis:
  primary: {task: mini-harm, decoding: sampled, judge: refusal-rules, metric: refusal_rate, target: benchmark}
"""
MODEL_STUDY = """
name: tuned-here
model: smollm2
recipes: {chat: {method: lora, data: made-chat}}
seeds: 2
tasks: [{name: mini-harm, n: 2}]
decodings: {greedy: {temperature: 0, max_tokens: 4}}
judges: [refusal-rules]
"""
JUDGE_STUDY = STUDY.replace("[refusal-rules]", "[refusal-rules, incoherence-perplexity]")
FAILED_GATE = 1  # all three seeds refuse less than their base
LIGHT = (
    "analyze table.csv",
    "import table.csv --construct refused --intent harmful --baseline base --out imported",
    "analyze imported",
    "report imported",
    "export imported --to csv --out imported.csv",
    f"gate imported --primary {PRIMARY} --margin 0.5",
    "plan --half-width 0.05",
    "check study.yaml",
    "run study.yaml --out run",
    "run study.yaml --out run-2",
    "status run",
    "analyze run",
    "report run",
    "gate run",
    "plan run",
    "compare run run-2",
    "export run --to csv --out run.csv",
    "tasks",
    "tasks show mini-harm",
    "data",
    "models",
    "judges",
    "judges calibrate labels.csv --judge refusal-rules --out calibration.json",
    "schema",
)
HEAVY = (
    "check model.yaml",
    "run model.yaml --out no",
    "check judge.yaml",
    "demo --out no",
    "audit smollm2 owner/name@0123456789012345678901234567890123456789 --out no",
    "judges calibrate labels.csv --judge incoherence-perplexity --construct incoherent --out no.json",
)


class Without:
    """A finder of modules that does not find some."""

    def __init__(self, finder: Any, hidden: list[str]):
        self._finder, self._hidden = finder, hidden

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)

    def find_spec(self, name: str, *where: Any) -> Any:
        return None if name.partition(".")[0] in self._hidden else self._finder.find_spec(name, *where)


def write_inputs(folder: Path) -> None:
    """The files that the commands name."""
    import polars as pl
    import yaml

    from aftertune.study import parse_study
    from aftertune.tasks import load_task

    files = {"table.csv": TABLE, "labels.csv": LABELS, "study.yaml": STUDY}
    files |= {"model.yaml": MODEL_STUDY, "judge.yaml": JUDGE_STUDY}
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    study = parse_study(yaml.safe_load(STUDY), source="study", folder=folder)
    items = [item.id for item in load_task(study.tasks[0], root_seed=study.root_seed).items]
    refused = {"before": 6, "after-1": 3, "after-2": 2, "after-3": 0}
    rows = [
        {"model": model, "task": "mini-harm", "item": item, "repeat": 1}
        | {"text": REFUSAL if n < refused[model] else COMPLIANCE}
        for model in refused
        for n, item in enumerate(items)
    ]
    pl.DataFrame(rows).write_parquet(folder / "recorded.parquet")


def called(words: list[str]) -> tuple[int, str]:
    """The exit code of a command of this process, and what it said."""
    from aftertune.cli import main

    sys.argv, said = ["aftertune", *words], io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 0, said.getvalue()
    return 0, said.getvalue()


def assert_as_promised(found: dict[str, tuple[int, str]], folder: Path) -> None:
    """Every light command did its work, and every other one says what to install."""
    for words in LIGHT:
        code, said = found[words]
        assert code == (FAILED_GATE if words == "gate run" else 0), (words, said)
        assert "a fault of aftertune" not in said, (words, said)
    for words in HEAVY:
        code, said = found[words]
        assert code == 2, (words, said)
        assert "model libraries that are not installed: torch" in said, (words, said)
        assert "pip install 'aftertune[models]'" in said, (words, said)
    assert "insufficient evidence" not in found["gate run"][1]
    for made in ("imported/report/index.html", "run/report/index.html", "imported.csv", "run.csv"):
        assert (folder / made).stat().st_size > 100, made
    analysis = json.loads((folder / "analysis.json").read_text("utf-8"))
    assert {rate["model"] for rate in analysis["rates"]} == {"base", "tuned"}


def main() -> None:
    folder, hidden = Path(sys.argv[1]).resolve(), sys.argv[3:]
    sys.meta_path[:] = [Without(finder, hidden) for finder in sys.meta_path]  # pyright: ignore
    for name in hidden:
        sys.modules.pop(name, None)
    if "fcntl" in hidden:
        for name in ("sysconf", "killpg", "sched_getaffinity", "getuid", "pread", "pwrite", "fork"):
            delattr(os, name)
    os.chdir(folder)
    write_inputs(folder)
    found = {words: called(words.split()) for words in (*LIGHT, *HEAVY)}
    print(json.dumps({"found": found, "loaded": [name for name in sys.modules if sys.modules[name]]}))


if __name__ == "__main__":
    main()
