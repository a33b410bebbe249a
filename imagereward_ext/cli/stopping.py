"""Ctrl-C: reported with how far the work got, and never in the middle of a file."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from imagereward_ext.cli.exit_codes import STOPPED


class Stopped(BaseException):
    """The user stopped the work; the message says what was done until then."""


@contextmanager
def reporting_stops(what_was_done: Callable[[], str]) -> Iterator[None]:
    """Turn Ctrl-C inside the block into a :class:`Stopped` that says how far it got."""
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(what_was_done()) from None


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait until the block, which changes a file or counts what it did, is over."""
    if threading.current_thread() is not threading.main_thread():  # only that one is interrupted
        yield
        return
    waiting: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: waiting.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)
        if waiting:
            signal.raise_signal(signal.SIGINT)


class PatientStop:
    """What Ctrl-C does to the whole program: the first stops it in order, the second finds that under way.

    The third ends it at once.
    """

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal."""
        self._count += 1
        if self._count == 1:
            raise KeyboardInterrupt
        if self._count > 2:
            os.write(2, b"stopped at once\n")
            os._exit(STOPPED)
