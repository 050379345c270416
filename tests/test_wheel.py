"""What a user installs: the wheel alone, in an environment of its own."""

import json
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

import light_commands
from aftertune._version import __version__
from aftertune.errors import MODEL_PACKAGES

ROOT = Path(__file__).parents[1]
# polars, pyarrow, scipy, numpy and vl-convert alone are 650 MB (docs/decisions/01-dependencies.md).
MOST_MB = 850

# Runs the command in this process and then says which heavy packages it loaded.
PROBE = """
import sys
from aftertune.cli import main
sys.argv = ["aftertune", *sys.argv[1:]]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
print("loaded:", sorted({"torch", "transformers", "peft"} & set(sys.modules)))
"""


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_alone_reads_results_and_says_what_models_need(tmp_path: Path):
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", ROOT, cwd=tmp_path)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    assert "aftertune/py.typed" in zipfile.ZipFile(wheel).namelist()
    run(sys.executable, "-m", "venv", "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    install = (python, "-m", "pip", "install", "-q", "--disable-pip-version-check")
    run(*install, "-c", ROOT / "constraints.txt", wheel, cwd=tmp_path)

    listed = json.loads(run(python, "-m", "pip", "list", "--format=json", cwd=tmp_path))
    installed = {package["name"].lower().replace("_", "-"): package["version"] for package in listed}
    assert installed["polars"] == version("polars")
    assert installed["aftertune"] == __version__
    assert {*MODEL_PACKAGES, "statsmodels", "pandas", "accelerate"} & set(installed) == set()
    n_bytes = sum(file.lstat().st_blocks * 512 for file in (tmp_path / "venv").rglob("*"))
    assert 100 < n_bytes / 1e6 < MOST_MB

    assert "fine-tuning" in run(tmp_path / "venv" / "bin" / "aftertune", "--help", cwd=tmp_path)
    (tmp_path / "table.csv").write_text(light_commands.TABLE, encoding="utf-8")
    for words in (("--help",), ("analyze", "table.csv"), ("schema",), ("tasks",), ("data",), ("judges",)):
        assert run(python, "-c", PROBE, *words, cwd=tmp_path).endswith("loaded: []\n"), words

    told = json.loads(run(python, light_commands.__file__, tmp_path, cwd=tmp_path))
    light_commands.assert_as_promised(told["found"], tmp_path)
