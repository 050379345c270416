"""Exact numerics under other instruction sets, each in a process of its own, with threads as users have."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SETTINGS = (
    {},
    {"ATEN_CPU_CAPABILITY": "default"},
    {"ATEN_CPU_CAPABILITY": "avx2"},
    {"ATEN_CPU_CAPABILITY": "avx512"},
    {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    {"MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    {"MKL_ENABLE_INSTRUCTIONS": "AVX512"},
    {"MKL_CBWR": "COMPATIBLE"},
    {"MKL_CBWR": "AVX2"},
    {"MKL_CBWR": "AVX512,STRICT"},
    {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
)


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: " ".join(f"{k}={v}" for k, v in s.items()))
def test_texts_do_not_depend_on_their_neighbours(settings, tmp_path):
    cpuinfo = Path("/proc/cpuinfo")
    if "avx512" in settings.values() and not (cpuinfo.is_file() and "avx512f" in cpuinfo.read_text("utf-8")):
        pytest.skip("torch would use instructions that this processor does not have")
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment["OMP_WAIT_POLICY"] = "PASSIVE"  # four threads on two cores would spin for each other
    environment |= {"AFTERTUNE_CACHE": str(tmp_path / "cache"), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, str(HERE / "machine_trial.py"), str(tmp_path / "model")],
        env=environment | settings,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])["found"]
    assert len(found) == 4
    for trial in found.values():
        assert trial["way"] is not None, "no way to exact numerics"
        assert trial["differ"] == 0
        assert trial["texts"] > trial["of"] // 2, "the model is too dull to show a difference"
