"""The processor that computes, and what of the environment decides how its libraries compute.

The command sets MKL's mode before torch is loaded, so this module imports torch only where it is needed.
"""

import os
from collections.abc import MutableMapping
from pathlib import Path

# Read by MKL, oneDNN and torch when they start: which instructions, and so which kernels, they use.
_SETTINGS = (
    "ATEN_CPU_CAPABILITY",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_MAX_CPU_ISA",
)
_BFLOAT16 = {"avx512_bf16", "amx_bf16"}  # with these a model computes in bfloat16, which is not MKL's


def processor(device: str) -> str:
    """What decides which kernels compute; libraries look beyond the capability that torch names."""
    import torch

    if device == "cuda":
        return torch.cuda.get_device_name()
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    extras = [name for name in ("amx_bf16", "arm_bf16", "avx512_bf16") if found.get(name)]
    # MKL chooses its kernels by the vendor and the family of an x86 processor.
    said = _cpuinfo()
    maker = [said[name] for name in ("vendor_id", "cpu family") if name in said]
    return " ".join([*maker, torch.backends.cpu.get_cpu_capability(), *extras])


def kernel_settings() -> dict[str, str]:
    """The settings of the environment that change which kernels compute, where there are any."""
    return {name: os.environ[name] for name in _SETTINGS if name in os.environ}


def use_strict_products(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let MKL compute reproducibly where its plain products are known not to be; the user's setting stays.

    On an Intel processor without bfloat16, with two threads, a row of a float32 product depends on the number
    of rows; in MKL's strict mode (conditional numerical reproducibility) it does not (docs/machines.md). MKL
    reads the mode once, when it starts: only a process that has not used it yet can set it.
    """
    said = _cpuinfo()
    flags = set(said.get("flags", "").split())
    if said.get("vendor_id") != "GenuineIntel" or flags & _BFLOAT16:
        return
    branch = next((name for flag, name in (("avx512f", "AVX512"), ("avx2", "AVX2")) if flag in flags), None)
    if branch is not None:
        environment.setdefault("MKL_CBWR", f"{branch},STRICT")


def _cpuinfo() -> dict[str, str]:
    """What Linux says of an x86 processor; nothing elsewhere."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {}
    lines = (line.partition(":") for line in path.read_text(encoding="utf-8").splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}
