"""Noise levels, what a prediction says about the clean image, and the samplers of diffusers under one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from imagereward_ext.diffusion.model_config import NoiseConfig

SamplerName = Literal["ddpm", "ddim", "dpm++"]
SAMPLERS: tuple[SamplerName, ...] = get_args(SamplerName)
PREDICTIONS = ("auto", "epsilon", "v_prediction")
"""What a UNet predicts; auto is what its file tells."""


class NoiseSchedule:
    """x_t = alpha_t * x0 + sigma_t * noise, with alpha_t^2 + sigma_t^2 = 1."""

    def __init__(self, config: NoiseConfig) -> None:
        self.config = config
        alphas = scheduler("ddpm", config).alphas_cumprod.double()
        self.alpha = alphas.sqrt().float()  # (training steps,)
        self.sigma = (1 - alphas).sqrt().float()

    def to(self, device: torch.device) -> None:
        """Move the tables."""
        self.alpha, self.sigma = self.alpha.to(device), self.sigma.to(device)

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha and sigma of the timesteps (b,), shaped to multiply latents."""
        return self.alpha[t].view(-1, 1, 1, 1), self.sigma[t].view(-1, 1, 1, 1)

    def add_noise(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return the noised latents x_t."""
        alpha, sigma = self.at(t)
        return alpha * clean + sigma * noise

    def target(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return what the UNet should predict."""
        if self.config.prediction == "epsilon":
            return noise
        alpha, sigma = self.at(t)
        return alpha * noise - sigma * clean

    def clean(self, prediction: Tensor, latents: Tensor, t: Tensor) -> Tensor:
        """Return the predicted x0."""
        alpha, sigma = self.at(t)
        if self.config.prediction == "epsilon":
            return (latents - sigma * prediction) / alpha
        return alpha * latents - sigma * prediction


class Sampler:
    """One walk from noise to image; it remembers earlier steps where its method needs them."""

    def __init__(self, name: SamplerName, steps: int, config: NoiseConfig, device: torch.device) -> None:
        self._scheduler = scheduler(name, config)
        self._scheduler.set_timesteps(steps, device=device)
        self.timesteps: Tensor = self._scheduler.timesteps.long()
        """(steps,), the noisiest first"""
        # Of the three only DDPM draws noise on the way; DDIM takes the argument and ignores it at eta 0.
        self._noisy = name == "ddpm"

    def step(
        self, prediction: Tensor, index: int, latents: Tensor, generators: Sequence[torch.Generator]
    ) -> Tensor:
        """Take the latents from timestep ``index`` to the next one."""
        t = self._scheduler.timesteps[index]
        noise = {"generator": list(generators)} if self._noisy else {}
        result: Tensor = self._scheduler.step(prediction, t, latents, return_dict=False, **noise)[0]
        return result


def scheduler(name: SamplerName, config: NoiseConfig) -> Any:
    """Build the scheduler of diffusers, with the settings Stable Diffusion was trained and published with."""
    import diffusers

    common: dict[str, Any] = {
        "num_train_timesteps": config.steps,
        "beta_start": config.beta_start,
        "beta_end": config.beta_end,
        "beta_schedule": config.beta_schedule,
        "prediction_type": config.prediction,
        "rescale_betas_zero_snr": config.zero_terminal_snr,
    }
    spacing = {"timestep_spacing": "trailing"} if config.zero_terminal_snr else {}
    if name == "dpm++":
        return diffusers.DPMSolverMultistepScheduler(**common, **spacing)
    leading = {"steps_offset": 1, "timestep_spacing": "leading", "clip_sample": False} | spacing
    if name == "ddim":
        return diffusers.DDIMScheduler(**common, **leading, set_alpha_to_one=False)
    return diffusers.DDPMScheduler(**common, **leading)
