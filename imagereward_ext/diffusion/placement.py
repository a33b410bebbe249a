"""Where the parts of a diffusion model compute, and in which type."""

from __future__ import annotations

import torch

from imagereward_ext.compute import has_bf16
from imagereward_ext.diffusion.parts import DiffusionParts


def place(parts: DiffusionParts, device: torch.device, dtype: torch.dtype) -> None:
    """Move to the device. SDXL's VAE overflows in fp16, so it computes in another type."""
    vae = dtype
    if parts.config.family == "sdxl" and dtype == torch.float16:
        vae = torch.bfloat16 if has_bf16(device) else torch.float32
    parts.to(device, dtype, vae)
