"""Random weights that never change: each tensor comes from a frozen numpy stream keyed by its name.

With a library's own initialisation the score barely depends on the prompt, and a wrongly mapped tensor would go
unnoticed. So norms and biases are perturbed, and the queries and keys of attention are made large enough for
attention to look somewhere.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch


def frozen_tensor(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Make the tensor of this published name, float32."""
    # RandomState, not Generator: numpy promises its stream to stay the same.
    stream = np.random.RandomState(zlib.crc32(name.encode()))
    return shaped(name, torch.from_numpy(stream.standard_normal(shape).astype(np.float32)))


def shaped(name: str, noise: torch.Tensor) -> torch.Tensor:
    """Scale standard normal noise to what the tensor of this name needs; changes the noise."""
    shape = noise.shape
    is_norm = "norm" in name.lower()
    if name.endswith("bias"):
        return noise.mul_(0.1)
    if is_norm:
        return noise.mul_(0.2).add_(1)
    if name.startswith("mlp."):
        return noise.mul_(1 / shape[-1] ** 0.5)
    if "embed" in name or "token" in name:
        return noise.mul_(0.5 if len(shape) < 4 else 1 / float(np.prod(shape[1:])) ** 0.5)
    return noise.mul_(_gain(name) / shape[-1] ** 0.5)


def _gain(name: str) -> float:
    if any(part in name for part in (".query.", ".key.", ".qkv.")):
        return 2.0
    # Weak branches keep the words apart: at full strength twelve layers make all tokens alike.
    return next((gain for part, gain in _TEXT_BRANCHES.items() if part in name), 1.0)


_TEXT_BRANCHES = {"crossattention.output.": 0.25, "attention.output.": 0.3, ".output.": 0.5}


def frozen_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Make all tensors of a model."""
    return {name: frozen_tensor(name, tuple(shape)) for name, shape in shapes.items()}
