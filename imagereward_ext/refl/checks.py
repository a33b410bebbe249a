"""Watching a run: the same prompts and seeds again and again, scored by the reward and by a judge it never saw.

Every method that follows a reward ends up exploiting it. A second scorer, or without one the drift of the images
themselves, says when.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor

from imagereward_ext.diffusion.pictures import diversity, saturation

Score = Callable[[Tensor, Sequence[str]], Tensor]

CLEARLY = 2.0  # standard errors of the paired difference
LEAST_DIVERSITY = 0.7  # of the base's
MOST_SATURATION = 0.12  # more than the base's, in units of [0, 1]
MOST_DISTANCE = 0.30  # root mean square pixel difference to the base's images, [0, 1]


@dataclass(frozen=True)
class Check:
    """One look at the fixed prompts."""

    step: int
    rewards: tuple[float, ...]
    judged: tuple[float, ...]
    """Empty without a judge."""
    diversity: float
    saturation: float
    distance: float

    @property
    def reward(self) -> float:
        """Mean reward."""
        return fmean(self.rewards)

    @property
    def judge(self) -> float | None:
        """Mean of the judge."""
        return fmean(self.judged) if self.judged else None

    @property
    def finite(self) -> bool:
        """Whether every score is a number."""
        return all(map(math.isfinite, (*self.rewards, *self.judged)))

    @property
    def quality(self) -> float:
        """What the best state is chosen by."""
        return self.reward if self.judge is None else self.judge

    def summary(self) -> dict[str, float | None]:
        """Return what the log shows."""
        return {
            "reward": self.reward,
            "judge": self.judge,
            "diversity": self.diversity,
            "saturation": self.saturation,
            "distance": self.distance,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**vars(self), "rewards": list(self.rewards), "judged": list(self.judged)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Check:
        """Build from plain values."""
        lists = {"rewards": tuple(values["rewards"]), "judged": tuple(values["judged"])}
        return cls(**{**values, **lists})


@torch.no_grad()
def measure(
    step: int,
    images: Tensor,
    prompts: Sequence[str],
    reward: Score,
    judge: Score | None,
    base: Tensor | None,
    at_once: int,
) -> Check:
    """Score and measure images, (n, 3, h, w) in [0, 1] on the CPU; ``base`` holds the untuned ones."""

    def scores(score: Score) -> tuple[float, ...]:
        parts = [
            score(images[i : i + at_once], prompts[i : i + at_once]) for i in range(0, len(images), at_once)
        ]
        return tuple(torch.cat(parts).float().tolist())

    return Check(
        step=step,
        rewards=scores(reward),
        judged=scores(judge) if judge is not None else (),
        diversity=diversity(images),
        saturation=saturation(images),
        distance=0.0 if base is None else float((images - base).pow(2).mean().sqrt()),
    )


class Guard:
    """Says when a run should stop, from all its checks so far."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.checks: list[Check] = []
        self._bad = 0

    @property
    def best(self) -> Check | None:
        """The best check that was not suspicious."""
        good = [check for check in self.checks if self.suspicion(check) is None]
        return max(good, key=lambda check: check.quality, default=None)

    def add(self, check: Check) -> str | None:
        """Take a check; returns why to stop, once enough checks in a row are suspicious."""
        self.checks.append(check)
        reason = self.suspicion(check)
        self._bad = self._bad + 1 if reason else 0
        return reason if self._bad >= self.patience else None

    def restore(self, checks: Sequence[Check]) -> None:
        """Take the checks of an interrupted run."""
        for check in checks:
            self.add(check)

    def suspicion(self, check: Check) -> str | None:
        """Say what is wrong with a check, compared with the ones before it."""
        earlier = [other for other in self.checks if other.step < check.step]
        if not earlier:
            return None
        first = min(earlier, key=lambda other: other.step)
        if check.judged:
            peak = max(earlier, key=lambda other: other.quality)
            return judged_worse(check, peak)
        return drifted(check, first)


def judged_worse(check: Check, peak: Check) -> str | None:
    """Compare with the check the judge liked best: same prompts, same seeds."""
    fall = paired(peak.judged, check.judged)
    if check.reward > peak.reward and fall.mean > 0 and fall.mean > CLEARLY * fall.error:
        return (
            f"the reward rose from {peak.reward:.3f} to {check.reward:.3f} since step {peak.step}, but the judge "
            f"fell from {fmean(peak.judged):.3f} to {fmean(check.judged):.3f}"
        )
    return None


def drifted(check: Check, first: Check) -> str | None:
    """Without a judge: look at how the images change while the reward rises."""
    if check.reward <= first.reward:
        return None
    if check.diversity < LEAST_DIVERSITY * first.diversity:
        return f"the images became alike: their diversity fell from {first.diversity:.3f} to {check.diversity:.3f}"
    if check.saturation > first.saturation + MOST_SATURATION:
        return f"the colours drift: saturation rose from {first.saturation:.3f} to {check.saturation:.3f}"
    if check.distance > MOST_DISTANCE:
        return f"the images left the base's: {check.distance:.3f} away (the limit is {MOST_DISTANCE})"
    return None


@dataclass(frozen=True)
class Difference:
    """Mean of a paired difference and its standard error."""

    mean: float
    error: float


def paired(before: Sequence[float], after: Sequence[float]) -> Difference:
    """Return how much ``before`` lies above ``after``."""
    differences = [b - a for b, a in zip(before, after, strict=True)]
    error = stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else 0.0
    return Difference(fmean(differences), error)
