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
from imagereward_ext.refl.processes import Processes
from imagereward_ext.refl.run_folder import RunError

FIRST_SCALE = 2.0**16
SMALLEST_SCALE = 2.0**-10  # below it fp16 cannot hold the gradients whatever the scale


class DivergedError(ImageRewardError):
    """The loss or its gradient is no number any more."""


class Learner:
    """Sums gradients over micro-batches and processes, then takes one clipped step."""

    def __init__(self, parameters: Sequence[nn.Parameter], rate: float, decay: float, clip: float,
                 half: bool = False, eight_bit: bool = False) -> None:  # fmt: skip
        self.parameters = list(parameters)
        self.clip = clip
        self.optimiser = _optimiser(self.parameters, rate, decay, eight_bit)
        self.scaler = _scaler(half)
        self.zero()

    def zero(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a part of the loss."""
        self.scaler.scale(loss).backward()

    def step(self, processes: Processes) -> float:
        """Average over the processes, clip and step. Returns the norm of the gradient before clipping."""
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        processes.sum([parameter.grad for parameter in self.parameters if parameter.grad is not None])
        self.scaler.unscale_(self.optimiser)
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self.clip))
        if not math.isfinite(norm) and not self.scaler.is_enabled():
            raise DivergedError("the gradient is not finite")
        self.scaler.step(self.optimiser)  # leaves out a step whose fp16 gradients overflowed
        self.scaler.update()
        if self.scaler.is_enabled() and self.scaler.get_scale() < SMALLEST_SCALE:
            raise DivergedError("the gradient is not finite at any loss scale")
        self.zero()
        return norm

    def write(self, folder: Path) -> None:
        """Write weights and optimiser. Through bytes: a full disk is an OSError then."""
        content = {
            "parameters": [parameter.detach().cpu() for parameter in self.parameters],
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        (folder / "learner.pt").write_bytes(buffer.getvalue())

    def read(self, folder: Path) -> None:
        """Read weights and optimiser back."""
        content = self._content(folder)
        self._fill(content["parameters"])
        self.optimiser.load_state_dict(content["optimiser"])
        if content["scaler"]:
            self.scaler.load_state_dict(content["scaler"])

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


def _scaler(half: bool) -> Any:
    """Return a loss scaler that does nothing unless asked: a reward weight of 1e-3 underflows in fp16."""
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler("cuda", init_scale=FIRST_SCALE, enabled=half)
    return torch.cuda.amp.GradScaler(init_scale=FIRST_SCALE, enabled=half)
