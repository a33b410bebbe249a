"""The reward of a training: one scorer or a weighted mix, on one scale, with its memory kept small."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from imagereward_ext.scorers.base import Scorer
from imagereward_ext.scorers.calibration import Calibration
from imagereward_ext.scorers.mix import WeightedReward, mixed
from imagereward_ext.scorers.reward import Reward
from imagereward_ext.settings import FieldError

LoadScorer = Callable[[str], Scorer]
DEEP = 4  # a ModuleList with at least so many entries is a stack of layers


@dataclass(frozen=True)
class WeightedScorer:
    """A scorer as a run's settings name it, not yet on any scale."""

    name: str
    scorer: Scorer
    weight: float


def parse_mix(text: str) -> list[tuple[str, float]]:
    """Read ``name`` or ``name:weight,name:weight``."""
    found: list[tuple[str, float]] = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, colon, weight = entry.rpartition(":")
        # A path on Windows has a colon too, but never a number behind it.
        if not colon or not _is_number(weight):
            name, weight = entry, "1"
        found.append((name.strip(), float(weight)))
    if not found or any(not name for name, _ in found) or not any(share for _, share in found):
        raise FieldError(
            "scorers",
            lambda spell: f"{spell('scorers')} is {text!r}; expected a name, or name:weight,name:weight",
        )
    for name, share in found:
        if not math.isfinite(share):
            raise _infinite(name, share)
    return found


def load_scorers(text: str, load: LoadScorer) -> list[WeightedScorer]:
    """Load every scorer that ``text`` names; a weight of 0 leaves one out."""
    return [WeightedScorer(name, load(name), weight) for name, weight in parse_mix(text) if weight]


def mixed_reward(scorers: Sequence[WeightedScorer], calibrations: Mapping[str, Calibration]) -> Reward:
    """Bring scorers to one scale, and mix them."""
    parts = [
        WeightedReward(Reward(entry.scorer, calibrations[entry.name]), entry.weight) for entry in scorers
    ]
    return mixed(parts)


def checkpoint_layers(networks: Iterable[nn.Module]) -> None:
    """Recompute each layer of the scorers' towers in the backward pass instead of keeping what it made."""
    for network in networks:
        for stack in network.modules():
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


def _infinite(name: str, share: float) -> FieldError:
    return FieldError(
        "scorers",
        lambda spell: f"{spell('scorers')} gives {name} the weight {share:g}; expected a finite number",
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
