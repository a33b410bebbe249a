"""The txt2img job, with hires fix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from modules import extra_networks, images, sd_samplers, shared
from modules.processing_base import StableDiffusionProcessing
from modules.sd_samplers import Sampler
from modules.shared import state


@dataclass(repr=False)
class StableDiffusionProcessingTxt2Img(StableDiffusionProcessing):
    enable_hr: bool = False
    hr_scale: float = 2.0
    hr_upscaler: str | None = None
    hr_second_pass_steps: int = 0
    hr_resize_x: int = 0
    hr_resize_y: int = 0
    hr_prompt: Any = ""
    hr_negative_prompt: Any = ""

    def init(self, all_prompts: Any, all_seeds: Any, all_subseeds: Any) -> None:
        if not self.enable_hr:
            return
        count = len(self.all_prompts)
        self.all_hr_prompts = [self.hr_prompt] * count if self.hr_prompt else self.all_prompts
        negative = self.hr_negative_prompt
        self.all_hr_negative_prompts = [negative] * count if negative else self.all_negative_prompts
        params = self.extra_generation_params
        params["Denoising strength"] = self.denoising_strength
        self._target_size()
        if not state.processing_has_refined_job_count:
            state.job_count = (self.n_iter if state.job_count == -1 else state.job_count) * 2
            state.processing_has_refined_job_count = True
        params["Hires steps"] = self.hr_second_pass_steps or None
        params["Hires upscaler"] = self.hr_upscaler

    def _target_size(self) -> None:
        """hr_scale, or hr_resize_x/y, of which a 0 follows the other; multiples of a latent's pixels."""
        x, y, unit = self.hr_resize_x, self.hr_resize_y, self.sd_model.scale
        if not x and not y:
            self.extra_generation_params["Hires upscale"] = self.hr_scale
            x, y = int(self.width * self.hr_scale), int(self.height * self.hr_scale)
        else:
            self.extra_generation_params["Hires resize"] = f"{x}x{y}"
            x, y = x or y * self.width // self.height, y or x * self.height // self.width
        self.hr_upscale_to_x, self.hr_upscale_to_y = x // unit * unit, y // unit * unit

    def sample(self) -> torch.Tensor:
        if self.firstpass_image is not None and self.enable_hr:
            pixels = sd_samplers.images_to_pixels([self.firstpass_image] * len(self.prompts))
            return self._second_pass(self.sd_model.encode(pixels), pixels)
        x = self.rng.next()
        self.scripts.process_before_every_sampling(self, x=x, noise=x, c=self.c, uc=self.uc)
        samples = Sampler(self.sampler_name, self.sd_model).sample(self, x, self.c, self.uc)
        return self._second_pass(samples, None) if self.enable_hr else samples

    def _second_pass(self, samples: torch.Tensor, pixels: torch.Tensor | None) -> torch.Tensor:
        """Upscale the first pass and run the second one over it."""
        if state.interrupted:
            return samples
        samples = self._upscaled(samples, pixels)
        state.nextjob()
        self.rng = self.new_rng(*samples.shape[2:])
        noise = self.rng.next()
        prompts, _ = extra_networks.parse_prompts(self.of_batch(self.all_hr_prompts))
        c, uc = self.encoded(prompts), self.encoded(self.of_batch(self.all_hr_negative_prompts))
        self.scripts.before_hr(self)
        self.scripts.process_before_every_sampling(self, x=samples, noise=noise, c=c, uc=uc)
        sampler, steps = Sampler(self.sampler_name, self.sd_model), self.hr_second_pass_steps or self.steps
        return sampler.sample_img2img(self, samples, noise, c, uc, steps)

    def _upscaled(self, samples: torch.Tensor, pixels: torch.Tensor | None) -> torch.Tensor:
        """Latents at the target size, scaled as latents or as an image."""
        width, height, scale = self.hr_upscale_to_x, self.hr_upscale_to_y, self.sd_model.scale
        mode = shared.latent_upscale_modes.get(self.hr_upscaler or "Latent")
        if mode is not None:
            return torch.nn.functional.interpolate(samples, size=(height // scale, width // scale), **mode)
        pixels = sd_samplers.decode_to_pixels(self.sd_model, samples) if pixels is None else pixels
        pictures = [sd_samplers.pixels_to_image(x) for x in pixels]
        resized = [images.resize_image(0, x, width, height, upscaler_name=self.hr_upscaler) for x in pictures]
        return self.sd_model.encode(sd_samplers.images_to_pixels(resized))
