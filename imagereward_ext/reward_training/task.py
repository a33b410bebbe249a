"""Learning from ranked pairs, as the engine sees it: which pairs an update learns from, and what the held-out ones say.

Nothing depends on when a run was interrupted: an epoch's order and an update's dropout are drawn from the seed and
the number of the epoch or the update, so the state is the weights, the optimiser and a count.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from typing import Any

import torch

from imagereward_ext.errors import UsageError
from imagereward_ext.rankings import RankedPrompt, count_pairs
from imagereward_ext.reward_training.pairs import (
    Batch,
    Case,
    Pair,
    pairs_of,
    steps_of_epoch,
)
from imagereward_ext.reward_training.recipes import Recipe, RewardTrainingError
from imagereward_ext.reward_training.reward_model import RewardModel
from imagereward_ext.reward_training.run_folder import Measurement, RewardRunFolder
from imagereward_ext.training.engine import Engine, Figures, Optimise, Task, Terms
from imagereward_ext.training.event_log import EventLog, Listener
from imagereward_ext.training.learner import Learner
from imagereward_ext.training.processes import Processes

_VALIDATED_AT_ONCE = 64
_AUTOCAST = {"fp16": torch.float16, "bf16": torch.bfloat16}
"""The weights that learn stay in single precision."""


class RankingTask(Task):
    """One training of a reward model on ranked prompts."""

    samples = "pairs"
    memory_advice = "train with fewer pairs at once"

    def __init__(
        self,
        model: RewardModel,
        recipe: Recipe,
        training: Sequence[RankedPrompt],
        validation: Sequence[RankedPrompt],
        folder: RewardRunFolder,
        processes: Processes,
        listener: Listener | None = None,
    ) -> None:
        self.model, self.recipe, self.processes = model, recipe, processes
        self.training, self.validation = training, Batch.of(pairs_of(validation))
        self.updates_per_epoch = math.ceil(count_pairs(training) / recipe.pairs_per_step)
        self.updates = self.save_every = self.updates_per_epoch * recipe.epochs  # measuring saves
        self.micro_batch = recipe.pairs_at_once or recipe.pairs_per_step
        self.best: Measurement | None = None
        self.latest: Measurement | None = None
        self._losses: list[float] = []  # since the last measurement
        self._epoch: tuple[int, list[list[Pair]]] = (-1, [])
        model.move(processes.device)
        log = EventLog(folder.events_file, listener, processes.main)
        self.engine = Engine(self, _learner(model, recipe, processes), processes, folder.states, log)

    # ------------------------------------------------------------------------------------------ one update

    def learning_rate(self, step: int) -> float:
        """Follow the recipe's schedule."""
        return self.recipe.learning_rate_at(step, self.updates)

    def update(self, step: int, optimise: Optimise) -> Figures:
        """Learn that the better image of each pair deserves more."""
        pairs = self._pairs(step)

        def losses(samples: range) -> Terms:
            batch = Batch.of(pairs[samples.start : samples.stop])
            with self._autocast():
                rewards = self.model.rewards(batch.cases)
            return Terms(batch.losses(rewards))

        self.model.network().train(self.recipe.dropout)
        with _dropout(self.recipe.seed, step, self.processes):
            figures = optimise(losses, len(pairs))
        self._losses.append(figures["loss"])
        return figures

    def _pairs(self, step: int) -> list[Pair]:
        """Return the pairs of an update; what this process needs of them and of the next ones begins to load."""
        epoch, index = divmod(step, self.updates_per_epoch)
        if epoch != self._epoch[0]:
            pairs = steps_of_epoch(self.training, self.recipe.pairs_per_step, self.recipe.seed, epoch)
            self._epoch = (epoch, pairs)
        batches = self._epoch[1]
        for coming in batches[index : index + 2]:
            share = self.processes.share(len(coming))
            self.model.expect(Batch.of(coming[share.start : share.stop]).cases)
        return batches[index]

    def _autocast(self) -> AbstractContextManager[Any]:
        dtype = _AUTOCAST.get(self.recipe.precision)
        return nullcontext() if dtype is None else torch.autocast(self.processes.device.type, dtype)

    # ------------------------------------------------------------------------------------------- measuring

    def checks_after(self, step: int) -> bool:
        """Measure a few times in every epoch."""
        inside, epoch = step % self.updates_per_epoch, self.updates_per_epoch
        times = min(self.recipe.validations_per_epoch, epoch)
        return inside in {round(n * epoch / times) % epoch for n in range(times)}

    def check(self, step: int) -> str | None:
        """Measure the held-out pairs; those weights are the best whose loss on them was never lower."""
        rewards = torch.tensor(self.raw_rewards(self.validation.cases))
        self.latest = Measurement(
            step=step,
            validation_loss=float(self.validation.losses(rewards).mean()),
            validation_accuracy=float((self.validation.differences(rewards) > 0).double().mean()),
            training_loss=sum(self._losses) / len(self._losses) if self._losses else None,
        )
        self._losses = []
        if self._is_best(self.latest):
            self.best = self.latest
        self.engine.log.tell("check", **asdict(self.latest))
        return None

    def raw_rewards(self, cases: Sequence[Case]) -> list[float]:
        """Return the rewards of many cases, every process computing its share."""
        share = self.processes.share(len(cases))
        rewards = torch.zeros(len(cases), dtype=torch.float64)
        self.model.network().eval()
        with torch.no_grad(), self._autocast():
            for start in range(share.start, share.stop, _VALIDATED_AT_ONCE):
                part = cases[start : min(start + _VALIDATED_AT_ONCE, share.stop)]
                rewards[start : start + len(part)] = self.model.rewards(part).double().cpu()
        if self.processes.count > 1:  # Apple's devices, which have no double precision, are never several
            rewards = rewards.to(self.processes.device)
            self.processes.sum([rewards])
        found: list[float] = rewards.tolist()
        return found

    def _is_best(self, measured: Measurement) -> bool:
        if self.best is None:
            return True
        # A start that was never trained is no result, however lucky it was.
        untrained = self.best.step == 0 and self.model.start_calibration is None
        return untrained or measured.validation_loss < self.best.validation_loss

    # ---------------------------------------------------------------------------------------------- records

    def best_step(self) -> int | None:
        """Return the step of the best measurement."""
        return self.best.step if self.best else None

    def progress(self) -> dict[str, Any]:
        """Return the measurements that count, and the losses since."""
        assert self.best is not None
        assert self.latest is not None
        return {"losses": self._losses, "best": asdict(self.best), "latest": asdict(self.latest)}

    def restore(self, progress: Mapping[str, Any]) -> None:
        """Take them back."""
        best, latest = Measurement(**progress["best"]), Measurement(**progress["latest"])
        self._losses, self.best, self.latest = list(progress["losses"]), best, latest

    def restore_best(self) -> Measurement:
        """Give the model the best weights of the run."""
        assert self.best is not None
        self.processes.wait()
        self.engine.learner.load_weights(self.engine.states.read(self.best.step).parameters)
        return self.best


def _learner(model: RewardModel, recipe: Recipe, processes: Processes) -> Learner:
    weights = list(model.learning().values())
    if not weights:
        raise RewardTrainingError("nothing is left to learn: every layer is frozen")
    half = recipe.precision == "fp16"
    if half and processes.device.type == "cpu":
        raise UsageError("precision is fp16, which a CPU cannot train with here: choose fp32 or bf16")
    adam = torch.optim.Adam(weights, lr=recipe.learning_rate, betas=recipe.betas, eps=recipe.epsilon)
    return Learner(adam, half=half)


@contextmanager
def _dropout(seed: int, step: int, processes: Processes) -> Iterator[None]:
    """Draw dropout from (seed, step, process), and leave the global generators as they were."""
    device, key = processes.device, f"{seed}/{step}/{processes.index}"
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big"))
        yield
