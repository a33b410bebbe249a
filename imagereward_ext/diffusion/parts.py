"""The seam between the algorithms and Stable Diffusion: encode, predict, sampler, decode, trainable.

Latents are float32 (b, c, h / 8, w / 8) in the scale the UNet was trained on, pixels float32 (b, 3, h, w) in
[0, 1], timesteps int64 (b,). Everything is frozen until LoRA layers are put in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imagereward_ext.diffusion import text
from imagereward_ext.diffusion.checkpoint import CheckpointError
from imagereward_ext.diffusion.low_memory_layers import use_low_memory_layers
from imagereward_ext.diffusion.model_config import DiffusionConfig
from imagereward_ext.diffusion.schedule import NoiseSchedule, Sampler, SamplerName
from imagereward_ext.diffusion.text import Conditioning, TextEncoder
from imagereward_ext.diffusion.tokenizer import Tokenizer


@dataclass
class DiffusionParts:
    """A loaded checkpoint."""

    source: Path
    config: DiffusionConfig
    unet: Any
    vae: Any
    text_encoders: nn.ModuleList
    tokenizer: Tokenizer
    clip_skip: int = 1
    """As the WebUIs count: 1 reads the text encoder's last state, 2 the one before."""

    def __post_init__(self) -> None:
        self.schedule = NoiseSchedule(self.config.noise)
        for module in self.modules():
            module.requires_grad_(False)
            module.eval()

    @property
    def device(self) -> torch.device:
        """Where the UNet is."""
        return torch.device(next(iter(self.unet.parameters())).device)

    def modules(self) -> Iterator[nn.Module]:
        """Yield every network, the UNet first."""
        yield self.unet
        yield self.vae
        yield from self.text_encoders

    def to(
        self, device: torch.device, dtype: torch.dtype, vae_dtype: torch.dtype | None = None
    ) -> DiffusionParts:
        """Move and cast the frozen networks; SDXL's VAE overflows in fp16, so it takes a type of its own."""
        # nn.Module's own method: the one diffusers puts over it warns about casting what is cast on purpose.
        nn.Module.to(self.unet, device, dtype)
        nn.Module.to(self.vae, device, vae_dtype or dtype)
        self.text_encoders.to(device, dtype)
        self.schedule.to(device)
        return self

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts; what does not fit into the text encoder's window is not read."""
        if not len(self.text_encoders):
            raise CheckpointError("the text encoders were dropped: encode every prompt before")
        encoders = [encoder for encoder in self.text_encoders if isinstance(encoder, TextEncoder)]
        return text.encode(encoders, self.tokenizer, prompts, self.clip_skip - 1)

    def as_negative(self, cond: Conditioning, prompt: str) -> Conditioning:
        """Return what to guide away from. For Stable Diffusion XL, no prompt is zeros, as in the WebUIs."""
        if prompt or self.config.family != "sdxl":
            return cond
        return Conditioning(
            torch.zeros_like(cond.states), None if cond.pooled is None else torch.zeros_like(cond.pooled)
        )

    def drop_text_encoders(self) -> None:
        """Free the text encoders once every prompt is encoded."""
        self.text_encoders = nn.ModuleList()

    def predict(self, latents: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """Run the UNet: the noise or the velocity in ``latents`` at timestep ``t`` (b,)."""
        dtype = _dtype_of(self.unet)
        cond = cond.to(latents.device, dtype)
        extra = None
        if self.config.family == "sdxl":
            extra = {
                "text_embeds": cond.pooled,
                "time_ids": _time_ids(latents, self.config.downscale).to(dtype),
            }
        out = self.unet(
            latents.to(dtype),
            t,
            encoder_hidden_states=cond.states,
            added_cond_kwargs=extra,
            return_dict=False,
        )[0]
        prediction: Tensor = out.float()
        return prediction

    def sampler(self, name: SamplerName, steps: int) -> Sampler:
        """Return a sampler, whose ``step`` takes latents one timestep towards the image."""
        return Sampler(name, steps, self.config.noise, self.device)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents to pixels; the gradient flows through."""
        vae = self.config.vae
        scaled = latents / vae["scaling_factor"] + (vae.get("shift_factor") or 0.0)
        image = self.vae.decode(scaled.to(_dtype_of(self.vae)), return_dict=False)[0]
        pixels: Tensor = (image.float() / 2 + 0.5).clamp(0, 1)
        return pixels

    @torch.no_grad()
    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Encode pixels to the mean of their latents."""
        vae = self.config.vae
        moments = self.vae.encode((pixels * 2 - 1).to(_dtype_of(self.vae)), return_dict=False)[0]
        latents: Tensor = (moments.mean.float() - (vae.get("shift_factor") or 0.0)) * vae["scaling_factor"]
        return latents

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Return (c, h, w) of the latents of one image."""
        step = self.config.downscale
        if height % self.config.granularity or width % self.config.granularity:
            raise CheckpointError(
                f"{width}x{height} pixels: both sides must be multiples of {self.config.granularity}"
            )
        return self.config.latent_channels, height // step, width // step

    def trainable(self) -> list[nn.Parameter]:
        """Return the parameters that learn, in a fixed order."""
        return [p for module in self.modules() for p in module.parameters() if p.requires_grad]

    def use_low_memory_layers(self) -> None:
        """Let UNet and decoder keep less for the backward pass; nothing else changes but the names of their layers."""
        use_low_memory_layers(self.unet)
        use_low_memory_layers(self.vae.decoder)

    def checkpoint_gradients(self) -> None:
        """Recompute activations of UNet and VAE in the backward pass: less memory, more time."""
        for module in (self.unet, self.vae):
            module.enable_gradient_checkpointing()
            module.train()  # diffusers checkpoints in training mode only; these networks have no dropout


def _dtype_of(network: nn.Module) -> torch.dtype:
    return next(network.parameters()).dtype


def _time_ids(latents: Tensor, downscale: int) -> Tensor:
    """Return SDXL's (original size, crop, target size) in pixels: (b, 6)."""
    height, width = (side * downscale for side in latents.shape[-2:])
    ids = torch.tensor([height, width, 0, 0, height, width], device=latents.device)
    return ids.repeat(len(latents), 1)
