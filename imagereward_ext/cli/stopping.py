"""Ctrl-C, reported with how far the work got."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopped(BaseException):
    """The user stopped the work; the message says what was done until then."""


@contextmanager
def reporting_stops(what_was_done: Callable[[], str]) -> Iterator[None]:
    """Turn Ctrl-C inside the block into a :class:`Stopped` that says how far it got."""
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(what_was_done()) from None
