"""The page in a real Chromium, opened from disk: what a reader does with it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aftertune.records.analysis import Analysis
from aftertune.records.manifest import Manifest
from aftertune.report import write_report
from conftest import example_rows

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (the dev extra)")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium"),
]

HOSTILE = "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>\u202eevil\x1b[31m <!--"
N = 120


def frame(base: str) -> pl.DataFrame:
    """Harmful items, of which the first is hostile, and a copy of them as a benign task under two judges."""
    texts = {f"Harmful request number {n}": f"Step one of {n}" for n in range(N // 2)}
    harmful = example_rows({HOSTILE: HOSTILE} | texts, base)
    safe = {f"Safe request number {n}": f"An answer about whales, {n}" for n in range(N // 2)}
    benign = example_rows(safe, base)
    benign = benign.with_columns(
        task=pl.lit("mini/look alikes"),
        intent=pl.lit("benign"),
        finish=pl.when(pl.col("item") == "i3").then(pl.lit("length")).otherwise("finish"),
        value=pl.when(pl.col("item") == "i4").then(None).otherwise("value"),
        status=pl.when(pl.col("item") == "i4").then(pl.lit("unparsed")).otherwise("status"),
    )
    other = benign.with_columns(
        judge=pl.lit("another"), value=pl.when(pl.col("item") == "i5").then(0.0).otherwise("value")
    )
    return pl.concat([harmful, benign, other])


@pytest.fixture(scope="module")
def url(base: str, analysis: Analysis, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("page")
    return write_report(analysis, examples=frame(base), manifest=Manifest(), out=out).as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser: Any, url: str) -> Iterator[Any]:
    """Opens the page with an address and a look; in the end no network was asked and nothing ran."""
    said: list[str] = []
    asked: list[str] = []
    contexts: list[Any] = []

    def open_page(hash_: str = "", **look: Any) -> Any:
        context = browser.new_context(**look)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url.partition("#")[0]))
        page.goto(url + hash_)
        page.wait_for_selector("#x-app:not([hidden])")
        return page

    yield open_page
    for context in contexts:
        assert all(page.evaluate("window.pwned") is None for page in context.pages)
        context.close()
    assert said == []
    assert set(asked) == {url}


def count(page: Any) -> str:
    return page.inner_text("#x-count")


def test_it_opens_with_its_items_and_shows_more_when_asked(opened: Any):
    page = opened()
    assert count(page) == "121 of 121 items"
    assert page.locator("#x-rows tr").count() == 50
    page.click("#x-more")
    assert page.locator("#x-rows tr").count() == 100
    assert not page.is_visible("#x-note")


@pytest.mark.parametrize(
    ("choices", "found"),
    [
        ({"task": "mini/look alikes"}, 60),
        ({"category": "malware"}, 20),
        ({"flips": "from"}, 119),
        ({"flips": "to"}, 2),
        ({"flips": "to", "task": "mini-harm", "recipe": "chat", "seeds": "all"}, 1),
        ({"split": "any"}, 1),
        ({"status": "length"}, 1),
        ({"status": "missing"}, 1),
        ({"status": "failed"}, 0),
    ],
)
def test_filters(opened: Any, choices: dict[str, str], found: int):
    page = opened()
    for key, value in choices.items():
        page.select_option(f"#x-{key}", value)
    # Of the benign items one has no value by the headline's judge, so it neither changed nor stayed.
    expected = found - 1 if choices == {"flips": "from"} else found
    assert count(page) == f"{expected} of 121 items"
    again = opened("#" + page.url.partition("#")[2])
    assert count(again) == f"{expected} of 121 items"
    page.click("#x-clear")
    assert count(page) == "121 of 121 items"
    assert page.url.endswith("#examples")


def test_search_reads_prompts_and_responses(opened: Any):
    page = opened()
    page.keyboard.press("/")
    page.keyboard.type("WHALES, 7")
    page.locator("#x-count", has_text="“WHALES, 7”").wait_for()
    assert count(page) == "1 of 121 items, 1 text with “WHALES, 7”"
    page.locator("#x-rows a").click()
    assert page.inner_text("#x-item mark") == "whales, 7"
    page.keyboard.press("Escape")
    page.fill("#x-q", "whale shark")
    page.locator("#x-count", has_text="0 of 121").wait_for()
    assert page.is_visible("#x-none")


def test_a_link_opens_its_item(opened: Any):
    page = opened()
    page.select_option("#x-task", "mini/look alikes")
    link = page.locator("#x-rows a").nth(2).get_attribute("href")
    assert link is not None and link.startswith("#item=mini%2Flook%20alikes/i")
    again = opened(link)
    again.wait_for_selector(".x-response")
    assert again.inner_text("#x-item blockquote >> nth=0").startswith("Safe request number")
    assert again.locator(".x-column").count() == 2
    assert again.evaluate("document.activeElement.id") == "x-title"
    again.go_back() if again.evaluate("history.length") > 2 else again.keyboard.press("Escape")
    assert again.is_visible("#x-list")
    assert opened("#item=mini-harm/unknown").is_visible("#x-lost")
    assert count(opened("#item=%E0%A4%A&task")) == "121 of 121 items"


def test_back_closes_an_item(opened: Any):
    page = opened()
    page.locator("#x-rows a").nth(1).click()
    page.wait_for_selector(".x-response")
    page.go_back()
    page.wait_for_selector("#x-rows tr")
    assert not page.is_visible("#x-item")


def test_an_item_says_what_its_judges_say(opened: Any):
    page = opened("#item=mini%2Flook%20alikes/i5")
    page.wait_for_selector(".x-response")
    assert "judges split" in page.inner_text(".x-column >> nth=0")
    lost = opened("#item=mini%2Flook%20alikes/i4")
    lost.wait_for_selector(".x-response")
    assert "refusal-rules: unparsed" in lost.inner_text(".x-column >> nth=0")
    cut = opened("#item=mini%2Flook%20alikes/i3")
    assert "cut off at max_tokens" in cut.inner_text(".x-column >> nth=0")


def test_keys_go_from_item_to_item(opened: Any):
    page = opened()
    page.focus("#x-rows a >> nth=0")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement === document.querySelectorAll('#x-rows a')[1]")
    page.keyboard.press("Enter")
    page.wait_for_selector("#x-title")
    first = page.inner_text("#x-title")
    page.keyboard.press("j")
    page.wait_for_function("([id]) => document.getElementById('x-title').textContent !== id", arg=[first])
    page.keyboard.press("k")
    page.wait_for_function("([id]) => document.getElementById('x-title').textContent === id", arg=[first])
    page.keyboard.press("Escape")
    page.wait_for_selector("#x-rows tr")
    assert page.evaluate("document.activeElement === document.querySelectorAll('#x-rows a')[1]")


def test_harmful_text_is_blurred_until_asked_for(opened: Any):
    page = opened("#task=mini-harm")
    blurred = "(e) => getComputedStyle(e).filter.startsWith('blur')"
    assert page.eval_on_selector("#x-rows a span", blurred)
    page.locator("#x-rows a").nth(3).click()
    page.wait_for_selector(".x-response")
    one = page.locator("#x-item blockquote")
    assert all(one.nth(n).evaluate(blurred) for n in range(3))
    assert "blurred" in one.nth(1).get_attribute("aria-label")
    one.nth(1).focus()
    page.keyboard.press("Enter")
    assert [one.nth(n).evaluate(blurred) for n in range(3)] == [True, False, True]
    page.click("#x-reveal")
    page.wait_for_function("() => !document.querySelector('.veiled')")
    page.reload()
    page.wait_for_selector(".x-response")
    assert page.locator("#x-item .veiled").count() == 3  # consent is kept nowhere
    safe = opened("#task=mini%2Flook%20alikes")
    assert safe.locator(".veiled").count() == 0


def test_hostile_text_does_nothing(opened: Any):
    page = opened("#item=mini-harm/i0")
    page.wait_for_selector(".x-response")
    page.click("#x-reveal")
    page.wait_for_function("() => !document.querySelector('.veiled')")
    shown = HOSTILE.replace("\u202e", "⟨U+202E⟩").replace("\x1b", "⟨U+001B⟩")
    assert page.locator("#x-item blockquote").nth(0).text_content() == shown
    assert page.locator("#x-item blockquote").nth(2).text_content() == shown
    assert page.locator("#explorer img, #explorer script").count() == 0


def test_a_mark_says_its_number_to_pointer_and_keyboard(opened: Any):
    page = opened()
    mark = page.locator('figure svg [role="graphics-symbol"][aria-label*="seed 3"]').first
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert page.inner_text("#tip").startswith("chat, seed")
    page.mouse.move(2, 2)
    assert not page.is_visible("#tip")
    page.locator('figure svg [role="graphics-symbol"][tabindex="0"]').first.focus()
    before = page.inner_text("#tip")
    page.keyboard.press("ArrowRight")
    assert page.is_visible("#tip") and page.inner_text("#tip") != before
    page.keyboard.press("Escape")
    assert not page.is_visible("#tip")


@pytest.mark.parametrize("address", ["", "#item=mini%2Flook%20alikes/i5", "#item=mini-harm/i0"])
def test_a_phone_has_no_sideways_scroll(opened: Any, address: str):
    page = opened(address, viewport={"width": 390, "height": 844})
    if address:
        page.wait_for_selector(".x-response")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_dark_and_light_follow_the_reader(opened: Any):
    colours = [
        opened(color_scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    ]
    assert colours == ["rgb(246, 247, 248)", "rgb(16, 19, 22)"]


def test_every_filter_has_a_label_and_a_place_in_the_order(opened: Any):
    page = opened()
    fields = page.locator("#x-filters input, #x-filters select")
    assert all(fields.nth(n).evaluate("(e) => e.labels.length") == 1 for n in range(fields.count()))
    page.focus("#x-q")
    reached = []
    for _ in range(14):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert {"x-task", "x-measure", "x-reveal"} <= set(reached)


def test_without_scripts_the_report_is_all_there(browser: Any, url: str):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(url)
    assert page.is_visible("#x-note") and not page.is_visible("#x-app")
    assert page.locator("details.card").count() > 0 and page.is_visible("figure svg >> nth=0")
    context.close()


def test_the_page_is_one_file(url: str, browser: Any, tmp_path: Path):
    """Alone in another folder it is as whole as beside its tables."""
    alone = tmp_path / "a page.html"
    alone.write_bytes(Path(url.removeprefix("file://")).read_bytes())
    page = browser.new_page()
    page.goto(alone.as_uri())
    page.wait_for_selector("#x-rows tr")
    page.close()
