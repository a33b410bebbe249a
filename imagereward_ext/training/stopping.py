"""How a run is asked to stop: Ctrl-C, a termination signal, or a file named ``stop`` in its folder."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from imagereward_ext.training.record import StopFile


class StopRequest:
    """Within the block, SIGINT and SIGTERM let the running update finish. A second Ctrl-C ends at once."""

    def __init__(self, stop: StopFile) -> None:
        self._stop = stop
        self._signalled = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        # Only the main thread may set handlers; a caller in another thread still has the stop file.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def __bool__(self) -> bool:
        """Tell whether somebody asked."""
        return self._signalled or self._stop.asked()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._signalled and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signalled = True
