"""Make images with the tiny Stable Diffusion, through the project's own loader and samplers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from demo.world.configs import GUIDANCE, NAME
from demo.world.grammar import SIZE
from imagereward_ext.diffusion.loading import load_parts
from imagereward_ext.diffusion.parts import DiffusionParts
from imagereward_ext.diffusion.sampling import SamplingSettings, generate

STEPS = 15
BATCH = 16


def load(models: Path) -> DiffusionParts:
    """Load the checkpoint that lies in the models folder."""
    return load_parts(models / f"{NAME}.safetensors")


@torch.inference_mode()
def paint(
    parts: DiffusionParts,
    prompts: Sequence[str],
    seeds: Sequence[int],
    guidance: float = GUIDANCE,
    steps: int = STEPS,
) -> list[Image.Image]:
    """Make one image for every prompt and seed; the same pair gives the same image in any batch."""
    settings = SamplingSettings("ddim", steps, guidance, SIZE, SIZE)
    cond = parts.encode(prompts)
    negative = parts.encode([""] * len(prompts)) if guidance != 1 else None
    pixels = generate(parts, cond, negative, settings, seeds, BATCH)
    return [_image(part) for part in pixels]


def _image(pixels: torch.Tensor) -> Image.Image:
    return Image.fromarray((pixels * 255).round().byte().permute(1, 2, 0).numpy())
