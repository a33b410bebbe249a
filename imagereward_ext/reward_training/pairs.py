"""Which pairs an update learns from, and the loss over them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from imagereward_ext.rankings import RankedPrompt


class Case(NamedTuple):
    """An image under a prompt: what gets a reward."""

    image: Path
    prompt: str


class Pair(NamedTuple):
    """Two images of one prompt that people ranked differently."""

    better: Case
    worse: Case


@dataclass(frozen=True)
class Batch:
    """Pairs that go through the network together, each case once."""

    cases: tuple[Case, ...]
    better: tuple[int, ...]
    """Rows of `cases`, one for each pair."""
    worse: tuple[int, ...]

    @classmethod
    def of(cls, pairs: Iterable[Pair]) -> Batch:
        """Gather the distinct cases of some pairs."""
        rows: dict[Case, int] = {}
        places = [
            (rows.setdefault(pair.better, len(rows)), rows.setdefault(pair.worse, len(rows)))
            for pair in pairs
        ]
        return cls(tuple(rows), tuple(better for better, _ in places), tuple(worse for _, worse in places))

    def losses(self, rewards: Tensor) -> Tensor:
        """Return -log sigmoid(better - worse) for each pair, float32."""
        return -F.logsigmoid(self.differences(rewards))

    def differences(self, rewards: Tensor) -> Tensor:
        """Return how much more the better image of each pair is rewarded, float32."""
        rewards = rewards.float()
        return rewards[list(self.better)] - rewards[list(self.worse)]


def pairs_of(prompts: Iterable[RankedPrompt]) -> Iterator[Pair]:
    """Yield all pairs, those of one prompt one after another."""
    for prompt in prompts:
        cases = [Case(image, prompt.prompt) for image in prompt.images]
        for better, worse in prompt.pairs():
            yield Pair(cases[better], cases[worse])


def steps_of_epoch(
    prompts: Sequence[RankedPrompt], pairs_per_step: int, seed: int, epoch: int
) -> list[list[Pair]]:
    """Cut an epoch's pairs into updates: prompts in random order, the pairs of one prompt together.

    So a prompt's images are encoded once, except where the end of an update cuts a prompt in two.
    """
    order = list(prompts)
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return chunks(list(pairs_of(order)), pairs_per_step)


def chunks(pairs: Sequence[Pair], size: int) -> list[list[Pair]]:
    """Cut into runs of `size`; the last one may be shorter."""
    return [list(pairs[start : start + size]) for start in range(0, len(pairs), size)]
