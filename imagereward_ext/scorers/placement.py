"""Where a scorer runs and in which precision."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch

from imagereward_ext.errors import UsageError

DEVICES = ("auto", "cuda", "mps", "cpu")
PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Placement:
    """A device, a number type, and how many images go through at once."""

    device: torch.device
    dtype: torch.dtype
    batch_size: int


def choose(device: str = "auto", precision: str = "auto", batch_size: int | None = None) -> Placement:
    """Turn what a user asked for into what this machine has.

    Half precision is the default where there is an accelerator; a CPU computes in single precision, which is
    exact. Its batches are small: what they need beside the weights then stays with the process, where larger ones
    are taken from the system and given back at every layer.
    """
    chosen = _device(device)
    on_cpu = chosen.type == "cpu"
    if precision == "auto":
        precision = "fp32" if on_cpu else "fp16"
    if precision not in PRECISIONS:
        raise UsageError(f"precision {precision!r} is unknown; choose auto, {', '.join(PRECISIONS)}")
    if not _computes(chosen, PRECISIONS[precision]):
        raise UsageError(
            f"this torch ({torch.__version__}) cannot compute in {precision} on {chosen}; choose fp32"
        )
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"a batch of {batch_size} images is not possible; choose 1 or more")
    return Placement(chosen, PRECISIONS[precision], batch_size or (4 if on_cpu else 32))


def _computes(device: torch.device, dtype: torch.dtype) -> bool:
    """Try it: older versions lack half precision on a CPU for some operations."""
    try:
        with torch.autocast(device.type, dtype) if dtype == torch.bfloat16 else nullcontext():
            row = torch.ones(1, 4, device=device, dtype=dtype)
            torch.nn.functional.layer_norm(torch.nn.functional.gelu(row @ row.mT), (1,))
    except RuntimeError:
        return False
    return True


def _device(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"device {name!r} cannot be used here ({reason}); choose auto or cpu") from error
    return device
