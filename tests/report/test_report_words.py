import pytest

from aftertune.foreign_text import visible
from aftertune.records.analysis import Missing
from aftertune.report import words


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.417, "41.7%"), (0.0, "0.0%"), (1.0, "100.0%"), (-0.0, "0.0%"), (0.0004, "0.0%"), (None, "not given")],
)
def test_percent_has_one_decimal(value: float | None, expected: str):
    assert words.percent(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.334, "+33.4"), (-0.012, "−1.2"), (0.0, "+0.0"), (-0.0001, "+0.0"), (None, "not given")],
)
def test_points_are_signed(value: float | None, expected: str):
    assert words.points(value) == expected


def test_intervals():
    assert words.percent_range(0.332, 0.506) == "[33.2%, 50.6%]"
    assert words.points_range(-0.05, 0.14) == "[−5.0, +14.0]"
    assert words.percent_range(None, 0.5) == "not given"
    assert words.percent_range(0.25, 0.25) == "exact"


def test_p_values():
    assert [words.p_value(p) for p in (0.0004, 0.001, 0.21, None)] == [
        "< 0.001",
        "0.001",
        "0.210",
        "not given",
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u202eb", "a⟨U+202E⟩b"),
        ("\x1b[31mred", "⟨U+001B⟩[31mred"),
        ("a\x00b\x7f", "a⟨U+0000⟩b⟨U+007F⟩"),
        ("zero\u200bwidth\ufeff", "zero⟨U+200B⟩width⟨U+FEFF⟩"),
        ("tag\U000e0041", "tag⟨U+E0041⟩"),
        ("lone\ud800", "lone⟨U+D800⟩"),
        ("line\u2028end", "line⟨U+2028⟩end"),
        ("back\rspace\r\nkept\n\tlines", "back⟨U+000D⟩space\nkept\n\tlines"),
        ("é 日本 👩\u200d🔬", "é 日本 👩\u200d🔬"),
    ],
)
def test_unseen_characters_are_made_visible(text: str, shown: str):
    assert visible(text) == shown


def test_a_rate_without_estimate_gives_its_bounds(analysis):
    gone = analysis.rates[0].model_copy(
        update={"estimate": None, "missing": Missing(n=30, n_observations=60, by_status={"unparsed": 30})}
    )
    assert words.estimate(gone) == "no conclusion: between 8.3% and 8.3%"


def test_changes_are_named_for_the_metric():
    assert words.changes("compliance_rate") == ("refusals lost", "refusals gained")
    assert words.changes("toxicity_rate") == ("toxicity now", "toxicity no longer")


def test_lists():
    assert words.listed(["seed", "item", "repeat"]) == "seed, item and repeat"
    assert words.listed([]) == "nothing"
