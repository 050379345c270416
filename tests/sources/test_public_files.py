"""Fetching: nothing twice, nothing without its hash, and how to get what cannot be had.

The hub and the web cannot be reached in these tests: `hf_hub_download` and `urlopen` are stood in for.
"""

import hashlib
import io
from types import SimpleNamespace
from urllib.error import URLError

import huggingface_hub
import pytest
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError

from aftertune.errors import DataError
from aftertune.sources import HubFile, WebFile, fetch, keep_copy
from aftertune.sources.public_files import cache_directory

URL = "https://example.org/0f505d82/rows.csv"
HUB = HubFile("owner/set", "rows.csv", "0" * 40, gated=True)


@pytest.fixture
def web(monkeypatch, tmp_path):
    """What the web answers, and the addresses that were asked."""
    monkeypatch.setenv("AFTERTUNE_CACHE", str(tmp_path))
    answers: dict[str, bytes] = {URL: b"prompt\nhello\n"}
    asked: list[str] = []

    def urlopen(request, timeout):
        asked.append(request.full_url)
        if request.full_url not in answers:
            raise URLError("no route")
        return io.BytesIO(answers[request.full_url])

    monkeypatch.setattr("aftertune.sources.public_files.urlopen", urlopen)
    return answers, asked


def test_a_file_is_fetched_once_and_kept_in_the_cache(web):
    _, asked = web
    sha256 = hashlib.sha256(b"prompt\nhello\n").hexdigest()
    first = fetch(WebFile(URL, sha256))
    assert first.read_bytes() == b"prompt\nhello\n"
    assert first.suffix == ".csv"
    assert cache_directory() in first.parents
    assert fetch(WebFile(URL)) == first
    assert asked == [URL]


def test_a_changed_file_is_refused_with_both_hashes_and_not_kept(web):
    answers, asked = web
    with pytest.raises(DataError, match=rf"has changed: its SHA-256 is [0-9a-f]{{64}}, expected {'1' * 64}"):
        fetch(WebFile(URL, "1" * 64))
    answers[URL] = b"mended"
    assert fetch(WebFile(URL)).read_bytes() == b"mended"
    assert len(asked) == 2


@pytest.mark.parametrize("url", ["http://example.org/a.csv", "file:///etc/passwd", "example.org/a.csv"])
def test_only_https_is_asked(web, url):
    with pytest.raises(DataError, match="no https address"):
        fetch(WebFile(url))
    assert web[1] == []


def test_without_a_network_the_remedy_is_a_local_copy(web):
    with pytest.raises(DataError, match="no route") as caught:
        fetch(WebFile("https://example.org/other.csv"))
    assert "local copy" in caught.value.remedy


def test_the_hub_is_asked_for_the_pinned_commit(monkeypatch, tmp_path):
    asked: list[tuple] = []

    def download(repo, path, *, repo_type, revision):
        asked.append((repo, path, repo_type, revision))
        return str(tmp_path / "rows.csv")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert fetch(HUB) == tmp_path / "rows.csv"
    assert asked == [("owner/set", "rows.csv", "dataset", "0" * 40)]


@pytest.mark.parametrize(
    "error",
    [
        GatedRepoError("403", response=SimpleNamespace(headers={}, request=None, status_code=403)),
        LocalEntryNotFoundError("offline"),
    ],
)
def test_a_gated_set_says_how_to_get_it(monkeypatch, error):
    def download(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(DataError) as caught:
        fetch(HUB)
    assert (
        "accept its terms at https://huggingface.co/datasets/owner/set and set HF_TOKEN"
        in caught.value.remedy
    )
    assert "local copy" in caught.value.remedy


def test_a_local_copy_takes_the_place_of_the_network(web, tmp_path):
    copy = tmp_path / "copy.csv"
    copy.write_bytes(b"prompt\nhello\n")
    file = WebFile("https://example.org/elsewhere.csv", hashlib.sha256(copy.read_bytes()).hexdigest())
    kept = keep_copy(file, copy)
    assert fetch(file) == kept
    assert web[1] == []
    copy.write_bytes(b"another")
    with pytest.raises(DataError, match=r"copy.csv is not https://example.org/elsewhere.csv: its SHA-256"):
        keep_copy(file, copy)
    with pytest.raises(DataError, match="cannot be read"):
        keep_copy(file, tmp_path / "none.csv")
