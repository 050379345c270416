"""What is packed into the page is what the frame says, and nothing in it can run."""

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from aftertune.records.analysis import Analysis
from aftertune.records.manifest import Manifest
from aftertune.report import explorer, write_report
from aftertune.report.explorer import FLAGS, Explorer, pack
from aftertune.report.select import Headline, headline

HOSTILE = (
    "<script>window.pwned = 1</script></script><!-- <img src=x onerror=alert(1)>\u202eevil\x1b[31m\u2028"
)
SHOWN = HOSTILE.replace("\u202e", "⟨U+202E⟩").replace("\x1b", "⟨U+001B⟩").replace("\u2028", "⟨U+2028⟩")


def unpacked(block: str) -> Any:
    return json.loads(gzip.decompress(base64.b64decode(block)))


def counts(packed: Explorer) -> dict[str, Any]:
    index = unpacked(packed.index)
    flat = (len(index["decodings"]), len(index["items"]["id"]))
    full = (*flat, len(index["checkpoints"]), len(index["measures"]))
    numbers = np.frombuffer(gzip.decompress(base64.b64decode(packed.counts)), "<u2")
    ends = np.cumsum([np.prod(full), np.prod(full), np.prod(flat), np.prod(flat)])
    assert ends[-1] == len(numbers)
    events, judged, flags, splits = np.split(numbers, ends[:-1])
    return {
        "events": events.reshape(full),
        "judged": judged.reshape(full),
        "flags": flags.reshape(flat),
        "splits": splits.reshape(flat),
    }


@pytest.fixture
def head(analysis: Analysis) -> Headline:
    found = headline(analysis)
    assert found is not None
    return found


@pytest.fixture
def frame(make_examples) -> pl.DataFrame:
    """Two judges, two draws of chat/1; the second draw of i0 is cut off, of i1 empty, of i2 failed."""
    first = make_examples({f"prompt {n}": f"text {n}" for n in range(3)})
    second = first.filter(pl.col("checkpoint") == "chat/1").with_columns(
        repeat=pl.lit(1, pl.Int64),
        finish=pl.col("item").replace_strict({"i0": "length", "i1": "stop", "i2": None}),
        response_status=pl.col("item").replace_strict({"i0": "ok", "i1": "empty", "i2": "failed"}),
        response_reason=pl.col("item").replace_strict({"i0": "", "i1": "", "i2": "out of memory"}),
        text=pl.col("item").replace_strict({"i0": "text 0 again", "i1": "", "i2": ""}),
        value=pl.col("item").replace_strict({"i0": 1.0, "i1": None, "i2": None}),
        status=pl.col("item").replace_strict({"i0": "ok", "i1": "skipped", "i2": "skipped"}),
        reason=pl.col("item").replace_strict({"i0": "", "i1": "empty response", "i2": "failed response"}),
    )
    rows = pl.concat([first, second])
    other = rows.with_columns(judge=pl.lit("another"), value=pl.lit(0.25), status=pl.lit("ok"))
    return pl.concat([rows, other])


def test_the_pieces_hold_every_response(base: str, frame: pl.DataFrame, head: Headline):
    packed = pack(frame, head, models=[base, "chat"], base=base)
    assert packed is not None and (packed.n_items, packed.n_responses) == (3, 9)
    index = unpacked(packed.index)
    assert index["models"] == [base, "chat"] and index["base"] == 0
    assert index["checkpoints"] == [[0, None, base], [1, 1, "chat/1"]]
    assert index["measures"] == [["refusal-rules", "refused"], ["another", "refused"]]
    assert index["constructs"] == [["refused", "refusals gained", "refusals lost"]]
    items = unpacked(packed.pieces[0])
    order = dict(zip(index["items"]["id"], items, strict=True))
    assert order["i0"]["p"] == "prompt 0"
    assert order["i0"]["c"] == [0, 1, 1] and order["i0"]["r"] == [0, 0, 1]
    assert order["i0"]["t"][1:] == ["text 0", "text 0 again"] and order["i0"]["f"] == [0, 0, 1]
    assert order["i0"]["v"] == [[1.0, 0.0, 1.0], [0.25, 0.25, 0.25]]
    assert order["i2"]["s"] == [None, None, ["failed", "out of memory"]]
    assert order["i2"]["m"] == [[2, 0, "skipped", "failed response"]]
    assert order["i2"]["v"][0] == [1.0, 0.0, None]


