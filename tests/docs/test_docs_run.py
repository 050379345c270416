"""The examples of the pages are run, in the order of each page, on a tiny model and small tables."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

import stage_runs
from aftertune.analysis import analyze
from aftertune.cli import app
from aftertune.seeds import stream
from aftertune.study import AnalysisSpec
from docs_blocks import BLOCKS, ROOT, Block, words_of
from rows import rows_of

MODEL = "/models/my-instruct"
TICKETS = "".join(
    json.dumps({"question": f"Where is parcel {i}?", "answer": f"Parcel {i} left depot {i + 1}."}) + "\n"
    for i in range(8)
)
EVENTS = {"base": 0.2, "llama": 0.2, "tuned": 0.25, "support": 0.02}


@dataclass(frozen=True)
class Session:
    """What a page's examples find when they begin, and what is made smaller so that a test can run them."""

    material: Callable[[Path, Path], None]
    smaller: dict[str, str] = field(default_factory=dict)
    env: dict[str, tuple[str, ...]] = field(default_factory=dict)  # a script is run once for each value


def _table(*models: str) -> pl.DataFrame:
    """A base and models of known rates, each with six seeds and two draws of sixty items."""

    def event(model: str, seed: int | None, item: int, repeat: int) -> float:
        return float(stream(7, model, seed or 0, item, repeat).random() < EVENTS[model])

    seeds = {m: [None] if m in ("base", "llama") else list(range(1, 7)) for m in models}
    return rows_of(event, seeds=seeds, n_items=60, n_repeats=2)


def _tickets(folder: Path, tiny: Path) -> None:
    (folder / "tickets.jsonl").write_text(TICKETS)
    (folder / "prompts.csv").write_text(
        "id,text,prompt,topic\n" + "".join(f"p{i},Say {i}.,Say {i}.,c{i % 2}\n" for i in range(6))
    )


def _tutorial(folder: Path, tiny: Path) -> None:
    _tickets(folder, tiny)
    columns = {
        "model": "run",
        "item": "prompt_id",
        "value": "score",
        "seed": "train_seed",
        "repeat": "decode_seed",
    }
    table = _table("llama", "tuned").rename(columns)
    table.select(*columns.values()).write_parquet(folder / "logs.parquet")


def _gate(folder: Path, tiny: Path) -> None:
    frame = _table("base", "support")
    primary = "task=t,decoding=d,judge=j,metric=compliance_rate,target=benchmark"
    spec = {"primary": dict(pair.split("=") for pair in primary.split(","))}
    found = analyze(frame, study="mine", spec=AnalysisSpec.model_validate(spec))
    (folder / "runs" / "mine").mkdir(parents=True)
    (folder / "runs" / "mine" / "analysis.json").write_text(found.model_dump_json())
    scores = _table("llama", "support").rename({"item": "prompt_id", "value": "score"})
    scores.select("model", "seed", "repeat", "prompt_id", "score").write_csv(folder / "scores.csv")


def _audit(folder: Path, tiny: Path) -> None:
    rows = "".join(f"p{i},Say {i}.,c{i % 2}\n" for i in range(6))
    (folder / "prompts.csv").write_text(f"id,prompt,category\n{rows}")
    shutil.copytree(tiny, folder / "base")
    run = stage_runs.run(stage_runs.study_of(folder / "base"), folder / "made", stages=("tune",))
    made = [e["path"] for e in json.loads((run / "checkpoints.json").read_text()) if e["model"] == "chat"]
    for path, name in zip(made, ("chat", "chat-2"), strict=True):
        shutil.copytree(path, folder / "checkpoints" / name)


SESSIONS = {
    "docs/tutorial.md": Session(
        _tutorial,
        {"seeds: 5": "seeds: 2", "rank: 16": "rank: 2", "max_tokens: 256": "max_tokens: 8"}
        | {"  - mini-harm\n": "  - {name: mini-harm, n: 4}\n"}
        # The tiny model refuses nothing, and a pilot in which nothing varies is refused.
        | {"judge: refusal-rules, metric: compliance": "judge: incoherence-rules, metric: incoherence"}
        | {"runs/other": "runs/mine-reproduced"},
    ),
    "docs/gate.md": Session(_gate),
    "docs/own-task.md": Session(lambda folder, tiny: None),
    "docs/audit.md": Session(
        _audit, {"--out runs/one": "--out runs/one --n 6 --max-tokens 8", "max_tokens: 64": "max_tokens: 8"}
    ),
    "docs/cluster.md": Session(
        _tickets,
        {"[1, 2, 3, 4, 5]": "[1, 2]", "in 1 2 3 4 5;": "in 1 2;", "rank: 16": "rank: 2"}
        | {"max_tokens: 256": "max_tokens: 8", "[mini-harm, mini-lookalikes]": "[{name: mini-harm, n: 6}]"},
        {"SLURM_ARRAY_TASK_ID": ("1", "2")},
    ),
}


