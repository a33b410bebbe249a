"""The img2img job, with inpainting over the whole picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps

from modules import devices, images, sd_samplers, shared
from modules.processing_base import StableDiffusionProcessing


@dataclass(repr=False)
class StableDiffusionProcessingImg2Img(StableDiffusionProcessing):
    init_images: list[Any] | None = None
    resize_mode: int = 0
    denoising_strength: float = 0.75
    image_cfg_scale: float | None = None
    mask: Any = None
    mask_blur: int = 4
    inpainting_fill: int = 1
    inpaint_full_res: bool = False
    inpaint_full_res_padding: int = 0
    inpainting_mask_invert: int = 0
    initial_noise_multiplier: float | None = None
    force_task_id: str | None = None

    image_mask: Any = field(default=None, init=False)
    mask_for_overlay: Any = field(default=None, init=False)
    nmask: Any = field(default=None, init=False)
    mask_noise: Any = field(default=None, init=False)
    init_latent: Any = field(default=None, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.image_mask, self.mask = self.mask, None

    def init(self, all_prompts: Any, all_seeds: Any, all_subseeds: Any) -> None:
        self.extra_generation_params["Denoising strength"] = self.denoising_strength
        self.sampler = sd_samplers.create_sampler(self.sampler_name, self.sd_model)
        pictures = [images.flatten(x, shared.opts.img2img_background_color) for x in self.init_images]
        pictures = [images.resize_image(self.resize_mode, x, self.width, self.height) for x in pictures]
        if len(pictures) == 1:
            pictures *= self.batch_size
        elif len(pictures) != self.batch_size:
            raise RuntimeError(f"{len(pictures)} images do not go with a batch of {self.batch_size}")
        self.init_latent = self.sd_model.encode(sd_samplers.images_to_pixels(pictures))
        if self.image_mask is not None:
            self._init_mask(pictures)

    def _init_mask(self, pictures: list[Image.Image]) -> None:
        """Inpainting over the whole picture: white is painted anew, black is kept."""
        mask = self.image_mask
        mask = (mask.split()[-1] if mask.mode == "RGBA" else mask).convert("L")
        if self.inpainting_mask_invert:
            mask = ImageOps.invert(mask)
            self.extra_generation_params["Mask mode"] = "Inpaint not masked"
        if self.mask_blur:
            mask = mask.filter(ImageFilter.GaussianBlur(self.mask_blur))
            self.extra_generation_params["Mask blur"] = self.mask_blur
        mask = images.resize_image(self.resize_mode, mask, self.width, self.height).convert("L")
        self.mask_for_overlay = mask
        self.overlay_images = []
        for picture in pictures:
            overlay = picture.convert("RGBA")
            overlay.putalpha(ImageOps.invert(mask))
            self.overlay_images.append(overlay)
        small = np.asarray(mask.resize(self.init_latent.shape[:1:-1]), dtype=np.float32) / 255
        self.nmask = torch.from_numpy(np.around(small)).to(devices.device)
        self.mask = 1 - self.nmask

    def sample(self, conditioning: Any, unconditional_conditioning: Any, **of_batch: Any) -> torch.Tensor:
        noise = self.mask_noise = self.rng.next()
        if self.scripts is not None:
            self.scripts.process_before_every_sampling(
                self, x=self.init_latent, noise=noise, c=conditioning, uc=unconditional_conditioning
            )
        self.sampler = sd_samplers.create_sampler(self.sampler_name, self.sd_model)
        latent = self.init_latent[: len(self.prompts)]
        return self.sampler.sample_img2img(self, latent, noise, conditioning, unconditional_conditioning)
