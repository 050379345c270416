import errno

import pytest
import torch

from aftertune.cli.app import _told
from aftertune.errors import out_of_memory

_OF_MEMORY = [
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    OSError("libgomp.so.1: failed to map segment from shared object"),
    ImportError("libtorch.so: failed to map segment from shared object"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: 1 bytes"),
    RuntimeError("CUDA out of memory. Tried to allocate 2 GiB.\nmore"),
    torch.OutOfMemoryError("HIP: none left"),
    RuntimeError("can't start new thread"),
]


@pytest.mark.parametrize("error", _OF_MEMORY, ids=repr)
def test_memory_that_does_not_suffice_is_said(error: Exception):
    said = out_of_memory(error)
    assert said and "\n" not in said
    told, code = _told(error)
    assert code == 2 and told.startswith(f"out of memory: {said}\n  → lower engine.batch_rows")


@pytest.mark.parametrize("error", [FileNotFoundError(2, "No such file", "a"), RuntimeError("sizes differ")])
def test_other_errors_are_not_taken_for_it(error: Exception):
    assert out_of_memory(error) is None
