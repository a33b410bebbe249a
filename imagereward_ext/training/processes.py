"""One process or many: what accelerate knows about devices, behind the few questions a run asks.

Only gradients are exchanged. The LoRA's are a few megabytes, so one flat sum per update is all there is, and
micro-batches, gradient checkpointing and a retry after running out of memory need no coordination.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Processes:
    """The processes of this run and this one's place among them."""

    def __init__(self, cpu: bool = False) -> None:
        from accelerate import Accelerator

        # Devices and processes only: precision, accumulation and averaging are this project's own.
        self._accelerator: Any = Accelerator(cpu=cpu, mixed_precision="no")

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return torch.device(self._accelerator.device)

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self._accelerator.num_processes)

    @property
    def index(self) -> int:
        """Which one this is."""
        return int(self._accelerator.process_index)

    @property
    def index_here(self) -> int:
        """Which one this is on its machine."""
        return int(self._accelerator.local_process_index)

    @property
    def main(self) -> bool:
        """Whether this one writes files."""
        return bool(self._accelerator.is_main_process)

    def share(self, count: int) -> range:
        """Return this process's part of so many samples."""
        return range(count * self.index // self.count, count * (self.index + 1) // self.count)

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Add tensors over all processes, in place."""
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        total = self._accelerator.reduce(flat, reduction="sum")
        start = 0
        for tensor in tensors:
            tensor.copy_(total[start : start + tensor.numel()].view_as(tensor))
            start += tensor.numel()

    def any(self, value: bool) -> bool:
        """Tell whether it is true anywhere."""
        flag = torch.tensor([float(value)], device=self.device)
        self.sum([flag])
        return bool(flag.item() > 0)

    def collect(self, items: list[T]) -> list[T]:
        """Join every process's list, in the order of :meth:`share`."""
        if self.count == 1:
            return items
        from accelerate.utils import gather_object

        return list(gather_object(items))

    def wait(self) -> None:
        """Let everybody arrive."""
        self._accelerator.wait_for_everyone()
