"""How well the incoherence judges find text degraded on purpose, and what judges say of such text.

    OMP_NUM_THREADS=1 python scripts/calibrate_incoherence.py [--data ../shared/data] [--demo runs/demo]
        [--model smollm2|DIR] [--write-threshold] [--judge NAME ...] [--docs docs/incoherence.md]

1. Clean texts, as many of each source: outputs of Self-Instruct's seeds, GSM8K's answers, the XSTest
   responses that people labelled, and a demo run's responses of the base and of the recipe trained on its own
   answers. Each is cut at 80 words. A random half sets the thresholds (at most 2% of it above); the other
   half measures false alarms, and is degraded (scripts/degrade.py) to measure detection.
2. `refusal-rules`, and any judge that is named, on all XSTest responses before and after each degradation.

`--write-threshold` keeps the threshold of a directory's model beside its weights, where the judge reads it.
The tables go between the marks of the docs file, where one is given.
"""

import argparse
import csv
import json
import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from random import Random

import polars as pl
import torch
import yaml
from degrade import DEGRADATIONS, Material

from aftertune.engines.loading import load_tokenizer, resolve_model
from aftertune.judges import Case, get_judge
from aftertune.judges.incoherence_rules import find_incoherence, find_repetition
from aftertune.judges.language import MARGIN, find_language
from aftertune.judges.perplexity import NLL_THRESHOLD, THRESHOLD_FILE, measure
from aftertune.records import Finish, Intent, Item, Response, ResponseStatus
from aftertune.stats.rates import wilson
from aftertune.study import JudgeSpec

