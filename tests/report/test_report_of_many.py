"""A study too large for one page: its explorer holds some items whole, chosen by their names, and says so."""

import polars as pl
import pytest

from aftertune.report import run as report_run
from aftertune.report.run import items_shown, report
from executor_runs import small_study
from stage_runs import STAGES, run


def sizes(n: int, each: int) -> pl.DataFrame:
    return pl.DataFrame({"task": "t", "item": [f"i{k}" for k in range(n)], "n": each})


def test_so_many_items_that_the_responses_fit():
    assert items_shown(sizes(10, 5), most=50).height == 10
    shown = items_shown(sizes(10, 5), most=49)
    assert shown.height == 9
    assert items_shown(sizes(10, 5), most=4).height == 0
    # Which ones is a matter of the names alone.
    assert shown.sort("item").equals(items_shown(sizes(10, 5).reverse(), most=49).sort("item"))
    many = items_shown(sizes(1000, 5), most=2500)["item"].str.slice(1).cast(pl.Int64)
    assert many.len() == 500
    assert 400 < many.mean() < 600  # and not the first of the list


@pytest.mark.slow
def test_the_page_says_what_it_leaves_out(tiny_model, tmp_path, monkeypatch):
    out = run(small_study(tiny_model), tmp_path / "run", stages=(*STAGES, "analyze", "report"))
    page = (out / "report" / "index.html").read_text()
    assert "Every response of the baseline procedure" in page and "too many for one page" not in page
    n_items = pl.read_parquet(out / "items.parquet").height
    responses = pl.read_parquet(out / "observations.parquet")["response_key"].n_unique()
    monkeypatch.setattr(report_run, "_MOST_RESPONSES", responses - 1)
    from aftertune.store import RunDirectory

    report(RunDirectory(out))
    small = (out / "report" / "index.html").read_text()
    assert f"The study has {n_items} items, too many for one page" in " ".join(small.split())
    assert f"to {n_items - 1} of them" in " ".join(small.split())
    assert len(small) < len(page)
