"""The one place that starts and ends trainings: at most one at a time, the others wait in a queue.

What happened stands in the run folders, so another process (the WebUI after a restart) finds everything again.
This object only adds what has to be done in order: make room, start, watch, make good.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from imagereward_ext.jobs import process, runs
from imagereward_ext.jobs.child import OUTCOME, STOP
from imagereward_ext.jobs.order import JobError, Order, read_order
from imagereward_ext.jobs.runs import Run
from imagereward_ext.storage import write_text

LOOK_SECONDS = 0.3
SECONDS_BEFORE_THE_SIGNAL = 2.0
"""The stop file comes first: the engine looks at it after each update."""

SECONDS_AFTER_THE_SIGNAL = 120.0
UPDATES_AFTER_THE_SIGNAL = 5
"""How long a run may take to finish its update and save: so many seconds, or so many of its own updates if that is
longer. One that is stuck is ended then; the state before stays."""

SECONDS_TO_END = 20.0
"""What a process may take to end after it has said how: libraries clean up."""

log = logging.getLogger("imagereward")
Hook = Callable[[Order], None]


class Trainer:
    """Starts trainings of one folder of runs. Every method may be called from any thread and returns at once."""

    def __init__(self, folder: Path, before: Hook, after: Hook, locks: Path | None = None) -> None:
        self.folder = folder
        self._before = before
        self._after = after
        self._locks = locks
        self._changing = threading.RLock()
        self._wake = threading.Event()
        self._worker: threading.Thread | None = None
        self._busy: Order | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._adopt_orphan()

    # ------------------------------------------------------------------------------------------------ what is

    def busy(self) -> Order | None:
        """Return the order at work, from before room is made for it until its process has ended."""
        return self._busy

    def busy_for_long(self) -> Order | None:
        """Return the order at work; one whose process only has to end is waited for."""
        deadline = time.monotonic() + SECONDS_TO_END
        while (order := self._busy) is not None:
            if not (self._ended() or runs.is_over(order)) or time.monotonic() > deadline:
                return order
            time.sleep(LOOK_SECONDS / 3)
        return None

    def runs(self) -> list[Run]:
        """List the runs, newest first."""
        return [self._seen(run) for run in runs.list_runs(self.folder)]

    def run(self, name: str) -> Run:
        """Return one run."""
        return self._seen(runs.read_run(self.path(name)))

    def path(self, name: str) -> Path:
        """Return the folder of a run; a name that is none of the known ones is refused, whatever it looks like."""
        known = [path for path in self.folder.iterdir() if runs.is_run(path)] if self.folder.is_dir() else []
        found = next((path for path in known if path.name == name), None)
        if found is None:
            raise JobError(f"there is no run {name!r}")
        return found

    # ------------------------------------------------------------------------------------------------ what to do

    def start(self, order: Order) -> Run:
        """Start a run, or put it into the queue."""
        with self._changing:
            folder = order.folder
            if folder.parent != self.folder or folder.name != order.name:
                raise JobError(f"{order.name!r} cannot be the name of a run")
            if runs.is_run(folder):
                state = self._seen(runs.read_run(folder)).state
                raise JobError(f"the run {order.name!r} exists already and is {state}: give another name")
            self._enqueue(order)
        return self.run(order.name)

    def resume(self, name: str, **changes: object) -> Run:
        """Continue a run from its newest state, or from the beginning where it has none yet."""
        with self._changing:
            folder = self.path(name)
            run, order = self._seen(runs.read_run(folder)), read_order(folder)
            if run.state == runs.WAITING:  # left in the queue by a WebUI that has ended
                self._ensure_worker()
                return run
            if run.state in runs.ALIVE:
                raise JobError(f"the run {name!r} is {run.state} already")
            if run.state == runs.FINISHED:
                raise JobError(f"the run {name!r} is finished: start a new one to train further")
            if order is None:
                config = {"name": name, "output": str(self.folder)}
                order = Order(config)
            known = (folder / "config.json").is_file()
            self._enqueue(replace(order, resume=known, only_compare=False, **changes))  # type: ignore[arg-type]
        return self.run(name)

    def compare(self, name: str, prompts: str, count: int, guidance: float = 7.0) -> Run:
        """Make images before and after again, with other prompts ("" takes the training's)."""
        with self._changing:
            run, order = self.run(name), read_order(self.path(name))
            if run.state in (*runs.ALIVE, runs.WAITING) or not run.lora or order is None:
                raise JobError(f"the run {name!r} is {run.state} and has no LoRA to compare yet")
            changes = {
                "compare": count,
                "compare_prompts": prompts,
                "compare_guidance": guidance,
                "only_compare": True,
            }
            self._enqueue(replace(order, **changes))  # type: ignore[arg-type]
        return self.run(name)

    def stop(self, name: str, now: bool = False) -> Run:
        """Let a run finish its update, save and end; with `now`, end it without. Take a waiting one out."""
        folder = self.path(name)
        with self._changing:
            run, order = self.run(name), read_order(folder)
            if run.state == runs.WAITING and order is not None:
                replace(order, waiting=False).write()
                if not order.only_compare:
                    _write_outcome(folder, "asked", "taken out of the queue")
                return self.run(name)
        if run.state not in runs.ALIVE:
            raise JobError(f"the run {name!r} is not running: it is {run.state}")
        if now and run.pid is not None:  # without the stop file, at which it could still end by itself
            self._kill(run, "ended without waiting for its update, as asked")
            return self.run(name)
        with suppress(OSError):
            (folder / STOP).touch()
        starts = 0 if order is None else order.starts
        threading.Thread(target=self._see_it_end, args=(name, run.pid, starts), daemon=True).start()
        return self.run(name)

    def delete(self, name: str) -> None:
        """Remove a run's folder. A LoRA that was copied elsewhere stays."""
        with self._changing:
            folder = self.path(name)
            if self._seen(runs.read_run(folder)).state in (*runs.ALIVE, runs.WAITING):
                raise JobError(f"the run {name!r} is at work or waits for it: stop it first")
            try:
                shutil.rmtree(folder)
            except OSError as error:
                raise JobError(f"the run {name!r} cannot be removed: {error.strerror or error}") from error

    def wait(self, seconds: float) -> bool:
        """Wait until nothing is at work; for tests and commands."""
        deadline = time.monotonic() + seconds
        while self._works():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    # ------------------------------------------------------------------------------------------------ how

    def _enqueue(self, order: Order) -> None:
        with suppress(OSError):
            (order.folder / STOP).unlink(missing_ok=True)
            if not order.only_compare:
                (order.folder / OUTCOME).unlink(missing_ok=True)
        replace(order, waiting=True, queued_at=time.time()).write()
        self._ensure_worker()

    def _works(self) -> bool:
        worker = self._worker  # one look: it may be gone at the next
        return worker is not None and worker.is_alive()

    def _ensure_worker(self) -> None:
        if not self._works():
            self._worker = threading.Thread(target=self._work, name="imagereward training", daemon=True)
            self._worker.start()

    def _work(self) -> None:
        """Carry out what waits, one after the other."""
        while True:
            with self._changing:
                order = self._next()
                if order is None:
                    self._worker = None
                    return
                order = replace(order, waiting=False, starts=order.starts + 1)
                self._busy = order
            try:
                order.write()
            except JobError:  # no space: the order waits as before, for a person to start the queue again
                log.exception("The run %s was not started", order.name)
                self._busy = self._worker = None
                return
            try:
                self._carry_out(order)
            except Exception as error:
                _write_outcome(order.folder, "failed", str(error))
            finally:
                self._busy = None

    def _next(self) -> Order | None:
        waiting = [
            order for folder in (self.folder.iterdir() if self.folder.is_dir() else ())
            if (order := read_order(folder)) is not None and order.waiting
        ]  # fmt: skip
        return min(waiting, key=lambda order: order.queued_at, default=None)

    def _carry_out(self, order: Order) -> None:
        try:
            self._before(order)
            if (order.folder / STOP).exists():  # pressed while room was made
                return _write_outcome(order.folder, "asked", "stopped before the first update")
            self._child = process.start(order, self._locks)
            self._child.wait()
            self._explain(order, self._child.returncode)
        finally:
            if self._child is not None and self._child.stdin is not None:
                self._child.stdin.close()
            self._busy = None  # from here on nobody needs the memory; loading it again may wait for its turn
            self._child = None
            self._after(order)

    def _explain(self, order: Order, code: int) -> None:
        """Say how a process ended that could not say it itself."""
        if not (order.folder / OUTCOME).exists() and order.folder.is_dir():
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            _write_outcome(order.folder, "killed", f"the training process ended {how}, without a word")

    def _adopt_orphan(self) -> None:
        """Find a training that an earlier WebUI left running, and watch it to its end."""
        alive = [run for run in runs.list_runs(self.folder) if run.state in runs.ALIVE]
        order = read_order(self.folder / alive[0].name) if alive else None
        if order is None:
            return
        self._busy = order

        def watch() -> None:
            while runs.read_run(order.folder).state in runs.ALIVE:
                time.sleep(LOOK_SECONDS)
            self._busy = None
            try:
                self._after(order)
            finally:
                self._work_on()

        self._worker = threading.Thread(target=watch, name="imagereward training", daemon=True)
        self._worker.start()

    def _work_on(self) -> None:
        with self._changing:
            self._worker = threading.current_thread()
        self._work()

    def _began_again(self, name: str, starts: int) -> bool:
        """Tell whether a run was resumed since: until its new process has its lock, the old one's number stands there."""
        order = read_order(self.path(name))
        return order is not None and (order.waiting or order.starts != starts)

    def _see_it_end(self, name: str, pid: int | None, starts: int) -> None:
        """After the stop file the signal, and for a process that is stuck the end."""
        time.sleep(SECONDS_BEFORE_THE_SIGNAL)
        with suppress(JobError):
            asked = self.run(name)
            pid = pid or asked.pid  # its process began meanwhile, or never
            if pid is None:
                return
            patience = max(SECONDS_AFTER_THE_SIGNAL, UPDATES_AFTER_THE_SIGNAL * (asked.seconds or 0))
            deadline = time.monotonic() + patience
            signalled = False
            while (run := self.run(name)).state in runs.ALIVE and run.pid == pid:
                if self._began_again(name, starts):
                    return
                if time.monotonic() > deadline:
                    self._kill(run, f"it did not answer for {patience:.0f} seconds and was ended")
                    return
                with suppress(OSError):
                    (self.folder / name / STOP).touch()  # a resumed run takes an old one away when it begins
                if run.state == runs.STOPPING and not signalled:  # one that has its lock answers signals
                    process.terminate(pid)
                    signalled = True
                time.sleep(LOOK_SECONDS)

    def _kill(self, run: Run, reason: str) -> None:
        """End a run's process and say why; what a training that is done has said of itself stays."""
        if run.pid is None:
            return
        folder = self.folder / run.name
        if not (folder / OUTCOME).exists():
            _write_outcome(folder, "killed", reason)
        process.kill(run.pid)

    def _ended(self) -> bool:
        """Whether the process that was started has ended."""
        child = self._child
        return child is not None and child.poll() is not None

    def _seen(self, run: Run) -> Run:
        """Correct what the folder cannot know: that this process is about to start it, or still makes good."""
        busy, child = self._busy, self._child
        if busy is None or busy.name != run.name or run.state in runs.ALIVE:
            return run
        if busy.only_compare:  # how the training ended stands in the folder, whatever is compared
            return run if self._ended() else replace(run, state=runs.COMPARING)
        if run.state in (runs.WAITING, runs.KILLED) and not (busy.folder / OUTCOME).exists():
            return replace(run, state=runs.STARTING, pid=child.pid if child and not self._ended() else None)
        return run


def _write_outcome(folder: Path, ending: str, reason: str) -> None:
    import json

    with suppress(OSError):
        write_text(folder / OUTCOME, json.dumps({"ending": ending, "reason": reason}, ensure_ascii=False))
