"""The tables of docs/scale.md, from docs/scale.json; what is on paper is computed from what was measured.

python scripts/scale_page.py     writes the page's tables anew
"""

import json
import os
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"
FIGURES, PAGE = DOCS / "scale.json", DOCS / "scale.md"
MOST_GB, LEAST_EFFICIENCY, LINEAR = 2.0, 0.9, 1.2  # the goals; time may grow so much faster than the work
GB = 1e9

# On paper. Assumed, and nowhere measured here: a model of 8 billion parameters and GPUs of the H100's kind.
CHECKPOINTS, GPUS = 10_000, 1_000
RESPONSES, TOKENS = 10_000, 300  # of a checkpoint: 1,000 items × 10 repeats; of a response
TRAINED = 1_500_000  # tokens of a training: 1,000 examples of 500 tokens, three epochs
PARAMETERS, TRAIN_FLOP_PER_S = 8e9, 3e14
DRAWN_PER_S, READ_PER_S, JUDGE_READS = (
    10_000,
    40_000,
    600,
)  # tokens a GPU draws, a judge model reads; of a case
USD_PER_GPU_HOUR = 2.5


def machine() -> dict[str, object]:
    """What it was measured on."""
    from aftertune.processor import processor

    return {"cores": os.cpu_count(), "processor": processor("cpu")}


def write_page() -> None:
    """Write the tables of what has been measured between their marks."""
    page, figures = PAGE.read_text("utf-8"), json.loads(FIGURES.read_text("utf-8"))
    PAGE.write_text(with_tables(page, figures), "utf-8")


def with_tables(page: str, figures: dict[str, Any]) -> str:
    """The page with the tables of the figures."""
    if "stages" in figures:
        page = _between(page, "stages", _stages(figures["stages"]))
    if "executors" in figures:
        page = _between(page, "executors", _executors(figures["executors"]))
    if "stages" in figures and "executors" in figures:
        page = _between(page, "paper", _paper(figures))
    return page


def _between(page: str, name: str, lines: list[str]) -> str:
    begin, end = f"<!-- {name}: written by make bench-scale -->", f"<!-- end of {name} -->"
    before, rest = page.split(begin)
    _, after = rest.split(end)
    return "\n".join([f"{before}{begin}", *lines, f"{end}{after}"])


def _stages(found: dict[str, Any]) -> list[str]:
    sizes = found["sizes"]
    small, large = sizes[0], sizes[-1]
    head = " | ".join(f"{size['n_responses']:,} responses" for size in sizes)
    times = large["n_responses"] / small["n_responses"]
    run_gb, page_mb = large["run_bytes"] / GB, large["page_bytes"] / 1e6
    lines = [
        f"{_where(found)}.",
        "",
        f"| stage | {head} | time grows by |",
        f"|---|{'---|' * len(sizes)}---|",
    ]
    for stage in large["stages"]:
        cells = [_cell(size["stages"][stage]) for size in sizes]
        lines.append(f"| {stage} | {' | '.join(cells)} | {_growth(small, large, stage)} |")
    lines += [
        "",
        f"The work grows {times:.1f} times from the first column to the last. The largest run directory has "
        f"{large['n_files']:,} files and {run_gb:.2f} GB, its page {page_mb:.1f} MB.",
        "",
        *(_verdict(small, large, stage) for stage in ("observe", "analyze", "report")),
    ]
    return lines


def _verdict(small: dict[str, Any], large: dict[str, Any], stage: str) -> str:
    peak = large["stages"][stage]["peak_bytes"] / GB
    grown = _ratio(small, large, stage) / (large["n_responses"] / small["n_responses"])
    memory = "kept" if peak <= MOST_GB else "missed"
    time = "kept" if grown <= LINEAR else "missed"
    return (
        f"- {stage}: {peak:.2f} GB at most (goal {MOST_GB:g} GB: {memory}); its time grows {grown:.2f} "
        f"times as fast as the work (goal {LINEAR:g}: {time})."
    )


def _cell(measured: dict[str, Any]) -> str:
    return f"{measured['seconds']:.1f} s, {measured['peak_bytes'] / GB:.2f} GB"


def _growth(small: dict[str, Any], large: dict[str, Any], stage: str) -> str:
    return f"{_ratio(small, large, stage):.1f}" if small["stages"][stage]["seconds"] >= 0.5 else "—"


def _ratio(small: dict[str, Any], large: dict[str, Any], stage: str) -> float:
    return large["stages"][stage]["seconds"] / small["stages"][stage]["seconds"]