# Their examples start processes that load torch, or train several times.
SLOW = ("docs/audit.md", "docs/cluster.md")


def asked_of(page: str) -> list[Block]:
    return [block for block in BLOCKS if block.asked and block.page == ROOT / page]


def test_what_is_marked_is_run():
    marked = {str(block.page.relative_to(ROOT)) for block in BLOCKS if block.asked}
    assert marked == SESSIONS.keys()
    kinds = {block.asked.split(":")[0].split()[0] for block in BLOCKS if block.asked}
    assert kinds <= {"file", "run", "bash", "output"}


def run_commands(block: Block, text: str) -> str:
    """Run each line of a block as the command would, and give what was printed."""
    printed = ""
    for words in Block(block.page, block.line, block.kind, text, block.asked).commands:
        result = CliRunner().invoke(app, words)
        wanted = {0, 1, 3} if block.asked.endswith("exit any") else {block.exit_code}
        assert result.exit_code in wanted, f"{block.where}: {words}: {result.output}\n{result.exception!r}"
        printed += result.stdout
    return printed


def run_script(block: Block, text: str, folder: Path, env: dict[str, tuple[str, ...]]) -> None:
    """Run a script with the real command on the path: for each value of a variable that it uses, or once."""
    name, values = next(((n, v) for n, v in env.items() if n in text), ("", ("",)))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for value in values:
        given = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", name or "UNUSED": value}
        done = subprocess.run(
            ["bash", "-eu", "-c", text], cwd=folder, env=given, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{block.where}: {done.stderr}"


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.slow) if page in SLOW else page for page in SESSIONS]
)
def test_the_examples_of_a_page_run(
    page: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    session = SESSIONS[page]
    monkeypatch.chdir(tmp_path)
    session.material(tmp_path, tiny_model)
    printed = ""
    for block in asked_of(page):
        text = block.text.replace(MODEL, str(tiny_model))
        for old, new in session.smaller.items():
            text = text.replace(old, new)
        kind, _, name = block.asked.partition(": ")
        if kind == "file":
            (tmp_path / name).write_text(text)
        elif kind == "run":
            printed = run_commands(block, text)
        elif kind == "bash":
            run_script(block, text, tmp_path, session.env)
        else:
            lines = [line for line in text.splitlines() if line.strip() not in ("", "…")]
            assert [line for line in lines if line not in printed] == [], f"{block.where}: not printed"
    checks = {"docs/cluster.md": _joined_is_one}
    if page in checks:
        checks[page](tmp_path)


def _joined_is_one(folder: Path) -> None:
    """As the page says: jobs of one seed, joined, are the run of one machine, and joining makes nothing."""
    result = CliRunner().invoke(app, ["run", "study.yaml", "--out", "runs/whole"])
    assert result.exit_code == 0, result.output
    whole, joined = folder / "runs" / "whole", folder / "runs" / "mine"
    assert pl.read_parquet(whole / "observations.parquet").equals(
        pl.read_parquet(joined / "observations.parquet")
    )
    for kind in ("responses", "judgments"):
        parts = {f.name for seed in (1, 2) for f in (folder / f"runs/seed-{seed}" / kind).rglob("*.parquet")}
        assert {f.name for f in (joined / kind).rglob("*.parquet")} == parts, "something was made anew"


def test_a_wrong_example_is_found(tmp_path: Path):
    block = Block(ROOT / "README.md", 1, "", "aftertune tasks show nowhere\n", "run")
    with pytest.raises(AssertionError, match="nowhere"):
        run_commands(block, block.text)
    assert words_of("aftertune plan --items 20 | tail -1  # few") == ["plan", "--items", "20"]
