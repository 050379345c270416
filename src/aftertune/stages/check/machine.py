"""What a run was made with: versions and hardware, as the manifest keeps them."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from aftertune._version import __version__


def versions() -> dict[str, str]:
    """Of aftertune, Python and the installed packages that a number can depend on."""
    names = (
        "torch",
        "transformers",
        "peft",
        "tokenizers",
        "safetensors",
        "numpy",
        "scipy",
        "polars",
        "pyarrow",
    )
    return {
        "aftertune": __version__,
        "python": platform.python_version(),
        **{name: found for name in names if (found := _installed(name)) is not None},
    }


def hardware() -> dict[str, Any]:
    """The processor and its cores; the threads in use and the GPUs, where models can be run at all."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = {"machine": platform.machine(), "system": platform.system(), "cores": cores}
    if find_spec("torch") is None:
        return machine
    import torch

    return {
        **machine,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:  # of the extra `models`
        return None
