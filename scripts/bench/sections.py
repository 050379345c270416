"""What is measured: each section yields its settings and its runs, one by one."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from bench import random_models
from bench.measure import ROOT, measured

BATCHES = (8, 32, 128)
TEMPERATURE = 0.7
ROWS = 128  # of aftertune's engine by default
GROWTH_MIDDLE = {"items": 50, "checkpoints": 2, "max_tokens": 48}
GROWTH = {"items": [25, 50, 100, 200], "checkpoints": [1, 2, 4, 6], "max_tokens": [24, 48, 96, 192]}
Settings = dict[str, Any]
Run = dict[str, Any]


class Bench:
    """The work folder, the sizes, and how each contender is called."""

    def __init__(self, work: Path, *, quick: bool, repeats: int):
        self.work = work
        self.quick = quick
        self.repeats = repeats
        self.n_checkpoints, self.n_items, self.max_tokens = (2, 8, 12) if quick else (6, 100, 96)

    @cached_property
    def device(self) -> str:
        return "cuda" if shutil.which("nvidia-smi") else "cpu"

    @cached_property
    def material(self) -> dict[str, Any]:
        made = self.python("-m", "bench.material", str(self.work), prints=False)
        if "failed" in made:
            raise SystemExit(f"no material to work on: {made['failed']}")
        return json.loads((self.work / "material.json").read_text(encoding="utf-8"))

    def python(self, *arguments: str, prints: bool = True) -> Run:
        path = os.pathsep.join([str(ROOT / "scripts"), os.environ.get("PYTHONPATH", "")])
        return measured([sys.executable, *arguments], prints=prints, PYTHONPATH=path)

    def jobs(self, checkpoints: list[str | None], n_items: int) -> Path:
        """A file of every checkpoint with the first items, in this order."""
        return self.jobs_of(self.material["prompts"][:n_items], checkpoints)

    def jobs_of(self, prompts: list[dict[str, Any]], checkpoints: list[str | None]) -> Path:
        jobs = [
            {"checkpoint": path, "prompt": p["prompt"], "prompt_token_ids": p["token_ids"], "seed": number}
            for path in checkpoints
            for number, p in enumerate(prompts, start=1)
        ]
        file = self.work / "jobs.json"
        file.write_text(json.dumps(jobs), encoding="utf-8")
        return file

    def draw(self, module: str, jobs: Path, max_tokens: int, *more: str) -> Run:
        limits = ("--temperature", str(TEMPERATURE), "--max-tokens", str(max_tokens))
        return self.python("-m", module, self.material["model"], str(jobs), *limits, *more)

    def vllm(self, jobs: Path) -> Run:
        """The contender of scripts/bench_vllm_contender.py, in vLLM's own venv."""
        python, script = ROOT / ".venv-vllm/bin/python", ROOT / "scripts/bench_vllm_contender.py"
        for needed in (python, script):
            if not needed.is_file():
                return {"failed": f"not run: there is no {needed.relative_to(ROOT)}"}
        command = [str(python), str(script), self.material["model"], str(jobs)]
        limits = ("--temperature", str(TEMPERATURE), "--max-tokens", str(self.max_tokens))
        limits += ("--dtype", self.material["dtype"])
        return measured(
            [*command, *limits],
            prints=True,
            VLLM_CPU_KVCACHE_SPACE="2",
            VLLM_CPU_OMP_THREADS_BIND=f"0-{(os.cpu_count() or 1) - 1}",
            PYTHONPATH="",
        )


def decoding(bench: Bench) -> Iterator[tuple[Settings, Run]]:
    dtype = bench.material["dtype"]
    settings = {
        "checkpoints": bench.n_checkpoints,
        "examples": bench.material["examples"],
        "items": bench.n_items,
        "max_tokens": bench.max_tokens,
        "temperature": TEMPERATURE,
        "dtype": dtype,
    }
    limits = ("--dtype", dtype, "--rows", str(ROWS))
    yield (
        settings,
        {"contender": "products", **bench.python("-m", "bench.products", bench.material["model"], *limits)},
    )
    checkpoints = bench.material["checkpoints"][: bench.n_checkpoints]

    def generate(jobs: Path, batch: int) -> Run:
        options = ("--batch", str(batch), "--dtype", dtype)
        return {"batch": batch, **bench.draw("bench.generate", jobs, bench.max_tokens, *options)}

    one = bench.jobs(checkpoints[1:2], bench.n_items)
    sweep = [{"contender": "generate, one checkpoint", **generate(one, batch)} for batch in BATCHES]
    for run in sweep:
        yield settings, run
    best = max(sweep, key=lambda run: run.get("tokens_per_s", 0.0))["batch"]
    for _ in range(bench.repeats):
        jobs = bench.jobs(checkpoints, bench.n_items)
        yield settings, {"contender": "aftertune", **bench.draw("bench.ours", jobs, bench.max_tokens)}
        yield settings, {"contender": "generate", **generate(jobs, best)}
    # Its steady speed needs no six checkpoints: it takes half an hour for them where bfloat16 is emulated.
    yield settings, {"contender": "vllm", **bench.vllm(bench.jobs(checkpoints[1:2], bench.n_items))}


