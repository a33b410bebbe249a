"""Both ways from an image to the network's input."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from PIL import Image

from imagereward_ext.errors import ImageError
from imagereward_ext.scorers.preprocessing import CLIP_MEAN, CLIP_STD, Preprocessing, resized
from tests.reference.cases import resized_images

CROPS = json.loads((Path(__file__).parents[1] / "reference" / "peer_scores.json").read_text())["crops"]
PREPROCESSING = Preprocessing(224)


def eight_bit(normalised: torch.Tensor) -> np.ndarray:
    mean, std = (torch.tensor(v)[:, None, None] for v in (CLIP_MEAN, CLIP_STD))
    return ((normalised * std + mean) * 255).round().numpy().astype(np.uint8)


@pytest.mark.skipif(PIL.__version__ not in CROPS, reason=f"no reference crops for Pillow {PIL.__version__}")
@pytest.mark.parametrize("kind", resized_images())
def test_the_exact_path_gives_the_bytes_of_the_reference(kind: str) -> None:
    crop = eight_bit(PREPROCESSING.image(resized_images()[kind]))
    expected = CROPS[PIL.__version__][kind]
    if expected is None:  # the reference cannot read this kind; ours gives a picture with something in it
        assert crop.std() > 1
    else:
        assert hashlib.sha256(crop.tobytes()).hexdigest()[:16] == expected


@pytest.mark.parametrize(
    "size", [(300, 420), (640, 250), (96, 64), (225, 311), (1, 1), (20_000, 20), (224, 224)]
)
def test_every_size_becomes_the_square(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (255, 0, 128))
    prepared = PREPROCESSING.image(image)
    assert prepared.shape == (3, 224, 224) and prepared.dtype == torch.float32
    assert np.unique(eight_bit(prepared).reshape(3, -1), axis=1).shape == (3, 1)


def test_a_strip_that_would_fill_the_memory_is_refused() -> None:
    with pytest.raises(ImageError, match="20,000 x 1 pixels are too narrow a strip"):
        PREPROCESSING.image(Image.new("RGB", (20_000, 1)))


@pytest.mark.parametrize("mode", ["I;16", "LA", "PA", "RGBX", "HSV", "YCbCr", "LAB", "1"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = Image.new(mode, (60, 50))
    assert PREPROCESSING.image(image).shape == (3, 224, 224)


@pytest.mark.parametrize("kind", ["wide", "tall", "small", "strip", "odd"])
def test_the_differentiable_path_stays_within_two_grey_levels_of_the_exact_one(kind: str) -> None:
    image = resized_images()[kind]
    exact = eight_bit(PREPROCESSING.image(image)).astype(int)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    smooth = eight_bit(PREPROCESSING.pixels(pixels)[0]).astype(int)
    # Pillow rounds to 8 bits after each of its two passes; torch does not round at all.
    assert np.abs(exact - smooth).max() <= 2
    assert np.abs(exact - smooth).mean() < 0.35


def test_the_differentiable_path_has_a_gradient_everywhere_it_looks() -> None:
    pixels = torch.full((1, 3, 100, 100), 0.5, requires_grad=True)
    PREPROCESSING.pixels(pixels).sum().backward()
    assert (pixels.grad != 0).all()


def test_the_long_side_is_rounded_down() -> None:
    assert resized(300, 200, 224) == (336, 224)
    assert resized(301, 200, 224) == (337, 224)
    assert resized(200, 301, 224) == (224, 337)
