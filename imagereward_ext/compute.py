"""Compute: where something runs, in which precision, and how much of it at once. Chosen once, passed as one value.

What a person chooses is a :class:`Compute`, in words that every machine understands; what this machine makes of it is a
:class:`Placement`.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from imagereward_ext.errors import UsageError
from imagereward_ext.settings import setting

if TYPE_CHECKING:  # choosing must not load torch
    import torch

DEVICES = ("auto", "cuda", "mps", "cpu")
PRECISIONS = ("auto", "fp32", "fp16", "bf16")
_NAMES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_BATCH_ON_CPU, _BATCH_ELSEWHERE = 4, 32


@dataclass(frozen=True)
class Compute:
    """What was asked for."""

    device: str = setting("auto", "Device", "auto, cpu, cuda, cuda:1 or mps")
    precision: str = setting(
        "auto", "Precision", "auto is fp32 on a CPU and 16 bit elsewhere", choices=PRECISIONS
    )
    batch_size: int | None = setting(
        None, "Batch size", "images at once, which memory hangs on; none is what suits the device", low=1
    )

    @classmethod
    def of_switch(cls, cpu: bool) -> Compute:
        """Choose by the one switch that trainings have: the CPU, or what suits the machine."""
        return cls("cpu" if cpu else "auto")

    def on_cpu(self) -> Compute:
        """Leave the graphics card alone."""
        return replace(self, device="cpu", precision="auto")

    def torch_device(self) -> torch.device:
        """Find the device on this machine."""
        import torch

        if self.device == "auto":
            if torch.cuda.is_available():
                return torch.device("cuda")
            return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
        try:
            device = torch.device(self.device)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise UsageError(
                f"device {self.device!r} cannot be used here ({reason}); choose auto or cpu"
            ) from error
        return device

    def for_scoring(self) -> Placement:
        """Place a scorer.

        Half precision is the default where there is an accelerator; a CPU computes in single precision, which is
        exact. Its batches are small: what they need beside the weights then stays with the process, where larger
        ones are taken from the system and given back at every layer.
        """
        import torch

        device = self.torch_device()
        on_cpu = device.type == "cpu"
        precision = self.precision
        if precision == "auto":
            precision = "fp32" if on_cpu else "fp16"
        dtype = _type_of(precision)
        if not _computes(device, dtype):
            raise UsageError(
                f"this torch ({torch.__version__}) cannot compute in {precision} on {device}; choose fp32"
            )
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(f"a batch of {self.batch_size} images is not possible; choose 1 or more")
        return Placement(device, dtype, self.batch_size or (_BATCH_ON_CPU if on_cpu else _BATCH_ELSEWHERE))


@dataclass(frozen=True)
class Placement:
    """A device, a number type, and how many images go through at once."""

    device: torch.device
    dtype: torch.dtype
    batch_size: int


def diffusion_type(device: torch.device, precision: str = "auto") -> torch.dtype:
    """Choose the type of a diffusion model's frozen networks: 32 bit on a CPU, 16 bit on a GPU."""
    import torch

    if precision == "auto":
        if device.type == "cpu":
            return torch.float32
        return torch.bfloat16 if has_bf16(device) else torch.float16
    dtype = _type_of(precision)
    if device.type == "cpu" and dtype == torch.float16:
        raise UsageError("precision is fp16, which a CPU cannot compute with here: choose fp32 or bf16")
    return dtype


def has_bf16(device: torch.device) -> bool:
    """Tell whether a device computes in bf16; older cards claim it and emulate it, many times slower."""
    import torch

    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8


def precision_of(dtype: torch.dtype) -> str:
    """Say a number type as a person chooses it."""
    name = str(dtype).removeprefix("torch.")
    return next((precision for precision, known in _NAMES.items() if known == name), name)


def _type_of(precision: str) -> torch.dtype:
    import torch

    if precision not in _NAMES:
        raise UsageError(f"precision {precision!r} is unknown; choose {', '.join(PRECISIONS)}")
    dtype: torch.dtype = getattr(torch, _NAMES[precision])
    return dtype


def _computes(device: torch.device, dtype: torch.dtype) -> bool:
    """Try it: older versions lack half precision on a CPU for some operations."""
    import torch

    try:
        with torch.autocast(device.type, dtype) if dtype == torch.bfloat16 else nullcontext():
            row = torch.ones(1, 4, device=device, dtype=dtype)
            torch.nn.functional.layer_norm(torch.nn.functional.gelu(row @ row.mT), (1,))
    except RuntimeError:
        return False
    return True
