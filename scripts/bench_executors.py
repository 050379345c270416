"""What an executor costs, and how much of 2, 4 and 8 workers it uses; a part of `make bench-scale`.

    python scripts/bench_executors.py [--responses 25600]

The replay engine sleeps for each response as a GPU would compute (4 ms), so that eight workers need no eight
cores. The generate stage runs through the local executor with 1, 2, 4 and 8 workers that are warm, started by
a small study before: efficiency is the time of one worker over n times the time of n. Without the sleep, what
is left is what the executor and the store cost. Writes docs/scale.json.
"""

import argparse
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import yaml
from scale_page import FIGURES, machine, write_page

from aftertune.executors import PooledEngine
from aftertune.executors.local import LocalExecutor
from aftertune.pipeline import run_stages
from aftertune.store import RunDirectory, read_events

N_TOKENS, TOKENS_PER_S = 40, 10_000  # 4 ms a response


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--responses", type=int, default=25_600)
    n = parser.parse_args().responses
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _write(folder, n)
        found: dict[str, Any] = {"n_responses": n, "sleep_s": n * N_TOKENS / TOKENS_PER_S, "workers": {}}
        for workers in (1, 2, 4, 8):
            found["workers"][workers] = _measured(folder, workers, speed=TOKENS_PER_S)
        found["without_sleep"] = _measured(folder, 1, speed=None)
    known = json.loads(FIGURES.read_text("utf-8")) if FIGURES.is_file() else {}
    known["executors"] = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine(), **found}
    FIGURES.write_text(json.dumps(known, indent=2) + "\n", "utf-8")
    write_page()


def _measured(folder: Path, workers: int, *, speed: float | None) -> dict[str, float]:
    executor = LocalExecutor(workers)
    try:
        begun = time.monotonic()
        _generated(folder, executor, f"warm-{workers}-{speed}", n_items=workers * 64, speed=speed)
        started = time.monotonic() - begun
        run = _generated(folder, executor, f"run-{workers}-{speed}", n_items=None, speed=speed)
    finally:
        executor.close()
    events = [e for e in read_events(run.log) if e.get("stage") == "generate"]
    seconds = next(e["seconds"] for e in events if e["event"] == "stage ends")
    shards = sum(e["event"] == "shard" for e in events)
    found = {"seconds": seconds, "start_s": round(started, 2), "n_shards": shards, "n_jobs": _JOBS[-1]}
    print(f"{workers} workers, {speed} tokens/s: {found}", flush=True)
    return found


_JOBS: list[int] = []


def _counted(self: PooledEngine, requests: Any) -> Any:
    parts = _PARTS(self, requests)
    _JOBS.append(len(parts))
    return parts


_PARTS = PooledEngine._parts
PooledEngine._parts = _counted  # type: ignore[method-assign]


def _generated(
    folder: Path, executor: LocalExecutor, name: str, *, n_items: int | None, speed: float | None
) -> RunDirectory:
    engine: dict[str, Any] = {"name": "replay", "table": str(folder / "responses.parquet")}
    study = {
        "name": "executors",
        "model": "base",
        "recipes": {},
        "tasks": [
            {"name": "many", "file": str(folder / "items.csv"), "intent": "harmful", "id_column": "id"}
            | {"category_column": None}
            | ({} if n_items is None else {"n": n_items})
        ],
        "decodings": {"greedy": {"temperature": 0, "max_tokens": N_TOKENS}},
        "judges": ["refusal-rules"],
        "engine": engine | ({} if speed is None else {"tokens_per_s": speed}),
    }
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(study))
    run_stages(file, folder / name, ("tune", "generate"), executor=executor)
    return RunDirectory(folder / name)


def _write(folder: Path, n: int) -> None:
    ids = [f"i{k}" for k in range(n)]
    prompts = [f"Question {k}?" for k in range(n)]
    pl.DataFrame({"id": ids, "prompt": prompts}).write_csv(folder / "items.csv")
    rows = {"item": ids, "text": [f"I cannot help with question {k}." for k in range(n)]}
    table = pl.DataFrame(rows).with_columns(
        model=pl.lit("base"), task=pl.lit("many"), repeat=pl.lit(1), n_tokens=pl.lit(N_TOKENS)
    )
    table.write_parquet(folder / "responses.parquet")


if __name__ == "__main__":
    main()
