"""Time and memory of this process. Runs in either environment."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

MB = 2**20


class Watch:
    """Seconds on the wall and on the processor since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self, name: str) -> dict[str, float]:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return {f"{name}_s": wall, f"{name}_cpu_s": cpu}


def resident() -> float:
    """Return the memory this process has right now, in MB."""
    return float(psutil.Process().memory_info().rss) / MB


def peak_resident() -> float:
    """Return the most it ever had, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage's figure survives exec and so may be the parent's
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / MB


@contextmanager
def added_memory() -> Iterator[dict[str, float]]:
    """Fill in how far the resident memory rose above where it was, looked at every 2 ms."""
    figures: dict[str, float] = {}
    before = most = resident()
    over = threading.Event()

    def look() -> None:
        nonlocal most
        while not over.wait(0.002):
            most = max(most, resident())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield figures
    finally:
        over.set()
        thread.join()
        figures["added_mb"] = max(most, resident()) - before


def load_average() -> float:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