SEED = 20251125
MOST_WORDS, LEAST_WORDS = 80, 15
FALSE_ALARMS = 0.02
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt and a text that answers it, sound or not."""

    source: str
    prompt: str
    text: str


@dataclass(frozen=True, slots=True)
class Scored:
    """A pair with what the detectors say of it: numbers, an event, or why there is none."""

    pair: Pair
    nll: float | str
    margin: float | None
    repetition: bool
    rules: bool


def main() -> None:
    torch.set_num_threads(1)
    options = _options()
    started = time.monotonic()
    model = resolve_model(options.model)
    halves = _halves(clean_pairs(options.data, options.demo), options.texts)
    calibration, held_out = (score(half, model.path) for half in halves)
    nll, margin = _thresholds(calibration)
    vocabulary = _vocabulary(model.path)
    degraded = {
        name: score(degrade(halves[1][: options.degraded], name, vocabulary), model.path)
        for name in DEGRADATIONS
    }
    own = NLL_THRESHOLD if options.model == "smollm2" else math.ceil(nll * 10) / 10
    lines = [
        f"Made {date.today()} by `python scripts/calibrate_incoherence.py --texts {options.texts} "
        f"--degraded {options.degraded}`, seed {SEED}, reference model "
        f"{options.model} ({model.sha256[:12]}), {len(calibration)} clean texts to set the thresholds and "
        f"{len(held_out)} to measure.",
        "",
        f"Thresholds found: {nll:.2f} nats per token (in use: {own:g}); language margin {margin:.2f} "
        f"(in use: {MARGIN:g}).",
        "",
        *detection_table(held_out, degraded, own),
        "",
        *nll_table(held_out, degraded),
        "",
        *judges_table(options.data, ["refusal-rules", *options.judge], vocabulary),
    ]
    print("\n".join(lines))
    print(f"\n{time.monotonic() - started:.0f} s")
    if options.docs:
        write_docs(options.docs, lines)
    if options.write_threshold:
        kept = {"nll_threshold": own, "model_sha256": model.sha256, "made": str(date.today()), "seed": SEED}
        (model.path / THRESHOLD_FILE).write_text(yaml.safe_dump(kept), "utf-8")


def clean_pairs(data: Path, demo: Path) -> dict[str, list[Pair]]:
    """Sound texts by source, cut at `MOST_WORDS` words; those of fewer than `LEAST_WORDS` are left out."""
    found = {"self-instruct": _self_instruct(data), "gsm8k": _gsm8k(data), "xstest": xstest_pairs(data)}
    if (demo / "items.parquet").is_file():
        found["demo"] = _demo(demo)
    return {
        name: [Pair(p.source, p.prompt, _cut(p.text)) for p in pairs if len(p.text.split()) >= LEAST_WORDS]
        for name, pairs in found.items()
    }


def xstest_pairs(data: Path) -> list[Pair]:
    """The responses of one model that people labelled."""
    file = data / "xstest_human_labels" / "xstest_v2_completions_mistralguard.csv"
    with file.open(encoding="utf-8", newline="") as lines:
        return [Pair("xstest", row["prompt"], row["completion"]) for row in csv.DictReader(lines)]


def degrade(pairs: Sequence[Pair], name: str, vocabulary: Sequence[str]) -> list[Pair]:
    """Each text degraded with a seed of its own; pieces of other answers come from the same source."""
    done: list[Pair] = []
    for i, pair in enumerate(pairs):
        others = [p.text for p in pairs if p.source == pair.source and p.prompt != pair.prompt]
        random = Random(f"{SEED} {name} {i}")
        text = DEGRADATIONS[name](pair.text, random, Material(others or [pair.text], vocabulary))
        done.append(Pair(pair.source, pair.prompt, text))
    return done


def score(pairs: Sequence[Pair], model: Path) -> list[Scored]:
    """What the detectors say of each pair."""
    nll = measure(model, [(pair.prompt, pair.text) for pair in pairs])
    return [
        Scored(
            pair,
            number,
            find_language(pair.prompt, pair.text).margin,
            find_repetition(pair.prompt, pair.text).event,
            find_incoherence(pair.prompt, pair.text).event,
        )
        for pair, number in zip(pairs, nll, strict=True)
    ]


def detection_table(held_out: list[Scored], degraded: dict[str, list[Scored]], nll: float) -> list[str]:
    """Rows: the clean texts, by source and all, and each degradation; columns: the detectors."""
    detectors: dict[str, Callable[[Scored], bool | None]] = {
        "perplexity": lambda s: None if isinstance(s.nll, str) else s.nll > nll,
        "language": lambda s: None if s.margin is None else s.margin > MARGIN,
        "repetition": lambda s: s.repetition,
        "rules": lambda s: s.rules,
    }
    sources = sorted({s.pair.source for s in held_out})
    rows = {"clean: all (false alarms)": held_out}
    rows |= {f"clean: {name}": [s for s in held_out if s.pair.source == name] for name in sources}
    rows |= degraded
    lines = [f"| text | n | {' | '.join(detectors)} | any |", f"|---|---{'|---' * (len(detectors) + 1)}|"]
    for name, scored in rows.items():
        events = [[detect(s) for s in scored] for detect in detectors.values()]
        either = [any(of_one) for of_one in zip(*events, strict=True)]
        cells = " | ".join(rate([e for e in column if e is not None], len(scored)) for column in events)
        lines.append(f"| {name} | {len(scored)} | {cells} | {rate(either, len(scored))} |")
    return lines


def nll_table(held_out: list[Scored], degraded: dict[str, list[Scored]]) -> list[str]:
    """Nats per token: the 5%, 50% and 95% points of each kind of text."""
    lines = ["| nats per token | 5% | median | 95% |", "|---|---|---|---|"]
    for name, scored in ({"clean": held_out} | degraded).items():
        values = pl.Series([s.nll for s in scored if not isinstance(s.nll, str)])
        points = " | ".join(f"{values.quantile(q, 'linear'):.2f}" for q in (0.05, 0.5, 0.95))
        lines.append(f"| {name} | {points} |")
    return lines


def judges_table(data: Path, names: Sequence[str], vocabulary: Sequence[str]) -> list[str]:
    """Share of the XSTest responses with the judge's event, as they are and degraded, and who flips."""
    pairs = [p for p in xstest_pairs(data) if p.text.strip()]
    lines = ["| judge | XSTest responses | n | event | event → none | none → event | no value |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for name in names:
        before = _values(name, pairs)
        kinds = {"as they are": pairs} | {kind: degrade(pairs, kind, vocabulary) for kind in DEGRADATIONS}
        for kind, texts in kinds.items():
            after = _values(name, texts)
            both = [(b, a) for b, a in zip(before, after, strict=True) if b is not None and a is not None]
            known = [a >= 0.5 for a in after if a is not None]
            lost = [a < 0.5 for b, a in both if b >= 0.5]
            gained = [a >= 0.5 for b, a in both if b < 0.5]
            cells = (rate(known), rate(lost), rate(gained), str(len(after) - len(known)))
            lines.append(f"| {name} | {kind} | {len(texts)} | {' | '.join(cells)} |")
    return lines


def rate(events: Sequence[bool], n: int | None = None) -> str:
    """A share with Wilson's 95% interval; of how many, where not all could be judged."""
    if not events:
        return "–"
    interval = wilson(sum(events), len(events))
    of = f" of {len(events)}" if n is not None and len(events) < n else ""
    share = sum(events) / len(events)
    return f"{100 * share:.0f}% [{100 * interval.ci_low:.0f}, {100 * interval.ci_high:.0f}]{of}"


def write_docs(file: Path, lines: Sequence[str]) -> None:
    """Put the tables between the marks."""
    text = file.read_text("utf-8")
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{file} lacks the marks {BEGIN} and {END}: add them where the tables belong")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    file.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{after}", "utf-8")


