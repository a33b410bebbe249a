"""Algorithm 1 of the paper, and the losses of the methods it is compared with.

Xu et al. 2023, "ImageReward: Learning and Evaluating Human Preferences for Text-to-Image Generation",
https://arxiv.org/abs/2304.05977. The order of the lines is the paper's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from imagereward_ext.diffusion.lora import folded, switched_off
from imagereward_ext.diffusion.parts import DiffusionParts
from imagereward_ext.diffusion.sampling import SamplingSettings, guided, roll_out
from imagereward_ext.diffusion.text import Conditioning
from imagereward_ext.refl.losses import squared_distance

Reward = Callable[[Tensor, Sequence[str]], Tensor]
Encode = Callable[[], tuple[Conditioning, Conditioning | None]]


@dataclass(frozen=True)
class PromptBatch:
    """The prompts of some samples, and where their randomness comes from."""

    prompts: Sequence[str]
    encode: Encode
    """Gives the conditioning and the unconditional one. A call, since a trained text encoder changes with every
    update, and speaks otherwise when its LoRA is switched off."""
    streams: Sequence[torch.Generator]
    stops: Sequence[int]
    """Each sample's t, as the index of the sampling step that takes the gradient."""


@dataclass(frozen=True)
class ImageBatch:
    """Clean latents with their prompts, noised to a timestep."""

    clean: Tensor
    noise: Tensor
    t: Tensor
    encode: Encode


@dataclass
class Terms:
    """What a batch costs: the total of each sample, (b,), and its parts without gradient, to be logged."""

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)

    def add(self, name: str, value: Tensor, weight: float | Tensor) -> None:
        """Add a weighted term."""
        self.parts[name] = value.detach()
        self.total = self.total + weight * value


def reward_feedback(
    parts: DiffusionParts,
    reward: Reward,
    phi: Callable[[Tensor], Tensor],
    batch: PromptBatch,
    settings: SamplingSettings,
    reward_weight: float,
    kl_weight: float,
) -> Terms:
    """ReFL: push the image that a random late step already promises towards a higher reward."""
    cond, negative = batch.encode()

    # x_T ~ N(0, I);  for j = T, ..., t + 1: x_{j-1} <- LDM{x_j}, without gradient
    with folded(parts):
        x = roll_out(parts, cond, negative, settings, batch.streams, batch.stops)

    # x_{t-1} <- LDM{x_t}, with gradient
    prediction = guided(parts, x.latents, x.t, cond, negative, settings.guidance)

    # x_0 <- x_{t-1}: what the scheduler predicts from it
    clean = parts.schedule.clean(prediction, x.latents, x.t)

    # z <- x_0 decoded;  L_reward <- lambda * phi(r(y, z))
    rewards = reward(parts.decode(clean), batch.prompts)
    terms = Terms(torch.zeros_like(rewards), {"reward": rewards.detach()})
    terms.add("phi", phi(rewards), reward_weight)

    # Not in the paper: stay near what the base would have predicted from the same latents.
    if kl_weight:
        with torch.no_grad(), switched_off(parts):
            cond, negative = batch.encode()
            base = guided(parts, x.latents, x.t, cond, negative, settings.guidance)
        terms.add("kl", squared_distance(prediction, base), kl_weight)
    return terms


def denoising(parts: DiffusionParts, batch: ImageBatch) -> Tensor:
    """L_pre, the diffusion model's own loss on images with their prompts: (b,)."""
    cond, _ = batch.encode()
    noised = parts.schedule.add_noise(batch.clean, batch.noise, batch.t)
    prediction = parts.predict(noised, batch.t, cond)
    return squared_distance(prediction, parts.schedule.target(batch.clean, batch.noise, batch.t))
