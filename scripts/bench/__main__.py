"""Run the benchmarks and write docs/benchmarks.md.

    make bench                              # everything, three times over; about two hours on two cores
    PYTHONPATH=scripts .venv/bin/python -m bench --only decoding --repeats 5

Contenders take turns, so that a slow quarter of an hour meets all of them. Every run is kept in
docs/benchmarks.json as soon as it ends, and the page is written from it: what was stopped half way is there.
"""

import argparse
import json
from pathlib import Path

from bench import page, sections
from bench.measure import ROOT, machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="decoding,tuning,growth,demo", help="sections, with commas between")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the page goes into the work folder")
    parser.add_argument("--work", type=Path, default=Path("/tmp/aftertune-bench"))
    asked = parser.parse_args()
    unknown = set(asked.only.split(",")) - set(sections.SECTIONS)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(sections.SECTIONS)}")
    asked.work.mkdir(parents=True, exist_ok=True)
    folder = asked.work if asked.quick else ROOT / "docs"
    kept = folder / "benchmarks.json"
    results = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    bench = sections.Bench(asked.work, quick=asked.quick, repeats=asked.repeats)
    for name in asked.only.split(","):
        section = results[name] = {"machine": machine(), "settings": {}, "runs": []}
        for settings, run in sections.SECTIONS[name](bench):
            section["settings"] |= settings
            section["runs"].append(run)
            print(name, json.dumps(run), flush=True)
            kept.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
            (folder / "benchmarks.md").write_text(page.page(results), encoding="utf-8")


if __name__ == "__main__":
    main()
