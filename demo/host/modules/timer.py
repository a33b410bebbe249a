"""How long starting took, and what it was spent on."""

from __future__ import annotations

import time


class Timer:
    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.start = self.last = time.monotonic()
        self.records: dict[str, float] = {}

    def record(self, category: str) -> None:
        now = time.monotonic()
        self.records[category] = self.records.get(category, 0.0) + now - self.last
        self.last = now

    def summary(self) -> str:
        parts = [f"{name}: {seconds:.1f}s" for name, seconds in self.records.items() if seconds >= 0.1]
        total = f"{time.monotonic() - self.start:.1f}s"
        return f"{total} ({', '.join(parts)})" if parts else total


startup_timer = Timer()
