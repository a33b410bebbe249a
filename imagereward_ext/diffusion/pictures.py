"""Pixels as pictures: for people, and as a set (how different they are, how colourful), without a network."""

from __future__ import annotations

import torch.nn.functional as F
from PIL import Image
from torch import Tensor

SMALL = 32  # pixels along an edge: enough to compare compositions


def to_image(pixels: Tensor) -> Image.Image:
    """Turn (3, h, w) in [0, 1] into an image."""
    return Image.fromarray((pixels.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy())


def miniature(images: Tensor) -> Tensor:
    """Shrink (n, 3, h, w) to what :func:`diversity` compares."""
    return F.interpolate(images, size=(SMALL, SMALL), mode="area")


def diversity(images: Tensor) -> float:
    """Mean distance between two images in miniature (root mean square, in [0, 1])."""
    if len(images) < 2:
        return 0.0
    small = miniature(images).flatten(1)
    return float(F.pdist(small).mean() / small.shape[1] ** 0.5)


def saturation(images: Tensor) -> float:
    """Mean difference between the strongest and the weakest channel of a pixel, in [0, 1]."""
    return float((images.amax(1) - images.amin(1)).mean())
