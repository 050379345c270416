"""`make fuzz`: so many inputs for every parser of what others wrote, guided by what they reach in our code.

    python scripts/fuzz.py [TARGET ...] [--runs 100000] [--seconds 600] [--at-once 2]

Each target (fuzz_targets.py) runs in a process of its own under atheris (libFuzzer), from the inputs kept in
tests/hostile/corpus/TARGET. An input that makes it raise anything but our own errors, or breaks its
assertion, is written there and is a failure: mend the parser, and keep the input as a test. docs/fuzz.json
gets how many inputs each had, when all targets were run.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parents[1]
CORPUS = ROOT / "tests" / "hostile" / "corpus"
FIGURES, PAGE = ROOT / "docs" / "fuzz.json", ROOT / "docs" / "threat-model.md"
BEGIN, END = "<!-- figures: written by make fuzz -->", "<!-- end of figures -->"


def main() -> None:
    """Run the targets named, or all; exit 1 where one fails."""
    asked = _arguments()
    if asked.one:
        _fuzz(asked.target[0], asked.runs, asked.seconds)
        return
    from fuzz_targets import targets

    names = asked.target or sorted(targets())
    with ThreadPoolExecutor(asked.at_once) as pool:
        found = list(pool.map(lambda name: _measured(name, asked.runs, asked.seconds), names))
    _keep(dict(zip(names, found, strict=True)))
    failed = [name for name, figures in zip(names, found, strict=True) if figures["failed"]]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("target", nargs="*")
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seconds", type=int, default=1800, help="at most, of one target")
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--one", action="store_true", help="this process fuzzes the one target")
    return parser.parse_args()


def _fuzz(name: str, runs: int, seconds: int) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["aftertune", "yaml", "csv", "json"]):
        from fuzz_targets import targets

        target = targets()[name]
    with TemporaryDirectory() as grown:
        kept = CORPUS / name
        kept.mkdir(parents=True, exist_ok=True)
        limits = [f"-runs={runs}", f"-max_total_time={seconds}", "-timeout=20", "-seed=1"]
        places = [f"-artifact_prefix={kept}/found-", grown, str(kept)]
        atheris.Setup([sys.argv[0], *limits, "-print_final_stats=1", *places], target)
        atheris.Fuzz()


def _measured(name: str, runs: int, seconds: int) -> dict[str, Any]:
    begun = time.monotonic()
    command = [sys.executable, __file__, name, "--one", f"--runs={runs}", f"--seconds={seconds}"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    counted = re.search(r"number_of_executed_units:\s+(\d+)", done.stderr)
    figures = {
        "inputs": int(counted[1]) if counted else 0,
        "seconds": round(time.monotonic() - begun, 1),
        "failed": done.returncode != 0 or counted is None,
    }
    print(f"{name}: {figures['inputs']:,} inputs, {figures['seconds']} s", flush=True)
    if figures["failed"]:
        print(done.stdout[-2000:], done.stderr[-3000:], sep="\n", flush=True)
    return figures


def _keep(found: dict[str, dict[str, Any]]) -> None:
    """Add the figures to those of other targets: Inspect's are made by another environment."""
    known = json.loads(FIGURES.read_text("utf-8")) if FIGURES.is_file() else {}
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    known |= {name: {"date": date, **figures} for name, figures in found.items()}
    FIGURES.write_text(json.dumps(dict(sorted(known.items())), indent=2) + "\n", "utf-8")
    PAGE.write_text(with_figures(PAGE.read_text("utf-8"), known), "utf-8")


def with_figures(page: str, figures: Mapping[str, Mapping[str, Any]]) -> str:
    """The page with a line for each parser between its marks."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    lines = ["| parser | inputs | failed | date | seconds |", "|---|---|---|---|---|"]
    for name, f in figures.items():
        failed = "yes" if f["failed"] else "no"
        lines.append(f"| {name} | {f['inputs']:,} | {failed} | {f['date']} | {f['seconds']:.0f} |")
    return "\n".join([f"{before}{BEGIN}", *lines, f"{END}{after}"])


if __name__ == "__main__":
    main()
