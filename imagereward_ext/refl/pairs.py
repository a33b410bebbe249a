"""Which of two images of a prompt is better: what a preference method learns from, whoever said so."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from imagereward_ext.errors import ScoringError
from imagereward_ext.refl.pool import Pool


@dataclass(frozen=True)
class Pairs:
    """Rows of a pool, pair by pair; the two of a pair have the same prompt."""

    better: Tensor
    """(n,)"""
    worse: Tensor
    """(n,)"""

    def __len__(self) -> int:
        return len(self.better)


def best_and_worst(pool: Pool) -> Pairs:
    """Pair the image of the highest reward with that of the lowest, prompt by prompt.

    A prompt whose images are all worth the same says nothing, and is left out.
    """
    rows_of: dict[int, list[int]] = {}
    for row, prompt in enumerate(pool.prompts.tolist()):
        rows_of.setdefault(prompt, []).append(row)
    rewards = pool.rewards.tolist()
    ends = [
        (max(rows, key=rewards.__getitem__), min(rows, key=rewards.__getitem__)) for rows in rows_of.values()
    ]
    told_apart = [(best, worst) for best, worst in ends if rewards[best] > rewards[worst]]
    if not told_apart:
        raise ScoringError(
            f"the {len(pool)} images of {len(rows_of)} prompts make no pair: there are several images of none, "
            "or the reward gives all of a prompt the same"
        )
    better, worse = zip(*told_apart, strict=True)
    return Pairs(pool.prompts.new_tensor(better), pool.prompts.new_tensor(worse))
