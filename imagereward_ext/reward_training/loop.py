"""The training loop: compare, learn, measure, keep the best, save, go on after anything.

Nothing depends on when a run was interrupted: an epoch's order and an update's dropout are drawn from the seed and
the number of the epoch or the update, so the state is the weights, the optimiser and a count.
"""

from __future__ import annotations

import hashlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from imagereward_ext.rankings import RankedPrompt, count_pairs
from imagereward_ext.reward_training.comparisons import (
    Batch,
    Case,
    Comparison,
    chunks,
    comparisons_of,
    share_of_process,
    steps_of_epoch,
)
from imagereward_ext.reward_training.learner import Learner
from imagereward_ext.reward_training.recipes import PRECISIONS, Recipe, RewardTrainingError
from imagereward_ext.reward_training.run_folder import Measurement, RunFolder

_VALIDATED_AT_ONCE = 64
_SAVE_AFTER_SECONDS = 600.0
"""Measuring saves; where that is rare, no more than this is lost."""


@dataclass(frozen=True)
class Progress:
    """Where a training is, told after every update."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    latest: Measurement


Watch = Callable[[Progress], None]


@dataclass(frozen=True)
class Outcome:
    """How a training ended."""

    finished: bool
    step: int
    steps: int
    best: Measurement


class Loop:
    """One training of a learner on ranked prompts."""

    def __init__(
        self,
        learner: Learner,
        recipe: Recipe,
        training: Sequence[RankedPrompt],
        validation: Sequence[RankedPrompt],
        run: RunFolder,
        *,
        cpu: bool = False,
        watch: Watch | None = None,
    ) -> None:
        self.learner, self.recipe, self.run = learner, recipe, run
        self.training, self.validation = training, list(comparisons_of(validation))
        self.accelerator = Accelerator(mixed_precision=PRECISIONS[recipe.precision], cpu=cpu)
        learner.move(self.accelerator.device)
        self._weights = list(learner.learning().values())
        if not self._weights:
            raise RewardTrainingError("nothing is left to learn: every layer is frozen")
        adam = torch.optim.Adam(
            self._weights, lr=recipe.learning_rate, betas=recipe.betas, eps=recipe.epsilon
        )
        self._optimizer = self.accelerator.prepare(adam)
        self._watch = watch or (lambda progress: None)
        self._step = 0
        self._best: Measurement | None = None
        self._latest: Measurement | None = None
        self._losses: list[float] = []  # since the last measurement
        self._saved_at = time.monotonic()

    @cached_property
    def steps_per_epoch(self) -> int:
        """Count the updates of an epoch."""
        return math.ceil(count_pairs(self.training) / self.recipe.pairs_per_step)

    @property
    def steps(self) -> int:
        """Count all updates."""
        return self.steps_per_epoch * self.recipe.epochs

    def train(self) -> Outcome:
        """Train to the end, or until a person stops it; either way what was reached is saved."""
        self._resume()
        if self._step == 0 and self._best is None:
            self._measure()
        with _stop_signal() as stop:
            while self._step < self.steps:
                for comparisons in self._rest_of_epoch():
                    loss, stopped = self._update(comparisons, stop.is_set())
                    self._losses.append(loss)
                    self._step += 1
                    if self._is_time_to_measure():
                        self._measure()
                    elif time.monotonic() - self._saved_at > _SAVE_AFTER_SECONDS:
                        self._save()
                    self._tell(loss)
                    if stopped and self._step < self.steps:
                        self._save()
                        return self._outcome(finished=False)
        return self._outcome(finished=True)

    def restore_best(self) -> None:
        """Give the learner the best weights of the run."""
        assert self._best is not None
        self.accelerator.wait_for_everyone()
        self.learner.restore(self.run.read_best(self._best.step))

    def raw_rewards(self, cases: Sequence[Case]) -> list[float]:
        """Return the rewards of many cases, every process computing its share."""
        process, processes = self.accelerator.process_index, self.accelerator.num_processes
        first, last = (len(cases) * p // processes for p in (process, process + 1))
        mine = torch.zeros(len(cases), dtype=torch.float64)
        with self._evaluating():
            for start in range(first, last, _VALIDATED_AT_ONCE):
                part = cases[start : min(start + _VALIDATED_AT_ONCE, last)]
                mine[start : start + len(part)] = self.learner.rewards(part).double().cpu()
        rewards: list[float] = self._sum_over_processes(mine).tolist()
        return rewards

    # -- one update --------------------------------------------------------------------------------------------

    def _update(self, comparisons: list[Comparison], stop: bool) -> tuple[float, bool]:
        """Learn from these comparisons; return their mean loss, and whether anyone wants to stop."""
        recipe, device = self.recipe, self.accelerator.device
        mine = share_of_process(comparisons, self.accelerator.process_index, self.accelerator.num_processes)
        total = torch.zeros((), device=device)
        self._optimizer.zero_grad()
        self.learner.network().train(recipe.dropout)
        with self._dropout_of_this_step():
            for part in chunks(mine, recipe.pairs_at_once or max(1, len(mine))):
                batch = Batch.of(part)
                with self.accelerator.autocast():
                    rewards = self.learner.rewards(batch.cases)
                loss = batch.losses(rewards).sum() / len(comparisons)
                self.accelerator.backward(loss)
                total += loss.detach()
        self._sum_gradients()
        for group in self._optimizer.param_groups:
            group["lr"] = recipe.learning_rate_at(self._step, self.steps)
        self._optimizer.step()
        told = self._sum_over_processes(torch.tensor([float(total), float(stop)], dtype=torch.float64))
        loss_value = float(told[0])
        if not math.isfinite(loss_value):
            raise RewardTrainingError(
                f"the loss is {loss_value} after update {self._step + 1}: "
                "lower the learning rate, or train in fp32 or bf16"
            )
        return loss_value, bool(told[1] > 0)

    def _sum_gradients(self) -> None:
        """Add the processes' gradients up, once for each update.

        Each process has divided by the pairs of the whole update, so the sum is the gradient of the mean loss,
        however unevenly the pairs were shared; wrapping the model would average instead, and wants equal shares.
        """
        for weight in self._weights:
            if weight.grad is None:  # a process without a pair in this update
                weight.grad = torch.zeros_like(weight)
        if self.accelerator.num_processes > 1:
            flat = torch.cat([w.grad.reshape(-1) for w in self._weights if w.grad is not None])
            flat = self.accelerator.reduce(flat, reduction="sum")
            for weight, part in zip(
                self._weights, flat.split([w.numel() for w in self._weights]), strict=True
            ):
                weight.grad = part.view_as(weight)

    def _sum_over_processes(self, values: Tensor) -> Tensor:
        if self.accelerator.num_processes == 1:
            return values
        # Apple's devices have no double precision; none of them runs in several processes.
        summed: Tensor = self.accelerator.reduce(values.to(self.accelerator.device), reduction="sum").cpu()
        return summed

    @contextmanager
    def _dropout_of_this_step(self) -> Iterator[None]:
        """Draw dropout from (seed, step, process), and leave the global generators as they were."""
        device = self.accelerator.device
        key = f"{self.recipe.seed}/{self._step}/{self.accelerator.process_index}"
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big"))
            yield

    def _rest_of_epoch(self) -> Iterator[list[Comparison]]:
        epoch, done = divmod(self._step, self.steps_per_epoch)
        steps = steps_of_epoch(self.training, self.recipe.pairs_per_step, self.recipe.seed, epoch)[done:]
        for index, comparisons in enumerate(steps):
            for coming in steps[index : index + 2]:
                mine = share_of_process(
                    coming, self.accelerator.process_index, self.accelerator.num_processes
                )
                self.learner.expect(Batch.of(mine).cases)
            yield comparisons

    # -- measuring and saving ----------------------------------------------------------------------------------

    def _is_time_to_measure(self) -> bool:
        if self._step == self.steps:
            return True
        inside = self._step % self.steps_per_epoch
        per_epoch = min(self.recipe.validations_per_epoch, self.steps_per_epoch)
        return inside in {
            round(n * self.steps_per_epoch / per_epoch) % self.steps_per_epoch for n in range(per_epoch)
        }

    def _measure(self) -> None:
        """Measure the held-out pairs; keep the weights when they were never better (by loss); save."""
        cases = Batch.of(self.validation)
        rewards = torch.tensor(self.raw_rewards(cases.cases))
        differences = cases.differences(rewards)
        self._latest = Measurement(
            step=self._step,
            validation_loss=float(cases.losses(rewards).mean()),
            validation_accuracy=float((differences > 0).double().mean()),
            training_loss=sum(self._losses) / len(self._losses) if self._losses else None,
        )
        self._losses = []
        if self._is_best(self._latest):
            self._best = self._latest
            if self.accelerator.is_main_process:
                self.run.write_best(self._step, self.learner.state())
        if self.accelerator.is_main_process:
            self.run.log(self._latest)
        self._save()

    def _is_best(self, measured: Measurement) -> bool:
        if self._best is None:
            return True
        # A start that was never trained is no result, however lucky it was.
        untrained = self._best.step == 0 and self.learner.start_standard is None
        return untrained or measured.validation_loss < self._best.validation_loss

    def _save(self) -> None:
        if not self.accelerator.is_main_process or self._best is None or self._latest is None:
            return
        scaler = self.accelerator.scaler
        state: dict[str, Any] = {
            "step": self._step,
            "weights": self.learner.state(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else None,
            "losses": self._losses,
            "best": asdict(self._best),
            "latest": asdict(self._latest),
        }
        self.run.write_state(state, self._best.step)
        self._saved_at = time.monotonic()

    def _resume(self) -> None:
        state = self.run.read_state()
        if state is None:
            return
        self.learner.restore(state["weights"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self._step, self._losses = state["step"], state["losses"]
        self._best, self._latest = Measurement(**state["best"]), Measurement(**state["latest"])

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        self.learner.network().eval()
        with torch.no_grad(), self.accelerator.autocast():
            yield

    def _tell(self, loss: float) -> None:
        if self.accelerator.is_main_process and self._latest is not None:
            rate = self.recipe.learning_rate_at(self._step - 1, self.steps)
            self._watch(Progress(self._step, self.steps, loss, rate, self._latest))

    def _outcome(self, finished: bool) -> Outcome:
        assert self._best is not None
        return Outcome(finished, self._step, self.steps, self._best)


@contextmanager
def _stop_signal() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C (or polite kill) into a wish to stop after this update; a second one is immediate."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may handle signals; whoever runs us in another one stops the process
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
