"""Work that waits for its turn, without a thread of the server's in its hands."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from imagereward_ext.webui.api.answers import refusal

T = TypeVar("T")

MOST_WAITING = 64


class Line:
    """Work done in order, so many pieces at once.

    The server answers all that may take time with the same forty threads: as many requests that wait for the host's
    queue, and it answers nothing any more. So these have a limit of their own.
    """

    def __init__(self, at_once: int = 1) -> None:
        self._at_once = at_once
        self._limiter: CapacityLimiter | None = None

    async def run(self, work: Callable[[], T]) -> T:
        """Do something when its turn comes."""
        self._limiter = self._limiter or CapacityLimiter(
            self._at_once
        )  # anyio 3 makes one in a running loop only
        known = self._limiter.statistics()
        waiting = known.borrowed_tokens + known.tasks_waiting
        if waiting >= MOST_WAITING:
            raise refusal(503, f"{waiting} requests wait already; try again later")
        return await to_thread.run_sync(work, limiter=self._limiter)
