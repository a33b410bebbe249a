"""What is measured with: the full architecture with random weights in the official file's form, and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

PROMPTS = [
    "a painting of an ocean with clouds and birds, day time, low depth field effect",
    "a red fox in snow",
    "a photo of the sea at low day time",
    "the birds on a red painting",
]


def pictures(count: int, size: int = 512, first: int = 0) -> list[Any]:
    """Make smooth pictures with some noise, all different."""
    from PIL import Image

    found = []
    for seed in range(first, first + count):
        stream = np.random.default_rng(seed)
        coarse = Image.fromarray(stream.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), dtype=np.int16)
        noise = stream.integers(-12, 13, (size, size, 3), dtype=np.int16)
        found.append(Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8)))
    return found


def write_pictures(folder: Path, count: int, size: int) -> None:
    """Write PNG files with a prompt in them, as a WebUI does."""
    from PIL.PngImagePlugin import PngInfo

    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(pictures(count, size)):
        note = PngInfo()
        prompt = PROMPTS[number % len(PROMPTS)]
        note.add_text(
            "parameters",
            f"{prompt}\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: {number}, Size: {size}x{size}",
        )
        image.save(folder / f"{number:05d}.png", pnginfo=note)


def full_scorer(folder: Path) -> Path:
    """Write ImageReward.pt, 1.8 GB, with frozen random weights, and convert it: once."""
    import torch

    from imagereward_ext.scorers import load_scorer
    from imagereward_ext.scorers.image_reward import Architecture, Network, published_tensors
    from tests.frozen_weights import shaped
    from tests.reference.cases import write_vocabulary

    if (folder / "ImageReward.safetensors").exists() and (folder / "ImageReward.pt").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    stream = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        network = Network(Architecture())
    weights = {
        name: shaped(name, torch.randn(tensor.shape, generator=stream))
        for name, tensor in published_tensors(network).items()
    }
    weights["blip.text_encoder.embeddings.position_ids"] = torch.arange(512)[None]
    torch.save(weights, folder / "ImageReward.pt")
    del weights
    write_vocabulary(folder / "bert-base-uncased-vocab.txt")
    load_scorer("ImageReward-v1.0", device="cpu", folder=folder, download=False)  # converts
    return folder


def tiny_scorer(folder: Path) -> Path:
    """Write a model folder of the same architecture that loads in milliseconds."""
    from tests.tiny import make_tiny_scorer_folder

    return make_tiny_scorer_folder(folder)
