"""What a run was made with: versions and hardware, as the manifest keeps them."""

import os
import platform
from importlib.metadata import version
from typing import Any

from aftertune import __version__


def versions() -> dict[str, str]:
    """Of aftertune, Python and the packages that a number can depend on."""
    names = (
        "torch",
        "transformers",
        "peft",
        "tokenizers",
        "safetensors",
        "numpy",
        "scipy",
        "statsmodels",
        "polars",
        "pyarrow",
    )
    return {
        "aftertune": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def hardware() -> dict[str, Any]:
    """The processor, its cores and the threads in use, and the GPUs."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": cores,
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }
