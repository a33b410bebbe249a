"""What learns: parameters, their optimiser, and the loss scaling that fp16 needs."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.training.loss_scale import LossScale
from imagereward_ext.training.processes import Processes
from imagereward_ext.training.states import RunError, SavedState


class DivergedError(ImageRewardError):
    """The loss or its gradient is no number any more."""


class Learner:
    """Sums gradients over micro-batches and processes, then takes one clipped step."""

    def __init__(self, optimiser: torch.optim.Optimizer, clip: float = math.inf, half: bool = False) -> None:
        self.optimiser = optimiser
        self.parameters: list[nn.Parameter] = [p for group in optimiser.param_groups for p in group["params"]]
        self.clip = clip
        self.scale = LossScale(half)
        self.forget_gradients()

    def forget_gradients(self) -> None:
        """Begin the next step."""
        for parameter in self.parameters:
            parameter.grad = None

    def set_rate(self, rate: float) -> None:
        """Choose the learning rate of the next step."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a part of the loss."""
        (loss * self.scale.value).backward()  # type: ignore[no-untyped-call]

    def step(self, processes: Processes) -> float:
        """Add up over the processes, clip and step. Returns the norm of the gradient before clipping.

        Gradients that overflowed in fp16 leave the step out; the next one tries a smaller scale.
        """
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        processes.sum(gradients)
        self.scale.unscale(gradients)
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self.clip))
        if math.isfinite(norm):
            self.optimiser.step()
            self.scale.went_well()
        else:
            self.scale.overflowed()
            if self.scale.exhausted:
                raise DivergedError("the gradient is not finite")
        self.forget_gradients()
        return norm

    def state(self, step: int, progress: Mapping[str, Any]) -> SavedState:
        """Return what a resumed run needs."""
        weights = [parameter.detach().cpu() for parameter in self.parameters]
        return SavedState(step, weights, self.optimiser.state_dict(), self.scale.state_dict(), progress)

    def load(self, state: SavedState) -> None:
        """Go on from a state."""
        self.load_weights(state.parameters)
        self.optimiser.load_state_dict(dict(state.optimiser or {}))
        self.scale.load_state_dict(state.scale)

    def load_weights(self, weights: Sequence[Tensor]) -> None:
        """Take the weights of a state and nothing else."""
        if [w.shape for w in weights] != [p.shape for p in self.parameters]:
            raise RunError("the state holds weights of other shapes than this run's")
        with torch.no_grad():
            for parameter, weight in zip(self.parameters, weights, strict=True):
                parameter.copy_(weight)


def adamw(
    parameters: Sequence[nn.Parameter], rate: float, decay: float, eight_bit: bool = False
) -> torch.optim.Optimizer:
    """Build the optimiser of a LoRA."""
    if eight_bit:
        import bitsandbytes  # type: ignore[import-not-found]

        optimiser: torch.optim.Optimizer = bitsandbytes.optim.AdamW8bit(
            list(parameters), lr=rate, weight_decay=decay
        )
        return optimiser
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)


def has_eight_bit() -> bool:
    """Tell whether bitsandbytes is there."""
    return importlib.util.find_spec("bitsandbytes") is not None
