"""What waits in a folder of runs, carried out one after the other: make room, start, watch, give the room back.

Everything stands in the runs' records, so another process (the WebUI after a restart) finds it again.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.jobs import process
from imagereward_ext.jobs.order import Order, read_order
from imagereward_ext.jobs.runs import Runs, is_run
from imagereward_ext.training.lock import Lock
from imagereward_ext.training.record import AT_WORK, ENDED, RecordError, RunRecord, State

LOOK_SECONDS = 0.1
SECONDS_TO_END = 20.0
"""What a process may take to end after its run has: libraries clean up."""

log = logging.getLogger("imagereward")
Hook = Callable[[Order], None]


class Queue:
    """One run at a time. Every method may be called from any thread, and returns at once."""

    def __init__(self, runs: Runs, before: Hook, after: Hook, locks: Path | None = None) -> None:
        self._runs = runs
        self._before = before
        self._after = after
        self._locks = locks
        self.changing = threading.RLock()
        """Held while a run is put into the queue, taken out of it, or begun."""
        self._worker: threading.Thread | None = None
        self._busy: Order | None = None
        self._adopt_orphan()

    def busy(self) -> Order | None:
        """Return the order at work, from before room is made for it until its process has ended."""
        return self._busy

    def busy_for_long(self) -> Order | None:
        """Return the order at work; one whose process only has to end is waited for."""
        deadline = time.monotonic() + SECONDS_TO_END
        while (order := self._busy) is not None:
            if order.record.state() not in ENDED or time.monotonic() > deadline:
                return order
            time.sleep(LOOK_SECONDS)
        return None

    def submit(self, order: Order, files: Mapping[str, str]) -> None:
        """Put an order into the queue; the files are texts that it speaks of, for the run's folder."""
        with self.changing:
            new = not is_run(order.folder)
            try:
                order.write(files)
                order.record.wait(to_compare=order.only_compare)
            except ImageRewardError:
                if new:
                    shutil.rmtree(order.folder, ignore_errors=True)
                raise
            self.go_on()

    def take_out(self, record: RunRecord, order: Order | None) -> None:
        """Take a run out of the queue again."""
        if order is not None and order.only_compare:
            record.end_comparison()
        else:
            record.give_up(State.STOPPED, "taken out of the queue")

    def go_on(self) -> None:
        """Carry out what waits; what a WebUI that has ended left in the queue needs a person to ask for it."""
        with self.changing:
            if self._worker is None or not self._worker.is_alive():
                self._work_in_thread(self._work)

    def wait(self, seconds: float) -> bool:
        """Wait until nothing is at work; for tests and commands."""
        worker = self._worker
        if worker is not None:
            worker.join(seconds)
        return worker is None or not worker.is_alive()

    def _work_in_thread(self, work: Callable[[], None]) -> None:
        self._worker = threading.Thread(target=work, name="imagereward training", daemon=True)
        self._worker.start()

    def _work(self) -> None:
        while True:
            with self.changing:
                order = self._busy = self._next()
                if order is None:
                    self._worker = None
                    return
            try:
                self._carry_out(order)
            except RecordError:  # no space: the order waits as before, for a person to start the queue again
                log.exception("The run %s was not started", order.name)
                with self.changing:
                    self._worker = None
                return
            except Exception:  # of giving the room back; how the training ended is written
                log.exception("After the run %s", order.name)
            finally:
                self._busy = None

    def _next(self) -> Order | None:
        """Return the order that has waited longest; one that another WebUI of this folder has taken waits no more."""
        waiting = []
        for folder in self._runs.paths():
            record = RunRecord(folder)
            entry, order = record.read(), read_order(folder)
            if (
                entry is not None
                and order is not None
                and entry.state is State.WAITING
                and not record.is_held()
            ):
                waiting.append((entry.time, order))
        return min(waiting, key=lambda pair: pair[0])[1] if waiting else None

    def _carry_out(self, order: Order) -> None:
        lock, record = Lock(order.record.queue_lock), order.record
        try:
            if not lock.take({"name": order.name}):
                return
        except OSError as error:
            reason = error.strerror or error
            raise RecordError(f"the run {order.name} cannot be locked: {reason}") from error
        try:
            with self.changing:
                if record.state() is not State.WAITING:  # taken out this moment
                    return
                record.begin(to_compare=order.only_compare, compares=order.compare > 0)
            try:
                self._run(order)
            except Exception as error:
                log.exception("The run %s cannot go on", order.name)
                self._give_up(record, State.FAILED, str(error))
            self._busy = None  # from here on nobody needs the memory; loading it again may wait for its turn
        finally:
            lock.release()
        self._after(order)

    def _run(self, order: Order) -> None:
        self._before(order)
        if order.record.stop.asked():  # pressed while room was made
            self._give_up(order.record, State.STOPPED, "stopped before the first update")
            return
        child = process.start(order, self._locks)
        try:
            code = child.wait()
        finally:
            if child.stdin is not None:
                child.stdin.close()
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        self._give_up(order.record, State.LOST, f"the training process ended {how}, without a word")

    def _give_up(self, record: RunRecord, state: State, reason: str) -> None:
        """Say how a run ended that could not say it itself."""
        found = record.state()
        with suppress(RecordError):  # a full disk, or a folder that somebody has removed
            if found is State.COMPARING:
                record.end_comparison()
            elif found in AT_WORK:
                record.give_up(state, reason)

    def _adopt_orphan(self) -> None:
        """Find a training that an earlier WebUI left running, and watch it to its end."""
        orders = (read_order(path) for path in self._runs.paths() if RunRecord(path).process() is not None)
        order = next((order for order in orders if order is not None), None)
        if order is None:
            return
        self._busy = order

        def watch() -> None:
            while order.record.is_held():
                time.sleep(LOOK_SECONDS)
            self._busy = None
            try:
                self._after(order)
            finally:
                self._work()

        self._work_in_thread(watch)
