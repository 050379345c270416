"""The packaged word problems: each equation holds, and results follow from the numbers of the question."""

import json
import operator
import re
from collections.abc import Callable

import pytest

from aftertune.data.packaged_data import packaged_bytes

OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}

# The second implementation: what marks a kind, and its result from the numbers as they stand in the question.
SOLUTIONS: dict[str, Callable[..., int]] = {
    r"pays with": lambda count, price, paid: paid - count * price,
    r"costs .* for an adult": lambda high, low, adults, children: high * adults + low * children,
    r"equally among": lambda total, people, own: total // people + own,
    r"has to cover": lambda way, hours, speed: way - hours * speed,
    r"After how many weeks": lambda goal, start, weekly: (goal - start) // weekly,
    r"A rectangular": lambda length, width, price: 2 * (length + width) * price,
    r"pages of a book": lambda daily, pages, days: pages // daily - days,
    r"times as old": lambda age, times, years: age * times + years,
    r"left over": lambda boxes, each, loose: boxes * each + loose,
    r"percent cheaper": lambda price, percent: price * (100 - percent) // 100,
    r"on average": lambda a, b, c: (a + b + c) // 3,
    r"bus pass": lambda hours, days, pay, fare: hours * days * pay - fare,
    r"grams of .* for \d+ people\?": lambda people, grams, guests: grams * guests // people,
    r"get off": lambda start, off, on, later: start - off + on - later,
    r"minutes a day": lambda practice, days, weeks: practice * days * weeks,
    r"more .* does .* plant than": lambda a, each, b, less: a * each - b * less,
}


@pytest.fixture(scope="module")
def rows() -> tuple[dict[str, str], ...]:
    return tuple(map(json.loads, packaged_bytes("arithmetic").splitlines()))


def value(left: str) -> int:
    """Evaluate "a op b op c" from left to right; a division must leave no remainder."""
    first, *rest = left.split()
    total = int(first)
    for sign, number in zip(rest[::2], rest[1::2], strict=True):
        if sign == "/":
            total, remainder = divmod(total, int(number))
            assert remainder == 0, left
        else:
            total = OPERATIONS[sign](total, int(number))
    return total


def test_every_step_is_one_equation_that_holds(rows: tuple[dict[str, str], ...]):
    for row in rows:
        *steps, last = row["answer"].split("\n")
        assert len(steps) >= 2
        results: list[int] = []
        for step in steps:
            equations = re.findall(r"((?:\d+ [-+*/] )+\d+) = (\d+)", step)
            assert len(equations) == 1, step
            left, right = equations[0]
            assert value(left) == int(right), step
            known = {*re.findall(r"\d+", row["question"]), *map(str, results), "2", "3", "100"}
            assert set(re.findall(r"\d+", left)) <= known, f"a number from nowhere: {step}"
            results.append(int(right))
        assert last == f"#### {results[-1]}"


def test_results_follow_from_the_numbers_in_the_question(rows: tuple[dict[str, str], ...]):
    seen: dict[str, int] = {}
    for row in rows:
        kinds = [pattern for pattern in SOLUTIONS if re.search(pattern, row["question"])]
        assert len(kinds) == 1, row["question"]
        numbers = [int(number) for number in re.findall(r"\d+", row["question"])]
        result = SOLUTIONS[kinds[0]](*numbers)
        assert row["answer"].endswith(f"#### {result}"), row
        assert 0 < result < 10_000
        seen[kinds[0]] = seen.get(kinds[0], 0) + 1
    assert len(seen) == len(SOLUTIONS)
    assert max(seen.values()) - min(seen.values()) <= 1


def test_questions_differ_and_are_of_a_sensible_length(rows: tuple[dict[str, str], ...]):
    assert len({row["question"] for row in rows}) == 500
    for row in rows:
        assert set(row) == {"question", "answer"}
        assert 15 <= len(row["question"].split()) <= 45
        assert (row["question"] + row["answer"]).isascii()
