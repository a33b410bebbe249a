"""Walk from noise towards the image: all the way, or to a chosen step for every sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from imagereward_ext.diffusion.parts import DiffusionParts
from imagereward_ext.diffusion.schedule import SamplerName
from imagereward_ext.diffusion.text import Conditioning, concatenate


@dataclass(frozen=True)
class SamplingSettings:
    """How images are made. ``guidance`` 1 means none: the unconditional pass is left out."""

    sampler: SamplerName = "ddim"
    steps: int = 40
    guidance: float = 1.0
    width: int = 512
    height: int = 512


@dataclass(frozen=True)
class RolloutState:
    """Where a roll-out was left: the latents that the next prediction sees, and their timesteps."""

    latents: Tensor
    t: Tensor


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """One random stream per sample, on the CPU: a sample is the same in any batch, on any device."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def initial_noise(shape: tuple[int, ...], streams: Sequence[torch.Generator], device: torch.device) -> Tensor:
    """Draw x_T, (b, *shape)."""
    return torch.stack([torch.randn(shape, generator=stream) for stream in streams]).to(device)


def guided(
    parts: DiffusionParts,
    latents: Tensor,
    t: Tensor,
    cond: Conditioning,
    negative: Conditioning | None,
    guidance: float,
) -> Tensor:
    """Predict with classifier-free guidance, or without when there is no negative conditioning."""
    if negative is None or guidance == 1:
        return parts.predict(latents, t, cond)
    both = parts.predict(torch.cat([latents, latents]), torch.cat([t, t]), concatenate([negative, cond]))
    unconditional, conditional = both.chunk(2)
    return unconditional + guidance * (conditional - unconditional)


@torch.no_grad()
def roll_out(
    parts: DiffusionParts,
    cond: Conditioning,
    negative: Conditioning | None,
    settings: SamplingSettings,
    streams: Sequence[torch.Generator],
    until: Sequence[int],
) -> RolloutState:
    """Denoise every sample up to its own step index; ``settings.steps`` as the index means all the way."""
    latents = initial_noise(parts.latent_shape(settings.height, settings.width), streams, parts.device)
    sampler = parts.sampler(settings.sampler, settings.steps)
    where = torch.tensor(list(until), device=latents.device)
    kept = latents.clone()
    for index in range(max(until)):
        t = sampler.timesteps[index].expand(len(latents))
        prediction = guided(parts, latents, t, cond, negative, settings.guidance)
        latents = sampler.step(prediction, index, latents, streams)
        kept = torch.where((where == index + 1).view(-1, 1, 1, 1), latents, kept)
    return RolloutState(kept, sampler.timesteps[where.clamp(max=settings.steps - 1)])


@torch.no_grad()
def generate(
    parts: DiffusionParts,
    cond: Conditioning,
    negative: Conditioning | None,
    settings: SamplingSettings,
    seeds: Sequence[int],
    batch: int = 4,
) -> Iterator[Tensor]:
    """Yield finished pixels, float (3, h, w) in [0, 1], one per seed and in order."""
    for latents in generate_latents(parts, cond, negative, settings, seeds, batch):
        yield parts.decode(latents[None])[0]


@torch.no_grad()
def generate_latents(
    parts: DiffusionParts,
    cond: Conditioning,
    negative: Conditioning | None,
    settings: SamplingSettings,
    seeds: Sequence[int],
    batch: int = 4,
) -> Iterator[Tensor]:
    """Yield finished latents, one per seed and in order; ``negative`` holds as many rows as ``cond``."""
    for start in range(0, len(seeds), batch):
        rows = slice(start, start + batch)
        part = seeds[rows]
        unconditional = None if negative is None else negative.rows(rows)
        state = roll_out(
            parts, cond.rows(rows), unconditional, settings, generators(part), [settings.steps] * len(part)
        )
        yield from state.latents