def _options() -> argparse.Namespace:
    repository = Path(__file__).parents[1]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=repository.parent / "shared" / "data")
    parser.add_argument("--demo", type=Path, default=repository / "runs" / "demo")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--write-threshold", action="store_true")
    parser.add_argument("--judge", action="append", default=[], help="beside refusal-rules, on XSTest")
    parser.add_argument("--texts", type=int, default=40, help="clean texts of each source")
    parser.add_argument("--degraded", type=int, default=12, help="texts of each degradation")
    parser.add_argument("--docs", type=Path, default=None)
    options = parser.parse_args()
    if options.write_threshold and options.model == "smollm2":
        parser.error("smollm2's threshold is a constant of aftertune.judges.perplexity: edit it there")
    return options


def _halves(pairs: dict[str, list[Pair]], n: int) -> tuple[list[Pair], list[Pair]]:
    """A random half of n texts of each source, and the other; both are shuffled."""
    halves: tuple[list[Pair], list[Pair]] = ([], [])
    for name, of_one in sorted(pairs.items()):
        chosen = Random(f"{SEED} {name}").sample(of_one, min(n, len(of_one)))
        for i, pair in enumerate(chosen):
            halves[i % 2].append(pair)
    for half in halves:
        Random(SEED).shuffle(half)
    return halves


def _thresholds(scored: Sequence[Scored]) -> tuple[float, float]:
    """The least thresholds that at most `FALSE_ALARMS` of the texts exceed."""
    nll = [s.nll for s in scored if not isinstance(s.nll, str)]
    margins = [s.margin for s in scored if s.margin is not None]
    return _exceeded_by(nll), _exceeded_by(margins)


def _exceeded_by(values: Sequence[float]) -> float:
    return sorted(values, reverse=True)[math.floor(FALSE_ALARMS * len(values))]


def _values(name: str, pairs: Sequence[Pair]) -> list[float | None]:
    judge = get_judge(JudgeSpec(name=name))
    return [found[0].value for found in judge.judge([_case(i, pair) for i, pair in enumerate(pairs)])]


def _case(i: int, pair: Pair) -> Case:
    n = len(pair.text.split())
    response = Response(
        str(i), "none", "xstest", str(i), "none", 1, "", 0, pair.text, n, Finish.STOP, ResponseStatus.OK, ""
    )
    return Case(Item(str(i), pair.prompt, "none"), Intent.BENIGN, response)


def _vocabulary(model: Path) -> list[str]:
    """The readable pieces of the reference model's own vocabulary."""
    tokenizer = load_tokenizer(model)
    special = set(tokenizer.all_special_ids)
    pieces = [str(tokenizer.decode([i])) for i in range(len(tokenizer)) if i not in special]
    return [piece for piece in pieces if piece.strip() and piece.isprintable() and "\ufffd" not in piece]


def _cut(text: str) -> str:
    """The first `MOST_WORDS` words with the white space between them."""
    found = re.match(rf"\s*(?:\S+\s+){{0,{MOST_WORDS - 1}}}\S+", text)
    return found.group(0) if found else text


def _self_instruct(data: Path) -> list[Pair]:
    rows = [json.loads(line) for line in _lines(data / "self_instruct_seed" / "seed_tasks.jsonl")]
    return [
        Pair(
            "self-instruct",
            f"{row['instruction']}\n{row['instances'][0]['input']}".strip(),
            row["instances"][0]["output"],
        )
        for row in rows
    ]


def _gsm8k(data: Path) -> list[Pair]:
    rows = [json.loads(line) for line in _lines(data / "gsm8k" / "train.jsonl")]
    return [Pair("gsm8k", row["question"], re.sub(r"<<.*?>>", "", row["answer"])) for row in rows]


def _demo(run: Path) -> list[Pair]:
    responses = pl.read_parquet(run / "responses" / "*.parquet").filter(
        pl.col("checkpoint").str.starts_with("base") | pl.col("checkpoint").str.starts_with("chat-self"),
        pl.col("status") == "ok",
    )
    joined = responses.join(pl.read_parquet(run / "items.parquet"), on=["task", "item"]).sort("key")
    return [Pair("demo", row["prompt"], row["text"]) for row in joined.iter_rows(named=True)]


def _lines(file: Path) -> list[str]:
    return file.read_text("utf-8").splitlines()


if __name__ == "__main__":
    main()
