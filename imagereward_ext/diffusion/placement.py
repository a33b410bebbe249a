"""Where a model runs and in which type."""

from __future__ import annotations

import torch

from imagereward_ext.diffusion.parts import DiffusionParts
from imagereward_ext.errors import UsageError

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_type(device: torch.device, precision: str = "auto") -> torch.dtype:
    """Choose the type of the frozen networks: 32 bit on a CPU, 16 bit on a GPU."""
    chosen = TYPES.get(precision)
    if chosen is None:
        chosen = (
            torch.float32 if device.type == "cpu" else torch.bfloat16 if _has_bf16(device) else torch.float16
        )
    if device.type == "cpu" and chosen == torch.float16:
        raise UsageError("precision is fp16, which a CPU cannot compute with here: choose fp32 or bf16")
    return chosen


def place(parts: DiffusionParts, device: torch.device, dtype: torch.dtype) -> None:
    """Move to the device. SDXL's VAE overflows in fp16, so it computes in another type."""
    vae = dtype
    if parts.config.family == "sdxl" and dtype == torch.float16:
        vae = torch.bfloat16 if _has_bf16(device) else torch.float32
    parts.to(device, dtype, vae)


def _has_bf16(device: torch.device) -> bool:
    # Older cards claim bf16 and emulate it, many times slower.
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8
