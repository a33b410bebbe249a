"""Noise that depends on the seed alone: a generator of its own on the CPU for each image."""

from __future__ import annotations

import torch

from modules import devices


def generator(seed: int) -> torch.Generator:
    return torch.Generator(device="cpu").manual_seed(int(seed))


def slerp(fraction: float, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """The point `fraction` of the way along the arc from `low` to `high` (both of one image, any shape)."""
    a, b = low.flatten(), high.flatten()
    angle = torch.arccos(torch.clamp(torch.dot(a / a.norm(), b / b.norm()), -1, 1))
    if angle < 1e-4:
        return low * (1 - fraction) + high * fraction
    return (torch.sin((1 - fraction) * angle) * low + torch.sin(fraction * angle) * high) / torch.sin(angle)


class ImageRNG:
    """`next()`: the latents to start from. `generators`: the fresh noise of ancestral samplers."""

    def __init__(
        self, shape: tuple[int, ...], seeds: list[int], subseeds: list[int], subseed_strength: float
    ):
        self.shape, self.subseeds, self.subseed_strength = shape, subseeds, subseed_strength
        self.generators = [generator(seed) for seed in seeds]

    def next(self) -> torch.Tensor:
        noises = [torch.randn(self.shape, generator=g) for g in self.generators]
        if self.subseed_strength:
            others = [torch.randn(self.shape, generator=generator(s)) for s in self.subseeds]
            noises = [slerp(self.subseed_strength, n, o) for n, o in zip(noises, others, strict=True)]
        return torch.stack(noises).to(devices.device)
