"""The reward: one scorer or a weighted mix of several, with its memory kept small."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from imagereward_ext.scorers.base import Scorer
from imagereward_ext.settings import FieldError

LoadScorer = Callable[[str], Scorer]
DEEP = 4  # a ModuleList with at least so many entries is a stack of layers


@dataclass(frozen=True)
class RewardMix:
    """A weighted sum of scorers; all of them give standardised numbers, so weights mean what they say."""

    scorers: tuple[tuple[Scorer, float], ...]

    def __call__(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        """Score pixels (b, 3, h, w) in [0, 1] as (b,), with the gradient to the pixels."""
        total = pixels.new_zeros(len(pixels))
        for scorer, weight in self.scorers:
            total = total + weight * scorer.reward(pixels, prompts).to(pixels.device)
        return total


def parse_mix(text: str) -> list[tuple[str, float]]:
    """Read ``name`` or ``name:weight,name:weight``."""
    found: list[tuple[str, float]] = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, colon, weight = entry.rpartition(":")
        # A path on Windows has a colon too, but never a number behind it.
        if not colon or not _is_number(weight):
            name, weight = entry, "1"
        found.append((name.strip(), float(weight)))
    if not found or any(not name for name, _ in found) or not any(weight for _, weight in found):
        raise FieldError(
            "scorers",
            lambda spell: f"{spell('scorers')} is {text!r}; expected a name, or name:weight,name:weight",
        )
    return found


def load_mix(text: str, load: LoadScorer) -> RewardMix:
    """Load every scorer of a mix."""
    return RewardMix(tuple((load(name), weight) for name, weight in parse_mix(text)))


def checkpoint_layers(scorer: Scorer) -> None:
    """Recompute each layer of a scorer's towers in the backward pass instead of keeping what it made."""
    for module in scorer.modules():
        for stack in module.modules():
            if isinstance(stack, nn.ModuleList) and len(stack) >= DEEP:
                for layer in stack:
                    _checkpoint(layer)


def _checkpoint(layer: Any) -> None:
    forward = layer.forward

    def recomputed(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    layer.forward = recomputed


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
