"""What can be asked of the runs of a folder, whatever state they are in."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from imagereward_ext.jobs import stopping
from imagereward_ext.jobs.order import JobError, Order, read_order
from imagereward_ext.jobs.queue import LOOK_SECONDS, Hook, Queue
from imagereward_ext.jobs.runs import Run, Runs, is_run, state_of
from imagereward_ext.training.record import AT_WORK, ENDED, State

COMPARE_AGAIN = "prompts-to-compare.json"
LEAVING_SECONDS = 60.0
"""A process that has done its work frees its memory and goes; on a busy machine that takes a while."""


class Trainer:
    """Starts, resumes, compares, stops and deletes. Every method may be called from any thread; all but `delete`
    return at once.
    """

    def __init__(self, folder: Path, before: Hook, after: Hook, locks: Path | None = None) -> None:
        self.runs = Runs(folder)
        self.queue = Queue(self.runs, before, after, locks)

    def start(self, order: Order, files: Mapping[str, str] = MappingProxyType({})) -> Run:
        """Start a run, or put it into the queue; the files are texts for its folder."""
        with self.queue.changing:
            self._check_new(order)
            self.queue.submit(order, files)
        return self.runs.run(order.name)

    def _check_new(self, order: Order) -> None:
        if order.folder.parent != self.runs.folder or order.folder.name != order.name:
            raise JobError(f"{order.name!r} cannot be the name of a run")
        if is_run(order.folder):
            state = self.runs.run(order.name).state
            raise JobError(f"the run {order.name!r} exists already and is {state}: give another name")

    def resume(self, name: str, packages: str | None = None) -> Run:
        """Continue a run from its newest state, or from the beginning where it has none yet."""
        with self.queue.changing:
            folder = self.runs.path(name)
            run, entry = self.runs.run(name), state_of(self.runs.record(name))
            if entry.state is State.WAITING:  # left in the queue by a WebUI that has ended
                self.queue.go_on()
                return run
            if entry.state in AT_WORK:
                raise JobError(f"the run {name!r} is {run.state} already")
            if entry.state is State.FINISHED:
                raise JobError(f"the run {name!r} is finished: start a new one to train further")
            order = read_order(folder) or Order({"name": name, "output": str(self.runs.folder)})
            known = (folder / "config.json").is_file()
            packages = order.packages if packages is None else packages
            self.queue.submit(replace(order, resume=known, only_compare=False, packages=packages), {})
        return self.runs.run(name)

    def compare(self, name: str, prompts: Sequence[str], count: int, guidance: float = 7.0) -> Run:
        """Make images before and after again, with so many of these prompts."""
        with self.queue.changing:
            run, order = self.runs.run(name), read_order(self.runs.path(name))
            busy = state_of(self.runs.record(name)).state in (*AT_WORK, State.WAITING)
            if busy or not run.lora or order is None:
                raise JobError(f"the run {name!r} is {run.state} and has no LoRA to compare yet")
            again = replace(
                order,
                compare=count,
                compare_prompts=str(order.folder / COMPARE_AGAIN),
                compare_guidance=guidance,
                only_compare=True,
            )
            self.queue.submit(again, {COMPARE_AGAIN: json.dumps(list(prompts), ensure_ascii=False)})
        return self.runs.run(name)

    def stop(self, name: str, now: bool = False) -> Run:
        """Let a run finish its update, save and end; with `now`, end it without. Take a waiting one out."""
        with self.queue.changing:
            record = self.runs.record(name)
            state = state_of(record).state
            if state is State.WAITING:
                self.queue.take_out(record, read_order(record.folder))
                return self.runs.run(name)
        if state not in AT_WORK:
            raise JobError(f"the run {name!r} is not running: it is {self.runs.run(name).state}")
        if now and record.process() is not None:  # without a request, at which it could still end by itself
            stopping.end_now(record, "ended without waiting for its update, as asked")
        else:
            stopping.ask(record)
        return self.runs.run(name)

    def delete(self, name: str) -> None:
        """Remove a run. A LoRA that was copied elsewhere stays."""
        record, until = self.runs.record(name), time.monotonic() + LEAVING_SECONDS
        while state_of(record).state in ENDED and record.is_held() and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)  # a run has ended some moments before its process
        with self.queue.changing:
            self.runs.delete(name)
