"""What may end a training's process early: a signal, a request to stop, and the end of the WebUI."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from imagereward_ext.training.record import RecordError, RunRecord

SECONDS_AFTER_THE_WEBUI = 120.0
"""How long an orphan may take to finish its update and save before it ends without."""


class StoppedEarlyError(BaseException):
    """Not an Exception, so that no library between here and there takes it for a failure of its own."""


@dataclass
class _Signals:
    """What is known of them; plain values, since a handler may interrupt itself."""

    came: bool = False
    end_at_once: bool = False


_signals = _Signals()


def answer_signals() -> None:
    """Note signals from now on: they end what has nothing to lose, and the engine answers them itself."""
    _signals.came = False
    signal.signal(signal.SIGTERM, _on_signal)


@contextmanager
def nothing_to_lose(record: RunRecord) -> Iterator[None]:
    """Let a signal end at once what is done within the block, or whoever asked before it."""
    _signals.end_at_once = True
    try:
        if _signals.came or record.stop.asked():
            raise StoppedEarlyError
        yield
    finally:
        _signals.end_at_once = False


def something_to_lose() -> None:
    """Let signals wait, from here to the end of the block."""
    _signals.end_at_once = False


def end_with_the_webui(record: RunRecord, end: Callable[[int], None] = os._exit) -> None:
    """Ask the engine to stop when the pipe to the WebUI ends; end without it if it takes too long."""

    def wait() -> None:
        with suppress(OSError):
            while os.read(sys.stdin.fileno(), 1):
                pass
        with suppress(RecordError):
            record.stop.ask()
        time.sleep(SECONDS_AFTER_THE_WEBUI)
        end(5)

    threading.Thread(target=wait, name="end with the WebUI", daemon=True).start()


def _on_signal(number: int, frame: object) -> None:
    _signals.came = True
    if _signals.end_at_once:
        raise StoppedEarlyError