def test_the_counts_are_of_judged_draws(base: str, frame: pl.DataFrame, head: Headline):
    packed = pack(frame, head, models=[base, "chat"], base=base)
    assert packed is not None
    found, ids = counts(packed), unpacked(packed.index)["items"]["id"]
    at = {name: n for n, name in enumerate(ids)}
    assert found["events"][0, at["i0"], :, 0].tolist() == [1, 1]
    assert found["judged"][0, at["i0"], :, 0].tolist() == [1, 2]
    assert found["judged"][0, at["i2"], :, 0].tolist() == [1, 1]  # absent is not zero
    assert found["judged"][0, at["i2"], :, 1].tolist() == [1, 2]
    assert found["flags"][0, at["i0"]] == FLAGS["length"]
    assert found["flags"][0, at["i1"]] == FLAGS["missing"] | FLAGS["empty"]
    assert found["flags"][0, at["i2"]] == FLAGS["missing"] | FLAGS["failed"]
    assert found["splits"][0].tolist() == [1, 1, 1]  # 1 against 0.25 on refused, for some response of each


def test_small_pieces_hold_the_same_items(base: str, frame: pl.DataFrame, head: Headline, monkeypatch):
    whole = pack(frame, head, models=[base, "chat"], base=base)
    monkeypatch.setattr(explorer, "PIECE", 10)
    cut = pack(frame, head, models=[base, "chat"], base=base)
    assert whole is not None and cut is not None
    assert len(whole.pieces) == 1 and len(cut.pieces) == 3
    assert unpacked(cut.index)["items"]["piece"] == [0, 1, 2]
    assert [item for piece in cut.pieces for item in unpacked(piece)] == unpacked(whole.pieces[0])


def test_the_order_of_rows_changes_no_byte(base: str, frame: pl.DataFrame, head: Headline):
    packed = pack(frame, head, models=[base, "chat"], base=base)
    for seed in range(3):
        shuffled = frame.sample(fraction=1, shuffle=True, seed=seed)
        assert pack(shuffled, head, models=[base, "chat"], base=base) == packed


def test_several_judgments_of_one_response_are_averaged(base: str, frame: pl.DataFrame, head: Headline):
    again = pl.concat([frame, frame.with_columns(judge_repeat=pl.lit(1, pl.Int64), value=pl.lit(0.0))])
    packed = pack(again, head, models=[base, "chat"], base=base)
    assert packed is not None and packed.n_responses == 9
    assert unpacked(packed.index)["judge_repeats"] == 2
    assert unpacked(packed.pieces[0])[0]["v"][0] == [0.5, 0.0, 0.5]


def test_hostile_text_is_made_visible_and_inert(
    base: str, analysis: Analysis, head: Headline, make_examples, tmp_path: Path
):
    frame = make_examples({HOSTILE: HOSTILE}).with_columns(
        item=pl.lit(HOSTILE), category=pl.lit(HOSTILE), reason=pl.lit(HOSTILE)
    )
    packed = pack(frame, head, models=[base, "chat"], base=base)
    assert packed is not None
    index, (item,) = unpacked(packed.index), unpacked(packed.pieces[0])
    assert index["items"]["id"] == [SHOWN] and index["categories"] == [SHOWN]
    assert item["p"] == SHOWN and item["t"][1] == SHOWN
    text = write_report(analysis, examples=frame, manifest=Manifest(), out=tmp_path).read_text()
    assert text.count("<script") == text.count("</script>") == 4  # the index, the counts, the script, a piece
    assert "<!--" not in text and "\u202e" not in text
    script = re.findall(r"<script>(.*?)</script>", text, flags=re.S)[0]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function", script)


def test_a_report_without_responses_has_no_explorer(
    base: str, analysis: Analysis, head: Headline, examples, tmp_path
):
    assert pack(examples.clear(), head, models=[base, "chat"], base=base) is None
    text = write_report(analysis, examples=None, manifest=Manifest(), out=tmp_path).read_text()
    assert 'id="explorer"' not in text and "octet-stream" not in text


def test_a_frame_without_the_base_still_packs(base: str, frame: pl.DataFrame, head: Headline):
    packed = pack(frame.filter(pl.col("model") != base), head, models=[base, "chat"], base=base)
    assert packed is not None
    assert unpacked(packed.index)["base"] is None
