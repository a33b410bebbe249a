"""The samplers: a WebUI's names over diffusers' schedulers, and one loop that serves all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from modules import devices, images, shared

SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "DPM++ 2M": ("DPMSolverMultistepScheduler", {}),
    "Euler a": ("EulerAncestralDiscreteScheduler", {}),
    "Euler": ("EulerDiscreteScheduler", {}),
    "DDIM": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
}
SHARED_CONFIG = "beta_start beta_end beta_schedule num_train_timesteps prediction_type steps_offset".split()
samplers_map = {name.lower(): name for name in SCHEDULERS}
DEFAULT = next(iter(SCHEDULERS))


class Sampler:
    """Denoise latents step by step with guidance, heeding Interrupt and Skip and showing the way."""

    def __init__(self, name: str, model: Any):
        import diffusers

        scheduler, settings = SCHEDULERS[name]
        config = {key: model.scheduler_config[key] for key in SHARED_CONFIG if key in model.scheduler_config}
        self.scheduler = getattr(diffusers, scheduler)(**{**config, **settings})
        self.model, self.ancestral = model, "Ancestral" in scheduler

    def sample(self, p: Any, x: torch.Tensor, cond: Any, uncond: Any) -> torch.Tensor:
        """From pure noise `x`."""
        self.scheduler.set_timesteps(p.steps, device=devices.device)
        start = x * self.scheduler.init_noise_sigma
        return self._denoise(p, start, self.scheduler.timesteps, cond, uncond)

    def sample_img2img(
        self, p: Any, x: torch.Tensor, noise: torch.Tensor, cond: Any, uncond: Any, steps: int
    ) -> torch.Tensor:
        """From latents `x`, noised as far as the denoising strength says."""
        self.scheduler.set_timesteps(steps, device=devices.device)
        skipped = steps - int(min(p.denoising_strength, 0.999) * steps) - 1
        timesteps = self.scheduler.timesteps[skipped * self.scheduler.order :]
        if hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(skipped * self.scheduler.order)
        start = self.scheduler.add_noise(x, noise, timesteps[:1].repeat(len(x)))
        return self._denoise(p, start, timesteps, cond, uncond)

    def _denoise(
        self, p: Any, x: torch.Tensor, timesteps: torch.Tensor, cond: Any, uncond: Any
    ) -> torch.Tensor:
        state = shared.state
        state.sampling_steps, state.sampling_step = len(timesteps), 0
        noise_source = {"generator": p.rng.generators} if self.ancestral else {}
        for index, t in enumerate(timesteps):
            if state.interrupted or state.skipped:
                break  # what has been reached is the result
            predicted = self._predict(x, t, cond, uncond, p.cfg_scale)
            x = self.scheduler.step(predicted, t, x, **noise_source, return_dict=False)[0]
            x = self._keep_unmasked(p, x, timesteps, index)
            state.current_latent, state.sampling_step = x, index + 1
        return x

    def _predict(
        self, x: torch.Tensor, t: torch.Tensor, cond: Any, uncond: Any, scale: float
    ) -> torch.Tensor:
        """Without guidance (scale 1) the negative prompt costs nothing."""
        x = self.scheduler.scale_model_input(x, t)
        if scale == 1:
            return self.model.unet(x, t, encoder_hidden_states=cond, return_dict=False)[0]
        both = torch.cat([uncond, cond])
        out = self.model.unet(torch.cat([x, x]), t, encoder_hidden_states=both, return_dict=False)[0]
        without, with_prompt = out.chunk(2)
        return without + scale * (with_prompt - without)

    def _keep_unmasked(self, p: Any, x: torch.Tensor, timesteps: torch.Tensor, index: int) -> torch.Tensor:
        """Inpainting: outside the mask the picture follows the original, noised to the next step."""
        nmask = getattr(p, "nmask", None)
        if nmask is None:
            return x
        kept, following = p.init_latent, timesteps[index + 1 : index + 2]
        if len(following):
            kept = self.scheduler.add_noise(kept, p.mask_noise, following.repeat(len(kept)))
        return x * nmask + kept * (1 - nmask)


def pixels_to_image(pixels: torch.Tensor) -> Image.Image:
    """(3, h, w) in [0, 1] to an image, rounded down as WebUIs do."""
    array = 255.0 * np.moveaxis(pixels.cpu().float().numpy(), 0, 2)
    return Image.fromarray(array.astype(np.uint8))


@torch.no_grad()
def decode_to_pixels(model: Any, latents: torch.Tensor) -> torch.Tensor:
    """Pixels (b, 3, h, w) in [0, 1]: one image at a time, so that a batch decodes exactly as its images alone."""
    decoded = [model.decode(latents[i : i + 1])[0].cpu() for i in range(len(latents))]
    return torch.clamp((torch.stack(decoded).float() + 1) / 2, 0, 1)


def images_to_pixels(pictures: list[Image.Image]) -> torch.Tensor:
    """Images to (b, 3, h, w) in [0, 1] on the device."""
    array = np.stack([np.asarray(x.convert("RGB"), dtype=np.float32) / 255 for x in pictures])
    return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous().to(devices.device)


def draw_preview(latents: torch.Tensor) -> Image.Image:
    return images.image_grid([pixels_to_image(x) for x in decode_to_pixels(shared.sd_model, latents)])


shared.state.draw_preview = draw_preview
