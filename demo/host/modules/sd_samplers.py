"""The samplers: a WebUI's names over diffusers' schedulers, and one loop that serves all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from modules import devices, script_callbacks, shared


class SamplerData(NamedTuple):
    name: str
    constructor: Callable[[Any], Any]
    aliases: list[str]
    options: dict[str, Any]

    def total_steps(self, steps: int) -> int:
        return steps


def _scheduler(name: str, **settings: Any) -> Callable[[Any], Any]:
    def build(model: Any) -> Any:
        import diffusers

        keys = (
            "beta_start",
            "beta_end",
            "beta_schedule",
            "num_train_timesteps",
            "prediction_type",
            "steps_offset",
        )
        config = {key: model.scheduler_config[key] for key in keys if key in model.scheduler_config}
        return getattr(diffusers, name)(**{**config, **settings})

    return build


all_samplers = [
    SamplerData("DPM++ 2M", _scheduler("DPMSolverMultistepScheduler"), ["k_dpmpp_2m"], {}),
    SamplerData(
        "Euler a", _scheduler("EulerAncestralDiscreteScheduler"), ["k_euler_a", "k_euler_ancestral"], {}
    ),
    SamplerData("Euler", _scheduler("EulerDiscreteScheduler"), ["k_euler"], {}),
    SamplerData("DDIM", _scheduler("DDIMScheduler", clip_sample=False, set_alpha_to_one=False), ["ddim"], {}),
]
all_samplers_map = {sampler.name: sampler for sampler in all_samplers}
samplers = samplers_for_img2img = all_samplers
samplers_map = {alias.lower(): s.name for s in all_samplers for alias in (s.name, *s.aliases)}


def find_sampler_config(name: str | None) -> SamplerData | None:
    return all_samplers_map.get(name) if name is not None else all_samplers[0]


def visible_sampler_names() -> list[str]:
    return [sampler.name for sampler in all_samplers]


def create_sampler(name: str | None, model: Any) -> Sampler:
    config = find_sampler_config(name)
    if config is None:
        raise ValueError(f"bad sampler name: {name}; choose one of {', '.join(all_samplers_map)}")
    return Sampler(config, model)


class Sampler:
    """Denoise latents step by step with guidance, heeding Interrupt and Skip and showing the way."""

    def __init__(self, config: SamplerData, model: Any):
        self.config, self.model = config, model
        self.scheduler = config.constructor(model)

    def sample(
        self, p: Any, x: torch.Tensor, conditioning: Any, unconditional_conditioning: Any
    ) -> torch.Tensor:
        """From pure noise `x`."""
        self.scheduler.set_timesteps(p.steps, device=devices.device)
        start = x * self.scheduler.init_noise_sigma
        return self._denoise(p, start, self.scheduler.timesteps, conditioning, unconditional_conditioning)

    def sample_img2img(
        self,
        p: Any,
        x: torch.Tensor,
        noise: torch.Tensor,
        conditioning: Any,
        unconditional_conditioning: Any,
        steps: int | None = None,
    ) -> torch.Tensor:
        """From latents `x`, noised as far as the denoising strength says."""
        steps = steps or p.steps
        self.scheduler.set_timesteps(steps, device=devices.device)
        skipped = steps - int(min(p.denoising_strength, 0.999) * steps) - 1
        timesteps = self.scheduler.timesteps[skipped * self.scheduler.order :]
        if hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(skipped * self.scheduler.order)
        start = self.scheduler.add_noise(x, noise, timesteps[:1].repeat(len(x)))
        return self._denoise(p, start, timesteps, conditioning, unconditional_conditioning)

    def _denoise(
        self, p: Any, x: torch.Tensor, timesteps: torch.Tensor, cond: Any, uncond: Any
    ) -> torch.Tensor:
        shared.state.sampling_steps = len(timesteps)
        shared.state.sampling_step = 0
        noise_source = {"generator": p.rng.generators} if "Ancestral" in type(self.scheduler).__name__ else {}
        for index, t in enumerate(timesteps):
            if shared.state.interrupted or shared.state.skipped:
                break  # what has been reached is the result
            params = script_callbacks.CFGDenoiserParams(x, None, t, index, len(timesteps), cond, uncond, self)
            script_callbacks.cfg_denoiser_callback(params)
            predicted = self._predict(params.x, t, cond, uncond, p.cfg_scale)
            x = self.scheduler.step(predicted, t, params.x, **noise_source, return_dict=False)[0]
            x = self._keep_unmasked(p, x, timesteps, index)
            shared.state.current_latent = x
            shared.state.sampling_step = index + 1
        return x

    def _predict(
        self, x: torch.Tensor, t: torch.Tensor, cond: Any, uncond: Any, scale: float
    ) -> torch.Tensor:
        unet = self.model.unet
        model_input = self.scheduler.scale_model_input(x, t)
        if scale == 1:
            return unet(model_input, t, encoder_hidden_states=cond, return_dict=False)[0]
        both = unet(
            torch.cat([model_input, model_input]),
            t,
            encoder_hidden_states=torch.cat([uncond, cond]),
            return_dict=False,
        )[0]
        without, with_prompt = both.chunk(2)
        return without + scale * (with_prompt - without)

    def _keep_unmasked(self, p: Any, x: torch.Tensor, timesteps: torch.Tensor, index: int) -> torch.Tensor:
        """Inpainting: outside the mask the picture follows the original, noised to the next step."""
        nmask = getattr(p, "nmask", None)
        if nmask is None:
            return x
        kept = p.init_latent
        if index + 1 < len(timesteps):
            kept = self.scheduler.add_noise(
                kept, p.mask_noise, timesteps[index + 1 : index + 2].repeat(len(kept))
            )
        return x * nmask + kept * (1 - nmask)


def pixels_to_image(pixels: torch.Tensor) -> Image.Image:
    """(3, h, w) in [0, 1] to an image, rounded down as WebUIs do."""
    array = 255.0 * np.moveaxis(pixels.cpu().float().numpy(), 0, 2)
    return Image.fromarray(array.astype(np.uint8))


@torch.no_grad()
def decode_first_stage(model: Any, latents: torch.Tensor) -> torch.Tensor:
    return model.decode(latents.to(devices.device))


def sample_to_image(samples: torch.Tensor, index: int = 0, approximation: int | None = None) -> Image.Image:
    pixels = decode_first_stage(shared.sd_model, samples[index : index + 1])[0]
    return pixels_to_image(torch.clamp(pixels / 2 + 0.5, 0, 1))


def samples_to_image_grid(samples: torch.Tensor, approximation: int | None = None) -> Image.Image:
    from modules import images

    return images.image_grid([sample_to_image(samples, i) for i in range(len(samples))])


def decode_to_pixels(model: Any, latents: torch.Tensor) -> torch.Tensor:
    """One image at a time, so that a batch decodes exactly as its images alone would."""
    decoded = [decode_first_stage(model, latents[i : i + 1])[0].cpu() for i in range(len(latents))]
    return torch.clamp((torch.stack(decoded).float() + 1) / 2, 0, 1)


def images_to_pixels(pictures: list[Image.Image]) -> torch.Tensor:
    """Images to (b, 3, h, w) in [0, 1] on the device."""
    array = np.stack([np.asarray(x.convert("RGB"), dtype=np.float32) / 255 for x in pictures])
    return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous().to(devices.device)
