"""Train the tiny AutoencoderKL on drawings: 64x64 pixels to 8x8 latents of 4 channels and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from demo.world import grammar
from demo.world.configs import VAE
from demo.world.fitting import Schedule, fit, generator

SCHEDULE = Schedule(steps=1300, lr=1e-3, seed=1)
BATCH = 8
CROPPED = 0.85
"""Share of the steps that see 32 px crops: a quarter of the work, and edges are learned just as well."""
DECODER_SCHEDULE = Schedule(steps=1000, lr=6e-4, seed=3)
DECODER_BATCH = 4
DRAWINGS = 6000
KL_WEIGHT = 1e-3
"""On the mean over latents: leaves a noise of about a tenth of a latent's spread, which smooths what the UNet learns."""


def drawings(count: int, seed: int, split: grammar.Split = "train") -> tuple[list[str], Tensor]:
    """Draw images with their prompts; uint8 (count, 3, 64, 64)."""
    rng = np.random.default_rng([seed, 11])
    prompts, pictures = [], np.empty((count, grammar.SIZE, grammar.SIZE, 3), np.uint8)
    for index in range(count):
        scene = grammar.random_scene(rng, split)
        pictures[index] = np.asarray(grammar.draw(scene, rng))
        prompts.append(grammar.describe(scene, grammar.random_style(rng)))
    return prompts, torch.from_numpy(pictures).permute(0, 3, 1, 2)


def as_pixels(pictures: Tensor) -> Tensor:
    """Turn uint8 pictures into what the autoencoder sees, float in [-1, 1]."""
    return pictures.float() / 127.5 - 1


def start_as_average(vae: AutoencoderKL) -> None:
    """Begin as an autoencoder of each patch's mean colour, which training then refines.

    The LDM code fixes 32 groups, so here a GroupNorm sees two channels and hides how strong a flat colour is; from
    random weights that costs most of the training. So every second channel gets a fixed pattern (strong at the
    border, made from zero padding), against which its neighbour's strength shows after the norm.
    """
    with torch.no_grad():
        for name, module in vae.named_modules():
            if name.endswith((".conv2", ".to_out.0")):  # blocks begin as identities
                module.weight.zero_()
                module.bias.zero_()
            elif name.endswith("downsamplers.0.conv"):
                _pass_on(module, slice(0, 2), 0.25)
            elif name.endswith("upsamplers.0.conv"):
                _pass_on(module, slice(1, 2), 1.0)
            elif name.endswith("quant_conv"):
                module.weight.copy_(torch.eye(len(module.weight))[:, :, None, None])
                module.bias.zero_()
        for side in (vae.encoder, vae.decoder):
            _carry_colours(side.conv_in, to_pairs=True, gain=1.0)
            _add_pattern(side.mid_block.resnets[-1 if side is vae.encoder else 0])
            side.conv_norm_out.bias.fill_(3.0)  # where SiLU is nearly a line
            side.conv_out.weight.mul_(0.1)
            _carry_colours(side.conv_out, to_pairs=False, gain=NORM_SPREAD)
        vae.encoder.conv_out.weight[4:].zero_()
        vae.encoder.conv_out.bias[4:].fill_(-4.0)  # log variance


PATTERN = 9.0
NORM_SPREAD = 1.45
"""Spread of a pair of channels of which one carries the pattern."""


def _pass_on(conv: nn.Conv2d, taps: slice, weight: float) -> None:
    conv.weight.zero_()
    conv.bias.zero_()
    for channel in range(len(conv.weight)):
        conv.weight[channel, channel, taps, taps] = weight


def _carry_colours(conv: nn.Conv2d, to_pairs: bool, gain: float) -> None:
    """Let the first three planes pass between colours and every second channel."""
    for plane in range(3):
        row, column = (2 * plane, plane) if to_pairs else (plane, 2 * plane)
        conv.weight[row].zero_()
        conv.weight[row, column, 1, 1] = gain
        conv.bias[row] = 0.0 if to_pairs else -3.3 * gain


def _add_pattern(block: nn.Module) -> None:
    """Add the pattern to every odd channel: a constant, convolved with zero padding around it."""
    block.norm2.weight[:2] = 0.0
    block.norm2.bias[:2] = 1.2785  # SiLU of it is 1
    block.conv2.weight[1::2, 0] = PATTERN / 9
    block.conv2.bias[1::2] = -PATTERN


def train(state_file: Path, schedule: Schedule = SCHEDULE) -> AutoencoderKL:
    """Train (or finish training) the autoencoder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(schedule.seed)
        vae = AutoencoderKL(**VAE)
    start_as_average(vae)
    _, pictures = drawings(DRAWINGS, seed=schedule.seed)

    def loss_at(step: int, rng: torch.Generator) -> Tensor:
        pixels = as_pixels(pictures[torch.randint(DRAWINGS, (BATCH,), generator=rng)])
        if step < CROPPED * schedule.steps:
            top, left = torch.randint(grammar.SIZE // 2 + 1, (2,), generator=rng).tolist()
            pixels = pixels[..., top : top + grammar.SIZE // 2, left : left + grammar.SIZE // 2]
        posterior = vae.encode(pixels).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=rng)
        rebuilt = vae.decode(posterior.mean + posterior.std * noise).sample
        error = rebuilt - pixels
        kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
        return error.square().mean() + 0.3 * error.abs().mean() + KL_WEIGHT * kl

    fit("autoencoder", {"vae": vae}, loss_at, schedule, state_file, mixed=True)
    return vae.eval().requires_grad_(False)


def refine_decoder(
    vae: AutoencoderKL, state_file: Path, schedule: Schedule = DECODER_SCHEDULE
) -> AutoencoderKL:
    """Go on with the decoder alone: the latents stay what the UNet learns, the pictures become sharper."""
    vae.requires_grad_(False)
    vae.decoder.requires_grad_(True)
    vae.post_quant_conv.requires_grad_(True)
    _, pictures = drawings(DRAWINGS, seed=schedule.seed)

    def loss_at(step: int, rng: torch.Generator) -> Tensor:
        pixels = as_pixels(pictures[torch.randint(DRAWINGS, (DECODER_BATCH,), generator=rng)])
        with torch.no_grad():
            posterior = vae.encode(pixels).latent_dist
            latents = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=rng)
        error = vae.decode(latents).sample - pixels
        return error.square().mean() + 0.3 * error.abs().mean()

    fit("decoder", {"vae": vae}, loss_at, schedule, state_file, mixed=True)
    return vae.eval().requires_grad_(False)


@torch.inference_mode()
def encode(vae: AutoencoderKL, pictures: Tensor, batch: int = 50) -> tuple[Tensor, Tensor]:
    """Encode pictures: means and standard deviations of their latents, each (count, 4, 8, 8), unscaled."""
    parts = [vae.encode(as_pixels(part)).latent_dist for part in pictures.split(batch)]
    return torch.cat([p.mean for p in parts]), torch.cat([p.std for p in parts])


def latent_scale(vae: AutoencoderKL, pictures: Tensor) -> float:
    """Measure what latents are multiplied with so that the UNet sees a spread of 1."""
    mean, std = encode(vae, pictures)
    noise = torch.randn(mean.shape, generator=generator(3))
    return round(1 / float((mean + std * noise).std()), 4)