def _executors(found: dict[str, Any]) -> list[str]:
    one = found["workers"]["1"]["seconds"]
    lines = [
        f"{_where(found)}; {found['n_responses']:,} responses, {found['sleep_s']:.0f} s of sleep in all.",
        "",
        "| workers | seconds | efficiency | jobs | shards | until they had started |",
        "|---|---|---|---|---|---|",
    ]
    for n, measured in found["workers"].items():
        efficiency = one / (int(n) * measured["seconds"])
        lines.append(
            f"| {n} | {measured['seconds']:.1f} | {efficiency:.1%} | {measured['n_jobs']} | "
            f"{measured['n_shards']} | {measured['start_s']:.1f} s |"
        )
    last = list(found["workers"])[-1]
    reached = one / (int(last) * found["workers"][last]["seconds"])
    rest = found["without_sleep"]
    per_job = found["n_responses"] // rest["n_jobs"]
    job_ms, shard_ms = (1e3 * rest["seconds"] / rest[n] for n in ("n_jobs", "n_shards"))
    lines += [
        "",
        f"From 1 to {last} workers: {reached:.1%} (goal {LEAST_EFFICIENCY:.0%}: "
        f"{'kept' if reached >= LEAST_EFFICIENCY else 'missed'}). Without the sleep one worker takes "
        f"{rest['seconds']:.2f} s: {job_ms:.1f} ms a job of {per_job} responses, "
        f"{shard_ms:.1f} ms a shard, all that executor, engine, store and driver do counted.",
    ]
    return lines


def _paper(figures: dict[str, Any]) -> list[str]:
    sizes = figures["stages"]["sizes"]
    n = CHECKPOINTS * RESPONSES
    train_s = 6 * PARAMETERS * TRAINED / TRAIN_FLOP_PER_S
    draw_s, judge_s = RESPONSES * TOKENS / DRAWN_PER_S, RESPONSES * JUDGE_READS / READ_PER_S
    gpu_hours = CHECKPOINTS * (train_s + draw_s + judge_s) / 3600
    hours = gpu_hours / GPUS
    rows = [
        ("a checkpoint: training", f"{train_s:.0f} s of a GPU", "6 × parameters × tokens ÷ speed"),
        ("a checkpoint: responses", f"{draw_s:.0f} s", f"{RESPONSES:,} × {TOKENS} tokens"),
        ("a checkpoint: a judge model", f"{judge_s:.0f} s", f"{RESPONSES:,} × {JUDGE_READS} tokens read"),
        ("all", f"{gpu_hours:,.0f} GPU hours", f"about {gpu_hours * USD_PER_GPU_HOUR:,.0f} US dollars"),
        ("wall time at best", f"{hours:.1f} hours", f"{GPUS:,} GPUs, none ever idle"),
        ("responses", f"{n / 1e6:,.0f} million", f"{3 * n / 1e6:,.0f} million observations by three judges"),
    ]
    per = {stage: _slopes(sizes, stage) for stage in ("generate", "judge", "observe", "analyze")}
    files, held = _per(sizes, "n_files") * n, _per(sizes, "run_bytes") * n
    arrive = n / (hours * 3600)
    can = 1 / per["generate"][0]
    broken = [
        (
            "memory of the driver",
            f"{per['generate'][1] * n / GB:,.0f} GB",
            "its requests are objects",
        ),
        ("judging by rules", f"{per['judge'][0] * n / 3600:,.1f} hours", "one process judges"),
        (
            "what the driver can take in",
            f"{can:,.0f} responses a second",
            f"{arrive:,.0f} would arrive",
        ),
        ("analysis", f"{per['analyze'][1] * n / GB:,.0f} GB", f"{per['analyze'][0] * n / 60:,.0f} minutes"),
        ("observing", f"{per['observe'][1] * n / GB:,.0f} GB", f"{per['observe'][0] * n / 60:,.0f} minutes"),
        ("the run directory", f"{files / 1e6:,.1f} million files", f"{held / GB:,.0f} GB without weights"),
    ]
    return [
        "| what it costs | | |",
        "|---|---|---|",
        *(f"| {a} | {b} | {c} |" for a, b, c in rows),
        "",
        "| what breaks | at this size | why, or beside it |",
        "|---|---|---|",
        *(f"| {a} | {b} | {c} |" for a, b, c in broken),
    ]


def _slopes(sizes: list[dict[str, Any]], stage: str) -> tuple[float, float]:
    """Seconds and bytes of memory that one response more takes, from the smallest to the largest size."""
    small, large = sizes[0], sizes[-1]
    more = large["n_responses"] - small["n_responses"]
    a, b = small["stages"][stage], large["stages"][stage]
    return (b["seconds"] - a["seconds"]) / more, (b["peak_bytes"] - a["peak_bytes"]) / more


def _per(sizes: list[dict[str, Any]], name: str) -> float:
    return sizes[-1][name] / sizes[-1]["n_responses"]


def _where(found: dict[str, Any]) -> str:
    return f"{found['date']}, {found['machine']['cores']} cores ({found['machine']['processor']})"


if __name__ == "__main__":
    write_page()
