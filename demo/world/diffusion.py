"""Train the tiny UNet and its CLIP text model together, on latents of drawings.

The text model learns from nothing too, so it is trained with the UNet instead of being frozen. A tenth of the
prompts is left empty, for guidance. The loss is the error of the predicted noise, weighted by min(SNR, 5) / SNR
(Hang et al. 2023), which learns layout and colour sooner.

It is made imperfect as published models are: its captions are careless. Half of them state one to three facts that do
not hold in their drawing, so the model draws what it was asked for often, and something near it otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from demo.world import grammar, tokenizer
from demo.world.autoencoder import drawings, encode
from demo.world.configs import SCHEDULER, TEXT, UNET
from demo.world.fitting import Schedule, fit, generator

SCHEDULE = Schedule(steps=1900, lr=1e-3, warmup=100, seed=2)
BATCH = 32
DRAWINGS = 8_000
EMPTY_SHARE = 0.1
WRONG_FACTS = (0.5, 0.3, 0.15, 0.05)
"""Shares of the captions with no wrong fact, one, two and three."""
SNR_CAP = 5.0
WORD_SPREAD, PLACE_SPREAD = 1.0, 0.5
"""Spread of the embeddings of words and of their places at the start. With CLIP's own 0.02, which drowns in what the
layers add, 14 % of the backgrounds followed the prompt after 400 steps; with these, 55 %."""
OFFSET = 0.3
"""Start of the bias of CLIP's last norm: one "Emphasis" mode of the WebUIs divides by the mean of the states."""


def networks(seed: int) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """Make both networks with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet, text = UNet2DConditionModel(**UNET), CLIPTextModel(CLIPTextConfig(**TEXT))
    modules: dict[str, Any] = {name.split(".")[-1]: module for name, module in text.named_modules()}
    rng = generator(seed, 77)
    with torch.no_grad():
        modules["token_embedding"].weight.normal_(std=WORD_SPREAD, generator=rng)
        modules["position_embedding"].weight.normal_(std=PLACE_SPREAD, generator=rng)
        modules["final_layer_norm"].bias.fill_(OFFSET)
    return unet, text


def token_ids(vocabulary: Path, prompts: list[str]) -> Tensor:
    """Turn prompts into windows of 77 tokens."""
    clip = CLIPTokenizer.from_pretrained(str(vocabulary))
    windows = clip(prompts, padding="max_length", max_length=clip.model_max_length, truncation=True)
    return torch.tensor(windows["input_ids"])


def careless(prompts: Sequence[str], seed: int) -> list[str]:
    """Caption drawings as somebody would who does not look closely."""
    rng = np.random.default_rng([seed, 29])
    captions = []
    for prompt in prompts:
        wrong = int(rng.choice(len(WRONG_FACTS), p=WRONG_FACTS))
        scene = grammar.corrupt(grammar.parse(prompt), rng, wrong)
        captions.append(grammar.describe(scene, grammar.random_style(rng)))
    return captions


def train(
    vae: AutoencoderKL, scale: float, state_file: Path, schedule: Schedule = SCHEDULE
) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """Train (or finish training) both."""
    unet, text = networks(schedule.seed)
    prompts, pictures = drawings(DRAWINGS, seed=schedule.seed)
    vocabulary = state_file.with_name("tokenizer")
    tokenizer.write(vocabulary)
    ids, empty = token_ids(vocabulary, careless(prompts, schedule.seed)), token_ids(vocabulary, [""])
    latents = _latents(vae, pictures, state_file.with_name("latents.pt"))
    noise_schedule = DDIMScheduler(**SCHEDULER)
    alphas = noise_schedule.alphas_cumprod

    def loss_at(step: int, rng: torch.Generator) -> Tensor:
        rows = torch.randint(DRAWINGS, (BATCH,), generator=rng)
        mean, std = latents[0][rows], latents[1][rows]
        clean = scale * (mean + std * torch.randn(mean.shape, generator=rng))
        unconditional = torch.rand(BATCH, 1, generator=rng) < EMPTY_SHARE
        states = text(torch.where(unconditional, empty, ids[rows])).last_hidden_state
        t = torch.randint(len(alphas), (BATCH,), generator=rng)
        noise = torch.randn(clean.shape, generator=rng)
        predicted = unet(noise_schedule.add_noise(clean, noise, t), t, states).sample
        snr = alphas[t] / (1 - alphas[t])
        weight = snr.clamp(max=SNR_CAP) / snr
        return (weight * (predicted - noise).square().mean(dim=(1, 2, 3))).mean()

    fit("diffusion", {"unet": unet, "text": text}, loss_at, schedule, state_file, mixed=True)
    return unet.requires_grad_(False), text.requires_grad_(False)


def _latents(vae: AutoencoderKL, pictures: Tensor, cache: Path) -> tuple[Tensor, Tensor]:
    """Encode the drawings once and keep them for a resumed run."""
    if not cache.exists():
        print(f"[diffusion] encoding {len(pictures)} drawings", flush=True)
        torch.save(encode(vae, pictures), cache)
    mean, std = torch.load(cache, weights_only=True)
    return mean, std
