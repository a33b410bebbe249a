"""The terms a run adds up. All of them give one number per sample, (b,), so that any split of a batch is the same."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor


def phi(name: str, cap: float) -> Callable[[Tensor], Tensor]:
    """Return the function that turns rewards into losses.

    ``relu`` is the paper's: max(0, cap - r), no push beyond the cap. ``linear`` is -r without end, and
    ``log-sigmoid`` is -log sigmoid(r), which flattens slowly.
    """
    choices: dict[str, Callable[[Tensor], Tensor]] = {
        "relu": lambda r: F.relu(cap - r),
        "linear": lambda r: -r,
        "log-sigmoid": lambda r: -F.logsigmoid(r),
    }
    return choices[name]


def squared_distance(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared difference of each sample.

    Between two predictions it is, up to a factor that depends on the timestep, the divergence between the two
    models' denoising distributions; against the true noise it is the diffusion model's own training loss.
    """
    return (first - second).pow(2).flatten(1).mean(1)
