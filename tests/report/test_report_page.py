import base64
import hashlib
import html
import re
from html.parser import HTMLParser
from pathlib import Path

import polars as pl

from aftertune.records.analysis import Analysis
from aftertune.records.manifest import Manifest
from aftertune.report import write_report

EVIL = "<script>alert(\"x\")</script><img src=x onerror='y'>\u202eevil\x1b[31m & </blockquote>"
LOADS = re.compile(
    r"""(?:src|srcset|data|poster|action|background)\s*=|@import|url\(\s*['"]?(?!#)|<link|<iframe"""
    r"""|<script(?!>| type="application/octet-stream" id="[a-z0-9-]+">)""",
    re.I,
)


class Collector(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags: list[str] = []
        self.hrefs: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.scripts: list[tuple[str, str]] = []  # type, content

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]):
        self.tags.append(tag)
        given = dict(attrs)
        self.ids += [given["id"]] if given.get("id") else []
        self.hrefs += [given["href"]] if tag == "a" and given.get("href") else []
        if tag == "script":
            self.scripts.append((given.get("type") or "", ""))
        if tag not in {"meta", "br", "img", "input", "path", "rect", "line"}:
            self.open.append(tag)

    def handle_data(self, data: str):
        if self.open[-1:] == ["script"]:
            kind, before = self.scripts.pop()
            self.scripts.append((kind, before + data))

    def handle_endtag(self, tag: str):
        if tag in {"path", "rect", "line"}:
            return
        assert self.open.pop() == tag


def read(out: Path) -> tuple[str, Collector]:
    text = (out / "index.html").read_text(encoding="utf-8")
    page = Collector()
    page.feed(text)
    assert page.open == []
    runs = [content for kind, content in page.scripts if not kind]
    assert len(runs) == 1  # the page's own, allowed by its hash; the other blocks are packed and never run
    digest = base64.b64encode(hashlib.sha256(runs[0].encode()).digest()).decode()
    assert re.findall(r"script-src ([^;]*);", text) == [f"'sha256-{digest}'"]
    assert all(re.fullmatch(r"[A-Za-z0-9+/=]+", content) for kind, content in page.scripts if kind)
    return text, page


def everything(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def test_the_page_is_whole_and_loads_nothing(
    base: str, analysis: Analysis, examples: pl.DataFrame, tmp_path: Path
):
    path = write_report(
        analysis, examples=examples, manifest=Manifest(versions={"torch": "2.13.0"}), out=tmp_path
    )
    assert path == tmp_path / "index.html"
    text, page = read(tmp_path)
    assert not LOADS.search(text)
    assert "default-src 'none'" in text
    links = [href for href in page.hrefs if not href.startswith("#")]
    assert links == ["https://arxiv.org/abs/2506.17209"]
    assert {href[1:] for href in page.hrefs if href.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert page.tags.count("svg") == 9
    for part in (
        f"chat: less safe than {base}",
        "+30.0 points [+21.0, +40.0]",
        "chat-self: no loss of safety shown",
    ):
        assert part in text
    for part in (
        "11.7% [6.2%, 17.2%]",
        "Few seeds",
        "2506.17209",
        "torch",
        "2.13.0",
        "leaves out item and judge",
    ):
        assert part in text


def test_every_text_of_a_model_is_escaped(analysis: Analysis, tmp_path: Path, make_examples):
    frame = make_examples({f"Prompt {EVIL}": EVIL}).with_columns(
        category=pl.lit(f"category {EVIL}"), item=pl.lit(f"item {EVIL}")
    )
    write_report(
        analysis,
        examples=frame,
        manifest=Manifest.model_validate({f"key {EVIL}": f"value {EVIL}", "deep": {"a": [EVIL]}}),
        out=tmp_path,
    )
    text, page = read(tmp_path)
    assert "img" not in page.tags
    shown = EVIL.replace("\u202e", "⟨U+202E⟩").replace("\x1b", "⟨U+001B⟩")
    assert text.count(html.escape(shown).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")) == 7
    assert "\u202e" not in text and "\x1b" not in text


def test_names_from_a_table_are_escaped_everywhere(analysis: Analysis, tmp_path: Path):
    raw = (
        analysis.model_dump_json()
        .replace('"chat"', f'"chat{EVIL_JSON}"')
        .replace('"malware"', f'"mal{EVIL_JSON}"')
    )
    write_report(Analysis.model_validate_json(raw), examples=None, manifest=Manifest(), out=tmp_path)
    _, page = read(tmp_path)
    assert "b" not in page.tags and "img" not in page.tags
    for name, content in everything(tmp_path).items():
        text = content.decode()
        if not name.endswith(".csv"):
            assert "<b>" not in text and "\u202e" not in text, name
    markdown = (tmp_path / "report.md").read_text()
    assert "a\\|b" in markdown and "](http" not in markdown


EVIL_JSON = "<b>\\u202ea|b](http://x)"


def test_the_same_input_gives_the_same_bytes(analysis: Analysis, examples: pl.DataFrame, tmp_path: Path):
    for name in ("one", "two"):
        shuffled = examples if name == "one" else examples.reverse()
        write_report(analysis, examples=shuffled, manifest=Manifest(study="a"), out=tmp_path / name)
    assert everything(tmp_path / "one") == everything(tmp_path / "two")


def test_responses_stay_closed_until_asked_for(analysis: Analysis, examples: pl.DataFrame, tmp_path: Path):
    write_report(analysis, examples=examples, manifest=Manifest(), out=tmp_path)
    text = (tmp_path / "index.html").read_text()
    section = text[text.index('id="examples"') : text.index('id="method"')]
    assert section.count('<details class="card">') == 3
    assert "<details open" not in section
    outside = re.sub(r"<details.*?</details>", "", section, flags=re.S)
    assert "help with that" not in outside
    assert "help with that" not in (tmp_path / "report.md").read_text()


def test_a_manifest_is_shown_as_it_is(analysis: Analysis, tmp_path: Path):
    manifest = {
        "numerics": "exact",
        "git": None,
        "threads": 2,
        "lists": [1, 2],
        "unknown": {"files": [{"sha256": "ab"}]},
    }
    write_report(analysis, examples=None, manifest=Manifest.model_validate(manifest), out=tmp_path)
    text = (tmp_path / "index.html").read_text()
    for pair in (
        "<dt>git</dt><dd>not given</dd>",
        "<dt>threads</dt><dd>2</dd>",
        "<dt>files.1.sha256</dt><dd>ab</dd>",
    ):
        assert pair in text
    assert "<dt>values</dt><dd>1, 2</dd>" in text


def test_an_empty_analysis_says_so(analysis: Analysis, tmp_path: Path):
    names = ("rates", "differences", "components", "consistency", "flips", "warnings")
    empty = analysis.model_copy(update=dict.fromkeys(names, ()) | {"primary": None})
    write_report(empty, examples=None, manifest=Manifest(), out=tmp_path)
    text, _ = read(tmp_path)
    assert "The analysis holds no rates" in text
    assert (tmp_path / "tables" / "rates.csv").read_text().startswith("model,task,decoding,judge,metric,")


def test_the_page_adapts(analysis: Analysis, tmp_path: Path):
    write_report(analysis, examples=None, manifest=Manifest(), out=tmp_path)
    text = (tmp_path / "index.html").read_text()
    for part in ("prefers-color-scheme: dark", "@media print", "max-width: 34rem", 'lang="en"'):
        assert part in text
