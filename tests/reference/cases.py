"""What the reference implementation and ours are both asked; numpy and Pillow only, so that any environment can."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

PROMPTS = (
    "a painting of an ocean with clouds and birds, day time, low depth field effect",
    "a red fox in snow",
    "",
    "Café Zürich – naïve 東京 мир, 🦊!!! (octane render:1.2) don't [stop]",
    "cat " * 60,
)

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_WORDS = """a an the of on in with and red green blue fox snow painting ocean clouds cloud birds bird day time low depth
field effect cat cafe zurich naive don t stop octane render 1 2 東 京 [ ] ( ) : ! , . ' –""".split()


def write_vocabulary(path: Path, size: int = 30_522) -> None:
    """Write a vocabulary of BERT's size: marks, some words, letters, and fillers."""
    tokens = ["[PAD]", *(f"[unused{n}]" for n in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens += [*_WORDS, *_LETTERS, *(f"##{letter}" for letter in _LETTERS)]
    tokens = list(dict.fromkeys(tokens))
    tokens += [f"filler{n}" for n in range(size - len(tokens))]
    path.write_text("\n".join(tokens) + "\n", encoding="utf-8")


def pixels(seed: int, height: int, width: int, channels: int = 3) -> np.ndarray:
    """Make a reproducible picture with structure at several scales, uint8 (h, w, c)."""
    stream = np.random.RandomState(seed)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    total = np.zeros((height, width, channels))
    for scale in (1, 3, 9, 27):
        phase, angle = stream.rand(channels) * 6.28, stream.rand(channels) * 6.28
        total += (
            np.sin(scale * 6.28 * (x[..., None] * np.cos(angle) + y[..., None] * np.sin(angle)) + phase)
            / scale**0.5
        )
    total += stream.rand(height, width, channels) * 0.4
    low, high = total.min(), total.max()
    return ((total - low) / (high - low) * 255).astype(np.uint8)


def square_images() -> list[Image.Image]:
    """Images that need no resizing, so that every version of Pillow gives the network the same pixels."""
    return [Image.fromarray(pixels(seed, 224, 224)) for seed in range(4)]


@cache
def resized_images() -> dict[str, Image.Image]:
    """Images of every kind that people keep, to be resized, cropped and converted."""
    colour = pixels(10, 300, 420)
    grey16 = (pixels(11, 260, 250, 1)[..., 0].astype(np.uint16) * 257) >> 6
    return {
        "wide": Image.fromarray(colour),
        "tall": Image.fromarray(pixels(12, 640, 250)),
        "small": Image.fromarray(pixels(13, 64, 96)),
        "strip": Image.fromarray(pixels(14, 4, 400)),
        "odd": Image.fromarray(pixels(15, 225, 311)),
        "RGBA": Image.fromarray(pixels(16, 300, 260, 4), "RGBA"),
        "LA": Image.fromarray(pixels(17, 300, 260, 2), "LA"),
        "L": Image.fromarray(pixels(18, 300, 260, 1)[..., 0], "L"),
        "P": Image.fromarray(colour).quantize(64, method=Image.Quantize.MEDIANCUT),
        "CMYK": Image.fromarray(pixels(19, 250, 300, 4), "CMYK"),
        "1": Image.fromarray(pixels(20, 250, 300, 1)[..., 0], "L")
        .point(lambda v: 255 * (v > 127))
        .convert("1"),
        "I;16": Image.fromarray(grey16.astype(np.uint16)),
        "I": Image.fromarray(grey16.astype(np.int32)),
        "F": Image.fromarray(grey16.astype(np.float32) / 4),
    }
