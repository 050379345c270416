"""How long a page with 100,000 synthetic responses takes: to pack, to open, to search. Needs a Chromium.

    python scripts/bench_page.py [--responses 100000] [--chromium /usr/bin/chromium] [--out DIR]

The responses are made up: some 60 words each, drawn by Zipf's law, which compress no better than real ones.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
from playwright.sync_api import sync_playwright

from aftertune.records import analysis as an
from aftertune.records.manifest import Manifest
from aftertune.report import write_report

RECIPES, SEEDS, REPEATS, WORDS, VOCABULARY = 5, 8, 5, 60, 20_000
MEASURES = (
    ("rules", "refused"),
    ("learned", "refused"),
    ("learned", "complied"),
    ("rules", "incoherent"),
)
HEAD = an.Primary(
    task="synthetic-harm", decoding="sampled", judge="rules", metric="compliance_rate", target="benchmark"
)


def vocabulary(rng: np.random.Generator) -> np.ndarray:
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    return np.array(["".join(letters[rng.integers(0, 18, n)]) for n in rng.integers(2, 10, VOCABULARY)])


def texts(rng: np.random.Generator, n: int, n_words: int, known: np.ndarray) -> list[str]:
    """Texts of about `n_words` words, the r-th word with a probability of about 1/r."""
    ranks = np.minimum((VOCABULARY ** rng.random((n, 2 * n_words))).astype(int), VOCABULARY - 1)
    lengths = rng.integers(n_words // 2, n_words * 3 // 2, n)
    return [" ".join(known[row[:k]]) + "." for row, k in zip(ranks, lengths, strict=True)]


def synthetic(n_responses: int) -> pl.DataFrame:
    """A row per judgment, as report.run makes it."""
    rng = np.random.Generator(np.random.Philox(2025))
    known = vocabulary(rng)
    checkpoints = [("base", None, "base")] + [
        (f"recipe-{r}", s, f"recipe-{r}/{s}") for r in range(1, RECIPES + 1) for s in range(1, SEEDS + 1)
    ]
    n_items = -(-n_responses // (len(checkpoints) * REPEATS))
    items = pl.DataFrame(
        {
            "item": [f"i{n:04}" for n in range(n_items)],
            "task": ["synthetic-harm" if n % 2 else "synthetic-benign" for n in range(n_items)],
            "intent": ["harmful" if n % 2 else "benign" for n in range(n_items)],
            "category": [f"category {n % 8}" for n in range(n_items)],
            "prompt": texts(rng, n_items, 14, known),
        }
    )
    models, seeds, names = zip(*checkpoints, strict=True)
    who = pl.DataFrame({"model": models, "seed": seeds, "checkpoint": names})
    responses = items.join(who, how="cross").join(
        pl.DataFrame({"repeat": range(1, REPEATS + 1)}), how="cross"
    )
    responses = responses.head(n_responses).with_columns(
        decoding=pl.lit("sampled"),
        text=pl.Series(texts(rng, min(n_responses, responses.height), WORDS, known)),
        finish=pl.Series(rng.choice(["stop", "length"], min(n_responses, responses.height), p=[0.8, 0.2])),
        response_status=pl.lit("ok"),
        response_reason=pl.lit(""),
    )
    judges, constructs = zip(*MEASURES, strict=True)
    frame = responses.join(pl.DataFrame({"judge": judges, "construct": constructs}), how="cross")
    return frame.with_columns(
        value=pl.Series(rng.integers(0, 2, frame.height).astype(float)),
        judge_repeat=pl.lit(0),
        status=pl.lit("ok"),
        reason=pl.lit(""),
    )


def analysis() -> an.Analysis:
    """Only what the page needs to know which judge comes first."""
    empty = dict.fromkeys(("rates", "differences", "components", "consistency", "flips", "agreement"), ())
    return an.Analysis(
        schema_version=an.SCHEMA_VERSION,
        study="synthetic",
        level=0.95,
        margin=0.05,
        max_missing=0.05,
        primary=HEAD,
        warnings=(),
        **empty,
    )


def opened(page: Path, chromium: str) -> dict[str, float]:
    """Seconds from the start of the navigation, in a browser that has not seen the page."""
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page()
        tab.goto(page.as_uri(), wait_until="commit")
        tab.wait_for_selector("#x-rows tr", timeout=120_000)
        tab.wait_for_load_state("load")
        times = tab.evaluate(
            """() => ({first_items_s: performance.getEntriesByName("explorer-shown")[0].startTime / 1000,
                       dom_content_loaded_s: performance.timing.domContentLoadedEventEnd / 1000
                                             - performance.timing.navigationStart / 1000})"""
        )
        start = time.perf_counter()
        tab.locator("#x-rows a").nth(20).click()
        tab.wait_for_selector("#x-item .x-response")
        times["item_s"] = time.perf_counter() - start
        tab.keyboard.press("Escape")
        for name in ("search_s", "search_again_s"):  # the second finds the pieces unpacked
            words = "tha" if name == "search_s" else "ent"
            start = time.perf_counter()
            tab.fill("#x-q", words)
            tab.locator("#x-count", has_text=f"“{words}”").wait_for(timeout=120_000)
            times[name] = time.perf_counter() - start
        browser.close()
    return times


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--responses", type=int, default=100_000)
    options.add_argument("--chromium", default="/usr/bin/chromium")
    options.add_argument("--out", type=Path)
    given = options.parse_args()
    out = given.out or Path(tempfile.mkdtemp())
    frame = synthetic(given.responses)
    start = time.perf_counter()
    page = write_report(analysis(), examples=frame, manifest=Manifest(), out=out)
    found: dict[str, float | str] = {
        "page": str(page),
        "responses": given.responses,
        "text_mb": frame.unique(["item", "checkpoint", "repeat"])["text"].str.len_bytes().sum() / 1e6,
        "write_s": time.perf_counter() - start,
        "page_mb": page.stat().st_size / 1e6,
    }
    found |= opened(page, given.chromium)
    print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in found.items()}, indent=1))


if __name__ == "__main__":
    main()
