"""Models behind a real server, `transformers serve`, that is killed amid a study and comes back."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from transformers import GenerationConfig

from aftertune.engines.endpoint import Limits
from aftertune.errors import EngineError
from aftertune.pipeline import STAGES
from aftertune.store import RunDirectory
from stage_runs import rows, run
from tiny import make_tiny_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("fastapi", "uvicorn", "openai")),
        reason="transformers serve is not installed (pip install -e '.[dev]')",
    ),
]
N_RESPONSES = 3 * 5 * 2  # models × items × decodings


class TransformersServe:
    """The server in a process of its own, always at one port."""

    def __init__(self, folder: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.log = folder / "server.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(Path(sys.executable).with_name("transformers")), "serve", "--device", "cpu"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(self.port)],
                stdout=log,
                stderr=log,
                env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            )
        until = time.monotonic() + 180
        while not self._answers():
            assert self.process.poll() is None and time.monotonic() < until, self.log.read_text()[-3000:]
            time.sleep(0.2)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False


@pytest.fixture
def server(tmp_path: Path):
    served = TransformersServe(tmp_path)
    yield served
    served.kill()


def models(folder: Path) -> list[str]:
    """Three models that differ in their weights; this server samples only where the model's files say so."""
    made: list[str] = []
    for seed, name in enumerate(("base", "one", "two")):
        path = make_tiny_model(folder / name, seed=seed)
        GenerationConfig(do_sample=True, bos_token_id=1, eos_token_id=2, pad_token_id=2).save_pretrained(path)
        made.append(str(path))
    return made


def texts(out: Path) -> dict[str, str]:
    return dict(RunDirectory(out).read_responses().select("key", "text").iter_rows())


def test_a_real_server_killed_in_the_middle(
    server: TransformersServe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aftertune.engines.openai.Limits", partial(Limits, tries=2, first_wait_s=0.01))
    base, *tuned = models(tmp_path)
    study: dict[str, Any] = {
        "name": "served",
        "model": base,
        "recipes": {"chat": {"served": tuned}},
        "seeds": 2,
        "tasks": [{"name": "mini-harm", "n": 3}, {"name": "mini-lookalikes", "n": 2}],
        "decodings": {
            "greedy": {"temperature": 0, "max_tokens": 12},
            "sampled": {"temperature": 0.8, "max_tokens": 12},
        },
        "judges": ["refusal-rules", "incoherence-rules"],
        # This server seeds a generator that all its requests share: one at a time keeps to the seed.
        "engine": {"name": "openai", "endpoint": server.url, "at_once": 1},
    }
    killed: list[int] = []

    def kill_once(stage: str, done: int, _: int) -> None:
        if stage == "generate" and done == N_RESPONSES // 2 and not killed:
            killed.append(done)
            server.kill()

    server.start()
    with pytest.raises(EngineError, match="is kept"):
        run(study, tmp_path / "run", stages=STAGES, progress=kill_once)
    kept = rows(tmp_path / "run", "responses")
    assert killed
    assert killed[0] <= kept.height < N_RESPONSES
    assert set(kept["status"]) <= {"ok", "empty"}
    server.start()
    out = run(study, tmp_path / "run", stages=STAGES)
    drawn, served = rows(out, "responses"), rows(out, "served")
    assert drawn.height == served.height == drawn["key"].n_unique() == N_RESPONSES
    assert served["key"].is_unique().all()
    again = texts(out)
    assert {key: again[key] for key in kept["key"]} == dict(kept.select("key", "text").iter_rows())
    assert again == texts(run(study, tmp_path / "whole", stages=STAGES))
    made = RunDirectory(out).read_manifest().recorded()
    assert made["endpoint_seed"] == {
        "sent": True,
        "kept": True,
        "finding": "kept to: one seed gave one text, another seed another",
    }
    assert {name: said["served_by"] for name, said in made["served"]["models"].items()} == {
        name: [name] for name in (base, *tuned)
    }
    per_model = drawn.join(served.select("key", "model"), on="key").group_by("model")
    assert per_model.agg(pl.col("text").n_unique())["text"].min() > 1
    assert (out / "report" / "index.html").is_file()
