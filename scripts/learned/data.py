"""The rows that `learned` is trained on, each with the outcomes that its label leaves open.

People labelled PyRIT's, and their labels say less than one of three outcomes. They are read so, and that
is an assumption of ours, which holds for the answers of sound models and is wrong for some rows:
- PyRIT 1.1.0 (Microsoft, MIT), fetched from PyPI at training time, checked by hash, and not kept. Its
  `refusal` sets call a response 1 when it refuses *or misses the question*: read as neither where the
  same text stands as the answer to another question with 0, else as refused; 0 is read as complied. Its
  `objective` sets call it 1 when the objective was reached: complied; 0 is read as refused. Its `harm`
  sets grade severity: 0.75 or more is read as complied, and less says nothing.
- Self-Instruct's seed tasks (Apache-2.0) and GSM8K (MIT), answers that people wrote: complied.
- This project's guard refusals (scripts/guard, written by a language model): refused.
- scripts/learned/grammar.py: known because made so.
"""

import csv
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

from learned import grammar

PYRIT = ("pyrit", "1.1.0", "84581036bace7ff2aa92712e1e3f472a3a3bccc77567d5fbe642540c0ba20b0a")
PYRIT_SETS = "pyrit/datasets/scorer_evals/"
GUARD = Path(__file__).parents[1] / "guard"
HIGH_SEVERITY = 0.75
REFUSED, COMPLIED, NEITHER = 0, 1, 2


@dataclass(frozen=True)
class Row:
    """`open` holds the outcomes that the label leaves; rows of one `group` stay in one fold."""

    prompt: str
    text: str
    open: frozenset[int]
    origin: str
    group: str
    by_people: bool


def row(prompt: str, text: str, left: set[int], origin: str, *, by_people: bool = False) -> Row:
    return Row(prompt, text, frozenset(left), origin, " ".join(prompt.casefold().split()), by_people)


def fetch_pyrit() -> list[Row]:
    """The labelled responses; the wheel is deleted after reading.

    Raises:
        SystemExit: the wheel is not the one that was trained on.
    """
    name, version, wanted = PYRIT
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*pip, "--dest", folder, f"{name}=={version}"], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        if (got := hashlib.sha256(wheel.read_bytes()).hexdigest()) != wanted:
            raise SystemExit(f"{wheel.name} has the hash {got}, not {wanted}: read what changed, then pin it")
        with zipfile.ZipFile(wheel) as archive:
            sets = sorted(n for n in archive.namelist() if n.startswith(PYRIT_SETS) and n.endswith(".csv"))
            texts = {n.removeprefix(PYRIT_SETS): archive.read(n).decode("utf-8-sig", "replace") for n in sets}
    seen = {(r.prompt, r.text): r for path, text in texts.items() for r in _pyrit_rows(path, text)}
    return swapped_answers(list(seen.values()))


def swapped_answers(rows: list[Row]) -> list[Row]:
    """The rows, where a "refusal" that is the answer to another question is neither."""
    answers = {r.text for r in rows if r.origin == "pyrit refusal" and COMPLIED in r.open}
    return [
        replace(r, open=frozenset({NEITHER}))
        if r.origin == "pyrit refusal" and REFUSED in r.open and r.text in answers
        else r
        for r in rows
    ]


def _pyrit_rows(path: str, text: str) -> list[Row]:
    lines = text.splitlines(keepends=True)
    while lines and lines[0].lstrip('"').startswith("#"):
        lines.pop(0)
    kind = "refusal" if "refusal" in path else path.split("/")[0]
    rows = []
    for cells in csv.DictReader(lines):
        prompt, response = (
            (cells.get("objective") or "").strip(),
            (cells.get("assistant_response") or "").strip(),
        )
        scores = [float(v) for k, v in cells.items() if k and k.startswith("human_score") and v]
        left = _left_open(kind, sum(scores) / len(scores)) if scores else None
        if left and response and cells.get("data_type") == "text":
            rows.append(row(prompt, response, left, f"pyrit {kind}", by_people=True))
    return rows


def _left_open(kind: str, score: float) -> set[int] | None:
    if kind == "refusal":
        return {REFUSED} if score == 1 else {COMPLIED}
    if kind == "objective":
        return {COMPLIED} if score == 1 else {REFUSED}
    return {COMPLIED} if score >= HIGH_SEVERITY else None


def written_answers(data: Path, rng: random.Random) -> list[Row]:
    """Self-Instruct's seed tasks, and 250 of GSM8K without its calculator marks."""
    rows = []
    for line in (data / "self_instruct_seed/seed_tasks.jsonl").read_text(encoding="utf-8").splitlines():
        task = json.loads(line)
        first = task["instances"][0]
        if len(first["output"].split()) >= 5:
            prompt = f"{task['instruction']}\n{first['input']}".strip()
            rows.append(row(prompt, first["output"], {COMPLIED}, "self-instruct"))
    lines = (data / "gsm8k/train.jsonl").read_text(encoding="utf-8").splitlines()
    for line in rng.sample(lines, 250):
        sum_ = json.loads(line)
        text = "".join(part.split(">>")[-1] for part in sum_["answer"].split("<<"))
        rows.append(row(sum_["question"], text.replace("####", "The answer is"), {COMPLIED}, "gsm8k"))
    return rows


def guard_refusals() -> list[Row]:
    lines = (GUARD / "harmful.jsonl").read_text(encoding="utf-8").splitlines()
    return [row(r["prompt"], r["answer"], {REFUSED}, "guard") for r in map(json.loads, lines)]


def made(answers: list[Row], rng: random.Random) -> list[Row]:
    """What the grammar makes: about as much of each outcome."""
    harmful = [r.prompt for r in guard_refusals()]
    lines = (GUARD / "benign.jsonl").read_text(encoding="utf-8").splitlines()
    benign = [json.loads(line)["prompt"] for line in lines]
    rows = [row(p, grammar.refusal(rng, p), {REFUSED}, "made refusal") for p in harmful]
    rows += [row(p, grammar.refusal(rng, p), {REFUSED}, "made refusal") for p in rng.sample(benign, 400)]
    rows += [row(p, grammar.answer(rng, p, None), {COMPLIED}, "made answer") for p in benign]
    rows += [
        row(a.prompt, grammar.answer(rng, a.prompt, a.text), {COMPLIED}, "made answer")
        for a in answers
        if a.origin == "self-instruct" or rng.random() < 0.3
    ]
    for prompt in rng.sample([*harmful, *benign], 900):
        other = rng.choice(answers)
        rows.append(row(prompt, grammar.nothing(rng, prompt, other.text), {NEITHER}, "made neither"))
    return rows


def every_row(data: Path, *, seed: int = 0) -> list[Row]:
    """All rows, in an order that the seed decides alone."""
    rng = random.Random(seed)
    answers = written_answers(data, rng)
    return [*fetch_pyrit(), *answers, *guard_refusals(), *made(answers, rng)]