def growth(bench: Bench) -> Iterator[tuple[Settings, Run]]:
    """One size at a time around a middle one, which belongs to all three."""
    middle = {"items": 8, "checkpoints": 2, "max_tokens": 8} if bench.quick else GROWTH_MIDDLE
    axes = {name: sorted({size, 2 * size}) for name, size in middle.items()} if bench.quick else GROWTH
    settings = {"axes": axes, "middle": middle, "temperature": TEMPERATURE}
    sizes = [middle]
    sizes += [middle | {name: n} for name, ns in axes.items() for n in ns if n != middle[name]]
    for _ in range(bench.repeats):
        for size in sizes:
            jobs = bench.jobs(bench.material["checkpoints"][: size["checkpoints"]], size["items"])
            yield settings, {**size, **bench.draw("bench.ours", jobs, size["max_tokens"])}


def demo(bench: Bench) -> Iterator[tuple[Settings, Run]]:
    for _ in range(1 if bench.quick else bench.repeats):
        out = bench.work / "demo"
        shutil.rmtree(out, ignore_errors=True)
        run = bench.python("-m", "aftertune", "demo", "--out", str(out), prints=False)
        manifest = out / "manifest.json"
        stages = json.loads(manifest.read_text("utf-8"))["stages_s"] if manifest.is_file() else {}
        yield {}, run | {"stages_s": stages}


def tuning(bench: Bench) -> Iterator[tuple[Settings, Run]]:
    sizes = (
        ("--rows", "16", "--seeds", "1", "--repeats", "1")
        if bench.quick
        else ("--repeats", str(bench.repeats))
    )
    yield {}, without_losses(bench.python(TUNING, *sizes))


def gpu(bench: Bench) -> Iterator[tuple[Settings, Run]]:
    """Drawing and tuning with random weights; `bench.random_models prompts` has made the prompts.

    Without a GPU it tries itself on the CPU, for which `--quick` is meant.
    """
    prompts = json.loads((bench.work / "prompts.json").read_text(encoding="utf-8"))[: bench.n_items]
    settings = {"checkpoints": bench.n_checkpoints, "items": len(prompts), "max_tokens": bench.max_tokens}
    settings |= {"temperature": TEMPERATURE}
    for shape in random_models.SHAPES[: 1 if bench.quick else None]:
        made = bench.python("-m", "bench.random_models", "make", str(bench.work), shape, prints=False)
        if "failed" in made:
            yield settings, {"shape": shape, "contender": "none", **made}
            continue
        adapters = [f"{bench.work}/{shape}-adapter-{n}" for n in range(1, bench.n_checkpoints)]
        jobs = str(bench.jobs_of(prompts, [None, *adapters]))
        limits = ("--temperature", str(TEMPERATURE), "--max-tokens", str(bench.max_tokens))
        call = (str(bench.work / shape), jobs, *limits, "--device", bench.device)
        for batch in (32, 128):
            options = ("--batch", str(batch), "--dtype", "bfloat16")
            drawn = bench.python("-m", "bench.generate", *call, *options)
            yield settings, {"shape": shape, "contender": "generate", "batch": batch, **drawn}
        for batch in (128, 512):
            drawn = bench.python("-m", "bench.ours", *call, "--batch-rows", str(batch))
            yield settings, {"shape": shape, "contender": "aftertune", "batch": batch, **drawn}
    sizes = ("--rows", "16", "--seeds", "2") if bench.quick else ()
    options = ("--device", bench.device, "--model", str(bench.work / "tokenizer"), "--repeats", "1", *sizes)
    if bench.device == "cuda":
        yield settings, {"contender": "tuning", **without_losses(bench.python(TUNING, *options))}


TUNING = str(ROOT / "scripts/bench_tuning.py")


def without_losses(run: Run) -> Run:
    for result in run.get("results", []):
        for runs in result["runs"].values():
            for each in runs:
                each.pop("losses", None)
    return run


SECTIONS: dict[str, Callable[[Bench], Iterator[tuple[Settings, Run]]]] = {
    "decoding": decoding,
    "tuning": tuning,
    "growth": growth,
    "demo": demo,
    "gpu": gpu,
}
