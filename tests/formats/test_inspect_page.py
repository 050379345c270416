"""The commands of docs/inspect-logs.md, run on logs that Inspect makes (`make test-formats`)."""

from pathlib import Path

import pytest

pytest.importorskip("inspect_ai")
pytestmark = pytest.mark.filterwarnings("ignore")  # of other libraries

from typer.testing import CliRunner  # noqa: E402

from aftertune.cli import app  # noqa: E402
from docs_blocks import BLOCKS, ROOT  # noqa: E402
from formats import make_inspect_logs as made  # noqa: E402


def test_the_page_prints_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs").mkdir()
    made.make_page(tmp_path / "logs")
    blocks = [block for block in BLOCKS if block.page == ROOT / "docs" / "inspect-logs.md"]
    shown = [at for at, block in enumerate(blocks) if block.kind == "text"]
    assert len(shown) == 3
    for at in shown:
        (words,) = blocks[at - 1].commands
        result = CliRunner().invoke(app, words)
        assert result.exit_code == (words[0] == "gate"), f"{result.output}\n{result.exception!r}"
        lines = [line for line in blocks[at].text.splitlines() if line not in result.stdout.splitlines()]
        assert lines == [], f"{words}: not printed: {lines}\n{result.stdout}"
