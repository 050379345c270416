"""Exact numerics under the instruction sets of other processors: docs/machines.json and docs/machines.md.

python scripts/machines_page.py            try every setting on this machine, in processes of their own
python scripts/machines_page.py --page     write the page's tables from what was measured
"""

import json
import os
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"
FIGURES, PAGE = DOCS / "machines.json", DOCS / "machines.md"
BEGIN, END = "<!-- written by make machines -->", "<!-- end -->"
SETTINGS: tuple[dict[str, str], ...] = (
    {},
    {"ATEN_CPU_CAPABILITY": "default"},
    {"ATEN_CPU_CAPABILITY": "avx2"},
    {"ATEN_CPU_CAPABILITY": "avx512"},
    {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    {"MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    {"MKL_ENABLE_INSTRUCTIONS": "AVX512"},
    {"MKL_CBWR": "COMPATIBLE"},
    {"MKL_CBWR": "AVX2"},
    {"MKL_CBWR": "AVX512,STRICT"},
    {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
)
THREADS = (1, 2, 4)
N_ITEMS, MAX_TOKENS, N_TURNS = 20, 24, 4


def main() -> None:
    """Measure and write, or write alone."""
    if sys.argv[1:] == ["--page"]:
        write_page()
    elif sys.argv[1:2] == ["--trial"]:
        print(json.dumps(trial(int(sys.argv[2]))))
    else:
        measure()
        write_page()


def measure() -> None:
    """Try every setting with every number of threads; one after another, since each takes all cores."""
    from aftertune.processor import processor

    runs = [
        {"settings": settings, "threads": threads, **_in_a_process(settings, threads)}
        for settings in SETTINGS
        if "avx512" not in settings.values() or "AVX512" in processor("cpu")  # torch's kernels would fault
        for threads in (THREADS if not settings else (2,))
    ]
    machine = {"cores": os.cpu_count(), "processor": processor("cpu")}
    found = {"date": date.today().isoformat(), "machine": machine, "runs": runs}
    FIGURES.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _in_a_process(settings: dict[str, str], threads: int) -> dict[str, Any]:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    with TemporaryDirectory() as cache:
        command = [sys.executable, __file__, "--trial", str(threads)]
        # Models stay where they are; what is remembered of this processor does not count.
        environment |= {**settings, "MACHINES_CACHE": cache}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    print(settings, threads, found, flush=True)
    return found


def trial(threads: int) -> dict[str, Any]:
    """The way for SmolLM2-135M, the seconds to find it, and those of exact and fast numerics by turns."""
    import torch

    from aftertune.engines.exact import find_way
    from aftertune.engines.loading import resolve_model
    from aftertune.engines.transformers import TransformersEngine
    from aftertune.study import TransformersSpec

    source = resolve_model("smollm2")
    os.environ["AFTERTUNE_CACHE"] = os.environ["MACHINES_CACHE"]
    spec = TransformersSpec(threads=threads)
    exact = TransformersEngine(source, spec)
    base = exact.clean_base()
    start = time.perf_counter()
    found = find_way(base)
    seconds = time.perf_counter() - start
    fast = TransformersEngine(source, spec, numerics="fast")
    fast.base = base
    took: dict[str, list[float]] = {"exact": [], "fast": []}
    for _ in range(N_TURNS):
        for name, engine in (("exact", exact), ("fast", fast)):
            start = time.perf_counter()
            generate(engine)
            took[name].append(time.perf_counter() - start)
    return {
        "dtype": str(exact.dtype).removeprefix("torch."),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "way": str(found.way) if found.way else None,
        "difference": found.difference,
        "check_s": round(seconds, 2),
        **{f"{name}_s": round(min(times), 2) for name, times in took.items()},
    }


def generate(engine: Any) -> None:
    """Greedy responses of the base to some packaged items."""
    from aftertune.engines.base import make_request
    from aftertune.records import Checkpoint, CheckpointStatus
    from aftertune.study import Decoding
    from aftertune.study.grammar import TaskSpec
    from aftertune.tasks import load_task

    source = engine.source
    base = Checkpoint("base", None, "base", CheckpointStatus.OK, "", str(source.path), source.sha256)
    decoding = Decoding(temperature=0, max_tokens=MAX_TOKENS)
    items = load_task(TaskSpec(name="mini-harm", n=N_ITEMS), root_seed=1).items
    requests = [
        make_request(
            base,
            engine.render(item.prompt, None),
            decoding,
            root_seed=1,
            stream=(source.sha256, "mini-harm", item.id, "greedy", 1),
            engine={},
        )
        for item in items
    ]
    assert len(list(engine.complete(requests))) == len(items)


def write_page() -> None:
    """Write the table of what has been measured between its marks."""
    page, found = PAGE.read_text("utf-8"), json.loads(FIGURES.read_text("utf-8"))
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    lines = [
        f"{found['date']}, {found['machine']['cores']} cores ({found['machine']['processor']}):",
        "",
        "| setting | threads | dtype | torch uses | way | check | exact / fast |",
        "|---|---|---|---|---|---|---|",
        *map(_row, found["runs"]),
    ]
    PAGE.write_text("\n".join([f"{before}{BEGIN}", *lines, f"{END}{after}"]), "utf-8")


def _row(run: dict[str, Any]) -> str:
    settings = ", ".join(f"`{name}={value}`" for name, value in run["settings"].items()) or "as it is"
    way = run["way"] or f"none: {run['difference']}"
    ratio = run["exact_s"] / run["fast_s"]
    return (
        f"| {settings} | {run['threads']} | {run['dtype']} | {run['capability']} | {way} "
        f"| {run['check_s']:.1f} s | {ratio:.2f} ({run['exact_s']:.1f} s) |"
    )


if __name__ == "__main__":
    main()
