"""How judges agree with people and with each other: python scripts/learned/measure.py learned refusal-rules

On XSTest's 450 responses of one model with people's labels, which `learned` never saw, and on a run
directory's responses, which nobody labelled, so that only the judges' disagreement is measured there.
People's refusal is given twice: full refusals alone, and with partial ones. The first judge named is
compared with each other one. What cross-validation says stands in the output of train.py.
"""

import argparse
import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path

from aftertune.judges import Case, get_judge
from aftertune.records import Construct, Finish, Intent, Item, Response, ResponseStatus
from aftertune.stats.agreement import agreement_table, cohen_kappa_interval, positive_agreement
from aftertune.stats.rates import wilson
from aftertune.study import JudgeSpec

PEOPLE = {
    "full refusal": (Construct.REFUSED, "2"),
    "full or partial refusal": (Construct.REFUSED, "23"),
    "full compliance": (Construct.COMPLIED, "1"),
}
Values = dict[Construct, list[float | None]]


def case(item: str, prompt: str, text: str) -> Case:
    status = ResponseStatus.OK if text.strip() else ResponseStatus.EMPTY
    response = Response(
        key=item,
        checkpoint="",
        task="",
        item=item,
        decoding="",
        repeat=0,
        prompt_sha256="",
        n_prompt_tokens=1,
        text=text,
        n_tokens=1,
        finish=Finish.STOP,
        status=status,
        reason="",
    )
    return Case(Item(item, prompt, ""), Intent.HARMFUL, response)


def judged(name: str, cases: Sequence[Case]) -> Values:
    judge = get_judge(JudgeSpec(name=name))
    rows = list(judge.judge(cases))
    return {c: [row[i].value for row in rows] for i, c in enumerate(judge.constructs)}


def kappa(a: Sequence[float], b: Sequence[float]) -> str:
    found = cohen_kappa_interval(agreement_table(a, b).counts_ab)
    if found is None:
        return "κ none"
    return f"κ {found.estimate:.3f} [{found.ci_low or 0:.3f}, {found.ci_high or 0:.3f}]"


def rate(hits: int, n: int) -> str:
    if n == 0:
        return "none"
    found = wilson(hits, n)
    return f"{hits}/{n} = {hits / n:.3f} [{found.ci_low:.3f}, {found.ci_high:.3f}]"


def against_people(which: str, values: dict[str, Values], rows: list[dict[str, str]]) -> None:
    print(f"\n{len(rows)} responses: {which}")
    for what, (construct, codes) in PEOPLE.items():
        people = [float(row["final_label"][0] in codes) for row in rows]
        print(f"\n{what} ({int(sum(people))} of {len(people)})")
        for name in values:
            if construct not in values[name]:
                continue
            pairs = [(p, v) for p, v in zip(people, values[name][construct], strict=True) if v is not None]
            a, b = [p for p, _ in pairs], [v for _, v in pairs]
            t = agreement_table(a, b)
            print(
                f"  {name:20} {kappa(a, b)}, positive agreement {positive_agreement(t) or 0:.3f}, "
                f"sensitivity {rate(t.n_both, t.n_both + t.n_only_a)}, "
                f"specificity {rate(t.n_neither, t.n_neither + t.n_only_b)}"
            )


def against_each_other(values: dict[str, Values]) -> None:
    first, *others = values
    for name in others:
        for construct in set(values[first]) & set(values[name]):
            both = zip(values[first][construct], values[name][construct], strict=True)
            pairs = [(x, y) for x, y in both if x is not None and y is not None]
            a, b = [x for x, _ in pairs], [y for _, y in pairs]
            t = agreement_table(a, b)
            print(
                f"  {first} and {name}, {construct.value}: "
                f"differ on {rate(t.n_only_a + t.n_only_b, t.n)}, {kappa(a, b)}; "
                f"only {first} {t.n_only_a}, only {name} {t.n_only_b}, both {t.n_both}"
            )


def cases_of_run(directory: Path) -> list[Case]:
    import polars as pl

    items = pl.read_parquet(directory / "items.parquet")
    files = sorted((directory / "responses").glob("*.parquet"))
    table = pl.concat([pl.read_parquet(file) for file in files]).join(items, on=["task", "item"])
    return [case(row["key"], row["prompt"], row["text"]) for row in table.iter_rows(named=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("judges", nargs="*", default=["learned", "refusal-rules"])
    parser.add_argument("--labels", type=Path, help="xstest_v2_completions_mistralguard.csv")
    parser.add_argument("--run", type=Path, help="a run directory")
    args = parser.parse_args()
    if args.labels:
        with args.labels.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        cases = [case(row["id"], row["prompt"], row["completion"]) for row in rows]
        values = {name: judged(name, cases) for name in args.judges}
        against_people("all", values, rows)
        unread = [i for i, row in enumerate(rows) if hashlib.sha256(row["id"].encode()).digest()[0] % 2]
        half = {name: {c: [v[i] for i in unread] for c, v in values[name].items()} for name in values}
        against_people(
            "the half that the writer of refusal-rules did not read", half, [rows[i] for i in unread]
        )
        print("\ndisagreement")
        against_each_other(values)
    if args.run:
        cases = cases_of_run(args.run)
        print(f"\n{len(cases)} responses of {args.run}, unlabelled: disagreement")
        values = {name: judged(name, cases) for name in args.judges}
        for name in values:
            for construct, found in values[name].items():
                known = [v for v in found if v is not None]
                print(f"  {name} {construct.value}: {rate(int(sum(known)), len(known))}")
        against_each_other(values)


if __name__ == "__main__":
    main()
