"""The loop that every training runs: update, check, save, until it is done, asked to stop, or told why to.

A task says what an update learns, and gets `optimise` to learn it with; it says what is looked at on the way, and what
it must know to go on. Gradients, processes, memory, states and stopping are the engine's.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.memory import is_out_of_memory, peak_memory, return_memory
from imagereward_ext.training.event_log import EventLog
from imagereward_ext.training.learner import DivergedError, Learner
from imagereward_ext.training.processes import Processes
from imagereward_ext.training.states import DamagedStateError, RunError, States
from imagereward_ext.training.stopping import StopRequest

SAVE_AFTER_SECONDS = 600.0
"""However rarely a run saves, no more than this is lost."""


class TrainingError(ImageRewardError):
    """A run that cannot go on."""


@dataclass
class Terms:
    """What some samples cost: the total of each, (b,), and its parts without gradient, to be logged."""

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)

    def add(self, name: str, value: Tensor, weight: float | Tensor) -> None:
        """Add a weighted term."""
        self.parts[name] = value.detach()
        self.total = self.total + weight * value

    def __add__(self, other: Terms) -> Terms:
        return Terms(self.total + other.total, self.parts | other.parts)


Loss = Callable[[range], Terms]
"""Gives the terms of some samples of a batch; called with a few at a time, as memory allows."""
Figures = dict[str, float]
Optimise = Callable[[Loss, int], Figures]
"""Takes one optimiser step on the mean loss of a batch of so many samples; returns the means of all its terms."""


@dataclass(frozen=True)
class Ending:
    """How a run ended."""

    kind: str
    """"finished", "asked" or "guard"."""
    reason: str
    step: int


class Task(ABC):
    """What one kind of training adds to the engine. A step is the number of updates that are done."""

    updates: int
    micro_batch: int
    """Samples that go through the networks together."""
    save_every: int
    samples = "images"
    memory_advice = "lower the resolution, turn gradient checkpointing on, or choose a smaller memory preset"
    divergence_advice = "Lower the learning rate, or train in fp32 or bf16"

    @abstractmethod
    def update(self, step: int, optimise: Optimise) -> Figures:
        """Learn from one batch; returns what the log shows of it."""

    @abstractmethod
    def learning_rate(self, step: int) -> float:
        """Return the learning rate of the update that comes next."""

    @abstractmethod
    def checks_after(self, step: int) -> bool:
        """Tell whether it is time for a check; at the start and at the end it always is."""

    @abstractmethod
    def check(self, step: int) -> str | None:
        """Measure how far the training is; returns why to stop, the same on every process."""

    @abstractmethod
    def best_step(self) -> int | None:
        """Return the step whose state is kept besides the newest."""

    @abstractmethod
    def progress(self) -> dict[str, Any]:
        """Return what a state has to hold besides what learns, as JSON."""

    @abstractmethod
    def restore(self, progress: Mapping[str, Any]) -> None:
        """Take that back. What is missing or of another kind raises before anything is taken."""

    def after_update(self, step: int, figures: Figures) -> None:
        """Do what else follows an update, its check and its state."""
        return


class Engine:
    """One run in progress."""

    def __init__(
        self, task: Task, learner: Learner, processes: Processes, states: States, log: EventLog
    ) -> None:
        self.task = task
        self.learner = learner
        self.processes = processes
        self.states = states
        self.log = log
        self.step = 0
        self._steps_taken = 0  # of the optimiser, within an update
        self._resumed = False
        self._saved_at = time.monotonic()

    def run(self, stop: StopRequest) -> Ending:
        """Train until done, asked to stop, or told why to stop."""
        reason = None if self._resumed else self._check_and_save()
        while reason is None and self.step < self.task.updates:
            if self.processes.any(bool(stop)):
                self.save()
                return Ending("asked", f"asked to stop after update {self.step}", self.step)
            figures = self.update()
            reason = self._check_and_save()
            self.task.after_update(self.step, figures)
        if reason is not None:
            self.log.note(self.step, f"stopped by the guard rails: {reason}")
            return Ending("guard", reason, self.step)
        return Ending("finished", f"all {self.step} updates are done", self.step)

    # ------------------------------------------------------------------------------------------ one update

    def update(self) -> Figures:
        """Let the task take its optimiser steps, and log what it says."""
        started = time.perf_counter()
        rate = self.task.learning_rate(self.step)
        self.learner.set_rate(rate)
        self._steps_taken = 0
        try:
            figures = self.task.update(self.step, self.optimise)
        except DivergedError as error:
            if self._steps_taken == 0:  # what learns is as the last update left it
                self.save()
            raise TrainingError(
                f"stopped at update {self.step + 1}: {error}; the state before it is kept. "
                f"{self.task.divergence_advice}"
            ) from error
        self.step += 1
        seconds = round(time.perf_counter() - started, 3)
        memory = round(peak_memory(str(self.processes.device)), 3)
        self.log.tell(
            "update", self.step, of=self.task.updates, **figures, lr=rate, seconds=seconds, memory=memory
        )
        return figures

    def optimise(self, loss: Loss, batch: int) -> Figures:
        """Take one optimiser step on the mean loss of a batch, spread over processes and micro-batches."""
        sums = self._accumulate_if_it_fits(loss, batch) or self._accumulate_with_half(loss, batch)
        self.processes.sum(list(sums.values()))
        means = {name: float(value) / batch for name, value in sums.items()}
        if not math.isfinite(means["loss"]):
            raise DivergedError("the loss is not finite")
        means["gradient"] = self.learner.step(self.processes)
        self._steps_taken += 1
        return means

    def _accumulate(self, loss: Loss, batch: int) -> dict[str, Tensor]:
        """Add up the gradients of this process's samples; returns the sums of every term."""
        share, at_once = self.processes.share(batch), self.task.micro_batch
        sums = {"loss": torch.zeros((), device=self.processes.device)}
        for start in range(share.start, share.stop, at_once):
            terms = loss(range(start, min(start + at_once, share.stop)))
            self.learner.backward(terms.total.sum() / batch)
            for name, value in {"loss": terms.total.detach(), **terms.parts}.items():
                sums[name] = sums.get(name, torch.zeros((), device=value.device)) + value.float().sum()
        return sums

    def _accumulate_if_it_fits(self, loss: Loss, batch: int) -> dict[str, Tensor] | None:
        """Return nothing when memory runs out. The error ends here, and with it what its traceback kept alive."""
        try:
            return self._accumulate(loss, batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None

    def _accumulate_with_half(self, loss: Loss, batch: int) -> dict[str, Tensor]:
        """Try once more with half the samples at a time. Nothing was exchanged or stepped yet."""
        task, sums = self.task, None
        if task.micro_batch > 1:
            task.micro_batch = min(task.micro_batch, len(self.processes.share(batch))) // 2 or 1
            self.log.note(
                self.step, f"out of memory: trying again with {task.micro_batch} {task.samples} at a time"
            )
            self.learner.forget_gradients()
            return_memory()
            sums = self._accumulate_if_it_fits(loss, batch)
        if sums is None:
            raise TrainingError(
                f"out of memory with {task.micro_batch} {task.samples} at a time: {task.memory_advice}"
            )
        return sums

    # --------------------------------------------------------------------------------------------- states

    def _check_and_save(self) -> str | None:
        """Check and save when it is time; returns why to stop."""
        ends = self.step in (0, self.task.updates)
        checks = ends or self.task.checks_after(self.step)
        reason = self.task.check(self.step) if checks else None
        late = time.monotonic() - self._saved_at > SAVE_AFTER_SECONDS
        if checks or late or self.step % self.task.save_every == 0:
            self.save()
        return reason

    def save(self) -> None:
        """Write a state to resume from. The best stays, and the newest two: a disk may damage one."""
        if not self.processes.main:
            return
        if not self.states.path(self.step).exists():  # a run that comes to a step again made the same
            self.states.write(self.learner.state(self.step, self.task.progress()))
        newest = [step for step in self.states.steps() if step <= self.step][-2:]
        best = self.task.best_step()
        self.states.prune({*newest, *([] if best is None else [best])})
        self._saved_at = time.monotonic()

    def restore(self) -> None:
        """Continue from the newest state that is whole: what learns, the checks, and the place in the data."""
        steps = self.states.steps()[::-1]
        damaged: dict[int, DamagedStateError] = {}
        for step in steps:
            try:
                self._take(step)
            except DamagedStateError as error:
                damaged[step] = error
            else:
                break
        if steps and len(damaged) == len(steps):
            raise RunError(
                f"{damaged[steps[0]]}, and no other one is whole: remove {self.states.folder} to begin the run again"
            )
        self.processes.wait()  # nobody reads any more
        self.log.forget_after(self.step if steps else -1)
        for step, why in damaged.items():
            if self.processes.main:
                self.states.set_aside(step)
            self.log.note(self.step, f"skipped a state: {why}")
        if self._resumed:
            self.log.note(self.step, f"resumed after update {self.step}")

    def _take(self, step: int) -> None:
        state = self.states.read(step)
        if state.optimiser is None:
            raise DamagedStateError(f"the state {self.states.path(step)} holds weights and nothing else")
        try:
            self.task.restore(state.progress)
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedStateError(
                f"the state {self.states.path(step)} cannot be read: {error!r}"
            ) from error
        self.learner.load(state)
        self.step, self._resumed = step, True
