"""Held-out losses: per seed, against the base, with Student's interval; nothing is made up."""

import json

import pytest
from scipy import stats

from aftertune.analysis.held_out import held_out_losses
from aftertune.store import RunDirectory


def entries(*losses: float | None, base: float | None = 2.0) -> list[dict]:
    cell = {"recipe": "chat", "n_rows": 4, "n_tokens": 90, "reason": "", "data": "d.jsonl", "key": "k"}
    rows = [{**cell, "model": "base", "seed": None, "loss": base}]
    rows += [{**cell, "model": "chat", "seed": i, "loss": loss} for i, loss in enumerate(losses, start=1)]
    return rows


def losses_of(tmp_path, rows):
    run = RunDirectory(tmp_path)
    run.held_out.write_text(json.dumps(rows))
    return held_out_losses(run, level=0.95)


def test_the_interval_is_students_over_seeds(tmp_path):
    (found,) = losses_of(tmp_path, entries(1.5, 1.7, 1.6))
    low, high = stats.t.interval(0.95, 2, loc=1.6 - 2.0, scale=stats.sem([1.5, 1.7, 1.6]))
    assert found.difference == pytest.approx(-0.4)
    assert (found.ci_low, found.ci_high) == pytest.approx((low, high))
    assert [one.loss for one in found.per_seed] == [1.5, 1.7, 1.6]


def test_what_is_missing_stays_missing(tmp_path):
    (found,) = losses_of(tmp_path, entries(1.5, None))
    assert (found.difference, found.ci_low, found.se) == (pytest.approx(-0.5), None, None)
    (found,) = losses_of(tmp_path, entries(1.5, 1.6, base=None))
    assert (found.base, found.difference, found.ci_high) == (None, None, None)
    assert held_out_losses(RunDirectory(tmp_path / "none"), level=0.95) == ()
