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


def relative_gains(model: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
    """Return by what share the model errs less than the base: on the better images (b,), and on the worse (b,).

    Both take squared errors, (2 b,), the better images first. The unit is what the base errs on a pair: its errors fall
    by a factor of a hundred from the last steps to the first, where it is decided what the image shows, and by as much
    between predictions of noise and of velocity.
    """
    unit = _of_pairs(base)
    better, worse = ((base - model) / unit).chunk(2)
    return better, worse


def relative_distance(model: Tensor, base: Tensor, base_errors: Tensor) -> Tensor:
    """Mean squared distance of two predictions for a pair, (b,), in the unit of :func:`relative_gains`."""
    better, worse = (squared_distance(model, base) / _of_pairs(base_errors)).chunk(2)
    return (better + worse) / 2


def _of_pairs(errors: Tensor) -> Tensor:
    """Mean of the two of each pair, for both of them, (2 b,)."""
    better, worse = errors.chunk(2)
    return ((better + worse) / 2).repeat(2)


def squared_distance(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared difference of each sample.

    Between two predictions it is, up to a factor that depends on the timestep, the divergence between the two
    models' denoising distributions; against the true noise it is the diffusion model's own training loss.
    """
    return (first - second).pow(2).flatten(1).mean(1)
