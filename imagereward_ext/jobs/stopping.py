"""A run that was asked to stop, seen through to its end: the request first, then the signal, then the end."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from imagereward_ext.jobs import process
from imagereward_ext.jobs.runs import read_run
from imagereward_ext.training.record import AT_WORK, RecordError, RunRecord, State

LOOK_SECONDS = 0.3
SECONDS_BEFORE_THE_SIGNAL = 2.0
"""The engine looks for the request after each update."""

SECONDS_AFTER_THE_SIGNAL = 120.0
UPDATES_AFTER_THE_SIGNAL = 5
"""How long a run may take to finish its update and save: so many seconds, or so many of its own updates if that is
longer. One that is stuck is ended then; the state before stays."""


def ask(record: RunRecord) -> None:
    """Let a run finish its update, save and end, and watch that it does."""
    record.stop.ask()
    entry = record.read()
    start = entry.start if entry else 0
    threading.Thread(target=see_through, args=(record, start), name="imagereward stop", daemon=True).start()


def see_through(record: RunRecord, start: int) -> None:
    """After the request the signal, and for a process that is stuck the end; a later start is left alone."""
    time.sleep(SECONDS_BEFORE_THE_SIGNAL)
    seconds = read_run(record.folder).seconds or 0.0
    patience = max(SECONDS_AFTER_THE_SIGNAL, UPDATES_AFTER_THE_SIGNAL * seconds)
    deadline = time.monotonic() + patience
    signalled = False
    while (entry := record.read()) is not None and entry.state in AT_WORK and entry.start == start:
        if time.monotonic() > deadline:
            end_now(record, f"it did not answer for {patience:.0f} seconds and was ended")
            return
        pid = record.process()
        if pid is not None and not signalled:  # one that has its lock answers signals
            process.terminate(pid)
            signalled = True
        time.sleep(LOOK_SECONDS)


def end_now(record: RunRecord, reason: str) -> None:
    """End a run's process and say why; what a training that is done has said of itself stays."""
    pid = record.process()
    if pid is None:
        return
    if record.state() in (State.PREPARING, State.TRAINING):
        with suppress(RecordError):  # a full disk keeps nobody from ending it
            record.give_up(State.LOST, reason)
    process.kill(pid)
