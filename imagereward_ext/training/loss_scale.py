"""Loss scaling: gradients of 1e-3 times a reward vanish in fp16 unless the loss is multiplied first.

PyTorch's own scaler does nothing outside CUDA; Apple's GPUs compute in fp16 too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

FIRST = 2.0**16
SMALLEST = 2.0**-10
"""Below it fp16 cannot hold the gradients whatever the scale."""
STEPS_TO_GROW = 2000


class LossScale:
    """As large as the gradients allow: halved where they overflow, doubled after a long time without."""

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self.value = FIRST if enabled else 1.0
        self._steps = 0

    @property
    def exhausted(self) -> bool:
        """Whether no scale is left to try."""
        return not self.enabled or self.value < SMALLEST

    def unscale(self, gradients: Iterable[Tensor]) -> None:
        """Take the scale out, in place; it is a power of two, so nothing is rounded."""
        if self.enabled:
            for gradient in gradients:
                gradient.mul_(1 / self.value)

    def overflowed(self) -> None:
        """Note a step whose gradients were no numbers."""
        self.value, self._steps = self.value / 2, 0

    def went_well(self) -> None:
        """Note a step that was taken."""
        self._steps += 1
        if self.enabled and self._steps == STEPS_TO_GROW:
            self.value, self._steps = self.value * 2, 0

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, in the words of PyTorch's scaler, which earlier runs have used."""
        return {"scale": self.value, "_growth_tracker": self._steps} if self.enabled else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        if self.enabled and state:
            self.value, self._steps = float(state["scale"]), int(state["_growth_tracker"])
