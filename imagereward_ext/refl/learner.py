"""What learns: the LoRA's parameters, their optimiser, and the loss scaling that fp16 needs."""

from __future__ import annotations

import importlib.util
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.refl.loss_scale import LossScale
from imagereward_ext.refl.processes import Processes
from imagereward_ext.refl.run_folder import RunError


class DivergedError(ImageRewardError):
    """The loss or its gradient is no number any more."""


class Learner:
    """Sums gradients over micro-batches and processes, then takes one clipped step."""

    def __init__(self, parameters: Sequence[nn.Parameter], rate: float, decay: float, clip: float,
                 half: bool = False, eight_bit: bool = False) -> None:  # fmt: skip
        self.parameters = list(parameters)
        self.clip = clip
        self.optimiser = _optimiser(self.parameters, rate, decay, eight_bit)
        self.scale = LossScale(half)
        self.zero()

    def zero(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

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
        self.zero()
        return norm

    def write(self, folder: Path) -> None:
        """Write weights and optimiser. Through bytes: a full disk is an OSError then."""
        content = {
            "parameters": [parameter.detach().cpu() for parameter in self.parameters],
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scale.state_dict(),
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        (folder / "learner.pt").write_bytes(buffer.getvalue())

    def read(self, folder: Path) -> None:
        """Read weights and optimiser back."""
        content = self._content(folder)
        self._fill(content["parameters"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.scale.load_state_dict(content.get("scaler", {}))

    def read_weights(self, folder: Path) -> None:
        """Read the weights of another state, to be exported."""
        self._fill(self._content(folder)["parameters"])

    def _content(self, folder: Path) -> dict[str, Any]:
        try:
            return dict(torch.load(folder / "learner.pt", map_location="cpu", weights_only=True))
        except Exception as error:  # a damaged file fails in whatever layer reads it
            raise RunError(f"the state {folder} cannot be read: {error}") from error

    def _fill(self, weights: Sequence[Tensor]) -> None:
        if [w.shape for w in weights] != [p.shape for p in self.parameters]:
            raise RunError("the state holds a LoRA of another shape than this run's")
        with torch.no_grad():
            for parameter, weight in zip(self.parameters, weights, strict=True):
                parameter.copy_(weight)


def has_eight_bit() -> bool:
    """Tell whether bitsandbytes is there."""
    return importlib.util.find_spec("bitsandbytes") is not None


def _optimiser(
    parameters: list[nn.Parameter], rate: float, decay: float, eight_bit: bool
) -> torch.optim.Optimizer:
    if eight_bit:
        import bitsandbytes  # type: ignore[import-not-found]

        optimiser: torch.optim.Optimizer = bitsandbytes.optim.AdamW8bit(
            parameters, lr=rate, weight_decay=decay
        )
        return optimiser
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
