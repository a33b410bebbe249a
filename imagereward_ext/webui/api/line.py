"""Work that waits for its turn, without a thread of the server's in its hands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from imagereward_ext.webui.api.answers import refusal

T = TypeVar("T")

MOST_WAITING = 64


class Line:
    """Work done in order, by threads of its own.

    The server answers all that may take time with the same forty threads: as many requests that wait for the host's
    queue, and it answers nothing any more.
    """

    def __init__(self, name: str, threads: int = 1) -> None:
        self._threads = ThreadPoolExecutor(threads, f"imagereward {name}")
        self._waiting = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Do something when its turn comes."""
        if self._waiting >= MOST_WAITING:
            raise refusal(503, f"{self._waiting} requests wait already; try again later")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1
