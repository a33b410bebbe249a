"""From an image to a network's input, twice: exactly for people's images, differentiably for training.

The exact path does with Pillow what the published models saw in training: resize the short side bicubically,
crop the centre, convert to RGB, in this order. The differentiable path does the same to a tensor in [0, 1]
without rounding to 8 bits, so the two differ by up to a grey level or two; a test holds how far.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from imagereward_ext.errors import ImageError
from imagereward_ext.images import MAX_PIXELS

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Preprocessing:
    """Square input of `size` pixels, normalised per channel."""

    size: int
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD

    def image(self, image: Image.Image) -> Tensor:
        """Prepare a person's image: float32 (3, size, size)."""
        cropped = _centre_crop(_resize_short_side(image, self.size), self.size)
        values = np.array(cropped.convert("RGB"), dtype=np.uint8)
        return self._normalise(torch.from_numpy(values).permute(2, 0, 1).float().div(255))

    def pixels(self, pixels: Tensor) -> Tensor:
        """Prepare (b, 3, h, w) pixels in [0, 1], with gradient: float32 (b, 3, size, size)."""
        height, width = pixels.shape[-2:]
        new_width, new_height = resized(width, height, self.size)
        if (new_width, new_height) != (width, height):
            pixels = F.interpolate(
                pixels, (new_height, new_width), mode="bicubic", align_corners=False, antialias=True
            ).clamp(0, 1)  # bicubic overshoots at edges; Pillow clips to 8 bits
        top, left = _margin(new_height, self.size), _margin(new_width, self.size)
        return self._normalise(pixels[..., top : top + self.size, left : left + self.size])

    def _normalise(self, pixels: Tensor) -> Tensor:
        mean, std = (torch.tensor(v, dtype=pixels.dtype, device=pixels.device) for v in (self.mean, self.std))
        return (pixels - mean[:, None, None]) / std[:, None, None]


def resized(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Scale so that the short side gets this length; the long one is rounded down, as torchvision does."""
    if width <= height:
        return short_side, int(short_side * height / width)
    return int(short_side * width / height), short_side


def _resize_short_side(image: Image.Image, size: int) -> Image.Image:
    # Resizing comes before the conversion to RGB, as in the reference implementation: a transparent image or a
    # palette gets other pixels the other way round. Of the modes Pillow cannot resize bicubically (it raises
    # for some 16-bit ones), the 8-bit picture is taken.
    target = resized(*image.size, size)
    if target == image.size:
        return image
    if target[0] * target[1] > MAX_PIXELS:
        raise ImageError(
            f"{image.width:,} x {image.height:,} pixels are too narrow a strip: its short side is enlarged to {size}"
        )
    try:
        return image.resize(target, Image.Resampling.BICUBIC)
    except ValueError:
        return image.convert("RGB").resize(target, Image.Resampling.BICUBIC)


def _centre_crop(image: Image.Image, size: int) -> Image.Image:
    left, top = _margin(image.width, size), _margin(image.height, size)
    return image.crop((left, top, left + size, top + size))


def _margin(length: int, size: int) -> int:
    # Python rounds halves to even, and so did the models' own preprocessing.
    return round((length - size) / 2.0)
