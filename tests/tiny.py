"""Small random-weight scorers of the real architecture, and pictures to score."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from imagereward_ext.scorers.image_reward import Architecture, Network, published_tensors
from imagereward_ext.weights.model_folder import ModelConfig, write_config
from imagereward_ext.weights.tensors import save_tensors
from tests.frozen_weights import frozen_weights

WORDS = """a an the of on in with and red green blue yellow purple orange black white circle square triangle star
cross small large one two three cat dog fox house tree snow painting photo sea sky bird cloud by art""".split()

TINY = Architecture(
    image_size=32,
    patch_size=8,
    vision_width=32,
    vision_layers=2,
    vision_heads=2,
    text_width=24,
    text_layers=2,
    text_heads=2,
    text_positions=64,
    vocabulary_size=128,
    window=16,
    head_widths=(16, 12, 8, 4),
)


def write_vocabulary(path: Path, words: list[str] = WORDS) -> None:
    """Write a small BERT vocabulary: marks, words, then single letters and their continuations."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *words,
        *letters,
        *(f"##{c}" for c in letters),
        ",",
        ".",
    ]
    path.write_text("\n".join(dict.fromkeys(tokens)) + "\n", encoding="utf-8")


def make_tiny_scorer_folder(
    folder: Path, name: str = "tiny", label: str = "Tiny", architecture: Architecture = TINY
) -> Path:
    """Write a model folder that `load_scorer(folder)` opens in milliseconds."""
    folder.mkdir(parents=True, exist_ok=True)
    write_vocabulary(folder / "vocab.txt")
    save_tensors(folder / "model.safetensors", tiny_weights(architecture))
    settings = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(architecture).items()}
    config = ModelConfig(
        architecture="image-reward",
        name=name,
        label=label,
        std=0.5,
        mean=0.1,
        companions={"vocabulary": "vocab.txt"},
        settings=settings,
    )
    write_config(folder, config)
    return folder


def tiny_weights(architecture: Architecture = TINY) -> dict[str, torch.Tensor]:
    """Make the frozen weights of a small network under their published names."""
    return {name: tensor.clone() for name, tensor in _weights(architecture).items()}


@cache
def _weights(architecture: Architecture) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        network = Network(architecture)
    return frozen_weights({name: tuple(t.shape) for name, t in published_tensors(network).items()})


def picture(seed: int = 0, size: tuple[int, int] = (48, 40), mode: str = "RGB") -> Image.Image:
    """Draw a reproducible picture with structure at several scales."""
    stream = np.random.RandomState(seed)
    coarse = Image.fromarray(stream.randint(0, 256, (5, 5, 4), dtype=np.uint8), "RGBA")
    image = coarse.resize(size, Image.Resampling.BICUBIC)
    return image if mode == "RGBA" else image.convert(mode)
