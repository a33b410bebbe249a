"""What counts as running out of memory, and what processes of our own ask the system for."""

import os

import pytest

from imagereward_ext import memory
from imagereward_ext.memory import is_out_of_memory


def oom():
    return RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (oom(), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory: you tried"),
            True,
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error, expected):
    assert is_out_of_memory(error) is expected


@pytest.mark.parametrize(("given", "wanted"), [(None, "1"), ("0", "0")])
def test_processes_of_our_own_ask_for_large_pages_unless_somebody_decided(given, wanted, monkeypatch):
    from imagereward_ext.cli import main
    from imagereward_ext.jobs.process import environment

    (name,) = memory.LARGE_PAGES
    monkeypatch.setenv(name, given or "")
    if given is None:
        monkeypatch.delenv(name)
    assert environment("cpu")[name] == wanted
    assert main(["--version"]) == 0
    assert os.environ[name] == wanted
